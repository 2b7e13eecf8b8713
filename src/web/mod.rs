//! Pages that we answer ourselves, as pure functions from facts to text. They escape by construction, work without
//! JavaScript and load nothing from elsewhere. Nothing here decides anything or speaks to anybody.

mod account_page;
pub mod html;
mod login_page;
mod onboard_page;
mod refused_page;
mod share_page;

pub use account_page::{AccountPage, account_page, logged_out_page};
pub use html::{TEXT_HEADERS, page_headers};
pub use login_page::{LoginPage, login_page, login_url};
pub use onboard_page::{OnboardPage, onboard_page, profile};
pub use refused_page::{RefusedPage, refused_json, refused_page, refused_text};
pub use share_page::{share_page, spent_page};

/// Everything of ours lives below this path, and nothing below it is ever forwarded.
pub const PREFIX: &str = "/.loopgate/";
/// Where one logs in: GET shows the form, POST sends it.
pub const LOGIN: &str = "/.loopgate/login";
/// The page that helps to trust the local authority, while it is open.
pub const ONBOARD: &str = "/.loopgate/onboard";
/// The certificate of the authority.
pub const ONBOARD_CRT: &str = "/.loopgate/onboard/loopgate-ca.crt";
/// The same as a profile for iOS.
pub const ONBOARD_PROFILE: &str = "/.loopgate/onboard/loopgate-ca.mobileconfig";
/// A link that logs one visitor in: its secret follows.
pub const SHARE: &str = "/.loopgate/share/";
/// Where one logs out: POST only.
pub const LOGOUT: &str = "/.loopgate/logout";

//! What a link shows: a button. Looking at it costs nothing, because messengers and mail filters look at every link before people do.

use maud::html;

use super::html::{Frame, page};
use crate::base::id::RequestId;

/// The page. `action` is where the button leads.
pub fn share_page(realm: &str, action: &str) -> String {
    let title = "You were given a link";
    page(
        Frame::new(title, realm),
        html! {
            h1 { (title) }
            p { "It opens once, on this device, and for a limited time." }
            form.login method="post" action=(action) {
                button type="submit" { "Open" }
            }
        },
        html! { p { "Protected by loopgate." } },
    )
}

/// The page of a link that opens nothing, whatever the reason: who guesses learns none.
pub fn spent_page(realm: &str, id: RequestId) -> String {
    let title = "This link opens nothing";
    page(
        Frame::new(title, realm),
        html! {
            h1 { (title) }
            p {
                "A link opens once and for a limited time. It was opened already, its time is over, or it was taken back. Ask for \
                 another one."
            }
        },
        html! { p { "Protected by loopgate. Request id " code { (id) } "." } },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_button_that_posts() {
        let text = share_page("<r>", "/.loopgate/share/abc\"");
        assert_eq!(text.matches("<form").count(), 1);
        assert!(text.contains("method=\"post\" action=\"/.loopgate/share/abc&quot;\""));
        assert!(text.contains("&lt;r&gt;") && !text.contains("<script"));
    }
}

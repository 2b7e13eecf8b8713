//! Tests that stand in the file itself.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::refusal::Reason;

/// A request and the decision that you expect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The address that connects: the client's, or with `forwarded_for` the proxy's.
    #[schemars(extend("examples" = ["203.0.113.9"]))]
    pub from: IpAddr,
    /// Whom the proxy names, as `X-Forwarded-For` has it: the client, then further proxies. On a listener that requires a
    /// PROXY header the last one stands in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("examples" = ["203.0.113.9"]))]
    pub forwarded_for: Option<String>,
    /// The user who is logged in. Without this key: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("examples" = ["bob"]))]
    pub user: Option<String>,
    /// The user whose client certificate the client has. Without this key: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("examples" = ["bob"]))]
    pub certificate: Option<String>,
    /// Method and address, or a path on the first host of the file: `GET https://app.lan/admin`, `POST /upload`.
    #[serde(default = "front_page")]
    pub request: String,
    /// `allowed`, or the word of the refusal that is expected.
    #[schemars(extend("examples" = ["network-denied"]))]
    pub expect: Expect,
}

fn front_page() -> String {
    "GET /".into()
}

/// What a test expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The request is forwarded.
    Allowed,
    /// The request is refused for this reason.
    Refused(Reason),
}

//! Who am I here, and the way out.

use maud::html;

use super::html::{Frame, page};
use super::{LOGIN, LOGOUT};

/// What `/.loopgate/` shows to somebody who is logged in.
#[derive(Clone, Copy, Debug)]
pub struct AccountPage<'a> {
    /// Which gate this is.
    pub realm: &'a str,
    /// Who it is.
    pub user: &'a str,
    /// The groups of that user.
    pub groups: &'a [&'a str],
    /// How we know, in words: `a session of this browser`, `a client certificate`, …
    pub by: &'a str,
    /// When that ends, in words.
    pub until: Option<&'a str>,
    /// For the form that logs out; absent when there is no session that could end.
    pub csrf: Option<&'a str>,
    /// Where it goes on.
    pub next: &'a str,
}

/// The account page.
pub fn account_page(shown: &AccountPage<'_>) -> String {
    let title = format!("Logged in as {}", shown.user);
    page(
        Frame::new(&title, shown.realm),
        html! {
            h1 { (title) }
            dl {
                @if !shown.groups.is_empty() { dt { "Groups" } dd { (shown.groups.join(", ")) } }
                dt { "Known by" } dd { (shown.by) }
                @if let Some(until) = shown.until { dt { "Until" } dd { (until) } }
            }
            @if shown.csrf.is_none() {
                p.soft { "Your browser or program sends this by itself with every request, so there is nothing to log out of here." }
            }
            div.row {
                a.button href=(shown.next) { "Continue" }
                @if let Some(csrf) = shown.csrf {
                    form method="post" action=(LOGOUT) {
                        input type="hidden" name="csrf" value=(csrf);
                        button.plain type="submit" { "Log out" }
                    }
                }
            }
        },
        html! { p { "Protected by loopgate." } },
    )
}

/// What follows a logout.
pub fn logged_out_page(realm: &str) -> String {
    page(
        Frame::new("You are logged out", realm),
        html! {
            h1 { "You are logged out" }
            p.soft { "If a dialog of the browser asked for your password, the browser still knows it: close all its windows." }
            div.row { a.button href=(LOGIN) { "Log in again" } }
        },
        html! { p { "Protected by loopgate." } },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_out_by_post_and_only_where_there_is_a_session() {
        let shown = AccountPage {
            realm: "app.lan",
            user: "ali<ce",
            groups: &["ops", "dev"],
            by: "a session of this browser",
            until: None,
            csrf: Some("c5rf"),
            next: "/",
        };
        let text = account_page(&shown);
        assert!(text.contains("ali&lt;ce") && text.contains("ops, dev"));
        assert!(text.contains("method=\"post\" action=\"/.loopgate/logout\""));
        let without = account_page(&AccountPage {
            csrf: None,
            ..shown
        });
        assert!(!without.contains("<form"));
    }
}

//! What a person, or a program, reads when a request is not forwarded: one sentence, the request id, and what to do now.

use maud::html;
use serde_json::json;

use super::html::{Frame, page};
use super::{PREFIX, login_url};
use crate::base::id::RequestId;
use crate::base::refusal::{Blame, Reason};

/// Seconds after which the page of a service that is not running asks again.
const RELOAD: u16 = 3;

/// What the page is made of. Nothing in it may be for the log alone.
#[derive(Clone, Copy, Debug)]
pub struct RefusedPage<'a> {
    /// Why the request stopped.
    pub reason: Reason,
    /// Which request it was.
    pub request_id: RequestId,
    /// Which gate this is.
    pub realm: &'a str,
    /// The path and query that was asked for, so that a login can lead back to it.
    pub to: &'a str,
    /// Whether asking again changes nothing (GET, HEAD): only then is that offered.
    pub is_safe: bool,
    /// Who is logged in.
    pub user: Option<&'a str>,
    /// One more sentence, such as what listens instead. Give it only to somebody who may come in.
    pub hint: Option<&'a str>,
}

/// The page of a refusal.
pub fn refused_page(shown: &RefusedPage<'_>) -> String {
    let row = shown.reason.row();
    let reload = reload_after(shown.reason).filter(|_| shown.is_safe);
    let (advice, offer) = advice(shown.reason);
    page(
        Frame {
            reload,
            ..Frame::new(row.sentence, shown.realm)
        },
        html! {
            p.code { "Error " (row.status) }
            h1 { (row.sentence) }
            @if let Some(hint) = shown.hint { p.hint { (hint) } }
            @if let Some(seconds) = reload {
                p.soft role="status" { "This page tries again every " (seconds) " seconds." }
            } @else if !advice.is_empty() {
                p.soft { (advice) }
            }
            @if let Some(user) = shown.user { p.soft { "You are logged in as " strong { (user) } "." } }
            div.row {
                @match offer {
                    Offer::Login => { a.button href=(login_url(shown.to)) { "Log in" } }
                    Offer::Retry if shown.is_safe => { a.button href="" { "Try again" } }
                    Offer::Retry | Offer::Start => { a.button href="/" { "Go to the start page" } }
                }
                @if shown.user.is_some() || shown.reason == Reason::NotPermitted { a.button.plain href=(PREFIX) { "Log out or switch user" } }
            }
        },
        html! { p { "Request id " code { (shown.request_id) } ". Whoever runs this gate can find it in the log." } },
    )
}

/// The same in one line, for whoever is not a browser.
pub fn refused_text(reason: Reason, request_id: RequestId, hint: Option<&str>) -> String {
    let (gap, hint) = hint.map_or(("", ""), |hint| (" ", hint));
    format!(
        "{}{gap}{hint} (request id {request_id})\n",
        reason.row().sentence
    )
}

/// Reload by itself where waiting helps and the person can do nothing else about it.
fn reload_after(reason: Reason) -> Option<u16> {
    let row = reason.row();
    match reason {
        Reason::UpstreamRefused => Some(RELOAD),
        _ if row.blame != Blame::Client && row.retry > 0 => Some(row.retry),
        _ => None,
    }
}

#[derive(Clone, Copy)]
enum Offer {
    Login,
    Retry,
    Start,
}

/// What the person can do, beside what the sentence says.
fn advice(reason: Reason) -> (&'static str, Offer) {
    use Offer::{Login, Retry, Start};
    match reason {
        Reason::NetworkDenied | Reason::BadRequest | Reason::MethodDenied => ("", Start),
        Reason::HostUnknown => ("Check the address that you opened.", Retry),
        Reason::SniMismatch => ("Open the address again in a new window.", Retry),
        Reason::NoRoute => ("Check the address for a typing mistake.", Start),
        Reason::RouteNetworkDenied => (
            "Connect to the network that it is open to, then try again.",
            Retry,
        ),
        Reason::CredentialsMissing | Reason::CredentialsWrong => ("", Login),
        Reason::CertificateMissing => (
            "Install your certificate in this browser, close it, and open the address again.",
            Retry,
        ),
        Reason::CertificateRefused => (
            "It may have expired, been revoked, or be somebody else's. Whoever runs this gate can see why.",
            Login,
        ),
        Reason::LockedOut => (
            "A right password does not help before the time is over.",
            Retry,
        ),
        Reason::NotPermitted => (
            "Another user name may open it. Otherwise ask whoever runs this gate.",
            Start,
        ),
        Reason::CrossSite => ("Open the page itself, and do it there.", Start),
        Reason::TooLarge => (
            "Send less at once, or ask whoever runs this gate to raise the limit.",
            Start,
        ),
        Reason::HeaderTooLarge => ("Clearing the cookies of this site often helps.", Retry),
        Reason::UpstreamTimeout | Reason::UpstreamBroken => (
            "Try again. If that does not help, tell whoever runs the service.",
            Retry,
        ),
        Reason::TooBusy | Reason::UpstreamExposed | Reason::UpstreamRefused | Reason::Draining => (
            "What you sent was not passed on. Go back and send it again in a moment.",
            Retry,
        ),
        Reason::RequestTimeout => ("Your connection may be slow or broken.", Retry),
    }
}

/// The same for a program that wants JSON: what the line says, in parts.
pub fn refused_json(reason: Reason, id: RequestId, hint: Option<&str>) -> String {
    let row = reason.row();
    let mut told = json!({ "error": row.sentence, "request_id": id.as_str() });
    if let Some(hint) = hint {
        told["hint"] = hint.into();
    }
    format!("{told}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::refusal::TABLE;

    fn shown(reason: Reason) -> RefusedPage<'static> {
        RefusedPage {
            reason,
            request_id: RequestId::fresh(),
            realm: "app.lan",
            to: "/a?b",
            is_safe: true,
            user: None,
            hint: None,
        }
    }

    #[test]
    fn every_reason_has_a_page_with_its_sentence_and_the_id_but_not_the_word_of_the_log() {
        for row in &TABLE {
            let shown = shown(row.reason);
            let text = refused_page(&shown);
            assert!(text.contains(&format!("<h1>{}</h1>", row.sentence)));
            assert!(text.contains(shown.request_id.as_str()));
            assert!(!text.contains(row.word), "{}", row.word);
            let line = refused_text(row.reason, shown.request_id, Some("More."));
            assert_eq!(line.lines().count(), 1);
            assert!(line.contains(" More. ("));
            assert!(line.starts_with(row.sentence) && line.contains(shown.request_id.as_str()));
        }
    }

    #[test]
    fn reloads_where_waiting_helps_and_asking_again_is_safe() {
        for (reason, is_safe, want) in [
            (Reason::UpstreamRefused, true, Some("content=\"3\"")),
            (Reason::UpstreamRefused, false, None),
            (Reason::TooBusy, true, Some("content=\"2\"")),
            (Reason::UpstreamTimeout, true, None),
            (Reason::LockedOut, true, None),
            (Reason::NotPermitted, true, None),
        ] {
            let text = refused_page(&RefusedPage {
                is_safe,
                ..shown(reason)
            });
            assert_eq!(
                text.contains("http-equiv=\"refresh\""),
                want.is_some(),
                "{reason:?}"
            );
            assert!(want.is_none_or(|part| text.contains(part)));
            assert!(is_safe || !text.contains("Try again"));
        }
    }

    #[test]
    fn leads_on_to_the_login_or_the_account() {
        let text = refused_page(&shown(Reason::CredentialsMissing));
        assert!(text.contains("href=\"/.loopgate/login?to=/a%3Fb\""));
        let text = refused_page(&RefusedPage {
            user: Some("bob"),
            hint: Some("<x>"),
            ..shown(Reason::NotPermitted)
        });
        assert!(text.contains("href=\"/.loopgate/\"") && text.contains("&lt;x&gt;"));
        assert!(refused_page(&shown(Reason::NotPermitted)).contains("switch user"));
        assert!(!refused_page(&shown(Reason::NoRoute)).contains("switch user"));
    }
}

//! The frame, the look and the headers that all our pages share.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The one style sheet. It stands in the page and its hash in the policy; no other style is applied.
const STYLE: &str = include_str!("style.css");
/// A ring with a gate in its opening, and the service in the middle.
const MARK: &str = include_str!("mark.svg");
/// The mark as an icon, so that a browser does not ask the application for one before anybody has logged in.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='none' \
stroke='%231a9a86' stroke-width='3' stroke-linecap='round'%3E%3Cpath d='M23.5 7.2a11.5 11.5 0 1 0 0 17.6M27 11.5v9'/%3E\
%3Ccircle cx='15.5' cy='16' r='3' fill='%231a9a86' stroke='none'/%3E%3C/svg%3E";

static POLICY: LazyLock<String> = LazyLock::new(|| policy(None));

/// What stands around a page.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The title of the window; say what the page says, first.
    pub title: &'a str,
    /// The line beside the mark: which gate this is.
    pub realm: &'a str,
    /// Reload after so many seconds.
    pub reload: Option<u16>,
    /// A page with tables, not a card.
    pub is_wide: bool,
}

impl<'a> Frame<'a> {
    /// A card that stays.
    pub fn new(title: &'a str, realm: &'a str) -> Self {
        Self {
            title,
            realm,
            reload: None,
            is_wide: false,
        }
    }
}

/// A whole page: `main` in its frame, `footer` below it.
pub fn page(frame: Frame<'_>, main: Markup, footer: Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex, nofollow";
                @if let Some(seconds) = frame.reload { meta http-equiv="refresh" content=(seconds); }
                title { (frame.title) }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body.wide[frame.is_wide] {
                header { (PreEscaped(MARK)) span { (frame.realm) } }
                main { (main) }
                footer { (footer) }
            }
        }
    }
    .into_string()
}

/// The headers that every page of ours carries: it cannot be framed, stored, sniffed, or made to load or send anything
/// elsewhere.
pub fn page_headers() -> [(&'static str, &'static str); 8] {
    [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", &POLICY),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ]
}

/// The headers of a plain line of ours.
pub const TEXT_HEADERS: [(&str, &str); 4] = [
    ("content-type", "text/plain; charset=utf-8"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// The content security policy of a page with the shared style and, at most, the one script whose text is given; that
/// script may speak to its own origin.
pub fn policy(script: Option<&str>) -> String {
    let style = source_hash(STYLE);
    let script = script.map_or_else(String::new, |text| {
        format!("; script-src {}; connect-src 'self'", source_hash(text))
    });
    format!(
        "default-src 'none'; style-src {style}; img-src data:{script}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
}

/// A hash source (CSP3, 2.3.1). Computed, not written down: it cannot fall behind the text.
fn source_hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    format!("'sha256-{}'", BASE64.encode(hash.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_is_not_ours() {
        let evil = "</title><script>alert(1)</script>\"'";
        let text = page(
            Frame::new(evil, evil),
            html! { p title=(evil) { (evil) } },
            html! { (evil) },
        );
        assert!(!text.contains("<script"), "{text}");
        assert!(!text.contains("title=\"</"), "{text}");
    }

    #[test]
    fn policy_names_the_style_that_the_page_has_and_nothing_elsewhere() {
        let text = page(Frame::new("t", "r"), html! {}, html! {});
        let style = text
            .split_once("<style>")
            .and_then(|(_, rest)| rest.split_once("</style>"))
            .map(|(style, _)| style)
            .unwrap_or_default();
        let (_, policy) = page_headers()[1];
        assert!(policy.contains(&source_hash(style)), "{policy}");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("script-src"));
        for scheme in ["https:", "http:", "unsafe-inline", "*"] {
            assert!(!policy.contains(scheme), "{scheme}");
        }
        for attribute in ["src=", "style=", "onload", "@import", "url("] {
            assert!(!text.contains(attribute), "{attribute}");
        }
    }
}

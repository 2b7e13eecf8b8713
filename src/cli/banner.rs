//! What a person sees when a service goes on the network: which address to open and which password to type, first.

use std::net::IpAddr;

use super::output::{Paint, plain};
use super::qr;
use super::table::wrap;
use crate::base::host::{Authority, Host};
use crate::base::secret::Secret;

/// An address that works.
#[derive(Clone, Debug)]
pub struct Url {
    /// `https://…/`
    pub url: String,
    /// From where, in a few words: `this network`, `this machine`.
    pub note: String,
}

/// Whether there is something behind the gate yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// It takes connections.
    Up,
    /// Nothing listens there yet; requests get a page that tries again.
    Waiting,
    /// We are about to start it ourselves.
    Starting,
}

/// All that the banner says.
#[derive(Clone, Debug)]
pub struct Banner<'a> {
    /// The service, as the person named it.
    pub target: &'a str,
    /// Whether it is there.
    pub upstream_state: UpstreamState,
    /// The addresses, best first.
    pub urls: &'a [Url],
    /// The name to log in with.
    pub user: Option<&'a str>,
    /// A password that was just made: shown here and never again. Absent when the person chose it.
    pub password: Option<&'a Secret<String>>,
    /// The networks that may come in.
    pub networks: &'a [String],
    /// When it ends, in words.
    pub until: Option<&'a str>,
    /// SHA-256 of the certificate that a visitor has to trust: `AB:CD:…`.
    pub fingerprint: Option<&'a str>,
    /// How a visitor comes to trust it, in one sentence.
    pub ca_hint: Option<&'a str>,
    /// Nothing is encrypted.
    pub is_plain: bool,
    /// The service is served though others may reach it around the gate.
    pub is_unproven: bool,
    /// What no look at this machine can see, one sentence each.
    pub unseen: &'a [String],
    /// Why it cannot be told who can reach the service, one sentence each.
    pub unknown: &'a [String],
}

/// The widest label and its gap.
const LABEL: usize = 10;
const INDENT: usize = 2;
/// Beside the code, text is not stretched beyond this even where there is room.
const BESIDE: usize = 46;

impl Banner<'_> {
    /// The banner in `width` columns. `has_code` adds a QR code of the address for a phone, when there is one: wanted on a
    /// terminal, not in a log file. The code holds the address alone, never the password.
    pub fn render(&self, width: usize, has_code: bool, paint: Paint) -> String {
        let phone = phone_url(self.urls);
        let code = phone
            .filter(|_| has_code)
            .and_then(|url| qr::lines(&url.url, paint.color));
        let best = phone.or(self.urls.first());
        let full = width.saturating_sub(INDENT).max(40);
        let mut text = String::from("\n");
        match code {
            Some((code, columns)) => {
                let room = width.saturating_sub(2 * INDENT + columns).min(BESIDE);
                if best.is_some_and(|best| LABEL + best.url.len() <= room) {
                    let head = self.head(best, room, paint);
                    side_by_side(&mut text, &head, &code, room);
                } else {
                    // First the code: what stands last is what a small terminal still shows.
                    stack(
                        &mut text,
                        code.into_iter().map(|text| Line { text, width: 0 }),
                    );
                    text.push('\n');
                    stack(&mut text, self.head(best, full, paint));
                }
            }
            None => stack(&mut text, self.head(best, full, paint)),
        }
        let foot = self.foot(best, full, paint);
        if !foot.is_empty() {
            text.push('\n');
            stack(&mut text, foot);
        }
        text.push('\n');
        text
    }

    /// What must be seen at once, then what is good to know.
    fn head(&self, best: Option<&Url>, room: usize, paint: Paint) -> Vec<Line> {
        let mut lines = Lines {
            lines: Vec::new(),
            room,
            paint,
        };
        let target = plain(self.target);
        let title = format!("loopgate: {target} is on the network");
        lines.lines.extend(
            wrap(&title, room)
                .iter()
                .map(|part| Line::new(part, Paint::soft, paint)),
        );
        lines.blank();
        if let Some(best) = best {
            lines.field("Open", &best.url, Paint::strong);
        }
        match self.user {
            Some(user) => lines.field("User", &plain(user), Paint::strong),
            None => lines.field(
                "Login",
                "none: every device that is allowed gets in",
                Paint::warning,
            ),
        }
        if self.user.is_none() {
            let words = "NO LOGIN: what the service lets anyone do, everybody there can do";
            lines.field("Danger", words, Paint::bad);
        }
        if self.is_unproven {
            let words = "NOT HELD TO LOOPBACK: who reaches the service by itself passes no login and none of these networks";
            lines.field("Danger", words, Paint::bad);
        }
        if self.is_plain {
            let words = "NOT ENCRYPTED: everybody on the network reads the password and all that is sent, and can change it";
            lines.field("Danger", words, Paint::bad);
        }
        if let Some(password) = self.password {
            lines.field("Password", password.expose(), Paint::strong);
            lines.field("", "shown only now", Paint::soft);
        }
        lines.blank();
        match self.upstream_state {
            UpstreamState::Up => {}
            UpstreamState::Waiting => {
                let words = format!("nothing listens on {target} yet: start it, the page follows");
                lines.field("Waiting", &words, Paint::warning);
            }
            UpstreamState::Starting => {
                lines.field("Starting", "the page follows by itself", as_it_is);
            }
        }
        let networks = match self.networks {
            [] => "nobody".into(),
            some => some.join(", "),
        };
        lines.field("Allowed", &networks, as_it_is);
        if let Some(until) = self.until {
            lines.field("Until", until, as_it_is);
        }
        lines.field("Stop", "Ctrl-C", as_it_is);
        if let Some(fingerprint) = self.fingerprint {
            lines.field(
                "CA SHA256",
                &in_blocks(fingerprint, room.saturating_sub(LABEL)),
                Paint::soft,
            );
        }
        lines.lines
    }

    /// The other addresses, and how to trust the certificate.
    fn foot(&self, best: Option<&Url>, room: usize, paint: Paint) -> Vec<Line> {
        let mut lines = Lines {
            lines: Vec::new(),
            room,
            paint,
        };
        let others = self
            .urls
            .iter()
            .filter(|url| best.is_none_or(|best| best.url != url.url));
        let longest = self
            .urls
            .iter()
            .map(|url| url.url.len())
            .filter(|n| *n < 40)
            .max()
            .unwrap_or(0);
        let mut label = "Also";
        for other in others {
            let note = plain(&other.note);
            lines.whole(
                label,
                &format!("{:<longest$}  {}", other.url, paint.soft(&note)),
            );
            label = "";
        }
        if let Some(hint) = self.ca_hint {
            lines.field("Trust", hint, as_it_is);
        }
        for sentence in self.unknown {
            lines.field("Beware", sentence, Paint::warning);
        }
        for sentence in self.unseen {
            lines.field("Unseen", sentence, Paint::soft);
        }
        lines.lines
    }
}

/// The address for a phone: one that it can reach and need not look up, else a name; never this machine's own.
pub fn phone_url(urls: &[Url]) -> Option<&Url> {
    let rank = |url: &Url| -> Option<u8> {
        let (_, rest) = url.url.split_once("://")?;
        let authority = Authority::parse(rest.split(['/', '?']).next()?).ok()?;
        match authority.host {
            Host::Ip(IpAddr::V4(four)) if four.is_loopback() || four.is_link_local() => None,
            Host::Ip(IpAddr::V4(_)) => Some(0),
            Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => None,
            // A bare host name is known to few networks; `.local` and real names to most.
            Host::Name(name) if name.contains('.') => Some(1),
            Host::Ip(IpAddr::V6(six)) if six.is_loopback() || six.is_unicast_link_local() => None,
            Host::Ip(IpAddr::V6(_)) => Some(2),
            Host::Name(_) => Some(3),
        }
    };
    // `min_by_key` keeps the first of equals: the caller's order decides there.
    let ranked = urls.iter().filter_map(|url| Some((rank(url)?, url)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, url)| url)
}

/// A line, and how many columns it takes: colours take none.
struct Line {
    text: String,
    width: usize,
}

impl Line {
    fn new(text: &str, look: Look, paint: Paint) -> Self {
        Self {
            text: look(paint, text),
            width: text.chars().count(),
        }
    }
}

type Look = fn(Paint, &str) -> String;

fn as_it_is(_: Paint, text: &str) -> String {
    text.to_owned()
}

struct Lines {
    lines: Vec<Line>,
    room: usize,
    paint: Paint,
}

impl Lines {
    fn blank(&mut self) {
        self.lines.push(Line {
            text: String::new(),
            width: 0,
        });
    }

    /// A label and its value, which goes on below itself.
    fn field(&mut self, label: &str, value: &str, look: Look) {
        let mut label = label;
        for part in wrap(value, self.room.saturating_sub(LABEL).max(20)) {
            self.whole(label, &look(self.paint, &part));
            if let Some(line) = self.lines.last_mut() {
                line.width = LABEL + part.chars().count();
            }
            label = "";
        }
    }

    /// A label and a value that is painted already and never broken: an address must stay in one piece.
    fn whole(&mut self, label: &str, value: &str) {
        let label = self.paint.soft(&format!("{label:<LABEL$}"));
        self.lines.push(Line {
            text: format!("{label}{value}"),
            width: 0,
        });
    }
}

/// `AB:CD:…` in as many whole groups of four bytes as fit, so that two people can compare line by line.
fn in_blocks(fingerprint: &str, room: usize) -> String {
    let bytes: Vec<&str> = fingerprint.split(':').collect();
    let in_line = [16, 8].into_iter().find(|n| n * 3 - 1 <= room).unwrap_or(4);
    let lines: Vec<String> = bytes.chunks(in_line).map(|line| line.join(":")).collect();
    lines.join(" ")
}

fn stack(text: &mut String, lines: impl IntoIterator<Item = Line>) {
    for line in lines {
        text.push_str(&" ".repeat(INDENT));
        text.push_str(&line.text);
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
}

/// Text on the left, where reading begins, and the code on the right.
fn side_by_side(text: &mut String, head: &[Line], code: &[String], room: usize) {
    for i in 0..head.len().max(code.len()) {
        let (left, used) = head
            .get(i)
            .map_or(("", 0), |line| (line.text.as_str(), line.width));
        text.push_str(&" ".repeat(INDENT));
        text.push_str(left);
        if let Some(right) = code.get(i) {
            text.push_str(&" ".repeat(room.saturating_sub(used) + INDENT));
            text.push_str(right);
        } else {
            text.truncate(text.trim_end_matches(' ').len());
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::password::fresh_password;

    const FINGERPRINT: &str = "3B:0C:91:5E:77:A2:D4:18:6F:E3:29:BC:40:8A:F1:65:3B:0C:91:5E:77:A2:D4:18:6F:E3:29:BC:40:8A:F1:65";

    fn url(url: &str) -> Url {
        Url {
            url: url.into(),
            note: "this network".into(),
        }
    }

    #[test]
    fn picks_what_a_phone_can_open() {
        for (urls, want) in [
            (
                &["https://localhost:8443/", "https://192.168.1.20:8443/"][..],
                Some(1),
            ),
            (
                &["https://laptop.local:8443/", "https://10.0.0.7:8443/"],
                Some(1),
            ),
            (
                &["https://10.0.0.7:8443/", "https://192.168.1.20:8443/"],
                Some(0),
            ),
            (
                &["https://laptop:8443/", "https://[fd00::7]:8443/"],
                Some(1),
            ),
            (
                &["https://[fd00::7]:8443/", "https://laptop.lan:8443/"],
                Some(1),
            ),
            (&["https://laptop:8443/"], Some(0)),
            (
                &[
                    "https://localhost:8443/",
                    "https://127.0.0.1:8443/",
                    "https://[::1]:8443/",
                ],
                None,
            ),
            (
                &[
                    "https://app.localhost:8443/",
                    "https://169.254.3.4/",
                    "https://[fe80::1]/",
                ],
                None,
            ),
            (&[], None),
        ] {
            let urls: Vec<Url> = urls.iter().map(|text| url(text)).collect();
            let got = phone_url(&urls).map(|found| found.url.as_str());
            assert_eq!(got, want.map(|i: usize| urls[i].url.as_str()), "{urls:?}");
        }
    }

    #[test]
    fn fits_eighty_columns_and_twenty_four_lines_and_keeps_addresses_whole() {
        let urls = [
            url("https://localhost:8443/"),
            url("https://192.168.178.120:8443/"),
            url("https://laptop.local:8443/"),
        ];
        let long = [url(
            "https://[2001:db8:1234:5678:9abc:def0:1234:5678]:8443/",
        )];
        let networks = [
            "192.168.178.0/24".into(),
            "127.0.0.0/8".into(),
            "::1".into(),
        ];
        let password = fresh_password();
        for (urls, width) in [(&urls[..], 80), (&urls, 200), (&urls, 50), (&long, 80)] {
            let banner = Banner {
                target: "127.0.0.1:3000",
                upstream_state: UpstreamState::Waiting,
                urls,
                user: Some("guest"),
                password: Some(&password),
                networks: &networks,
                until: Some("18:30, in 2 hours"),
                fingerprint: Some(FINGERPRINT),
                ca_hint: Some("loopgate onboard --for 10m helps a phone to trust it"),
                is_plain: false,
                is_unproven: false,
                unseen: &[],
                unknown: &[],
            };
            let text = banner.render(width, true, Paint::default());
            for part in urls.iter().map(|url| &url.url).chain([password.expose()]) {
                assert_eq!(text.matches(part.as_str()).count(), 1, "{part}\n{text}");
            }
            for line in text.lines() {
                assert!(line.chars().count() <= width.max(66), "{width} {line}");
            }
            if width == 80 && urls.len() == 3 {
                assert!(text.lines().count() <= 24, "{text}");
            }
            assert!(!text.contains("Danger"));
            let log = banner.render(width, false, Paint::default());
            assert!(!log.contains(['█', '▀', '\u{1b}']) && log.contains(password.expose()));
        }
    }

    #[test]
    fn says_when_nobody_has_to_log_in() {
        let banner = Banner {
            target: "x\u{1b}[2J",
            upstream_state: UpstreamState::Up,
            urls: &[],
            user: None,
            password: None,
            networks: &[],
            until: None,
            fingerprint: None,
            ca_hint: None,
            is_plain: true,
            is_unproven: true,
            unseen: &["What nobody sees.".to_owned()],
            unknown: &["Another port is open.".to_owned()],
        };
        let text = banner.render(80, true, Paint::default());
        assert!(text.contains("none: every device") && text.contains("nobody"));
        assert!(text.contains("NO LOGIN") && text.contains("NOT HELD TO LOOPBACK"));
        assert!(text.contains("NOT ENCRYPTED") && text.contains("Unseen    What nobody sees."));
        assert!(text.contains("Beware    Another port is open."));
        assert!(!text.contains('\u{1b}') && !text.contains("Password"));
    }
}

//! Applications that refuse to be called by a name that they do not know, told by their words, and those that refuse pages of such a
//! name, told by a question; and what opens them. The tables are `names.txt` and `origins.txt`, made to be extended.

use super::Answer;
use super::ask::{asked_by, asked_in_local_mode, own_origin};

/// An application that refuses our name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRefused {
    /// What it is.
    pub what: &'static str,
    /// What to write there, one line; empty when that is not known.
    pub option: String,
    /// What it refuses.
    pub refuses: Refuses,
}

/// What an application refuses to a visitor who comes by a name that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    /// The name; who calls it localhost is let in.
    Name,
    /// The name also in `X-Forwarded-Host` (Rails), so to be called localhost does not help.
    EveryName,
    /// Not the name, but what its own pages ask for by it.
    Parts,
}

const TABLE: &str = include_str!("names.txt");
const ORIGINS: &str = include_str!("origins.txt");

struct Row {
    status: Option<u16>,
    words: &'static str,
    what: &'static str,
    option: &'static str,
}

fn rows() -> impl Iterator<Item = Row> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .filter_map(|line| {
            let mut parts = line.splitn(4, '|').map(str::trim);
            Some(Row {
                status: parts.next()?.parse().ok(),
                words: parts.next()?,
                what: parts.next()?,
                option: parts.next()?,
            })
        })
}

/// Whether this answer to a visitor of `host` refuses the name, and not the visitor. In doubt it does not: a 403 has many reasons.
pub fn name_refused(answer: &Answer, host: &str) -> Option<NameRefused> {
    let Answer::Http { status, text, .. } = answer else {
        return None;
    };
    if *status < 400 {
        return None;
    }
    let row = rows().find(|row| {
        row.status.is_none_or(|wanted| wanted == *status)
            && row
                .words
                .split("&&")
                .all(|words| text.contains(words.trim()))
    })?;
    let name = name(host);
    Some(NameRefused {
        what: row.what,
        option: row.option.replace("{name}", name),
        refuses: Refuses::Name,
    })
}

/// Whether the service at `target`, which has answered so, refuses the name of a visitor of `host`, or what its pages ask for by it. It is
/// asked once more by its own name where it refuses and says nothing that we know; for parts of its pages only where the answer looks like
/// one of such an application, or is not there yet. Takes some seconds at most.
pub async fn refuses(target: &str, host: &str, answer: &Answer) -> Option<NameRefused> {
    if let Some(mut refused) = name_refused(answer, host) {
        if is_refused(&asked_in_local_mode(target, host).await) {
            refused.refuses = Refuses::EveryName;
        }
        return Some(refused);
    }
    if is_refused(answer)
        && let Answer::Http {
            status: 200..400, ..
        } = asked_in_local_mode(target, host).await
    {
        return Some(NameRefused {
            what: "the service",
            option: String::new(),
            refuses: Refuses::Name,
        });
    }
    for row in origins() {
        let fits = match answer {
            Answer::Http { text, .. } => row.words.split("&&").all(|w| text.contains(w.trim())),
            // One that compiles its page first.
            Answer::Silent => true,
            Answer::Other => false,
        };
        if fits && refuses_part(target, host, row.path).await {
            return Some(NameRefused {
                what: row.what,
                option: row.option.replace("{name}", name(host)),
                refuses: Refuses::Parts,
            });
        }
    }
    None
}

/// The same question twice, by our name and by its own. An application that refuses both has other reasons.
async fn refuses_part(target: &str, host: &str, path: &str) -> bool {
    let ours = asked_by(target, host, path, &format!("https://{host}")).await;
    is_refused(&ours)
        && match asked_by_own(target, path).await {
            Answer::Other => false,
            answer => !is_refused(&answer),
        }
}

/// As in local mode.
async fn asked_by_own(target: &str, path: &str) -> Answer {
    let Some(own) = own_origin(target) else {
        return Answer::Other;
    };
    let host = own.split_once("://").map_or("", |(_, host)| host);
    asked_by(target, host, path, &own).await
}

fn is_refused(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Http {
            status: 400 | 401 | 403 | 421,
            ..
        }
    )
}

struct OriginRow {
    words: &'static str,
    path: &'static str,
    what: &'static str,
    option: &'static str,
}

fn origins() -> impl Iterator<Item = OriginRow> {
    ORIGINS
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .filter_map(|line| {
            let mut parts = line.splitn(4, '|').map(str::trim);
            Some(OriginRow {
                words: parts.next()?,
                path: parts.next()?,
                what: parts.next()?,
                option: parts.next()?,
            })
        })
}

fn name(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

impl NameRefused {
    /// What it does not want.
    pub fn fact(&self, host: &str) -> String {
        match self.refuses {
            Refuses::Name | Refuses::EveryName => {
                format!("{} does not want to be called {host}", self.what)
            }
            Refuses::Parts => format!(
                "{} shows its page at {host}, and refuses what the page asks for",
                self.what
            ),
        }
    }

    /// Whether it helps to call it localhost.
    pub fn opens_in_local_mode(&self) -> bool {
        self.refuses != Refuses::EveryName
    }

    /// The sentence for the person who has started it.
    pub fn sentence(&self, host: &str) -> String {
        const LOCAL: &str = "let it be called localhost with `--host-header upstream`";
        let (fact, option) = (self.fact(host), &self.option);
        match (option.as_str(), self.opens_in_local_mode()) {
            ("", _) => format!("{fact}; {LOCAL}"),
            (_, true) => format!("{fact}: {option}; or {LOCAL}"),
            (_, false) => format!("{fact}: {option}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, text: &str) -> Option<&'static str> {
        let answer = Answer::Http {
            tls: false,
            status,
            text: text.to_owned(),
        };
        name_refused(&answer, "app.lan:8443").map(|refused| refused.what)
    }

    #[test]
    fn every_line_can_be_read_and_reached() {
        let lines = TABLE
            .lines()
            .filter(|line| line.contains('|') && !line.starts_with('#'));
        assert_eq!(rows().count(), lines.count());
        for row in rows() {
            let text = row.words.replace("&&", " ");
            assert_eq!(refused(row.status.unwrap_or(403), &text), Some(row.what));
        }
    }

    #[test]
    fn real_answers_are_told_apart() {
        for (status, text, want) in [
            (
                403,
                "Blocked request. This host (\"app.lan\") is not allowed.\nTo allow this host, add \"app.lan\" to `server.allowedHosts` in vite.config.js.",
                Some("Vite"),
            ),
            (403, "Invalid Host header", Some("webpack-dev-server")),
            (400, "<title>DisallowedHost\n at /</title>", Some("Django")),
            (403, "<h1>Blocked hosts: app.lan:8443</h1>", Some("Rails")),
            (403, "<h1>Forbidden</h1>", None),
            (400, "Bad Request", None),
            (200, "Blocked request. This host (\"app.lan\")", None),
            (401, "Unauthorized", None),
        ] {
            assert_eq!(refused(status, text), want, "{status} {text}");
        }
        assert_eq!(name_refused(&Answer::Silent, "a"), None);
    }

    #[test]
    fn the_name_is_told_without_its_port() {
        let answer = Answer::Http {
            tls: false,
            status: 403,
            text: "Blocked request. This host".to_owned(),
        };
        for (host, name) in [
            ("app.lan:8443", "'app.lan'"),
            ("[fd00::1]:8443", "'[fd00::1]'"),
        ] {
            let refused = name_refused(&answer, host).unwrap();
            assert!(refused.option.contains(name), "{}", refused.option);
            assert!(refused.sentence(host).contains("--host-header upstream"));
        }
    }
    /// A service that refuses resources by `Origin`, as `refuses` says; the port, and every request that it got.
    async fn service(
        page: &'static str,
        wrong: &'static str,
        right: &'static str,
        own_page: Option<&'static str>,
    ) -> Option<NameRefused> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let own = format!("localhost:{}\r\n", listener.local_addr().unwrap().port());
        let (own_origin, own_host) = (format!("Origin: http://{own}"), format!("\r\nHost: {own}"));
        let serves = async {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 2048];
                let n = socket.read(&mut buffer).await.unwrap();
                let asked = String::from_utf8_lossy(&buffer[..n]).into_owned();
                let is_own = asked.contains(&own_host);
                let is_ours = asked.contains("\r\nHost: app.lan:8443\r\n");
                assert!(is_own != is_ours, "one or the other: {asked}");
                // As local mode does: applications compare `Origin` with it.
                let is_mapped = asked.contains(&format!("\r\nX-Forwarded-{}", &own_host[2..]));
                assert_eq!(is_mapped, asked.contains(&own_origin), "{asked}");
                let answer = match asked.starts_with("GET / ") {
                    true if is_own => own_page.unwrap_or(page),
                    true => page,
                    false if is_own => right,
                    false => wrong,
                };
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        };
        let asks = async {
            let answer = super::super::ask(&target, "app.lan:8443").await;
            refuses(&target, "app.lan:8443", &answer).await
        };
        tokio::select! {
            refused = asks => refused,
            () = serves => unreachable!(),
        }
    }

    #[tokio::test]
    async fn what_a_page_asks_for_is_asked_for_as_well() {
        const NEXT: &str = "HTTP/1.1 200 OK\r\n\r\n<script src=\"/_next/static/main.js\">";
        const OTHER: &str = "HTTP/1.1 200 OK\r\n\r\n<script src=\"/main.js\">";
        const NO: &str = "HTTP/1.1 403 Forbidden\r\n\r\nUnauthorized";
        const NONE: &str = "HTTP/1.1 404 Not Found\r\n\r\n";
        let refused = service(NEXT, NO, NONE, None).await.expect("Next");
        assert!(refused.refuses == Refuses::Parts && refused.what == "Next");
        let sentence = refused.sentence("app.lan:8443");
        assert!(
            sentence.contains("'app.lan'") && sentence.contains("--host-header upstream"),
            "{sentence}"
        );
        // One that nobody knows is asked by its own name.
        for no in [
            "HTTP/1.1 401 Unauthorized\r\n\r\nUnauthorized",
            "HTTP/1.1 421 x\r\n\r\n",
        ] {
            let refused = service(no, NONE, NONE, Some(OTHER)).await.expect(no);
            let sentence = refused.sentence("app.lan:8443");
            assert_eq!(
                sentence,
                "the service does not want to be called app.lan:8443; let it be called localhost with `--host-header upstream`"
            );
            for own in [no, NONE, "HTTP/1.1 500 x\r\n\r\n"] {
                assert_eq!(service(no, NONE, NONE, Some(own)).await, None, "{own}");
            }
        }
        // One that looks at `X-Forwarded-Host` too is not opened by that.
        const BLOCKED: &str = "HTTP/1.1 403 Forbidden\r\n\r\n<h1>Blocked hosts: app.lan:8443</h1>";
        for (own, opens) in [(BLOCKED, false), (OTHER, true), (NONE, true)] {
            let refused = service(BLOCKED, NONE, NONE, Some(own)).await;
            let refused = refused.expect("Rails");
            assert_eq!(refused.opens_in_local_mode(), opens, "{own}");
            let says_so = refused.sentence("app.lan:8443").contains("--host-header");
            assert_eq!(says_so, opens, "{own}");
        }
        let absent = service(NONE, NONE, NONE, Some(OTHER)).await;
        assert_eq!(absent, None, "404 is no refusal");
        // The page may be a mistake's, and the words in its head; 400 is a refusal as well.
        const FLASK: &str = "HTTP/1.1 500 x\r\nServer: Werkzeug/3.1.9 Python/3.13.1\r\n\r\nBroken";
        let refused = service(
            FLASK,
            "HTTP/1.1 400 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            None,
        )
        .await;
        assert_eq!(refused.map(|one| one.what), Some("Flask's debugger"));
        for (name, page, wrong, right) in [
            ("without a debugger", FLASK, NONE, NONE),
            ("it refuses nothing", NEXT, NONE, NONE),
            ("it refuses everybody", NEXT, NO, NO),
            ("another application is not asked", OTHER, NO, NONE),
            ("nor one whose page is refused", NO, NO, NONE),
            (
                "it says nothing that can be read",
                NEXT,
                NO,
                "SSH-2.0\r\n\r\n",
            ),
        ] {
            assert_eq!(service(page, wrong, right, None).await, None, "{name}");
        }
    }
}

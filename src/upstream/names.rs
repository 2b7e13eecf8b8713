//! Applications that refuse to be called by a name that they do not know, told by their words, and what opens them. The table is
//! `names.txt`, made to be extended.

use super::Answer;

/// An application that refuses our name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRefused {
    /// What it is.
    pub what: &'static str,
    /// What to write there, one line.
    pub option: String,
}

const TABLE: &str = include_str!("names.txt");

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
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    Some(NameRefused {
        what: row.what,
        option: row.option.replace("{name}", name),
    })
}

impl NameRefused {
    /// The sentence for the person who has started it.
    pub fn sentence(&self, host: &str) -> String {
        format!(
            "{} does not want to be called {host}: {}; or let it be called localhost with `--host-header upstream`",
            self.what, self.option
        )
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
}

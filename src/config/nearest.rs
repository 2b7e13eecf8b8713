//! What somebody probably meant by a word that we do not know.

use super::shape::{Field, fields, or};

/// Words of other programs, and what they are called here.
const ALSO_KNOWN_AS: [(&str, &str); 12] = [
    ("bind", "address"),
    ("listen", "address"),
    ("port", "address"),
    ("backend", "upstream"),
    ("target", "upstream"),
    ("proxy_pass", "upstream"),
    ("domain", "hosts"),
    ("server_name", "hosts"),
    ("prefix", "path"),
    ("whitelist", "allow"),
    ("blacklist", "deny"),
    ("threads", "workers"),
];

/// The candidate that is written most like `word`, if any is like it at all.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&plain, &self::plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len().max(plain.len()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What was meant by a key that the table called `table` does not have: what to write, and which of its keys that is.
pub(super) fn meant<'a>(
    word: &str,
    table: &str,
    known: &[&'a Field],
) -> (String, Option<&'a Field>) {
    let names = || known.iter().map(|field| field.name.as_str());
    let field = |name: &str| known.iter().find(|field| field.name == name).copied();
    let near = nearest(word, names());
    if let Some(near) = near.filter(|near| distance(&plain(word), near) <= 1) {
        return (format!("write `{near}`"), field(near));
    }
    let other_name = ALSO_KNOWN_AS.iter().find(|(name, _)| *name == plain(word));
    let word = other_name.map_or(word, |(_, ours)| *ours);
    if let Some(ours) = field(word) {
        return (format!("here it is called `{}`", ours.name), Some(ours));
    }
    let mut homes = Vec::new();
    find_homes(&|name| name == word, "", fields(), &mut homes);
    if !homes.is_empty() && homes.len() <= 3 {
        return (format!("`{word}` belongs in {}", or(&homes)), None);
    }
    let within = || names().find(|name| is_part(name, word) || is_part(word, name));
    if let Some(near) = near.or_else(within) {
        return (format!("write `{near}`"), field(near));
    }
    // `max_connections`, `request_timeout`: a part of the name is known somewhere else.
    find_homes(&|name| is_part(name, word), "", fields(), &mut homes);
    if let [home] = homes.as_slice() {
        return (format!("look at {home}"), None);
    }
    let all: Vec<_> = names().map(|name| format!("`{name}`")).collect();
    (format!("{table} has the keys {}", all.join(", ")), None)
}

/// Whether `part` is a word of `whole` that is long enough to mean something.
fn is_part(part: &str, whole: &str) -> bool {
    part.len() >= 4 && plain(whole).split('_').any(|word| word == part)
}

/// The tables that have such a key, as one would write them.
fn find_homes<'a>(
    is_it: &dyn Fn(&str) -> bool,
    path: &str,
    fields: impl IntoIterator<Item = &'a Field>,
    homes: &mut Vec<String>,
) {
    for field in fields {
        if is_it(&field.name) && !path.is_empty() {
            homes.push(path.to_owned());
        }
        let name = &field.name;
        let path = match (path, field.is_list_of_tables()) {
            ("", true) => format!("`[[{name}]]`"),
            ("", false) => format!("`[{name}]`"),
            (above, _) => format!("`{name}` of {above}"),
        };
        find_homes(is_it, &path, field.fields(), homes);
    }
}

fn plain(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

/// Changes of one letter, swaps of two neighbours included, that make one word the other.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) =
        (one.chars().take(64).collect(), two.chars().collect());
    let mut rows = vec![(0..=two.len()).collect::<Vec<_>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in two.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == two[j - 1] && one[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_meant() {
        for (word, want) in [
            ("adress", Some("address")),
            ("ntework", Some("networks")),
            ("trusted-proxies", Some("trusted_proxies")),
            ("TLS", Some("tls")),
            ("zebra", None),
            ("", None),
        ] {
            let names = ["address", "networks", "tls", "trusted_proxies"];
            assert_eq!(nearest(word, names), want, "{word}");
        }
    }

    #[test]
    fn counts_changes_of_letters() {
        for (one, two, want) in [
            ("", "", 0),
            ("abc", "acb", 1),
            ("abc", "abcd", 1),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(one, two), want, "{one} {two}");
        }
    }

    #[test]
    fn says_where_a_key_belongs() {
        let listener = fields()
            .iter()
            .find(|field| field.name == "listener")
            .unwrap();
        for (word, want) in [
            ("workers", "`workers` belongs in `[server]`"),
            ("adress", "write `address`"),
            ("bind", "here it is called `address`"),
            ("allow", "`allow` belongs in `networks` of `[[listener]]`"),
            ("max_connections", "look at `[limits]`"),
            ("lifetime", "`lifetime` belongs in `session` of `[auth]`"),
        ] {
            assert_eq!(meant(word, "listener", &listener.fields()).0, want);
        }
    }
}

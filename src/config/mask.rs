//! Hides secrets in an excerpt. It works on the text and not on the tree, because the text may be too broken to have one,
//! and because a misspelt `upstream_secert` is as secret as the right one.

/// Words in the name of a key whose value nobody else should read.
const TELLING: [&str; 5] = ["secret", "secert", "secrt", "password", "passwd"];

/// The same text, with the values of such keys as `*`; lines and byte positions stay as they are. A table that says
/// where the secret is (`{ file = "…" }`) stays readable.
pub(super) fn mask(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut masked = text.as_bytes().to_vec();
    let mut at = 0;
    while let Some(found) = next_telling(&lower, at) {
        let line_end = lower[found..].find('\n').map_or(lower.len(), |n| found + n);
        at = line_end;
        let Some(equals) = lower[found..line_end].find('=').map(|n| found + n) else {
            continue;
        };
        let value = equals + 1;
        let written = lower[value..line_end].trim_start();
        if written.starts_with('{') {
            continue;
        }
        let start = line_end - written.len();
        let end = [r#"""""#, "'''"]
            .iter()
            .find(|quotes| written.starts_with(**quotes))
            .map_or(line_end, |quotes| {
                let body = start + 3;
                lower[body..]
                    .find(quotes)
                    .map_or(lower.len(), |n| body + n + 3)
            });
        for byte in &mut masked[start..end] {
            if !matches!(byte, b'\n' | b'\r') {
                *byte = b'*';
            }
        }
        at = end;
    }
    // Whole lines of bytes became ASCII, so this is still UTF-8.
    String::from_utf8(masked).unwrap_or_default()
}

fn next_telling(lower: &str, from: usize) -> Option<usize> {
    let rest = lower.get(from..)?;
    let found = TELLING.iter().filter_map(|word| rest.find(word)).min()?;
    Some(from + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_secrets_and_nothing_else() {
        for (text, want) in [
            (
                "upstream_secret = \"a\"\nx = 1\n",
                "upstream_secret = ***\nx = 1\n",
            ),
            ("upstream-secert= 'é'", "upstream-secert= ****"),
            (
                "{ upstream_secret = 1, x = 2 }",
                "{ upstream_secret = **********",
            ),
            (
                "a_secret = \"\"\"x\ny\"\"\" # z",
                "a_secret = ****\n**** # z",
            ),
            (
                "upstream_secret = { env = \"A\" }",
                "upstream_secret = { env = \"A\" }",
            ),
            ("# the secret\npath = \"/\"", "# the secret\npath = \"/\""),
            ("tokens_file = \"t\"", "tokens_file = \"t\""),
        ] {
            assert_eq!(mask(text), want);
        }
    }
}

//! What loose applications take a path for: they fold case, drop dots and spaces at the ends of segments, read characters that
//! only look like ASCII as ASCII, and decode once more. For judgement only, and only ever to refuse.

use unicode_normalization::UnicodeNormalization as _;

use super::path::decode;

/// Rounds of decoding that are followed; a path that still changes then is refused.
const ROUNDS: usize = 8;

/// Every path that a loose application may take a decoded path for, each [`folded`]. None for most, at the cost of one look: a path that
/// is its own only reading is left out unless `even_plain` asks for it.
///
/// # Errors
/// When it is encoded too many times to tell.
pub fn readings(decoded: &[u8], even_plain: bool) -> Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    if !even_plain && is_plain(decoded) {
        return Ok(all);
    }
    let mut text = alike(&String::from_utf8_lossy(decoded));
    for _ in 0..ROUNDS {
        all.push(resolved(&text, false));
        if text.contains([';', '?', '#']) || text.contains(":$") {
            all.push(resolved(&text, true));
            all.push(resolved(text.split(['?', '#']).next().unwrap_or(""), true));
        }
        if !text.contains('%') {
            return Ok(all);
        }
        let next = alike(&String::from_utf8_lossy(&decode(text.as_bytes()).0));
        if next == text {
            return Ok(all);
        }
        text = next;
    }
    Err("the path is encoded too many times")
}

/// A prefix or path in the one spelling that all its look-alikes share; the root is empty.
pub fn folded(path: &str) -> String {
    resolved(&alike(path), false)
}

/// Whether a folded prefix covers a folded path by whole segments.
pub fn covers(prefix: &str, path: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether nobody reads it otherwise.
fn is_plain(path: &[u8]) -> bool {
    let mut before = b'/';
    for c in path {
        match c {
            b'A'..=b'Z' | b' ' | b'%' | 0x80.. => return false,
            b'/' if before == b'.' => return false,
            b'$' if before == b':' => return false,
            _ => {}
        }
        before = *c;
    }
    before != b'.'
}

/// Lower case, without accents and what nobody sees; compatible characters (full width, mathematical, encircled) as what they
/// stand for; the slashes of other alphabets as slashes, as the code pages of Windows have them.
fn alike(text: &str) -> String {
    let is_seen = |c: &char| {
        !matches!(c, '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    text.nfkd()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(is_seen)
        .map(|c| match c {
            '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
            '\u{2216}' | '\u{29f5}' | '\u{a5}' | '\u{20a9}' => '\\',
            c => c,
        })
        .collect()
}

/// By segments: without empty ones, white space around them and dots behind them, and with `..` followed. `is_cut`: parameters, and
/// the streams of Windows files (`:$DATA`), are cut off too.
fn resolved(text: &str, is_cut: bool) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split(['/', '\\']) {
        let segment = match (is_cut, segment.contains(":$")) {
            (true, true) => segment.split([';', '?', '#', ':']).next(),
            (true, false) => segment.split([';', '?', '#']).next(),
            (false, _) => Some(segment),
        };
        let segment = segment.unwrap_or("").trim();
        if segment == ".." {
            segments.pop();
            continue;
        }
        let segment = segment.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
        if !segment.is_empty() {
            segments.push(segment);
        }
    }
    segments.iter().flat_map(|s| ["/", s]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_have_no_other_reading() {
        for path in ["/", "/a/b", "/a.b/.c", "/a-b_c~d!e:f", "/a/"] {
            assert_eq!(readings(path.as_bytes(), false), Ok(Vec::new()), "{path}");
            assert_eq!(
                readings(path.as_bytes(), true),
                Ok(vec![folded(path)]),
                "{path}"
            );
        }
    }

    #[test]
    fn look_alikes_are_read_as_what_they_look_like() {
        for path in [
            "/ADMIN",
            "/admin.",
            "/admin...",
            "/admin ",
            "/ admin",
            "/admin. .",
            "/admin/.",
            "/admin./",
            "/.../admin",
            "/ /admin",
            "/\u{ff41}dmin",
            "/\u{ff21}dmin",
            "/\u{1d41a}dmin",
            "/\u{24d0}dmin",
            "/\u{aa}dmin",
            "/\u{e1}dmin",
            "/adm\u{131}n",
            "/adm\u{130}n",
            "/ad\u{200b}min",
            "/ad\u{ad}min",
            "/admin\u{a0}",
            "/admin\u{3000}",
            "/admin\u{ff0e}",
            "/x\u{ff0f}\u{ff0e}\u{ff0e}\u{ff0f}admin",
            "/x/\u{2025}/admin",
            "/x\u{2215}..\u{2216}admin",
            "/x\u{ff3c}..\u{ff3c}admin",
            "/admin::$DATA",
            "/admin:$i30:$INDEX_ALLOCATION",
            "/admin\u{ff1b}x",
            "/admin\u{ff1f}x",
            "/admin\u{ff03}x",
            "/\u{ff05}61dmin",
            "/\u{ff05}2561dmin",
            "/%41dmin",
            "/%2541dmin",
            "/%ef%bd%81dmin",
        ] {
            let all = readings(path.as_bytes(), false).unwrap();
            assert!(all.iter().any(|r| r == "/admin"), "{path}: {all:?}");
        }
        for path in ["/Administrator", "/x/ADMIN", "/a/Dmin", "/admin:$x", "/ADM"] {
            let all = readings(path.as_bytes(), false).unwrap();
            assert!(!all[..1].contains(&"/admin".to_owned()), "{path}: {all:?}");
        }
        let endless = "%25".repeat(20) + "41";
        assert!(
            readings(
                format!("/\u{ff05}{}", endless.replace("%25", "25")).as_bytes(),
                false
            )
            .is_err()
        );
        assert_eq!(folded("/Stra\u{df}e/\u{212a}"), "/strasse/k");
        assert_eq!(folded("/"), "");
        assert!(covers("", "/a") && covers("/a", "/a/b") && !covers("/a", "/ab"));
    }
}

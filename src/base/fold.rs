//! What loose applications take a path for: they fold case, drop dots and spaces at the ends of segments, read characters that
//! only look like ASCII as ASCII, and decode once more. For judgement only, and only ever to refuse.
//!
//! Strangers make it run, before any login, so its work is bounded: a path is folded once a request ([`super::path::Path::readings`]),
//! what is not plain ASCII only up to `LONGEST` bytes, `MOST` characters and `ROUNDS` rounds.

use memchr::memmem;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::path::decode;

/// Rounds that are read: the path, and what two more decoders make of it. A path that still changes then is refused.
const ROUNDS: usize = 3;
/// Longest path, in bytes, that is folded where it has a percent sign or bytes above ASCII once it is decoded; ASCII has no bound.
pub(super) const LONGEST: usize = 2048;
/// Characters that are looked at for one path, over all rounds: a compatible one stands for up to eighteen (U+FDFA).
const MOST: usize = 2048;

pub(super) const TOO_LONG: &str = "the path is too long for its characters beyond ASCII, or its percent signs, to be read in every way";

/// Every path that a loose application may take a decoded path for, each [`folded`]. None for most, at the cost of one look: a path
/// that is its own only reading.
///
/// # Errors
/// When it is encoded too many times, or too long, to tell.
pub fn readings(decoded: &[u8]) -> Result<Vec<String>, &'static str> {
    readings_within(decoded, &mut { MOST })
}

/// `left` counts the characters that may still be looked at.
fn readings_within(decoded: &[u8], left: &mut usize) -> Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    if is_plain(decoded) {
        return Ok(all);
    }
    if decoded.len() > LONGEST && (decoded.contains(&b'%') || !decoded.is_ascii()) {
        return Err(TOO_LONG);
    }
    let mut text = alike(&String::from_utf8_lossy(decoded), left)?;
    for _ in 0..ROUNDS {
        let bytes = text.as_bytes();
        all.push(resolved(&text, false));
        let end = memchr::memchr2(b'?', b'#', bytes);
        if end.is_some() || bytes.contains(&b';') || memmem::find(bytes, b":$").is_some() {
            all.push(resolved(&text, true));
        }
        if let Some(before) = end.and_then(|end| text.get(..end)) {
            all.push(resolved(before, true));
        }
        if !text.contains('%') {
            return Ok(all);
        }
        let next = alike(&String::from_utf8_lossy(&decode(bytes).0), left)?;
        if next == text {
            return Ok(all);
        }
        text = next;
    }
    Err("the path is encoded too many times")
}

/// A prefix in the one spelling that all its look-alikes share; the root is empty. Without bound: it comes from a file.
pub fn folded(prefix: &str) -> String {
    alike(prefix, &mut { usize::MAX }).map_or_else(|_| String::new(), |text| resolved(&text, false))
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
fn alike(text: &str, left: &mut usize) -> Result<String, &'static str> {
    if text.is_ascii() {
        return Ok(text.to_ascii_lowercase());
    }
    let mut out = String::with_capacity(text.len());
    for c in text.nfkd() {
        *left = left.checked_sub(1).ok_or(TOO_LONG)?;
        if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
            continue;
        }
        if !is_seen(c) {
            continue;
        }
        if is_caseless(c) {
            out.push(separated(c));
            continue;
        }
        // There and back: the capital of `ß` is its own, and that one's small letter is `ß`.
        let cases = c.to_lowercase().flat_map(char::to_uppercase);
        for c in cases.flat_map(char::to_lowercase) {
            if is_seen(c) {
                out.push(separated(c));
            }
        }
    }
    Ok(out)
}

/// Hebrew to Myanmar, Hangul to Ethiopic, signs of East Asia to Yi, and behind Cherokee: to look for their case is slow.
fn is_caseless(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{109f}' | '\u{1100}'..='\u{139f}' | '\u{2e80}'..='\u{a63f}' | '\u{abc0}'..='\u{faff}')
}

fn separated(c: char) -> char {
    match c {
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{2216}' | '\u{29f5}' | '\u{a5}' | '\u{20a9}' => '\\',
        c => c,
    }
}

/// Whether a reader that cleans names up leaves it in.
fn is_seen(c: char) -> bool {
    let is_ignored = matches!(c,
        // Default_Ignorable_Code_Point, Unicode 14 to 17.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}'
        // Anchors of annotations and joiners of hieroglyphs: as little to be seen.
        | '\u{fff9}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}'
        // The small iota: the capital of a mark, U+0345, so that it is there for one reader and not for another.
        | '\u{3b9}');
    !is_ignored && !is_combining_mark(c) && !c.is_control()
}

/// By segments: without empty ones, white space around them and dots behind them, and with `..` followed. `is_cut`: parameters, and
/// the streams of Windows files (`:$DATA`), are cut off too.
fn resolved(text: &str, is_cut: bool) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    let mut rest = Some(text);
    while let Some(text) = rest {
        let end = text.bytes().position(|c| matches!(c, b'/' | b'\\'));
        let segment = end.and_then(|end| text.get(..end)).unwrap_or(text);
        rest = end.and_then(|end| text.get(end + 1..));
        let segment = if is_cut { cut(segment) } else { segment };
        let is_clean = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_graphic() && *c != b'.');
        let bytes = segment.as_bytes();
        let segment = match is_clean(bytes.first()) && is_clean(bytes.last()) {
            true => segment,
            false => match segment.trim() {
                ".." => {
                    out.truncate(out.rfind('/').unwrap_or(0));
                    continue;
                }
                segment => segment.trim_end_matches(|c: char| c == '.' || c.is_whitespace()),
            },
        };
        if !segment.is_empty() {
            out.push('/');
            out.push_str(segment);
        }
    }
    out
}

/// A segment without its parameters and streams.
fn cut(segment: &str) -> &str {
    let has_stream = segment.as_bytes().windows(2).any(|two| two == b":$");
    let is_end = |c: u8| matches!(c, b';' | b'?' | b'#') || (has_stream && c == b':');
    let end = segment.bytes().position(is_end);
    end.and_then(|end| segment.get(..end)).unwrap_or(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_have_no_other_reading() {
        for path in ["/", "/a/b", "/a.b/.c", "/a-b_c~d!e:f", "/a/"] {
            assert_eq!(readings(path.as_bytes()), Ok(Vec::new()), "{path}");
            assert_eq!(folded(path), path.trim_end_matches('/'), "{path}");
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
            let all = readings(path.as_bytes()).unwrap();
            assert!(all.iter().any(|r| r == "/admin"), "{path}: {all:?}");
        }
        for path in ["/Administrator", "/x/ADMIN", "/a/Dmin", "/admin:$x", "/ADM"] {
            let all = readings(path.as_bytes()).unwrap();
            assert!(!all[..1].contains(&"/admin".to_owned()), "{path}: {all:?}");
        }
        let endless = "%25".repeat(20) + "41";
        assert!(readings(format!("/\u{ff05}{}", endless.replace("%25", "25")).as_bytes()).is_err());
        assert_eq!(folded("/Stra\u{df}e/\u{212a}"), "/strasse/k");
        assert_eq!(folded("/"), "");
        assert!(covers("", "/a") && covers("/a", "/a/b") && !covers("/a", "/ab"));
    }

    /// What a stranger can make us do is counted, not timed.
    #[test]
    fn the_work_for_one_path_is_bounded() {
        let wide = "\u{ff05}252525252525";
        for (what, count) in [
            ("\u{fdfa}", 6_000),
            ("\u{fdfa}", 410),
            ("\u{fdfa}", 227),
            ("\u{fdfa}", 200),
            ("\u{fdfa}/", 400),
            ("\u{1f82}", 680),
            ("\u{20d0}", 680),
            ("\u{301}", 1_000),
            ("\u{1d160}", 500),
            ("\u{ac01}", 682),
            ("\u{ff05}", 680),
            ("\u{ff05}41", 400),
            ("%25", 680),
            ("A;", 1_000),
        ] {
            for begin in [String::new(), wide.into(), "\u{ff05}2541".into()] {
                let path = format!("/{begin}{}", what.repeat(count));
                let mut left = MOST;
                let all = readings_within(path.as_bytes(), &mut left);
                assert!(path.len() <= LONGEST || (all == Err(TOO_LONG) && left == MOST));
                let all = all.unwrap_or_default();
                let bytes: usize = all.iter().map(String::len).sum();
                assert!(all.len() <= 3 * ROUNDS, "{what} {}", all.len());
                assert!(bytes <= 3 * 4 * (MOST + ROUNDS * LONGEST), "{what} {bytes}");
            }
        }
        // The longest that people write passes: 682 syllables, a name with accents throughout.
        for what in ["\u{ac01}", "\u{65e5}", "\u{1ec7}", "\u{e9}", "\u{1f600}"] {
            let path = format!("/{}", what.repeat((LONGEST - 1) / what.len()));
            assert_eq!(readings(path.as_bytes()).map(|all| all.len()), Ok(1));
            let path = format!("{path}{what}");
            assert_eq!(readings(path.as_bytes()), Err(TOO_LONG));
        }
        // ASCII of any length costs one reading, nothing where it is plain.
        for (path, count) in [("/a", 0), ("/A", 1), ("/a.", 1), ("/a:$", 2), ("/x/..", 1)] {
            let path = path.repeat(20_000);
            let mut left = 0;
            let all = readings_within(path.as_bytes(), &mut left).unwrap();
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|r| r.len() <= path.len()));
        }
        assert_eq!(readings("/%".repeat(1_100).as_bytes()), Err(TOO_LONG));
    }

    /// Marks of every alphabet, and all that Unicode calls ignorable.
    #[test]
    fn what_nobody_sees_does_not_count() {
        for c in [
            0x345, 0x483, 0x591, 0x64b, 0x93f, 0x94d, 0xe31, 0x1ab0, 0x1dc4, 0x20d0, 0x20dd,
            0x3099, 0xfe20, 0x1d165, 0x80, 0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x17b4, 0x17b5,
            0x180e, 0x200b, 0x2064, 0x2065, 0x206a, 0x3164, 0xfe0f, 0xfeff, 0xffa0, 0xfff0, 0xfff9,
            0xfffb, 0x1bca0, 0x1d173, 0x13430, 0xe0001, 0xe0020, 0xe0100, 0xe0fff,
        ] {
            let c = char::from_u32(c).unwrap();
            let path = format!("/ad{c}min");
            let all = readings(path.as_bytes()).unwrap();
            assert_eq!(all, ["/admin"], "U+{:04X}", u32::from(c));
        }
    }

    /// Folding what is folded changes nothing, and no case of a character folds to another thing.
    #[test]
    fn folding_is_one_thing_in_every_case() {
        for c in (0x80..0x2_0000).filter_map(char::from_u32) {
            let is_its_own = c.to_lowercase().eq([c]) && c.to_uppercase().eq([c]);
            assert!(is_its_own || !is_caseless(c), "U+{:04X}", u32::from(c));
            let once = folded(&format!("/x{c}x"));
            assert_eq!(folded(&once), once, "U+{:04X}", u32::from(c));
            for case in [c.to_lowercase().to_string(), c.to_uppercase().to_string()] {
                assert_eq!(
                    folded(&format!("/x{case}x")),
                    once,
                    "U+{:04X}",
                    u32::from(c)
                );
            }
        }
    }
}

//! The path of a request, for judgement only: what is forwarded are the bytes as they came.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::fold;

/// A path as it is judged.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    /// Percent-decoded once; starts with `/`.
    pub decoded: Cow<'a, [u8]>,
    /// Why a decoder behind us might read this path as another one; `None` when there is one reading only.
    pub doubt: Option<&'static str>,
    /// Made when it is first asked for.
    readings: OnceCell<Result<Vec<String>, &'static str>>,
}

/// Rounds of decoding that are followed; a path that still changes then is in doubt.
const ROUNDS: usize = 4;

impl<'a> Path<'a> {
    /// Reads the path of a request target (without its query). `Err` when no reading is right:
    /// control bytes, spaces, a fragment, bytes above ASCII, or no leading slash.
    pub fn parse(raw: &'a str) -> Result<Self, &'static str> {
        if !raw.starts_with('/') {
            return Err("the path does not begin with a slash");
        }
        let (mut is_encoded, mut is_odd) = (false, false);
        let mut before = b' ';
        for c in raw.bytes() {
            match c {
                0..=b' ' | 0x7f.. => {
                    return Err("the path has a control byte, a space or a byte above ASCII");
                }
                b'#' => return Err("the path has a fragment"),
                b'%' => is_encoded = true,
                b'\\' | b';' => is_odd = true,
                b'/' | b'.' if before == b'/' => is_odd = true,
                _ => {}
            }
            before = c;
        }
        if !is_encoded && !is_odd {
            return Ok(Self {
                decoded: Cow::Borrowed(raw.as_bytes()),
                doubt: None,
                readings: OnceCell::new(),
            });
        }
        let (decoded, mut doubt) = decode(raw.as_bytes());
        doubt = doubt
            .or_else(|| is_odd.then(|| doubtful(raw.as_bytes())).flatten())
            .or_else(|| encoded_delimiter(raw.as_bytes()))
            .or_else(|| doubtful(&decoded));
        if doubt.is_none() && std::str::from_utf8(&decoded).is_err() {
            doubt = Some("the decoded path is not UTF-8");
        }
        if doubt.is_none() && decoded.len() > fold::LONGEST && decoded.contains(&b'%') {
            doubt = Some(fold::TOO_LONG);
        }
        if doubt.is_some() || !decoded.contains(&b'%') {
            return Ok(Self {
                decoded: Cow::Owned(decoded),
                doubt,
                readings: OnceCell::new(),
            });
        }
        let mut text = decoded.clone();
        for _ in 0..ROUNDS {
            if doubt.is_some() || !text.contains(&b'%') {
                break;
            }
            doubt = encoded_delimiter(&text);
            let again = decode(&text).0;
            doubt = doubt.or_else(|| doubtful(&again));
            if again == text {
                break;
            }
            text = again;
        }
        if doubt.is_none() && text.contains(&b'%') && decode(&text).0 != text {
            doubt = Some("the path is encoded too many times");
        }
        Ok(Self {
            decoded: Cow::Owned(decoded),
            doubt,
            readings: OnceCell::new(),
        })
    }

    /// What a server that decodes once more reads; `None` when that changes nothing. Ends: a path that goes on for longer
    /// than a few rounds is in doubt already.
    pub fn again(&self) -> Option<Path<'static>> {
        if self.doubt.is_some() || !self.decoded.contains(&b'%') {
            return None;
        }
        let decoded = decode(&self.decoded).0;
        (decoded != *self.decoded).then_some(Path {
            decoded: Cow::Owned(decoded),
            doubt: None,
            readings: OnceCell::new(),
        })
    }

    /// What loose applications take it for ([`fold::readings`]), worked out once.
    ///
    /// # Errors
    /// When nobody can tell.
    pub fn readings(&self) -> Result<&[String], &'static str> {
        let made = || fold::readings(&self.decoded);
        match self.readings.get_or_init(made) {
            Ok(all) => Ok(all),
            Err(what) => Err(what),
        }
    }

    /// Whether `prefix` (no trailing slash, or `/`) covers this path by whole segments.
    pub fn is_under(&self, prefix: &str) -> bool {
        if prefix == "/" {
            return true;
        }
        match self.decoded.strip_prefix(prefix.as_bytes()) {
            Some(rest) => rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

/// Text with every `%XX` decoded once; `None` when that is not UTF-8 or a percent sign stands alone.
pub fn percent_decode(text: &str) -> Option<String> {
    let (bytes, doubt) = decode(text.as_bytes());
    String::from_utf8(bytes).ok().filter(|_| doubt.is_none())
}

fn hex(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

/// Decodes every `%XX` once; says when a percent sign is not followed by two hex digits.
pub(super) fn decode(raw: &[u8]) -> (Vec<u8>, Option<&'static str>) {
    let mut out = Vec::with_capacity(raw.len());
    let mut doubt = None;
    let mut i = 0;
    while i < raw.len() {
        let pair = (raw[i] == b'%').then(|| Some((hex(*raw.get(i + 1)?)?, hex(*raw.get(i + 2)?)?)));
        match pair {
            Some(Some((high, low))) => {
                out.push(high << 4 | low);
                i += 3;
                continue;
            }
            Some(None) => doubt = Some("the path has a percent sign without two hex digits"),
            None => {}
        }
        out.push(raw[i]);
        i += 1;
    }
    (out, doubt)
}

/// An encoded delimiter: `%2f`, `%5c`, `%3b`, `%23`, `%3f`.
fn encoded_delimiter(text: &[u8]) -> Option<&'static str> {
    text.windows(3)
        .filter(|w| w[0] == b'%' && matches!(w[1], b'2' | b'3' | b'5'))
        .find_map(|w| match (w[0], hex(w[1])?, hex(w[2])?) {
            (b'%', 2, 15) => Some("the path has an encoded slash"),
            (b'%', 5, 12) => Some("the path has an encoded backslash"),
            (b'%', 3, 11) => Some("the path has an encoded semicolon"),
            (b'%', 2, 3) => Some("the path has an encoded `#`"),
            (b'%', 3, 15) => Some("the path has an encoded `?`"),
            _ => None,
        })
}

/// What two servers read in two ways once the path is decoded.
fn doubtful(path: &[u8]) -> Option<&'static str> {
    for c in path {
        match c {
            b'\\' => return Some("the path has a backslash"),
            b';' => return Some("the path has a semicolon"),
            0..0x20 | 0x7f => return Some("the path has a control byte"),
            _ => {}
        }
    }
    let segments = path.strip_prefix(b"/").unwrap_or(path);
    let mut segments = segments.split(|c| *c == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." | b".." => return Some("the path has a dot segment"),
            b"" if segments.peek().is_some() => return Some("the path has an empty segment"),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_passes_and_two_are_in_doubt() {
        let long = |text: &str| format!("/{}", text.repeat(fold::LONGEST));
        for (raw, decoded, clear) in [
            ("/", "/", true),
            ("/a/b", "/a/b", true),
            ("/a/", "/a/", true),
            ("/a.b/.well-known/x", "/a.b/.well-known/x", true),
            ("/...", "/...", true),
            ("/caf%C3%A9", "/café", true),
            ("/100%25", "/100%", true),
            ("/100%2520", "/100%20", true),
            (&long("%25"), &long("%"), false),
            (&long("%20"), &long(" "), true),
            ("/%41dmin", "/Admin", true),
            ("/a//b", "/a//b", false),
            ("//", "//", false),
            ("/a/../b", "/a/../b", false),
            ("/a/.", "/a/.", false),
            ("/%2e%2e/b", "/../b", false),
            ("/.%2e/b", "/../b", false),
            ("/%252e%252e/b", "/%2e%2e/b", false),
            ("/%25252e%25252e/b", "/%252e%252e/b", false),
            ("/a%2fb", "/a/b", false),
            ("/a%252fb", "/a%2fb", false),
            ("/a%5Cb", "/a\\b", false),
            ("/a\\b", "/a\\b", false),
            ("/a;b", "/a;b", false),
            ("/a%3bb", "/a;b", false),
            ("/a%23b", "/a#b", false),
            ("/a%3fb", "/a?b", false),
            ("/a%00", "/a\0", false),
            ("/a%0d%0a", "/a\r\n", false),
            ("/a%", "/a%", false),
            ("/a%zz", "/a%zz", false),
        ] {
            let path = Path::parse(raw).unwrap();
            assert_eq!(String::from_utf8_lossy(&path.decoded), decoded, "{raw}");
            assert_eq!(path.doubt.is_none(), clear, "{raw}: {:?}", path.doubt);
        }
        for overlong in ["/%c0%af", "/%c0%ae%c0%ae/", "/%e0%80%af", "/%ff"] {
            assert!(Path::parse(overlong).unwrap().doubt.is_some(), "{overlong}");
        }
        for wrong in ["", "a", "*", "/a b", "/a#b", "/\u{e9}", "/a\0", "/a\tb"] {
            assert!(Path::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn prefixes_cover_whole_segments_only() {
        for (path, prefix, want) in [
            ("/admin", "/admin", true),
            ("/admin/x", "/admin", true),
            ("/administrator", "/admin", false),
            ("/%61dmin", "/admin", true),
            ("/Admin", "/admin", false),
            ("/x", "/", true),
        ] {
            assert_eq!(
                Path::parse(path).unwrap().is_under(prefix),
                want,
                "{path} {prefix}"
            );
        }
    }
}

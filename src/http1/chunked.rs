//! The chunked coding (RFC 9112, 7.1), read strictly and written anew. Chunk extensions are read over and not passed on;
//! trailers are handed out as raw lines.

use super::field::is_token;
use super::head;

/// Longest chunk-size line, extensions included.
const LINE: usize = 256;
/// Longest trailer section.
const TRAILERS: usize = 16 << 10;

/// Where the reading of a chunked body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More input is needed.
    More,
    /// So many bytes of framing are to be skipped, then ask again.
    Skip(usize),
    /// The next so many bytes are data; [`Decoder::took`] says how many were used.
    Data(usize),
    /// The body has ended; the trailer section, with its last empty line, is so many bytes long.
    End(usize),
}

/// Reads one chunked body.
#[derive(Debug)]
pub struct Decoder {
    at: At,
    seen: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            at: At::Size,
            seen: 0,
        }
    }
}

impl Decoder {
    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// What the bytes at hand are. An error is final.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, &'static str> {
        match self.at {
            At::Size => self.size(input),
            At::Data(left) if input.is_empty() && left > 0 => Ok(Step::More),
            At::Data(left) => Ok(Step::Data(
                usize::try_from(left).unwrap_or(usize::MAX).min(input.len()),
            )),
            At::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.at = At::Size;
                    Ok(Step::Skip(2))
                }
                [] | [b'\r'] => Ok(Step::More),
                _ => Err("a chunk that does not end in CR LF"),
            },
            At::Trailers => match head::end(&input[..input.len().min(TRAILERS)], &mut self.seen) {
                Ok(Some(n)) => {
                    self.at = At::Done;
                    Ok(Step::End(n))
                }
                Ok(None) if input.len() >= TRAILERS => Err("a trailer section that is too long"),
                Ok(None) => Ok(Step::More),
                Err(_) => Err("a bare CR or LF in the trailers"),
            },
            At::Done => Ok(Step::End(0)),
        }
    }

    /// Says that `n` bytes of the data that [`Step::Data`] named were used.
    pub fn took(&mut self, n: usize) {
        if let At::Data(left) = self.at {
            let left = left - (n as u64).min(left);
            self.at = if left == 0 {
                At::DataEnd
            } else {
                At::Data(left)
            };
        }
    }

    fn size(&mut self, input: &[u8]) -> Result<Step, &'static str> {
        let digits = input.iter().take_while(|c| c.is_ascii_hexdigit()).count();
        if digits > 16 {
            return Err("a chunk size of more than 16 digits");
        }
        let rest = &input[digits..];
        if digits == 0 && !rest.is_empty() {
            return Err("a chunk size that is no number");
        }
        let line = match extension(rest)? {
            Some(n) => digits + n,
            None if input.len() > LINE => return Err("a chunk-size line that is too long"),
            None => return Ok(Step::More),
        };
        if line > LINE {
            return Err("a chunk-size line that is too long");
        }
        let text = std::str::from_utf8(&input[..digits]).unwrap_or_default();
        let size = u64::from_str_radix(text, 16).map_err(|_| "a chunk size that is no number")?;
        if i64::try_from(size).is_err() {
            return Err("a chunk size that others read as a negative one");
        }
        self.at = if size == 0 {
            At::Trailers
        } else {
            At::Data(size)
        };
        self.seen = 0;
        Ok(Step::Skip(line))
    }
}

/// Where in the extensions of a size line we are.
#[derive(Clone, Copy)]
enum Ext {
    /// Behind the size.
    Size,
    /// Behind `;`.
    NameBegin,
    Name,
    /// Behind `=`.
    ValueBegin,
    Value,
    Quoted,
    /// Behind the closing quotation mark.
    QuotedEnd,
}

/// The length of `[ext] CRLF`; `None` while it is not there whole. Extensions are `;name[=value]` (RFC 9112, 7.1.1), the value a
/// token or a quoted string, without white space and without backslashes: neither can hide a line end.
fn extension(rest: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut at = Ext::Size;
    for (i, c) in rest.iter().enumerate() {
        at = match (at, *c) {
            (Ext::Size | Ext::Name | Ext::Value | Ext::QuotedEnd, b'\r') => {
                return match rest.get(i + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some(i + 2)),
                    Some(_) => Err("a bare CR in a chunk-size line"),
                };
            }
            (Ext::Size | Ext::Name | Ext::Value | Ext::QuotedEnd, b';') => Ext::NameBegin,
            (Ext::Name, b'=') => Ext::ValueBegin,
            (Ext::ValueBegin, b'"') => Ext::Quoted,
            (Ext::Quoted, b'"') => Ext::QuotedEnd,
            (Ext::Quoted, b'!'..=b'~') if *c != b'\\' => Ext::Quoted,
            (Ext::NameBegin | Ext::Name, c) if is_token(&[c]) => Ext::Name,
            (Ext::ValueBegin | Ext::Value, c) if is_token(&[c]) => Ext::Value,
            (Ext::Size, _) => return Err("a chunk size followed by something else"),
            (_, _) => return Err("a chunk extension that is not of its grammar"),
        };
    }
    Ok(None)
}

/// Writes `data` as one chunk.
pub fn write(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    begin(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes the size line of a chunk.
fn begin(size: usize, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for i in (0..digits).rev() {
        out.push(HEX[(size >> (4 * i)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in pieces of `cut` bytes; returns the data and what is left behind the body.
    fn decode(text: &str, cut: usize) -> Result<(String, usize), &'static str> {
        let (mut decoder, mut data, mut buffer) = (Decoder::default(), Vec::new(), Vec::new());
        let mut pieces = text.as_bytes().chunks(cut);
        loop {
            match decoder.step(&buffer)? {
                Step::More => buffer.extend_from_slice(pieces.next().ok_or("cut short")?),
                Step::Skip(n) => drop(buffer.drain(..n)),
                Step::Data(n) => {
                    data.extend(buffer.drain(..n));
                    decoder.took(n);
                }
                Step::End(n) => {
                    return Ok((
                        String::from_utf8(data).unwrap(),
                        buffer.len() - n + pieces.map(<[u8]>::len).sum::<usize>(),
                    ));
                }
            }
        }
    }

    #[test]
    fn reads_chunks_strictly_however_they_are_cut() {
        for (text, want) in [
            ("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", 0))),
            ("5\r\nhello\r\n0\r\n\r\nGET", Ok(("hello", 3))),
            (
                "A\r\n0123456789\r\n1\r\nx\r\n000\r\n\r\n",
                Ok(("0123456789x", 0)),
            ),
            ("1;a=b;c\r\nx\r\n0\r\n\r\n", Ok(("x", 0))),
            ("1;a=\"b;c=d\";e\r\nx\r\n0\r\n\r\n", Ok(("x", 0))),
            ("1;a=\"\"\r\nx\r\n0\r\n\r\n", Ok(("x", 0))),
            ("1;a=\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a=;b\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a==b\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a=b=c\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a\"b\"\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a=\"b\"c\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a=\"b\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a=\"\\\"\"\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a(b)\r\nx\r\n0\r\n\r\n", Err(())),
            ("7fffffffffffffff\r\n", Err(())),
            ("8000000000000000\r\nx", Err(())),
            ("FFFFFFFFFFFFFFFF\r\nx", Err(())),
            ("1\r\nx\r\n0\r\nA: b\r\n\r\n", Ok(("x", 0))),
            ("1\nx\r\n0\r\n\r\n", Err(())),
            ("1\r\nx\n0\r\n\r\n", Err(())),
            ("1\r\nx\r\n0\n\n", Err(())),
            ("1\r\nx\r\n0\r\n\n", Err(())),
            ("1\r\nxy\r\n0\r\n\r\n", Err(())),
            ("1 \r\nx\r\n0\r\n\r\n", Err(())),
            (" 1\r\nx\r\n0\r\n\r\n", Err(())),
            ("1 ;a\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a\nb\r\nx\r\n0\r\n\r\n", Err(())),
            ("1;a=\"\r\n\"\r\nx\r\n0\r\n\r\n", Err(())),
            ("0x1\r\nx\r\n0\r\n\r\n", Err(())),
            ("+1\r\nx\r\n0\r\n\r\n", Err(())),
            ("-1\r\nx\r\n0\r\n\r\n", Err(())),
            ("g\r\nx\r\n0\r\n\r\n", Err(())),
            ("\r\nx\r\n0\r\n\r\n", Err(())),
            ("10000000000000000\r\nx", Err(())),
            ("1\rx\r\n0\r\n\r\n", Err(())),
            ("5\r\nhel", Err(())),
        ] {
            for cut in [1, 2, 3, 1000] {
                let got = decode(text, cut);
                assert_eq!(
                    got.as_ref().map(|(d, n)| (d.as_str(), *n)).map_err(|_| ()),
                    want,
                    "{text:?} cut {cut}: {got:?}"
                );
            }
        }
        assert!(decode(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(300)), 7).is_err());
        assert!(decode(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(4000)), 1000).is_err());
    }

    #[test]
    fn writes_what_it_reads() {
        let mut out = Vec::new();
        for part in ["", "a", "0123456789abcdef", &"x".repeat(4096)] {
            write(part.as_bytes(), &mut out);
        }
        out.extend_from_slice(b"0\r\n\r\n");
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("1\r\na\r\n10\r\n0123456789abcdef\r\n1000\r\n"),
            "{}",
            &text[..40]
        );
        assert_eq!(decode(&text, 100).unwrap().0.len(), 1 + 16 + 4096);
    }
}

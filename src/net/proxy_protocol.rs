//! The PROXY protocol (versions 1 and 2): one header before everything else, by which a proxy names the client that it carries.
//! Read to the byte, so that TLS begins right behind it, and strictly: what is not exactly a header ends the connection. There is
//! no version without a header: whoever is expected to send one and does not is refused by the caller.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::base::cidr::fold;

/// The longest line of version 1, its CRLF counted (section 2.1).
pub const LONGEST_LINE: usize = 107;
/// What is read of version 2 at most: addresses take 36 bytes, the rest are extensions that are skipped.
pub const LONGEST_BINARY: usize = 16 + 2048;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE: &[u8] = b"PROXY ";

/// Whom the header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy itself, which looks whether we are there (version 2, command LOCAL).
    Local,
    /// A client that the proxy carries; IPv4-mapped addresses are folded.
    Client {
        /// The client.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum HeaderError {
    #[error("{0}")]
    Bad(&'static str),
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header and nothing behind it. The deadline is the caller's; on an error the stream is of no use any more.
pub async fn read(stream: &mut TcpStream) -> Result<Header, HeaderError> {
    let mut bytes = [0; LONGEST_BINARY];
    let mut have = 0;
    loop {
        // Every byte of an unfinished header belongs to it, so what was looked at can be taken.
        let seen = match stream.peek(&mut bytes[have..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => have + n,
        };
        let found = parse(&bytes[..seen]).map_err(HeaderError::Bad)?;
        let end = found.map_or(seen, |(_, length)| length);
        stream.read_exact(&mut bytes[have..end]).await?;
        have = end;
        match found {
            Some((header, _)) => return Ok(header),
            None if have == bytes.len() => return Err(HeaderError::Bad("a header without end")),
            None => {}
        }
    }
}

/// The header at the start of `bytes` and its length; `None` while it may still become one.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, &'static str> {
    if begins(bytes, SIGNATURE) {
        return binary(bytes);
    }
    if begins(bytes, LINE) {
        return line(bytes);
    }
    Err("no PROXY header")
}

/// Whether the bytes begin with `start`, as far as they go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let n = bytes.len().min(start.len());
    bytes[..n] == start[..n]
}

fn line(bytes: &[u8]) -> Result<Option<(Header, usize)>, &'static str> {
    let bytes = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = bytes.iter().position(|c| *c == b'\n') else {
        return match bytes.len() {
            LONGEST_LINE => Err("a PROXY line of more than 107 bytes"),
            _ => Ok(None),
        };
    };
    let text = bytes[..end]
        .strip_suffix(b"\r")
        .and_then(|text| std::str::from_utf8(text).ok())
        .ok_or("a PROXY line that does not end in CRLF, or with bytes above ASCII")?;
    let words: Vec<&str> = text.split(' ').collect();
    let header = match words.as_slice() {
        // A client that is carried but not named: it could be anybody (section 2.1 leaves the choice to us).
        ["PROXY", "UNKNOWN", ..] => return Err("a PROXY line that does not name the client"),
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            destination,
            from,
            to,
        ] => {
            let address = |text: &str| {
                let address: IpAddr = text.parse().ok()?;
                (address.is_ipv4() == (*family == "TCP4")).then_some(address)
            };
            let source = address(source).zip(port(from));
            let destination = address(destination).zip(port(to));
            client(
                source.ok_or("a PROXY line with a bad source")?,
                destination.ok_or("a PROXY line with a bad destination")?,
            )?
        }
        _ => return Err("a PROXY line of an unknown form"),
    };
    Ok(Some((header, end + 1)))
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, &'static str> {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if 16 + length > LONGEST_BINARY {
        return Err("a PROXY header of more than 2064 bytes");
    }
    // Judged before the rest is waited for: what is wrong already does not get better.
    let (is_local, family) = match (head[12], head[13]) {
        (0x20, _) => (true, 0),
        (0x21, family @ (0x11 | 0x21)) => (false, family),
        (0x21, 0x00) => return Err("a PROXY header that does not name the client"),
        (0x21, _) => return Err("a PROXY header for something that is not TCP over IP"),
        _ => return Err("a PROXY header of an unknown version or command"),
    };
    let needed = match family {
        0x11 => 12,
        0x21 => 36,
        _ => 0,
    };
    if length < needed {
        return Err("a PROXY header that is too short for its addresses");
    }
    let Some(block) = rest.get(..length) else {
        return Ok(None);
    };
    let header = if is_local {
        Header::Local
    } else {
        addresses(block, family).ok_or("a PROXY header without addresses")??
    };
    Ok(Some((header, 16 + length)))
}

/// Source, destination and both ports, as the family lays them out; extensions behind them are skipped.
fn addresses(block: &[u8], family: u8) -> Option<Result<Header, &'static str>> {
    let (source, rest) = address(block, family)?;
    let (destination, rest) = address(rest, family)?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let (to, _) = rest.split_first_chunk::<2>()?;
    let port = |bytes: &[u8; 2]| u16::from_be_bytes(*bytes);
    Some(client((source, port(from)), (destination, port(to))))
}

fn address(bytes: &[u8], family: u8) -> Option<(IpAddr, &[u8])> {
    if family == 0x11 {
        let (four, rest) = bytes.split_first_chunk::<4>()?;
        return Some((IpAddr::from(*four), rest));
    }
    let (six, rest) = bytes.split_first_chunk::<16>()?;
    Some((IpAddr::from(*six), rest))
}

fn client(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Result<Header, &'static str> {
    let source = (fold(source.0), source.1);
    let is_broadcast = matches!(source.0, IpAddr::V4(four) if four.is_broadcast());
    if source.0.is_unspecified() || source.0.is_multicast() || is_broadcast {
        return Err("a PROXY header whose source is no host's address");
    }
    Ok(Header::Client {
        source: source.into(),
        destination: (fold(destination.0), destination.1).into(),
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn named(source: &str, destination: &str) -> Header {
        Header::Client {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    const FOUR: [u8; 12] = [10, 1, 2, 3, 10, 0, 0, 9, 0x30, 0x39, 0x20, 0xfb];

    #[test]
    fn reads_lines_of_version_1() {
        for (text, want) in [
            (
                "PROXY TCP4 10.1.2.3 10.0.0.9 12345 8443\r\n",
                Some(named("10.1.2.3:12345", "10.0.0.9:8443")),
            ),
            (
                "PROXY TCP4 10.1.2.3 10.0.0.9 0 65535\r\n",
                Some(named("10.1.2.3:0", "10.0.0.9:65535")),
            ),
            (
                "PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n",
                Some(named("[2001:db8::7]:1", "[2001:db8::1]:2")),
            ),
            (
                "PROXY TCP6 ::ffff:10.1.2.3 ::1 1 2\r\n",
                Some(named("10.1.2.3:1", "[::1]:2")),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
            ("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", None),
            ("PROXY TCP6 10.1.2.3 10.0.0.9 1 2\r\n", None),
            ("PROXY TCP4 10.1.2.3 2001:db8::1 1 2\r\n", None),
            ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", None),
            ("PROXY TCP4 010.1.2.3 10.0.0.9 1 2\r\n", None),
            ("PROXY TCP4 10.1.2 10.0.0.9 1 2\r\n", None),
            ("PROXY TCP4 0.0.0.0 10.0.0.9 1 2\r\n", None),
            ("PROXY TCP4 255.255.255.255 10.0.0.9 1 2\r\n", None),
            ("PROXY TCP6 ff02::1 ::1 1 2\r\n", None),
            ("PROXY TCP4 10.1.2.3 10.0.0.9 65536 2\r\n", None),
            ("PROXY TCP4 10.1.2.3 10.0.0.9 +1 2\r\n", None),
            ("PROXY TCP4 10.1.2.3 10.0.0.9 01 2\r\n", None),
            ("PROXY TCP4 10.1.2.3 10.0.0.9 1\r\n", None),
            ("PROXY TCP4 10.1.2.3 10.0.0.9 1 2 3\r\n", None),
            ("PROXY TCP4  10.1.2.3 10.0.0.9 1 2\r\n", None),
            ("PROXY TCP4 10.1.2.3 10.0.0.9 1 2 \r\n", None),
            ("PROXY TCP4 10.1.2.3 10.0.0.9 1 2\n", None),
            ("PROXY TCP4\t10.1.2.3 10.0.0.9 1 2\r\n", None),
            ("PROXY UDP4 10.1.2.3 10.0.0.9 1 2\r\n", None),
            ("proxy TCP4 10.1.2.3 10.0.0.9 1 2\r\n", None),
            ("PROXY tcp4 10.1.2.3 10.0.0.9 1 2\r\n", None),
            ("PROXY \u{e9}\r\n", None),
            ("PROXY\r\n", None),
            ("GET / HTTP/1.1\r\n", None),
            ("\u{16}\u{3}\u{1}", None),
        ] {
            let got = parse(text.as_bytes());
            assert_eq!(got.ok(), want.map(|h| Some((h, text.len()))), "{text:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_at_107_bytes() {
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        assert_eq!(parse(&long.as_bytes()[..106]), Ok(None));
        assert!(parse(&long.as_bytes()[..107]).is_err());
        let late = format!("PROXY TCP4 {}\r\n", "1".repeat(96));
        assert!(parse(late.as_bytes()).is_err(), "the end is byte 108");
    }

    #[test]
    fn reads_headers_of_version_2() {
        let want = named("10.1.2.3:12345", "10.0.0.9:8443");
        let mapped = [[0; 10].as_slice(), &[0xff, 0xff, 10, 1, 2, 3]].concat();
        let six = [mapped.as_slice(), &[0; 15], &[1], &FOUR[8..]].concat();
        let extended = [FOUR.as_slice(), &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        for (bytes, want) in [
            (v2(0x21, 0x11, &FOUR), Some(want)),
            (v2(0x21, 0x11, &extended), Some(want)),
            (
                v2(0x21, 0x21, &six),
                Some(named("10.1.2.3:12345", "[::1]:8443")),
            ),
            (v2(0x20, 0x00, &[]), Some(Header::Local)),
            (v2(0x20, 0x11, &FOUR), Some(Header::Local)),
            (v2(0x20, 0x31, &[7; 216]), Some(Header::Local)),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x11, &FOUR[..11]), None),
            (v2(0x21, 0x21, &FOUR), None),
            (v2(0x21, 0x12, &FOUR), None),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x11, 0x11, &FOUR), None),
            (v2(0x22, 0x11, &FOUR), None),
            (v2(0x21, 0x11, &[0; 12]), None),
            (v2(0x21, 0x11, &[0; 2049]), None),
        ] {
            let length = bytes.len();
            assert_eq!(
                parse(&bytes).ok(),
                want.map(|h| Some((h, length))),
                "{bytes:?}"
            );
            let more = [bytes.as_slice(), b"\x16\x03\x01"].concat();
            assert_eq!(parse(&more).ok(), want.map(|h| Some((h, length))));
        }
    }

    #[test]
    fn every_beginning_of_a_header_waits_for_more() {
        let line = b"PROXY TCP4 10.1.2.3 10.0.0.9 12345 8443\r\n".to_vec();
        for bytes in [line, v2(0x21, 0x11, &FOUR)] {
            for n in 0..bytes.len() {
                assert_eq!(parse(&bytes[..n]), Ok(None), "{n}");
            }
        }
    }

    #[tokio::test]
    async fn takes_the_header_and_not_a_byte_more() {
        let header = b"PROXY TCP4 10.1.2.3 10.0.0.9 12345 8443\r\n";
        for pieces in [
            vec![&header[..], b"rest"],
            vec![&header[..1], &header[1..40], &header[40..], b"rest"],
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let sent = tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                for piece in pieces {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let (mut stream, _) = listener.accept().await.unwrap();
            let got = read(&mut stream).await.unwrap();
            assert_eq!(got, named("10.1.2.3:12345", "10.0.0.9:8443"));
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "rest");
            sent.await.unwrap();
        }
    }

    #[tokio::test]
    async fn garbage_and_an_early_end_are_errors() {
        for (sent, bad) in [(&b"GET /"[..], true), (b"PROXY TCP4 ", false), (b"", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut peer = TcpStream::connect(address).await.unwrap();
            peer.write_all(sent).await.unwrap();
            peer.shutdown().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let error = read(&mut stream).await.unwrap_err();
            assert_eq!(matches!(error, HeaderError::Bad(_)), bad, "{error}");
        }
    }
}

//! The PROXY header: one length however much of it is there, and addresses that are really written in it.

use std::net::{IpAddr, SocketAddr};

use loopgate::net::proxy_protocol::{Header, LONGEST_BINARY, LONGEST_LINE, parse};

pub fn run(data: &[u8]) {
    let found = parse(data);
    let Ok(Some((header, length))) = found else {
        // What is wrong stays wrong, whatever follows.
        if found.is_err() {
            let more = [data, b"\r\n 1 2 3 4 5 6\r\n\r\n"].concat();
            assert!(parse(&more).is_err(), "a header out of a mistake");
        }
        return;
    };
    assert!(length <= data.len());
    assert_eq!(parse(&data[..length]), found, "what follows counts");
    for end in 0..length {
        assert_eq!(parse(&data[..end]), Ok(None), "a header of {end} bytes");
    }
    let Header::Client {
        source,
        destination,
    } = header
    else {
        return;
    };
    for address in [source, destination] {
        assert_eq!(address.ip().to_canonical(), address.ip(), "not folded");
    }
    if data.starts_with(b"PROXY ") {
        assert!(length <= LONGEST_LINE);
        assert_eq!(line(&data[..length]), Some((source, destination)));
    } else {
        assert!(length <= LONGEST_BINARY);
        assert_eq!(binary(&data[..length]), Some((source, destination)));
    }
}

fn line(text: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = text.split(' ').collect();
    let ["PROXY", family, source, destination, from, to] = words[..] else {
        return None;
    };
    let address = |text: &str| -> Option<IpAddr> {
        let ip: IpAddr = text.parse().ok()?;
        (ip.is_ipv4() == (family == "TCP4")).then_some(ip.to_canonical())
    };
    let port = |text: &str| -> Option<u16> {
        let port: u16 = text.parse().ok()?;
        (port.to_string() == text).then_some(port)
    };
    matches!(family, "TCP4" | "TCP6").then_some(())?;
    Some((
        (address(source)?, port(from)?).into(),
        (address(destination)?, port(to)?).into(),
    ))
}

fn binary(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes[12] != 0x21 || bytes.len() != 16 + length {
        return None;
    }
    let rest = &bytes[16..];
    let size = match bytes[13] {
        0x11 => 4,
        0x21 => 16,
        _ => return None,
    };
    let address = |at: usize| -> Option<IpAddr> {
        let part = rest.get(at..at + size)?;
        Some(match <[u8; 4]>::try_from(part) {
            Ok(four) => four.into(),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(part).ok()?).to_canonical(),
        })
    };
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    Some((
        (address(0)?, port(2 * size)?).into(),
        (address(size)?, port(2 * size + 2)?).into(),
    ))
}

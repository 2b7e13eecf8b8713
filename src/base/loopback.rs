//! Addresses of this machine's loopback, the only ones that a request can be forwarded to.
//! A [`LoopbackAddr`] is made here, by parsing, and nowhere else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Proof that an address is on loopback or a Unix socket. Neither `Clone` nor `Default`: whoever dials holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopbackAddr(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Ip(SocketAddr),
    /// `localhost`, or a port alone: both families, never asked of DNS.
    Both(u16),
    Unix(PathBuf),
}

/// What is spoken to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 in clear with prior knowledge (gRPC).
    H2c,
}

/// An upstream as it is written: how and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// What is spoken there.
    pub scheme: Scheme,
    /// Where it is.
    pub address: LoopbackAddr,
}

/// Why a text is no upstream.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the message says it")]
pub enum TargetError {
    #[error(
        "`{written}` is not a loopback address: an upstream must be bound to 127.0.0.1 or ::1, or be a Unix socket"
    )]
    NotLoopback { written: String },
    #[error(
        "`{written}` means every interface of this machine; the service must be bound to 127.0.0.1"
    )]
    Wildcard { written: String },
    #[error("`{written}` is a name; only `localhost` is one that needs no DNS")]
    Name { written: String },
    #[error("`{written}` is a number in place of an address")]
    Number { written: String },
    #[error("`{written}` has no port from 1 to 65535")]
    Port { written: String },
    #[error("`{written}` has a path, a query or user information, which an upstream does not take")]
    Extra { written: String },
    #[error("`{written}`: the scheme is none of `http`, `https`, `h2c`, `unix`")]
    Scheme { written: String },
    #[error(
        "`{written}`: the path of a Unix socket is absolute, as in `unix:/run/app.sock`, and at most 107 bytes"
    )]
    UnixPath { written: String },
}

impl TargetError {
    /// What to write instead.
    pub fn repair(&self) -> &'static str {
        match self {
            Self::NotLoopback { .. } | Self::Wildcard { .. } => {
                "bind the service to 127.0.0.1 and write `127.0.0.1:PORT`"
            }
            Self::Name { .. } | Self::Number { .. } => {
                "write `localhost:PORT`, `127.0.0.1:PORT` or `[::1]:PORT`"
            }
            Self::Port { .. } => "write it with its port, as in `127.0.0.1:3000`",
            Self::Extra { .. } => "write only scheme, host and port; paths belong to a route",
            Self::Scheme { .. } => {
                "write `127.0.0.1:3000`, `https://127.0.0.1:8006`, `h2c://127.0.0.1:50051` or `unix:/run/app.sock`"
            }
            Self::UnixPath { .. } => "write `unix:/run/app.sock`",
        }
    }
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let written = || text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            // sun_path holds 108 bytes with its NUL (unix(7)).
            if !path.starts_with('/')
                || path.starts_with("//")
                || path.len() > 107
                || path.contains('\0')
            {
                return Err(TargetError::UnixPath { written: written() });
            }
            return Ok(Self {
                scheme: Scheme::Http,
                address: LoopbackAddr(Place::Unix(path.into())),
            });
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Http, text),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("h2c", rest)) => (Scheme::H2c, rest),
            Some(_) => return Err(TargetError::Scheme { written: written() }),
        };
        let rest = if text.contains("://") {
            rest.strip_suffix('/').unwrap_or(rest)
        } else {
            rest
        };
        if rest.contains(['/', '?', '#', '@', '\\']) || rest.contains(char::is_whitespace) {
            return Err(TargetError::Extra { written: written() });
        }
        let port = |digits: &str| {
            let strict = !digits.is_empty()
                && digits.len() <= 5
                && digits.bytes().all(|c| c.is_ascii_digit());
            digits
                .parse()
                .ok()
                .filter(|p: &u16| strict && *p > 0)
                .ok_or_else(|| TargetError::Port { written: written() })
        };
        if !rest.is_empty() && rest.len() <= 5 && rest.bytes().all(|c| c.is_ascii_digit()) {
            return Ok(Self {
                scheme,
                address: LoopbackAddr(Place::Both(port(rest)?)),
            });
        }
        let (host, digits) = rest
            .rsplit_once(':')
            .filter(|(host, _)| bracketed(host) || !host.contains(':'))
            .unwrap_or((rest, ""));
        let address = place(host, text)?;
        let port = port(digits)?;
        Ok(Self {
            scheme,
            address: LoopbackAddr(
                address.map_or(Place::Both(port), |ip| Place::Ip((ip, port).into())),
            ),
        })
    }
}

fn bracketed(host: &str) -> bool {
    host.starts_with('[') && host.ends_with(']')
}

/// The loopback address that a host text names; `None` for `localhost`.
fn place(host: &str, text: &str) -> Result<Option<IpAddr>, TargetError> {
    let written = || text.to_owned();
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(None);
    }
    let inner = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let Ok(address) = inner.parse::<IpAddr>() else {
        let number = |label: &str| {
            !label.is_empty()
                && (label.bytes().all(|c| c.is_ascii_digit())
                    || label.starts_with("0x")
                    || label.starts_with("0X"))
        };
        return Err(match host.split('.').all(number) {
            true => TargetError::Number { written: written() },
            false => TargetError::Name { written: written() },
        });
    };
    match address.to_canonical() {
        ip if ip.is_unspecified() => Err(TargetError::Wildcard { written: written() }),
        ip if ip.is_loopback() => Ok(Some(ip)),
        _ => Err(TargetError::NotLoopback { written: written() }),
    }
}

impl LoopbackAddr {
    /// The socket addresses to dial, in order; empty for a Unix socket.
    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let (one, two) = match &self.0 {
            Place::Ip(address) => (Some(*address), None),
            Place::Both(port) => (
                Some((Ipv4Addr::LOCALHOST, *port).into()),
                Some((Ipv6Addr::LOCALHOST, *port).into()),
            ),
            Place::Unix(_) => (None, None),
        };
        one.into_iter().chain(two)
    }

    /// The path of a Unix socket.
    pub fn unix(&self) -> Option<&Path> {
        match &self.0 {
            Place::Unix(path) => Some(path),
            Place::Ip(_) | Place::Both(_) => None,
        }
    }

    /// The port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        self.sockets().next().map(|address| address.port())
    }
}

impl fmt::Display for LoopbackAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Ip(address) => address.fmt(f),
            Place::Both(port) => write!(f, "localhost:{port}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Http => self.address.fmt(f),
            Scheme::Https => write!(f, "https://{}", self.address),
            Scheme::H2c => write!(f, "h2c://{}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_can_be_written_down() {
        for (text, want) in [
            ("3000", "localhost:3000"),
            ("https://8006", "https://localhost:8006"),
            ("localhost:3000", "localhost:3000"),
            ("LOCALHOST:3000", "localhost:3000"),
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("127.9.9.9:3000", "127.9.9.9:3000"),
            ("[::1]:3000", "[::1]:3000"),
            ("[::ffff:127.0.0.1]:3000", "127.0.0.1:3000"),
            ("http://localhost:3000/", "localhost:3000"),
            ("https://127.0.0.1:8006", "https://127.0.0.1:8006"),
            ("h2c://127.0.0.1:50051", "h2c://127.0.0.1:50051"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(
                text.parse::<Target>().map(|t| t.to_string()).as_deref(),
                Ok(want),
                "{text}"
            );
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        type Check = fn(&TargetError) -> bool;
        let cases: [(&str, Check); 26] = [
            ("0.0.0.0:3000", |e| {
                matches!(e, TargetError::Wildcard { .. })
            }),
            ("[::]:3000", |e| matches!(e, TargetError::Wildcard { .. })),
            ("[::ffff:0.0.0.0]:3000", |e| {
                matches!(e, TargetError::Wildcard { .. })
            }),
            ("10.0.0.1:3000", |e| {
                matches!(e, TargetError::NotLoopback { .. })
            }),
            ("[::ffff:10.0.0.1]:3000", |e| {
                matches!(e, TargetError::NotLoopback { .. })
            }),
            ("192.168.1.5:3000", |e| {
                matches!(e, TargetError::NotLoopback { .. })
            }),
            ("[fe80::1]:3000", |e| {
                matches!(e, TargetError::NotLoopback { .. })
            }),
            ("[::127.0.0.1]:3000", |e| {
                matches!(e, TargetError::NotLoopback { .. })
            }),
            ("2130706433:3000", |e| {
                matches!(e, TargetError::Number { .. })
            }),
            ("0x7f000001:3000", |e| {
                matches!(e, TargetError::Number { .. })
            }),
            ("0x7f.0.0.1:3000", |e| {
                matches!(e, TargetError::Number { .. })
            }),
            ("127.1:3000", |e| matches!(e, TargetError::Number { .. })),
            ("0177.0.0.1:3000", |e| {
                matches!(e, TargetError::Number { .. })
            }),
            ("example.com:80", |e| matches!(e, TargetError::Name { .. })),
            ("localhost.example.com:80", |e| {
                matches!(e, TargetError::Name { .. })
            }),
            ("localhost.:80", |e| matches!(e, TargetError::Name { .. })),
            ("myhost", |e| matches!(e, TargetError::Name { .. })),
            ("127.0.0.1", |e| matches!(e, TargetError::Port { .. })),
            ("127.0.0.1:0", |e| matches!(e, TargetError::Port { .. })),
            ("127.0.0.1:65536", |e| matches!(e, TargetError::Port { .. })),
            ("70000", |e| matches!(e, TargetError::Port { .. })),
            ("127.0.0.1:3000/x", |e| {
                matches!(e, TargetError::Extra { .. })
            }),
            ("http://u@127.0.0.1:3000", |e| {
                matches!(e, TargetError::Extra { .. })
            }),
            ("ftp://127.0.0.1:21", |e| {
                matches!(e, TargetError::Scheme { .. })
            }),
            ("unix:app.sock", |e| {
                matches!(e, TargetError::UnixPath { .. })
            }),
            ("", |e| {
                matches!(
                    e,
                    TargetError::Name { .. }
                        | TargetError::Number { .. }
                        | TargetError::Port { .. }
                )
            }),
        ];
        for (text, is) in cases {
            let error = text.parse::<Target>().expect_err(text);
            assert!(is(&error), "{text}: {error:?}");
        }
    }
}

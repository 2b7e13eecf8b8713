//! The places of this machine that the arguments of a program name, in every spelling that a resolver takes; pure. DNS is not asked:
//! of names only `localhost`, its relatives and those of `/etc/hosts` are known.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// A place that an argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address of loopback, or the one that stands for all, with a port.
    Socket(IpAddr, u16),
    /// A port of `localhost`: both families.
    Local(u16),
    /// A port of a name that `/etc/hosts` may know.
    Name(String, u16),
    /// A path, perhaps of a Unix socket.
    Path(PathBuf),
}

/// More places of one process than this are not looked at.
const MOST: usize = 64;
/// What stands before a port alone.
const OPTIONS: [&str; 9] = [
    "http", "tcp", "local", "public", "--port", "-p", "--target", "--cport", "--to",
];

/// The places in these words, the program's own first one left out. `is_ssh`: there `-p` is the port of the other machine.
pub fn places(words: &[&str], is_ssh: bool) -> Vec<Place> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate().skip(1).take(MOST) {
        let word = word.trim_matches(['"', '\'']);
        found.extend(
            word.split([',', '=', '/', '@', ';', '"', '\''])
                .filter_map(pair),
        );
        found.extend(paths(word));
        let is_option = |before: &str| OPTIONS.contains(&before) && !(is_ssh && before == "-p");
        let (option, value) = word.split_once('=').unwrap_or((words[at - 1], word));
        let number = value.parse::<u16>();
        match number {
            Ok(port) if is_option(option) => found.push(Place::Local(port)),
            // `nc 127.0.0.1 3000`
            Ok(port) if at > 1 && !word.contains('=') => {
                let before = words[at - 1].trim_matches(['"', '\'']);
                let is_host = before.contains(['.', ':']) || before.starts_with("localhost");
                found.extend(is_host.then(|| place(before, port)).flatten());
            }
            Ok(_) | Err(_) => {}
        }
    }
    let mut once: Vec<Place> = Vec::new();
    for place in found {
        if once.len() < MOST && !once.contains(&place) {
            once.push(place);
        }
    }
    once
}

/// `HOST:PORT` at the end of a text: `TCP:127.0.0.1:3000`, `8080:localhost:3000`, `[::1]:3000`, `:3000`.
fn pair(text: &str) -> Option<Place> {
    let (before, digits) = text.rsplit_once(':')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    let port = digits.parse().ok().filter(|_| is_number)?;
    let host = match before.strip_suffix(']') {
        Some(open) => open.rsplit_once('[')?.1,
        None => before.rsplit_once(':').map_or(before, |(_, host)| host),
    };
    place(host, port)
}

fn place(host: &str, port: u16) -> Option<Place> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.split('%').next().unwrap_or(host);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.is_empty() || is_localhost(&host) {
        return Some(Place::Local(port));
    }
    if let Some(address) = address(&host) {
        return loopback(address).map(|ip| Place::Socket(ip, port));
    }
    let is_name = host
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    is_name.then_some(Place::Name(host, port))
}

fn is_localhost(name: &str) -> bool {
    let known = [
        "localhost",
        "localhost4",
        "localhost6",
        "localhost.localdomain",
        "localhost4.localdomain4",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
    ];
    known.contains(&name) || name.ends_with(".localhost")
}

/// Where a connection to this address ends on this machine; `None` for those of others.
fn loopback(address: IpAddr) -> Option<IpAddr> {
    let address = match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    address.is_loopback().then_some(address)
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| aton(text).map(IpAddr::V4))
}

/// As inet_aton(3): one to four numbers, decimal, octal or hexadecimal, the last of which fills what is left.
fn aton(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| match part.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        None if part.bytes().all(|c| c.is_ascii_digit()) => part.parse().ok(),
        None => None,
    };
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let bits = 32_u32.checked_sub(8 * u32::try_from(first.len()).ok()?)?;
    if bits == 0 || first.iter().any(|part| *part > 255) || (bits < 32 && *last >> bits != 0) {
        return None;
    }
    let high = first.iter().fold(0_u32, |all, part| (all << 8) | part);
    let high = if first.is_empty() { 0 } else { high << bits };
    Some(Ipv4Addr::from(high | last))
}

/// The absolute paths in a word: `UNIX-CONNECT:/run/app.sock,fork`, `8080:/run/app.sock`, `unix:///run/app.sock`.
fn paths(word: &str) -> impl Iterator<Item = Place> + '_ {
    word.split([',', '=', ':'])
        .map(|part| part.strip_prefix("//").unwrap_or(part))
        .filter(|part| part.starts_with('/') && part.len() > 1)
        .map(|part| Place::Path(part.into()))
}

/// The names that `/etc/hosts` gives to loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(HashMap<String, Vec<IpAddr>>);

/// More names than this are not kept.
const NAMES: usize = 10_000;

impl Hosts {
    /// Reads a table of hosts.
    pub fn parse(text: &str) -> Self {
        let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|w| w.parse().ok()).and_then(loopback) else {
                continue;
            };
            for name in words {
                if names.len() < NAMES {
                    let name = name.trim_end_matches('.').to_ascii_lowercase();
                    names.entry(name).or_default().push(ip);
                }
            }
        }
        Self(names)
    }

    /// The sockets of loopback that a place means.
    pub fn sockets(&self, place: &Place) -> Vec<(IpAddr, u16)> {
        match place {
            Place::Socket(ip, port) => vec![(*ip, *port)],
            Place::Local(port) => vec![
                (Ipv4Addr::LOCALHOST.into(), *port),
                (Ipv6Addr::LOCALHOST.into(), *port),
            ],
            Place::Name(name, port) => {
                let known = self.0.get(name).into_iter().flatten();
                known.map(|ip| (*ip, *port)).collect()
            }
            Place::Path(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_loopback_is_known() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost box # mine\n::1 box6 ip6-localhost\n10.0.0.1 far\n127.0.1.1\tDebian.lan. debian\n",
        );
        for (word, want) in [
            ("TCP:127.0.0.1:3000", &["127.0.0.1"][..]),
            ("TCP:127.1:3000,fork", &["127.0.0.1"]),
            ("TCP:127.0.1:3000", &["127.0.0.1"]),
            ("TCP:2130706433:3000", &["127.0.0.1"]),
            ("TCP:0x7f000001:3000", &["127.0.0.1"]),
            ("TCP:0x7f.1:3000", &["127.0.0.1"]),
            ("TCP:0177.0.0.01:3000", &["127.0.0.1"]),
            ("TCP:127.0.0.2:3000", &["127.0.0.2"]),
            ("TCP:0.0.0.0:3000", &["127.0.0.1"]),
            ("TCP:0:3000", &["127.0.0.1"]),
            ("TCP6:[::1]:3000", &["::1"]),
            ("TCP6:[::]:3000", &["::1"]),
            ("TCP6:[::ffff:127.0.0.1]:3000", &["127.0.0.1"]),
            ("TCP6:[0:0:0:0:0:0:0:1]:3000", &["::1"]),
            ("TCP6:[::1%lo]:3000", &["::1"]),
            ("TCP:LocalHost.:3000", &["127.0.0.1", "::1"]),
            ("TCP:ip6-localhost:3000", &["127.0.0.1", "::1"]),
            ("TCP:app.localhost:3000", &["127.0.0.1", "::1"]),
            ("TCP:box:3000", &["127.0.0.1"]),
            ("TCP:box6:3000", &["::1"]),
            ("TCP:debian.LAN:3000", &["127.0.1.1"]),
            ("http://127.1:3000/x", &["127.0.0.1"]),
            ("--target=127.0.0.1:3000", &["127.0.0.1"]),
            ("--url=http://me@localhost:3000", &["127.0.0.1", "::1"]),
            ("-L=:8080/127.0.0.1:3000", &["127.0.0.1"]),
            ("8080:localhost:3000", &["127.0.0.1", "::1"]),
            ("--port=3000", &["127.0.0.1", "::1"]),
            ("TCP:far:3000", &[]),
            ("TCP:other:3000", &[]),
            ("TCP:10.0.0.1:3000", &[]),
            ("TCP:127.0.0.256:3000", &[]),
            ("TCP:8080:3000", &[]),
            ("127.0.0.1:3000:db:5432", &[]),
            ("TCP-LISTEN:3000", &[]),
            ("3000", &[]),
        ] {
            let found = places(&["x", word], false);
            let sockets = found.iter().flat_map(|place| hosts.sockets(place));
            let on_port = sockets.filter(|(_, port)| *port == 3000);
            let got: Vec<String> = on_port.map(|(ip, _)| ip.to_string()).collect();
            assert_eq!(got, want, "{word}");
        }
    }

    #[test]
    fn words_that_belong_together() {
        let local = |port| vec![Place::Local(port)];
        for (line, is_ssh, want) in [
            ("ngrok http 3000", false, local(3000)),
            ("ngrok http :3000", false, local(3000)),
            ("lt -p 3000", false, local(3000)),
            ("ssh -p 3000", true, vec![]),
            ("caddy reverse-proxy --to :3000", false, local(3000)),
            (
                "ncat -c \"nc 127.0.0.1 3000\"",
                false,
                vec![Place::Socket(Ipv4Addr::LOCALHOST.into(), 3000)],
            ),
            ("x 5.5 3000", false, vec![]),
            (
                "socat UNIX-CONNECT:/run/a.sock,fork",
                false,
                vec![Place::Path("/run/a.sock".into())],
            ),
            (
                "ssh -L /tmp/a:/run/b",
                true,
                vec![Place::Path("/tmp/a".into()), Place::Path("/run/b".into())],
            ),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(places(&words, is_ssh), want, "{line}");
        }
    }
}

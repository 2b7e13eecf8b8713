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
    /// A host whose port has a name that `/etc/services` may know.
    Service(String, String),
    /// A path, perhaps of a Unix socket; relative to the folder of its process. `@` and a name for a socket without a path.
    Path(PathBuf),
    /// A socket of the file system by device and number: the same one by whatever path, through whatever mount.
    Node(u64, u64),
    /// Everything on loopback: a proxy that its visitors tell where to go.
    All,
}

/// More places of one process than this are not looked at.
pub(super) const MOST: usize = 1024;
/// What stands before a port alone.
const OPTIONS: [&str; 9] = [
    "http", "tcp", "local", "public", "--port", "-p", "--target", "--cport", "--to",
];

/// The places in these words, the program's own first one left out. `is_ssh`: there `-p` is the port of the other machine.
pub fn places(words: &[&str], is_ssh: bool) -> Vec<Place> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate().skip(1) {
        let word = word.trim_matches(['"', '\'']);
        found.extend(
            word.split([',', '=', '/', '@', ';', '"', '\''])
                .flat_map(pair),
        );
        found.extend(paths(word));
        let is_option = |before: &str| OPTIONS.contains(&before) && !(is_ssh && before == "-p");
        let (option, value) = word.split_once('=').unwrap_or((words[at - 1], word));
        match decimal(value) {
            Some(port) if is_option(option) => found.push(Place::Local(port)),
            // `nc 127.0.0.1 3000`
            Some(port) if at > 1 && !word.contains('=') => {
                let before = words[at - 1].trim_matches(['"', '\'']);
                let is_host = before.contains(['.', ':']) || before.starts_with("localhost");
                found.extend(is_host.then(|| place(before, port)).flatten());
            }
            Some(_) | None => {}
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

/// `HOST:PORT` at the end of a text: `TCP:127.0.0.1:3000`, `8080:localhost:3000`, `[::1]:3000`, `:3000`; the port in every way that
/// a program may read it.
pub(super) fn pair(text: &str) -> Vec<Place> {
    let Some((before, port)) = text.rsplit_once(':') else {
        return Vec::new();
    };
    let host = match before.strip_suffix(']') {
        Some(open) => open.rsplit_once('[').map(|(_, host)| host),
        None => Some(before.rsplit_once(':').map_or(before, |(_, host)| host)),
    };
    let Some(host) = host else {
        return Vec::new();
    };
    let numbers = port_numbers(port);
    let is_word = port.starts_with(|c: char| c.is_ascii_alphabetic())
        && port
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
    if numbers.is_empty() && is_word && !host.is_empty() {
        return vec![Place::Service(host.to_owned(), port.to_owned())];
    }
    numbers
        .into_iter()
        .filter_map(|port| place(host, port))
        .collect()
}

/// The ports that a number may mean: decimal, and as strtoul(3) of base 0 has it (`0xbb8`, `05670`), which takes a sign and blanks
/// before it. Of a larger one the lowest 16 bits count.
pub(super) fn port_numbers(text: &str) -> Vec<u16> {
    let text = text.trim();
    let (text, is_negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    if !text.bytes().all(|c| c.is_ascii_alphanumeric()) {
        return Vec::new();
    }
    let radix = |digits: &str, radix| {
        let port = low(u64::from_str_radix(digits, radix).ok()?);
        Some(if is_negative {
            port.wrapping_neg()
        } else {
            port
        })
    };
    let hex = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .and_then(|digits| radix(digits, 16));
    let octal = text.strip_prefix('0').and_then(|digits| radix(digits, 8));
    let mut all: Vec<u16> = [radix(text, 10), octal, hex]
        .into_iter()
        .flatten()
        .collect();
    all.dedup();
    all
}

/// The lowest 16 bits.
fn low(number: u64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or_default()
}

/// A port in decimal, with what its reader passes over.
fn decimal(text: &str) -> Option<u16> {
    text.trim().parse::<u64>().ok().map(low)
}

/// Whether a host and a port are of a kind that is read here, be they of this machine or not.
pub(super) fn is_readable(host: &str, port: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.split('%').next().unwrap_or(bare);
    let is_word = |text: &str| {
        text.bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
    };
    (is_word(bare) || address(bare).is_some())
        && !port.is_empty()
        && (!port_numbers(port).is_empty() || is_word(port))
}

/// Every number of a text that could be a port, whatever stands around it.
pub(super) fn numbers(text: &str) -> Vec<u16> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let all = words.filter(|word| !word.is_empty()).flat_map(port_numbers);
    all.filter(|port| *port != 0).collect()
}

/// Whether a host is this machine's loopback by its spelling alone.
pub(super) fn local(host: &str) -> bool {
    matches!(
        place(host, 0).filter(|_| !host.is_empty()),
        Some(Place::Local(_) | Place::Socket(..))
    )
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

/// The names that `/etc/hosts` gives to loopback, and those that `/etc/services` gives to ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    names: HashMap<String, Vec<IpAddr>>,
    services: HashMap<String, u16>,
}

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
        Self {
            names,
            services: HashMap::new(),
        }
    }

    /// With the names of ports from a table of services.
    #[must_use]
    pub fn with_services(mut self, text: &str) -> Self {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else {
                continue;
            };
            let port = port.strip_suffix("/tcp").and_then(|port| port.parse().ok());
            let Some(port) = port else { continue };
            for name in std::iter::once(name).chain(words) {
                if self.services.len() < NAMES {
                    self.services.entry(name.to_owned()).or_insert(port);
                }
            }
        }
        self
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
                let known = self.names.get(name).into_iter().flatten();
                known.map(|ip| (*ip, *port)).collect()
            }
            Place::Service(host, name) => {
                let port = self.services.get(name);
                let found = port.and_then(|port| self::place(host, *port));
                found.map_or_else(Vec::new, |found| self.sockets(&found))
            }
            Place::Path(_) | Place::Node(..) | Place::All => Vec::new(),
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
        )
        .with_services("# names\nmine\t3000/tcp also # x\nmine 3001/udp\nother 3001/tcp\n");
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
            ("TCP:127.0.0.1:0xbb8", &["127.0.0.1"]),
            ("TCP:127.0.0.1:+3000", &["127.0.0.1"]),
            ("TCP:127.0.0.1: 3000", &["127.0.0.1"]),
            ("TCP:127.0.0.1:68536", &["127.0.0.1"]),
            ("TCP:127.0.0.1:-62536", &["127.0.0.1"]),
            ("TCP:127.0.0.1:68537", &[]),
            ("TCP:127.0.0.1:05670,fork", &["127.0.0.1"]),
            ("TCP:127.0.0.1:mine", &["127.0.0.1"]),
            ("TCP:box:also", &["127.0.0.1"]),
            ("TCP:127.0.0.1:other", &[]),
            ("TCP:127.0.0.1:unknown", &[]),
            ("TCP:10.0.0.1:mine", &[]),
            ("TCP:127.0.0.1:0xbb9", &[]),
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

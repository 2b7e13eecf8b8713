//! Random policies and random requests. Three answers must agree: the program's (its pure decision, and for some of them the
//! whole gate over sockets), `explain`, and a small model that was written from contract 5 alone and shares no code with it.
//! And nothing that the model denies reaches the upstream.
//!
//! The seed is printed with every failure; `LOOPGATE_SEED=N` tries another one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path as File;
use std::time::{Duration, Instant};

use loopgate::access::{Asked, Need};
use loopgate::auth::token::Token;
use loopgate::auth::users::Users;
use loopgate::auth::{Method, Who, token_file};
use loopgate::base::cidr::fold;
use loopgate::base::host::{Authority, Host};
use loopgate::base::path::Path;
use loopgate::config::raw;
use loopgate::net::Machine;
use loopgate::plan::{Kept, Plan, Question, compile, explain};

use crate::support::gate::{USERS, machine};
use crate::support::*;

const POLICIES: usize = 2_600;
const REQUESTS: usize = 40;
const GATES: usize = 40;
const LIVE_REQUESTS: usize = 100;

// ---------------------------------------------------------------------------------------------------------------- chance

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'l, T: ?Sized>(&mut self, list: &[&'l T]) -> &'l T {
        list[self.below(list.len())]
    }

    /// Between `least` and `most` different ones.
    fn some<'l>(&mut self, list: &[&'l str], least: usize, most: usize) -> Vec<&'l str> {
        let count = least + self.below(most - least + 1);
        let mut picked: Vec<&str> = Vec::new();
        for _ in 0..count * 3 {
            let one = self.of(list);
            if picked.len() < count && !picked.contains(&one) {
                picked.push(one);
            }
        }
        picked
    }
}

fn seed() -> u64 {
    match std::env::var("LOOPGATE_SEED") {
        Ok(text) => text.parse().expect("LOOPGATE_SEED is a number"),
        Err(_) => 0x10c4_19a7e,
    }
}

// ---------------------------------------------------------------------------------------------- policies and requests

/// What can be drawn.
struct Pool {
    networks: &'static [&'static str],
    peers: &'static [&'static str],
    sni: bool,
}

const PURE: Pool = Pool {
    networks: &[
        "loopback",
        "private",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3",
        "10.1.2.2/31",
        "192.168.0.0/16",
        "203.0.113.0/24",
        "127.0.0.1",
        "0.0.0.0/0",
        "::/0",
        "fd00::/8",
        "fd00::1",
        "2001:db8::/33",
        "::1",
    ],
    peers: &[
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "10.1.2.2",
        "10.1.2.3",
        "10.1.2.4",
        "10.2.0.1",
        "11.0.0.1",
        "192.168.7.7",
        "192.167.7.7",
        "203.0.113.9",
        "203.0.114.9",
        "100.64.0.1",
        "169.254.1.1",
        "172.31.255.255",
        "172.32.0.0",
        "8.8.8.8",
        "::1",
        "::ffff:10.1.2.3",
        "::ffff:8.8.8.8",
        "fd00::1",
        "fd12::1",
        "fe80::1",
        "2001:db8::1",
        "2001:db8:8000::1",
        "2002::1",
    ],
    sni: true,
};

/// Whatever is on loopback, which one machine can be all of.
const LIVE: Pool = Pool {
    networks: &[
        "loopback",
        "private",
        "127.0.0.0/8",
        "127.0.0.0/30",
        "127.0.0.4/30",
        "127.0.0.1",
        "127.0.0.2/31",
        "127.0.0.5",
        "10.0.0.0/8",
        "0.0.0.0/0",
    ],
    peers: &[
        "127.0.0.1",
        "127.0.0.2",
        "127.0.0.3",
        "127.0.0.4",
        "127.0.0.5",
        "127.0.0.8",
        "127.1.0.1",
    ],
    sni: false,
};

const PEOPLE: &[(&str, &str)] = &[
    ("alice", "open sesame"),
    ("bob", "brick wall"),
    ("carol", "ocean wave"),
];
const HOSTS: &[&str] = &["app.lan", "api.lan", "10.0.0.9", "gate"];
const PREFIXES: &[&str] = &["/", "/", "/a", "/a/b", "/ab", "/b", "/a/b/c", "/A"];
const METHODS: &[&str] = &["GET", "POST", "HEAD", "PUT"];
const GROUPS: &[&str] = &["ops", "dev"];

#[derive(Clone, Debug)]
enum Access {
    Users,
    Anyone,
    Nobody,
    Table {
        users: Vec<&'static str>,
        groups: Vec<&'static str>,
        methods: Vec<&'static str>,
        networks: Vec<&'static str>,
        any: bool,
    },
}

#[derive(Clone, Debug)]
struct Route {
    hosts: Vec<&'static str>,
    path: &'static str,
    access: Access,
}

#[derive(Clone, Debug)]
struct Policy {
    allow: Vec<&'static str>,
    deny: Vec<&'static str>,
    groups: Vec<(&'static str, Vec<&'static str>)>,
    routes: Vec<Route>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Presented {
    Nothing,
    Right(&'static str),
    Wrong(&'static str),
    Stranger,
    Token(&'static str),
}

#[derive(Clone, Debug)]
struct Request {
    peer: IpAddr,
    sni: Option<&'static str>,
    host: &'static str,
    method: &'static str,
    path: &'static str,
    by: Presented,
}

impl Policy {
    fn draw(chance: &mut Chance, pool: &Pool) -> Self {
        let names: Vec<&str> = PEOPLE.iter().map(|(name, _)| *name).collect();
        let groups = GROUPS
            .iter()
            .map(|name| (*name, chance.some(&names, 0, 2)))
            .collect();
        let mut routes: Vec<Route> = Vec::new();
        for _ in 0..1 + chance.below(5) {
            let hosts = chance.some(HOSTS, 0, 2);
            let path = chance.of(PREFIXES);
            let is_taken = routes.iter().any(|r| {
                r.path == path
                    && (r.hosts.is_empty() == hosts.is_empty())
                    && (hosts.is_empty() || r.hosts.iter().any(|h| hosts.contains(h)))
            });
            if !is_taken {
                let access = Access::draw(chance, pool, &names);
                routes.push(Route {
                    hosts,
                    path,
                    access,
                });
            }
        }
        Self {
            // Mostly open, or little would come further than the first step.
            allow: if chance.one_in(5) {
                chance.some(pool.networks, 1, 3)
            } else {
                vec!["0.0.0.0/0", "::/0"]
            },
            deny: if chance.one_in(6) {
                chance.some(pool.networks, 1, 2)
            } else {
                Vec::new()
            },
            groups,
            routes,
        }
    }

    fn text(&self, upstream: SocketAddr) -> String {
        let mut text = String::new();
        for (name, users) in &self.groups {
            text += &format!("[[group]]\nname = {name:?}\nusers = {users:?}\n");
        }
        for route in &self.routes {
            let hosts = match &*route.hosts {
                [] => String::new(),
                hosts => format!("hosts = {hosts:?}\n"),
            };
            text += &format!(
                "[[route]]\n{hosts}path = {:?}\nupstream = \"{upstream}\"\naccess = {}\n",
                route.path,
                route.access.text()
            );
        }
        text
    }

    fn listener(&self) -> String {
        format!(
            "tls = {{ from = \"none\" }}\nnetworks = {{ allow = {:?}, deny = {:?} }}\n",
            self.allow, self.deny
        )
    }
}

impl Access {
    fn draw(chance: &mut Chance, pool: &Pool, names: &[&'static str]) -> Self {
        match chance.below(8) {
            0 => Self::Users,
            1 => Self::Anyone,
            2 => Self::Nobody,
            _ => {
                let mut users = if chance.one_in(2) {
                    chance.some(names, 1, 2)
                } else {
                    Vec::new()
                };
                if !users.is_empty() && chance.one_in(4) {
                    users.push("token:all");
                }
                let list = |chance: &mut Chance, from: &[&'static str], most| {
                    if chance.one_in(2) {
                        chance.some(from, 1, most)
                    } else {
                        Vec::new()
                    }
                };
                let networks = list(chance, pool.networks, 2);
                Self::Table {
                    users,
                    groups: list(chance, GROUPS, 2),
                    methods: list(chance, METHODS, 2),
                    any: !networks.is_empty() && chance.one_in(2),
                    networks,
                }
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Users => "\"users\"".into(),
            Self::Anyone => "\"anyone\"".into(),
            Self::Nobody => "\"nobody\"".into(),
            Self::Table {
                users,
                groups,
                methods,
                networks,
                any,
            } => {
                let lists = [
                    ("users", users),
                    ("groups", groups),
                    ("methods", methods),
                    ("networks", networks),
                ];
                let mut parts: Vec<String> = lists
                    .iter()
                    .filter(|(_, list)| !list.is_empty())
                    .map(|(key, list)| format!("{key} = {list:?}"))
                    .collect();
                if *any {
                    parts.push("require = \"any\"".into());
                }
                format!("{{ {} }}", parts.join(", "))
            }
        }
    }
}

impl Request {
    fn draw(chance: &mut Chance, pool: &Pool, policy: &Policy) -> Self {
        const ASKED: &[&str] = &[
            "app.lan",
            "app.lan",
            "APP.lan:8443",
            "api.lan",
            "gate",
            "gate.local",
            "localhost:8443",
            "127.0.0.1",
            "10.0.0.9",
            "10.0.0.8",
            "evil.example",
            "app.lan.",
            "lan",
        ];
        const PATHS: &[&str] = &[
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/a/b/",
            "/a/b/c/d",
            "/ab",
            "/abc",
            "/ab/x",
            "/b",
            "/bb",
            "/A",
            "/x",
            "/%61",
            "/%61/%62",
            "/a%2fb",
            "/a%2Fb",
            "/a%5Cb",
            "/a\\b",
            "/a/../b",
            "/x/..",
            "/a/./b",
            "/.",
            "/a//b",
            "//a",
            "/a;x=1",
            "/a%3bx",
            "/%2561",
            "/%2562/x",
            "/%252562",
            "/a%25",
            "/a%",
            "/a%zz",
            "/a%00",
            "/a%c3%a9",
            "/a%ff",
            "/a/%2e%2e/b",
            "/%252e%252e/a",
            "/x%252fy",
            "/a%3f",
            "/a%23",
            "/%61%2fb",
            "/a/b%2e",
            "/B/x",
            "/A/B",
            "/A/x",
            "/%41",
            "/%2541",
            "/a.",
            "/a%20",
            "/a%2520",
            "/a/b./c",
            "/b..",
            "/.../a",
            "/%20/b",
            "/%EF%BD%81",
            "/%EF%BC%A1/b",
            "/%25EF%25BD%2581",
            "/x%EF%BC%8F..%EF%BC%8Fa",
            "/a/%EF%BC%8E%EF%BC%8E/b",
            "/a%EF%BC%BC..%EF%BC%BCb",
            "/a::$DATA",
            "/x/A",
            "/X",
            "/%E2%83%90a",
            "/a%E3%85%A4/x",
            "/b%E1%85%9F%E1%85%A0",
            "/a%CC%81/b",
            "/a/b%E1%AA%B0",
            "/x%EF%BE%A0",
            "/%25E3%2585%25A4a",
            "/%25252561",
            "/x/%2525252561",
        ];
        // Mostly a host of the policy, or little would come further than that step.
        let route = &policy.routes[chance.below(policy.routes.len())];
        let host = match (chance.one_in(4), &*route.hosts) {
            (true, _) => chance.of(ASKED),
            (false, []) => "gate",
            (false, hosts) => chance.of(hosts),
        };
        let sni = match pool.sni && chance.one_in(6) {
            true => Some(chance.of(&["app.lan", "api.lan", "gate"])),
            false => None,
        };
        let (name, _) = PEOPLE[chance.below(PEOPLE.len())];
        Self {
            peer: chance.of(pool.peers).parse().expect("an address"),
            sni,
            host,
            // Plain paths half of the time.
            path: if chance.one_in(2) {
                chance.of(&PATHS[..14])
            } else {
                chance.of(PATHS)
            },
            method: chance.of(&["GET", "GET", "POST", "HEAD", "PUT", "DELETE"]),
            by: match chance.below(9) {
                0 => Presented::Nothing,
                1 => Presented::Wrong(name),
                2 => Presented::Stranger,
                3 => Presented::Token("all"),
                4 => Presented::Token("narrow"),
                _ => Presented::Right(name),
            },
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- the model

/// Contract 5, and nothing else.
mod model {
    use super::*;

    /// `allowed`, or the word of the refusal.
    pub fn judge(policy: &Policy, request: &Request) -> &'static str {
        let is_in = |list: &[&str]| list.iter().any(|net| within(net, request.peer));
        // 1. network: deny wins, and what nobody allowed is denied
        if is_in(&policy.deny) || !is_in(&policy.allow) {
            return "network-denied";
        }
        // 4. host: one of ours, and in agreement with SNI
        let host = host(request.host);
        let own = ["gate", "gate.local", "localhost", "127.0.0.1"].contains(&&*host);
        let answers = |route: &&Route| match &*route.hosts {
            [] => own,
            hosts => hosts.contains(&&*host),
        };
        let routes: Vec<&Route> = policy.routes.iter().filter(answers).collect();
        if routes.is_empty() {
            return "host-unknown";
        }
        if request.sni.is_some_and(|sni| sni != host) {
            return "sni-mismatch";
        }
        // 5. route: the most specific host, then the longest path; with rules by path only what has one reading
        let by_path = routes.iter().any(|route| route.path != "/");
        let readings = readings(request.path);
        let find = |path: &[u8]| {
            let under = |route: &&&Route| is_under(path, route.path);
            routes
                .iter()
                .filter(under)
                .max_by_key(|route| (!route.hosts.is_empty(), route.path.len()))
        };
        let route = match &readings {
            Some(readings) => {
                let found: Vec<_> = readings.iter().map(|path| find(path)).collect();
                let is_one = found.iter().all(|f| {
                    f.map(|r| r.path) == found[0].map(|r| r.path)
                        && f.map(|r| r.hosts.len()) == found[0].map(|r| r.hosts.len())
                });
                if by_path && (!is_one || readings.len() > DECODERS) {
                    return "bad-request";
                }
                let may_mean = |segments: Vec<String>| {
                    let under =
                        |route: &&&Route| segments.starts_with(&loose(route.path.as_bytes()));
                    let rank = |route: &&Route| {
                        (!route.hosts.is_empty(), loose(route.path.as_bytes()).len())
                    };
                    let best = routes.iter().filter(under).map(rank).max();
                    let mut all = routes
                        .iter()
                        .filter(under)
                        .filter(|r| Some(rank(r)) == best);
                    match found[0] {
                        Some(one) => all.any(|route| std::ptr::eq(*route, *one)),
                        None => best.is_none(),
                    }
                };
                if by_path && !readings.iter().all(|path| may_mean(loose(path))) {
                    return "bad-request";
                }
                found[0]
            }
            None if by_path => return "bad-request",
            None => find(b"/"),
        };
        let Some(route) = route else {
            return "no-route";
        };
        // 6. the route's networks and methods
        let everybody: &[&str] = &["alice", "bob", "carol", "token:all", "token:narrow"];
        let (people, methods, networks, any): (Vec<&str>, &[&str], &[&str], bool) =
            match &route.access {
                Access::Anyone => return "allowed",
                Access::Nobody => return "not-permitted",
                Access::Users => (everybody.to_vec(), &[], &[], false),
                Access::Table {
                    users,
                    groups,
                    methods,
                    networks,
                    any,
                } => {
                    let members = policy
                        .groups
                        .iter()
                        .filter(|(name, _)| groups.contains(name))
                        .flat_map(|(_, members)| members);
                    let mut people: Vec<&str> = users.iter().chain(members).copied().collect();
                    if users.is_empty() && groups.is_empty() {
                        people = everybody.to_vec();
                    }
                    (people, methods, networks, *any)
                }
            };
        let is_inside = networks.is_empty() || is_in(networks);
        if !is_inside && !any {
            return "route-network-denied";
        }
        let head = request.method == "HEAD" && methods.contains(&"GET");
        if !methods.is_empty() && !methods.contains(&request.method) && !head {
            return "method-denied";
        }
        if any && is_inside {
            return "allowed";
        }
        // 8. who
        let user = match request.by {
            Presented::Nothing => return "credentials-missing",
            Presented::Wrong(_) | Presented::Stranger => return "credentials-wrong",
            Presented::Right(name) => name,
            Presented::Token("all") => "token:all",
            Presented::Token(_) => {
                let is_covered = readings.is_some_and(|r| {
                    let is_kept = |path: &Vec<u8>| loose(path).first().is_some_and(|s| s == "a");
                    is_under(&r[0], "/a") && r.iter().all(is_kept) && r.len() <= DECODERS
                });
                if !is_covered || !["GET", "HEAD"].contains(&request.method) {
                    return "not-permitted";
                }
                "token:narrow"
            }
        };
        // 9. may they
        match people.contains(&user) {
            true => "allowed",
            false => "not-permitted",
        }
    }

    pub fn status(word: &str) -> u16 {
        match word {
            "allowed" => 200,
            "bad-request" => 400,
            "credentials-missing" | "credentials-wrong" => 401,
            "route-network-denied" | "not-permitted" => 403,
            "no-route" => 404,
            "method-denied" => 405,
            "host-unknown" | "sni-mismatch" => 421,
            "network-denied" => 0,
            other => panic!("{other} is no word of these tests"),
        }
    }

    fn host(text: &str) -> String {
        let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
        name.trim_end_matches('.').to_ascii_lowercase()
    }

    fn is_under(path: &[u8], prefix: &str) -> bool {
        let prefix: Vec<&[u8]> = prefix
            .as_bytes()
            .split(|c| *c == b'/')
            .filter(|s| !s.is_empty())
            .collect();
        let path: Vec<&[u8]> = path.split(|c| *c == b'/').skip(1).collect();
        path.len() >= prefix.len() && path.iter().zip(&prefix).all(|(a, b)| a == b)
    }

    /// Readings that are followed: ours, and those of two more decoders.
    const DECODERS: usize = 3;

    /// Blocks of characters that nobody sees by themselves, as far as these tests have some.
    fn is_unseen(c: char) -> bool {
        let blocks = [
            0x300..=0x36f,
            0x1ab0..=0x1aff,
            0x20d0..=0x20ff,
            0x115f..=0x1160,
            0x3164..=0x3164,
            0xffa0..=0xffa0,
        ];
        blocks.iter().any(|block| block.contains(&u32::from(c)))
    }

    /// The segments as the loosest of the applications has them that docs/security.md speaks of ("Path"): case, full width, white
    /// space and dots at the end, marks, what nobody sees, empty segments and streams of files do not count, and `..` leads up.
    fn loose(path: &[u8]) -> Vec<String> {
        let half = |c: char| match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xff01 + 0x21).unwrap_or(c),
            c => c,
        };
        let text: String = String::from_utf8_lossy(path)
            .chars()
            .filter(|c| !is_unseen(*c))
            .map(half)
            .collect();
        let mut segments = Vec::new();
        for segment in text.to_lowercase().replace('\\', "/").split('/') {
            let segment = match segment.split_once(':') {
                Some((file, stream)) if format!(":{stream}").contains(":$") => file,
                _ => segment,
            };
            match segment.trim() {
                ".." => drop(segments.pop()),
                segment => segments.push(segment.trim_end_matches(['.', ' ']).to_owned()),
            }
            if segments.last().is_some_and(String::is_empty) {
                segments.pop();
            }
        }
        segments
    }

    /// What the path is, decoded once, twice, and so on; `None` where already one of them could be read as two paths.
    fn readings(raw: &str) -> Option<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        let mut text = raw.as_bytes().to_vec();
        if !is_plain(&text) {
            return None;
        }
        loop {
            let (next, is_broken, is_delimiter) = decode(&text);
            if (is_broken && all.is_empty()) || is_delimiter || !is_plain(&next) {
                return None;
            }
            if all.is_empty() {
                std::str::from_utf8(&next).ok()?;
            } else if next == text {
                return Some(all);
            }
            all.push(next.clone());
            text = next;
        }
    }

    fn decode(text: &[u8]) -> (Vec<u8>, bool, bool) {
        let (mut out, mut is_broken, mut is_delimiter) = (Vec::new(), false, false);
        let mut rest = text;
        while let Some((first, tail)) = rest.split_first() {
            let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
            let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
            match (first, byte) {
                (b'%', Some(byte)) => {
                    is_delimiter |= b"/\\;?#".contains(&byte);
                    out.push(byte);
                    rest = &tail[2..];
                    continue;
                }
                (b'%', None) => is_broken = true,
                _ => {}
            }
            out.push(*first);
            rest = tail;
        }
        (out, is_broken, is_delimiter)
    }

    fn is_plain(path: &[u8]) -> bool {
        let segments: Vec<&[u8]> = path[1..].split(|c| *c == b'/').collect();
        let inner = &segments[..segments.len() - 1];
        !path
            .iter()
            .any(|c| c.is_ascii_control() || b"\\;".contains(c))
            && !segments.iter().any(|s| *s == b"." || *s == b"..")
            && !inner.iter().any(|s| s.is_empty())
    }

    /// Addresses are 128 bits; IPv4 is its mapped form.
    fn within(net: &str, address: IpAddr) -> bool {
        let named: &[&str] = match net {
            "loopback" => &["127.0.0.0/8", "::1"],
            "private" => &[
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "100.64.0.0/10",
                "169.254.0.0/16",
                "fc00::/7",
                "fe80::/10",
            ],
            _ => &[],
        };
        if !named.is_empty() {
            return named.iter().any(|net| within(net, address));
        }
        let (base, length) = net.split_once('/').unwrap_or((net, ""));
        let base: IpAddr = base.parse().expect("an address");
        let whole = if base.is_ipv4() { 32 } else { 128 };
        let length: u32 = length.parse().unwrap_or(whole) + 128 - whole;
        let (base, address) = (bits(base), bits(address));
        let is_v4 = |bits: u128| bits >> 32 == 0xffff;
        is_v4(base) == is_v4(address)
            && (length == 0 || base >> (128 - length) == address >> (128 - length))
    }

    fn bits(address: IpAddr) -> u128 {
        let six: Ipv6Addr = match address {
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        };
        six.into()
    }
}

// ------------------------------------------------------------------------------------------------------- the pure decision

/// Tokens of two names, in a file; and their texts.
fn tokens(dir: &File) -> Vec<(&'static str, String)> {
    let path = dir.join("tokens.toml");
    ["all", "narrow"]
        .map(|name| {
            let (mut token, text) = Token::new(name, 0, None);
            if name == "narrow" {
                token.paths = vec!["/a".into()];
                token.methods = vec!["GET".into()];
            }
            token_file::add(&path, token).expect("a tokens file");
            (name, text.expose().to_owned())
        })
        .to_vec()
}

fn secret<'t>(tokens: &'t [(&str, String)], name: &str) -> &'t str {
    &tokens.iter().find(|(n, _)| *n == name).expect("a token").1
}

/// What the functions say that the live path calls, in its order.
fn decide(plan: &Plan, request: &Request, tokens: &[(&str, String)]) -> &'static str {
    let decided = || {
        let peer = fold(request.peer);
        plan.listeners[0].gate.judge(peer).map_err(|r| r.reason)?;
        let authority = Authority::parse(request.host).expect("a host");
        let path = Path::parse(request.path).expect("a path");
        let asked = Asked {
            host: &authority.host,
            sni: request.sni,
            path: &path,
            method: request.method,
            client: peer,
            local: IpAddr::from([127, 0, 0, 1]),
        };
        let stage = plan.site.before(&asked).map_err(|r| r.reason)?;
        let known = |name: &str, by| Who {
            user: name.into(),
            groups: "".into(),
            by,
        };
        let wrong = loopgate::base::refusal::Reason::CredentialsWrong;
        let who = match (stage.need(), request.by) {
            (Need::Nobody, _) | (_, Presented::Nothing) => None,
            (Need::Person, Presented::Right(name)) => {
                let person = plan.people.get(name).ok_or(wrong)?;
                Some(known(&person.user, Method::Basic))
            }
            (Need::Person, Presented::Wrong(_) | Presented::Stranger) => return Err(wrong),
            (Need::Person, Presented::Token(name)) => {
                let checked = plan
                    .tokens
                    .check(secret(tokens, name), request.method, &path, 1);
                let token = checked.map_err(|why| why.reason())?;
                Some(known(&format!("token:{}", token.name), Method::Token))
            }
        };
        plan.site.after(stage, who, None).map_err(|r| r.reason)
    };
    match decided() {
        Ok(_) => "allowed",
        Err(reason) => reason.word(),
    }
}

/// What `explain` says; nothing where the question cannot be put to it.
fn explained(plan: &Plan, config: &raw::Config, request: &Request) -> Option<&'static str> {
    let authority = Authority::parse(request.host).expect("a host");
    let has_name = |sni: &str| matches!(&authority.host, Host::Name(name) if *name == *sni);
    if request.sni.is_some_and(|sni| !has_name(sni)) {
        return None;
    }
    let token;
    let user = match request.by {
        Presented::Nothing => None,
        Presented::Right(name) => Some(name),
        Presented::Stranger => Some("mallory"),
        Presented::Token(name) => {
            token = format!("token:{name}");
            Some(&*token)
        }
        Presented::Wrong(_) => return None,
    };
    let url = format!("https://{}{}", request.host, request.path);
    let question = Question {
        from: request.peer,
        forwarded_for: None,
        user,
        certificate: None,
        method: request.method,
        url: &url,
    };
    Some(explain(plan, config, &question).expect("a question").word())
}

#[test]
fn the_decision_explain_and_a_model_agree_in_a_hundred_thousand_cases() {
    let seed = seed();
    let mut chance = Chance(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let tokens = tokens(dir.path());
    let (machine, kept): (Machine, Kept) = (machine(), Kept::new(dir.path().join("state")));
    let users = Users::parse(USERS.as_bytes()).expect("users").users;
    let frame = "[auth]\ntokens_file = \"tokens.toml\"\nusers_file = \"unused\"\n[[listener]]\naddress = \"127.0.0.1:8443\"\n";
    let (mut cases, mut asked, mut words) = (0, 0, std::collections::BTreeMap::new());
    for _ in 0..POLICIES {
        let policy = Policy::draw(&mut chance, &PURE);
        let text = format!(
            "{frame}{}{}",
            policy.listener(),
            policy.text(SocketAddr::from(([127, 0, 0, 1], 3000)))
        );
        let config: raw::Config = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let plan = compile(
            &config,
            dir.path(),
            &machine,
            &kept,
            None,
            Some(users.clone()),
        );
        let (plan, _) = plan.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
        for _ in 0..REQUESTS {
            let request = Request::draw(&mut chance, &PURE, &policy);
            let want = model::judge(&policy, &request);
            let got = decide(&plan, &request, &tokens);
            assert_eq!(got, want, "the decision; seed {seed}\n{request:?}\n{text}");
            if let Some(told) = explained(&plan, &config, &request) {
                assert_eq!(told, want, "explain; seed {seed}\n{request:?}\n{text}");
                asked += 1;
            }
            cases += 1;
            *words.entry(want).or_insert(0u32) += 1;
        }
    }
    assert!(cases >= 100_000 && asked > cases / 2, "{cases} {asked}");
    // A test that never comes to a rule does not test it.
    assert_eq!(words.len(), 11, "{words:?}");
    assert!(words.values().all(|n| *n > 1000), "{words:?}");
}

// ------------------------------------------------------------------------------------------------------------ over sockets

async fn ask(gate: &Gate, request: &Request, number: usize, tokens: &[(&str, String)]) -> u16 {
    let credential = match request.by {
        Presented::Nothing => String::new(),
        Presented::Right(name) => {
            let (_, password) = PEOPLE.iter().find(|(n, _)| *n == name).expect("a user");
            format!("Authorization: {}\r\n", basic(name, password))
        }
        Presented::Wrong(name) => format!("Authorization: {}\r\n", basic(name, "close sesame")),
        Presented::Stranger => format!("Authorization: {}\r\n", basic("mallory", "open sesame")),
        Presented::Token(name) if number.is_multiple_of(2) => {
            format!("Authorization: Bearer {}\r\n", secret(tokens, name))
        }
        Presented::Token(name) => format!("Loopgate-Token: {}\r\n", secret(tokens, name)),
    };
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::new(request.peer, 0))
        .expect("a source");
    let stream = soon("a connection", socket.connect(gate.address)).await;
    let mut client = Client::over(stream.expect("a connection"));
    let (method, path, host) = (request.method, request.path, request.host);
    let head = format!("{method} {path}?n={number} HTTP/1.1\r\nHost: {host}\r\n{credential}\r\n");
    let _ = client.try_send(head).await;
    match client.try_answer(method).await {
        Ok(answer) => answer.status,
        Err(_) => 0,
    }
}

#[tokio::test]
async fn over_sockets_the_gate_does_what_the_model_says_and_nothing_denied_reaches_the_upstream() {
    let seed = seed();
    let mut chance = Chance(seed ^ 0x50c);
    let dir = tempfile::tempdir().expect("a directory");
    let tokens = tokens(dir.path());
    let auth = format!(
        "tokens_file = {:?}\nlockout = {{ failures = 250 }}\n",
        dir.path().join("tokens.toml")
    );
    let began = Instant::now();
    for number in 0..GATES {
        let policy = Policy::draw(&mut chance, &LIVE);
        let upstream = Upstream::ok();
        let text = policy.text(upstream.address);
        let gate = Gate::with(&auth, &policy.listener(), &text);
        let mut wanted = Vec::new();
        for n in 0..LIVE_REQUESTS {
            let request = Request::draw(&mut chance, &LIVE, &policy);
            let want = model::judge(&policy, &request);
            let got = ask(&gate, &request, n, &tokens).await;
            let told = format!(
                "seed {seed}, gate {number}\n{request:?}\n{}{text}",
                policy.listener()
            );
            assert_eq!(got, model::status(want), "{want}; {told}");
            wanted.push((want, told));
        }
        let lines = gate.log(LIVE_REQUESTS).await;
        for ((want, told), line) in wanted.iter().zip(&lines) {
            let got = line["reason"].as_str().unwrap_or("allowed");
            assert_eq!(got, *want, "{told}");
        }
        let allowed = |n: &usize| wanted[*n].0 == "allowed";
        let want: BTreeSet<String> = (0..LIVE_REQUESTS)
            .filter(allowed)
            .map(|n| format!("n={n}"))
            .collect();
        let number_of = |target: &str| target.rsplit_once('?').map(|(_, n)| n.to_owned());
        let reached: BTreeSet<String> = upstream
            .requests()
            .iter()
            .filter_map(|r| number_of(&r.target))
            .collect();
        assert_eq!(
            reached,
            want,
            "what reached the upstream; {}\n{text}",
            policy.listener()
        );
    }
    // No figure, a sign of life: this is meant for every run.
    assert!(began.elapsed() < Duration::from_secs(300));
}

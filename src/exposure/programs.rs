//! What single programs mean by their arguments where the words alone would mislead: which end `nc` has, whose visitors choose where a
//! proxy goes, and which side of a tunnel a place is on; pure.

use super::spelling::{Place, local, pair, places, port_numbers};

/// Options of `nc` and `ncat` that start a program.
pub(super) const STARTS: [&str; 5] = ["-c", "-e", "--sh-exec", "--exec", "--lua-exec"];

/// What an `nc` of any kind does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Netcat {
    pub is_listening: bool,
    pub is_starting: bool,
    /// Its visitors tell it where to go.
    pub is_proxy: bool,
    /// Where it dials.
    pub host: Option<String>,
    pub port: Option<String>,
}

impl Netcat {
    /// Reads its arguments, the program's own name first.
    pub fn read(arguments: &[&str]) -> Self {
        let mut found = Self::default();
        let skipped = match arguments {
            [_, applet, ..] if matches!(*applet, "nc" | "netcat") => 2,
            _ => 1,
        };
        let mut words = arguments.iter().skip(skipped);
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let name = long.split('=').next().unwrap_or(long);
                found.is_listening |= name == "listen";
                found.is_proxy |= name == "proxy-type";
                let is_start = matches!(name, "exec" | "sh-exec" | "lua-exec");
                found.is_starting |= is_start;
                if (is_start || LONG_VALUED.contains(&name)) && !long.contains('=') {
                    words.next();
                }
            } else if let Some(letters) = word.strip_prefix('-').filter(|l| !l.is_empty()) {
                for (at, letter) in letters.char_indices() {
                    found.is_listening |= letter == 'l';
                    found.is_starting |= matches!(letter, 'c' | 'e');
                    if "ceGgIiMmOopPqsTVWwXx".contains(letter) {
                        if letters[at + letter.len_utf8()..].is_empty() {
                            words.next();
                        }
                        break;
                    }
                }
            } else if found.host.is_none() {
                found.host = Some((*word).to_owned());
            } else if found.port.is_none() {
                found.port = Some((*word).to_owned());
            }
        }
        found.is_proxy &= found.is_listening;
        found
    }

    /// Whether it dials a place that is not of this machine.
    pub fn dials_out(&self) -> bool {
        !self.is_listening && self.host.as_deref().is_some_and(|host| !local(host))
    }

    /// The place of this machine that it dials.
    pub fn places(&self) -> Vec<Place> {
        match (&self.host, &self.port) {
            (Some(host), Some(port)) if !self.is_listening => match host.contains(':') {
                true => pair(&format!("[{host}]:{port}")),
                false => pair(&format!("{host}:{port}")),
            },
            _ => Vec::new(),
        }
    }
}

const LONG_VALUED: [&str; 17] = [
    "proxy",
    "proxy-type",
    "proxy-auth",
    "proxy-dns",
    "source",
    "source-port",
    "wait",
    "idle-timeout",
    "delay",
    "max-conns",
    "output",
    "hex-dump",
    "allow",
    "allowfile",
    "deny",
    "denyfile",
    "ssl-alpn",
];

/// The values of an option, as `--mode VALUE`, `--mode=VALUE` and of a short one `-mVALUE`.
fn values<'a>(line: &'a [&'a str], options: &'a [&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, word) in line.iter().enumerate().skip(1) {
        for option in options {
            let Some(rest) = word.strip_prefix(option) else {
                continue;
            };
            match rest.strip_prefix('=') {
                Some(value) => found.push(value),
                None if rest.is_empty() => found.extend(line.get(at + 1)),
                None if !option.starts_with("--") => found.push(rest),
                None => {}
            }
        }
    }
    found
}

/// Whether visitors of a `mitmproxy` choose where it goes: it is a proxy of any mode but those that name their target.
pub(super) fn is_open_mitmproxy(line: &[&str]) -> bool {
    let modes = values(line, &["--mode", "-m", "mode"]);
    let is_set = |mode: &&str| {
        let target = ["reverse:", "upstream:", "dns"];
        target.iter().any(|named| mode.starts_with(named))
    };
    modes.is_empty() || !modes.iter().all(is_set)
}

/// Whether visitors of a `gost` choose where it goes: it listens without a target, and hands nothing on to another proxy.
pub(super) fn is_open_gost(line: &[&str]) -> bool {
    let is_free = |value: &&str| {
        let rest = value.split_once("://").map_or(*value, |(_, rest)| rest);
        let rest = rest.split('?').next().unwrap_or(rest);
        rest.split_once('/')
            .is_none_or(|(_, target)| target.is_empty())
    };
    values(line, &["-F"]).is_empty() && values(line, &["-L"]).iter().any(is_free)
}

/// What a `chisel client` brings to the outside: only what begins with `R:`. `None` for one that brings nothing.
pub(super) fn chisel(line: &[&str]) -> Option<Vec<Place>> {
    let mut back = line.iter().filter_map(|word| word.strip_prefix("R:"));
    let mut found: Option<Vec<Place>> = None;
    for value in &mut back {
        let found = found.get_or_insert_default();
        let value = value.split('/').next().unwrap_or(value);
        let (before, last) = value.rsplit_once(':').unwrap_or(("", value));
        let host = before.rsplit(':').next().unwrap_or(before);
        if last == "socks" {
            found.push(Place::All);
        } else if port_numbers(host).is_empty() && !host.is_empty() {
            found.extend(pair(value));
        } else {
            found.extend(port_numbers(last).into_iter().map(Place::Local));
        }
    }
    found
}

/// What a `wstunnel client` brings to the outside: only what `-R` names. `None` for one that brings nothing.
pub(super) fn wstunnel(line: &[&str]) -> Option<Vec<Place>> {
    let back = values(line, &["-R", "--remote-to-local"]);
    let is_free = |value: &&str| value.starts_with("socks5:") || value.starts_with("http:");
    if back.is_empty() {
        return None;
    }
    let mut found: Vec<Place> = back
        .iter()
        .flat_map(|value| places(&["wstunnel", value], false))
        .collect();
    found.extend(back.iter().any(is_free).then_some(Place::All));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<&str> {
        text.split(' ').collect()
    }

    #[test]
    fn an_nc_that_dials_out_is_told_from_one_that_does_not() {
        for (text, want) in [
            ("ncat 192.168.77.2 9001 --sh-exec x", true),
            ("nc -w 3 -e /bin/x far.example 9001", true),
            ("busybox nc 192.168.77.2 9001 -e x", true),
            ("nc 127.0.0.1 3000", false),
            ("nc -nv localhost 3000", false),
            ("nc -lk 0.0.0.0 9000", false),
            ("ncat --listen 192.168.77.1 9000", false),
            ("nc -lvp 9000", false),
        ] {
            assert_eq!(Netcat::read(&line(text)).dials_out(), want, "{text}");
        }
        let host = |text: &str| Netcat::read(&line(text)).places();
        assert_eq!(
            host("nc 2130706433 +3000"),
            [Place::Socket([127, 0, 0, 1].into(), 3000)]
        );
        assert_eq!(host("nc box 3000"), [Place::Name("box".into(), 3000)]);
        assert_eq!(
            host("nc ::1 68536"),
            [Place::Socket(std::net::Ipv6Addr::LOCALHOST.into(), 3000)]
        );
        assert_eq!(host("nc -l 127.0.0.1 3000"), []);
    }

    #[test]
    fn whose_visitors_choose_the_target() {
        for (text, want) in [
            ("mitmdump -p 9000", true),
            ("mitmdump --mode socks5", true),
            ("mitmdump --mode reverse:http://127.0.0.1:3000@9000", false),
            ("mitmdump -m reverse:http://127.0.0.1:3000", false),
            ("mitmdump --set mode=reverse:http://127.0.0.1:3000", false),
            ("mitmdump --mode=reverse:http://a --mode regular", true),
            ("mitmweb --mode upstream:http://far.example", false),
        ] {
            assert_eq!(is_open_mitmproxy(&line(text)), want, "{text}");
        }
        for (text, want) in [
            ("gost -L :9000", true),
            ("gost -L=http://:9000", true),
            ("gost -L socks5://:9000?x=1/2", true),
            ("gost -L tcp://:9000/127.0.0.1:3000", false),
            ("gost -L=:8080/127.0.0.1:3000", false),
            ("gost -L :9000 -F socks5://far.example:1080", false),
        ] {
            assert_eq!(is_open_gost(&line(text)), want, "{text}");
        }
        for (text, want) in [
            ("ncat -lk 9000 --proxy-type http", true),
            ("ncat -lk 9000 --proxy-type=socks5", true),
            ("ncat --proxy far:1 --proxy-type http 127.0.0.1 3000", false),
            ("ncat -lk 9000", false),
        ] {
            assert_eq!(Netcat::read(&line(text)).is_proxy, want, "{text}");
        }
    }

    #[test]
    fn of_a_tunnel_only_what_comes_back_is_of_this_machine() {
        let far = "chisel client https://far.example 8000:localhost:3000";
        assert_eq!(chisel(&line(far)), None);
        for (text, want) in [
            ("R:8000:localhost:3000", Place::Local(3000)),
            ("R:3000", Place::Local(3000)),
            ("R:0.0.0.0:8000:localhost:3000/tcp", Place::Local(3000)),
            ("R:8000:3000", Place::Local(3000)),
            ("R:socks", Place::All),
        ] {
            let all = ["chisel", "client", "https://far.example", text];
            assert_eq!(chisel(&all), Some(vec![want]), "{text}");
        }
        let far = "wstunnel client -L tcp://9000:localhost:3000 wss://far.example";
        assert_eq!(wstunnel(&line(far)), None);
        let back = "wstunnel client -R tcp://9000:localhost:3000 wss://far.example";
        assert_eq!(wstunnel(&line(back)), Some(vec![Place::Local(3000)]));
        let free = "wstunnel client -R socks5://9000 wss://far.example";
        assert!(wstunnel(&line(free)).is_some_and(|all| all.contains(&Place::All)));
    }
}

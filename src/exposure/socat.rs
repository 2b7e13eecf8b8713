//! What the words of `socat` name beyond hosts with ports: Unix sockets by relative paths and by names without a path, and programs
//! that it starts, of which only the numbers can be read; pure.

use super::spelling::{Place, is_readable, local, numbers, places};

/// Kinds of address whose value is a path.
const PATHS: [&str; 17] = [
    "unix",
    "unix-connect",
    "unix-client",
    "unix-listen",
    "unix-l",
    "unix-sendto",
    "unix-recv",
    "unix-recvfrom",
    "local",
    "gopen",
    "open",
    "file",
    "create",
    "pipe",
    "socket-connect",
    "accept-fd",
    "posixmq",
];
/// And those that start a program.
const PROGRAMS: [&str; 3] = ["exec", "system", "shell"];

/// Kinds that dial another host.
const DIALS: [&str; 9] = [
    "tcp", "udp", "sctp", "dccp", "openssl", "ssl", "proxy", "socks", "socket-",
];

/// What the arguments of a `socat` name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub places: Vec<Place>,
    /// The numbers in the programs that it starts.
    pub hints: Vec<u16>,
    /// Something of it cannot be read as socat does.
    pub is_unclear: bool,
}

/// The sockets that these arguments name, and the numbers in the programs that they start.
pub(super) fn named(arguments: &[&str]) -> Named {
    let mut found = Named::default();
    for raw in sides(arguments) {
        if let Some((_, program)) = split(raw).filter(|(kind, _)| PROGRAMS.contains(&&**kind)) {
            found.hints.extend(numbers(program));
            found.is_unclear |= program.contains(['\\', '$', '`']);
            continue;
        }
        let Some(side) = plain(raw) else {
            found.is_unclear = true;
            continue;
        };
        let value_ends = |text: &str| text.split(',').next().unwrap_or_default().to_owned();
        match split(&side) {
            Some((kind, rest)) => {
                let value = value_ends(rest);
                if kind.starts_with("abstract") {
                    found.places.push(Place::Path(format!("@{value}").into()));
                } else if dials(&kind) {
                    found.is_unclear |= !is_dial_clear(&kind, &value);
                    let all = places(&["socat", &side], false);
                    found.places.extend(all);
                } else if PATHS.contains(&&*kind) {
                    found.places.push(Place::Path(value.into()));
                }
            }
            // A path alone is one to open.
            None if side.contains('/') => found.places.push(Place::Path(value_ends(&side).into())),
            None => {}
        }
    }
    // Through a link of the process itself, other than at its beginning.
    found.is_unclear |= found.places.iter().any(|place| match place {
        Place::Path(path) => {
            let path = path.to_string_lossy();
            !path.starts_with("/proc/") && (path.contains("/self/") || path.contains("/dev/fd/"))
        }
        _ => false,
    });
    found
}

/// Whether one of its ends dials a place that is not of this machine, and none of them listens.
pub(super) fn dials_out(arguments: &[&str]) -> bool {
    let sides: Vec<(String, String)> = sides(arguments)
        .filter_map(|side| {
            let side = plain(side).unwrap_or_else(|| side.to_owned());
            split(&side).map(|(kind, rest)| (kind, rest.to_owned()))
        })
        .collect();
    let is_far = |(kind, rest): &(String, String)| {
        let value = rest.split(',').next().unwrap_or_default();
        let host = value.rsplit_once(':').map_or(value, |(host, _)| host);
        dials(kind) && !local(host)
    };
    sides.iter().any(is_far) && !sides.iter().any(|(kind, _)| listens(kind))
}

/// The addresses, of which one may be two.
fn sides<'a>(arguments: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    arguments
        .iter()
        .skip(1)
        .flat_map(|word| word.split("!!"))
        .map(|word| word.trim_matches(['"', '\'']))
}

/// The kind of an address in small letters, and the rest.
fn split(side: &str) -> Option<(String, &str)> {
    let (kind, rest) = side.split_once(':')?;
    let kind = kind.trim().to_ascii_lowercase();
    (!kind.contains(['/', ','])).then_some((kind, rest))
}

fn listens(kind: &str) -> bool {
    kind.contains("listen") || kind.ends_with("-l") || kind.contains("recv") || kind == "accept-fd"
}

fn dials(kind: &str) -> bool {
    DIALS.iter().any(|begin| kind.starts_with(begin)) && !listens(kind)
}

/// Whether where it dials can be read: a raw address cannot, nor can a proxy of this machine tell us where it goes.
fn is_dial_clear(kind: &str, value: &str) -> bool {
    let Some((host, port)) = value.rsplit_once(':') else {
        return false;
    };
    let is_proxy = kind.starts_with("proxy") || kind.starts_with("socks");
    let first = host.split(':').next().unwrap_or(host);
    match is_proxy {
        true => !local(first),
        false => !kind.starts_with("socket-") && is_readable(host.trim(), port),
    }
}

/// A side without its quotes and backslashes, as socat reads it; `None` where they hide what divides an address, or stand for a
/// character that cannot be written.
fn plain(side: &str) -> Option<String> {
    let mut text = String::with_capacity(side.len());
    let (mut quote, mut rest) = (None, side.chars());
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next()? {
                c if c.is_ascii_alphanumeric() || ",:!".contains(c) => return None,
                c => text.push(c),
            },
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if quote == Some(c) => quote = None,
            ',' | ':' | '!' if quote.is_some() => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_by_any_path_and_programs_by_their_numbers() {
        let path = |text: &str| vec![Place::Path(text.into())];
        for (side, places, hints) in [
            ("UNIX-CONNECT:a.sock,fork", path("a.sock"), vec![]),
            ("unix-client:./a.sock", path("./a.sock"), vec![]),
            ("GOPEN:/run/../a.sock", path("/run/../a.sock"), vec![]),
            ("./sub/a.sock", path("./sub/a.sock"), vec![]),
            ("ABSTRACT-CONNECT:name,x", path("@name"), vec![]),
            ("EXEC:\"nc 127.0.0.1 3000\"", vec![], vec![1, 127, 3000]),
            ("SYSTEM:nc -v 0 -w 5 0xbb8", vec![], vec![5, 3000]),
            ("exec:x </dev/tcp/::1/3000", vec![], vec![1, 3000]),
            ("TCP-LISTEN:3000", vec![], vec![]),
            ("STDIO", vec![], vec![]),
            (
                "UNIX-CONNECT:/run/\\./a.sock",
                path("/run/./a.sock"),
                vec![],
            ),
            ("UNIX-CONNECT:/run/'a'.sock", path("/run/a.sock"), vec![]),
        ] {
            let mut found = named(&["socat", side]);
            found.hints.sort_unstable();
            found.hints.dedup();
            let is_unclear = false;
            let want = Named {
                places,
                hints,
                is_unclear,
            };
            assert_eq!(found, want, "{side}");
        }
    }

    #[test]
    fn what_is_read_as_socat_does_and_what_is_said_to_be_unclear() {
        let here = vec![Place::Socket([127, 0, 0, 1].into(), 3000)];
        for side in [
            "TCP:127.0.0.1:3000",
            "TCP:127\\.0.0.1:3000",
            "TCP:12\"7.0.0.1\":3000",
            "TCP:127.0.0.1:3'000'",
            "T'C'P:127.0.0.1:+3000",
            "TCP:127.0.0.1:68536,x",
        ] {
            let found = named(&["socat", side]);
            assert_eq!(
                (found.places, found.is_unclear),
                (here.clone(), false),
                "{side}"
            );
        }
        for (side, want) in [
            ("TCP:127.0.0.1:3\\000", true),
            ("TCP:127.0.0.1\\:3000", true),
            ("TCP:\"127.0.0.1:3000\"", true),
            ("TCP:127.0.0.1:3000\\", true),
            ("TCP:127.0.0.1:{3000}", true),
            ("SOCKET-CONNECT:2:6:x0bb87f0000010000000000000000", true),
            ("SOCKET-LISTEN:2:6:x2328000000000000000000000000", false),
            ("UNIX-CONNECT:/run/\\x61.sock", true),
            ("UNIX-CONNECT:/tmp/../proc/self/root/a.sock", true),
            ("PROXY:127.0.0.1:far.example:80,proxyport=3000", true),
            ("PROXY:proxy.example:far.example:80", false),
            ("SYSTEM:nc 127.0.0.1 $((2999+1))", true),
            ("TCP:10.0.0.1:3000", false),
            ("TCP6:[fd00::1]:3000", false),
            ("TCP:far.example:http", false),
        ] {
            assert_eq!(named(&["socat", side]).is_unclear, want, "{side}");
        }
    }

    #[test]
    fn both_ends_of_one_may_dial() {
        for (line, want) in [
            ("socat TCP:10.0.0.2:9001,forever TCP:127.0.0.1:3000", true),
            ("socat TCP:127.0.0.1:3000 OPENSSL:far.example:443", true),
            ("socat UNIX-CONNECT:/run/a.sock TCP6:[fd00::1]:9001", true),
            ("socat TCP-LISTEN:9000 TCP:10.0.0.2:3000", false),
            ("socat TCP4-L:9000 TCP:10.0.0.2:3000", false),
            ("socat TCP:127.0.0.1:4000 TCP:localhost:3000", false),
            ("socat TCP6:[::1]:4000 TCP:localhost:3000", false),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(dials_out(&words), want, "{line}");
        }
    }
}

//! What the words of `socat` name beyond hosts with ports: Unix sockets by relative paths and by names without a path, and programs
//! that it starts, of which only the numbers can be read; pure.

use super::spelling::{Place, numbers};

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

/// The sockets that these arguments name, and the numbers in the programs that they start.
pub(super) fn named(arguments: &[&str]) -> (Vec<Place>, Vec<u16>) {
    let (mut places, mut hints) = (Vec::new(), Vec::new());
    let sides = arguments
        .iter()
        .skip(1)
        .flat_map(|word| word.split("!!"))
        .map(|word| word.trim_matches(['"', '\'']));
    for side in sides {
        let value_ends = |text: &str| text.split(',').next().unwrap_or_default().to_owned();
        match side.split_once(':') {
            Some((kind, rest)) if !kind.contains(['/', ',']) => {
                let kind = kind.to_ascii_lowercase();
                if PATHS.contains(&&*kind) {
                    places.push(Place::Path(value_ends(rest).into()));
                } else if kind.starts_with("abstract") {
                    places.push(Place::Path(format!("@{}", value_ends(rest)).into()));
                } else if PROGRAMS.contains(&&*kind) {
                    hints.extend(numbers(rest));
                }
            }
            // A path alone is one to open.
            _ if side.contains('/') => places.push(Place::Path(value_ends(side).into())),
            Some(_) | None => {}
        }
    }
    (places, hints)
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
            ("TCP:127.0.0.1:3000", vec![], vec![]),
            ("STDIO", vec![], vec![]),
        ] {
            let (found, mut numbers) = named(&["socat", side]);
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!((found, numbers), (places, hints), "{side}");
        }
    }
}

//! What an `ssh` carries, by its arguments; pure. Of `-R` the place is on this machine. Of `-L` and `-D` it is on the far one, whose
//! `localhost` is not ours, save where ssh goes to this machine itself.

use super::forward::Way;
use super::spelling::{Place, local, places};

/// What one `ssh` does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Carried {
    pub what: &'static str,
    pub way: Way,
    pub places: Vec<Place>,
    /// What a place of this machine is cannot be read.
    pub is_unclear: bool,
}

/// The options that take a value.
const VALUED: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// What these arguments carry, the program's own name first; `None` where they carry nothing.
pub(super) fn carried(arguments: &[&str]) -> Option<Carried> {
    let program = arguments.first().copied().unwrap_or_default();
    let is_auto = program.ends_with("autossh");
    let (mut back, mut there, mut is_open) = (Vec::new(), Vec::new(), false);
    let mut host = None;
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|l| !l.is_empty()) else {
            if host.is_some() {
                // What follows is a command of the far side.
                break;
            }
            host = Some(*word);
            continue;
        };
        // `--` ends the options and `--word` is none.
        let letters = if letters.starts_with('-') {
            ""
        } else {
            letters
        };
        for (at, letter) in letters.char_indices() {
            let takes = VALUED.contains(letter) || (is_auto && letter == 'M');
            if !takes {
                is_open |= letter == 'g';
                continue;
            }
            let inside = &letters[at + letter.len_utf8()..];
            let value = match inside {
                "" => words.next().copied().unwrap_or_default(),
                inside => inside,
            };
            match letter {
                'R' => back.push(value.to_owned()),
                'L' => there.push(value.to_owned()),
                'D' => there.push(String::new()),
                'o' => match option(value) {
                    Some((key, value)) if key == "remoteforward" => back.push(value),
                    Some((key, value)) if key == "localforward" => there.push(value),
                    Some((key, _)) if key == "dynamicforward" => there.push(String::new()),
                    Some(_) | None => {}
                },
                _ => {}
            }
            break;
        }
    }
    if !back.is_empty() {
        return Some(Carried {
            what: "ssh -R",
            way: Way::Tunnel,
            places: back.iter().flat_map(|value| behind(value)).collect(),
            is_unclear: back.iter().any(|value| is_unclear(value)),
        });
    }
    if there.is_empty() && !is_open {
        return None;
    }
    // To ourselves: then the far side's loopback is this one.
    let is_here = host.is_some_and(is_this_machine);
    let places = match is_here {
        true => there.iter().flat_map(|value| behind(value)).collect(),
        false => Vec::new(),
    };
    Some(Carried {
        what: "ssh -L",
        way: Way::Listener,
        places,
        is_unclear: is_here && there.iter().any(|value| is_unclear(value)),
    })
}

fn is_this_machine(host: &str) -> bool {
    let host = host.strip_prefix("ssh://").unwrap_or(host);
    let host = host.rsplit('@').next().unwrap_or(host);
    local(host.split('/').next().unwrap_or(host))
}

/// `Key=value`, `Key value` and `Key "value"`, as a line of ssh_config(5); the listening side and the target joined by `:`.
fn option(text: &str) -> Option<(String, String)> {
    let text = text.trim_start();
    let at = text.find(|c: char| c == '=' || c.is_ascii_whitespace())?;
    let (key, rest) = text.split_at(at);
    let rest = rest.trim_start().trim_start_matches('=').replace('"', "");
    let parts: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some((key.to_ascii_lowercase(), parts.join(":")))
}

/// Whether ssh puts something else in its place: a part of it that was escaped, a token or a variable.
fn is_unclear(value: &str) -> bool {
    value.contains(['\\', '%']) || value.contains("${")
}

/// What one forwarding reaches: the place at its end, or everything where it names none (SOCKS).
fn behind(value: &str) -> Vec<Place> {
    // `8080/localhost/80` is another way to write it.
    let value = match value.contains(':') || value.starts_with('/') {
        true => value.to_owned(),
        false => value.replace('/', ":"),
    };
    let mut depth = 0_u32;
    let fields: Vec<&str> = value
        .split(|c| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ':' && depth == 0
        })
        .collect();
    let is_path = fields.last().is_some_and(|last| last.contains('/'));
    let is_dynamic = match fields.len() {
        0 | 1 => true,
        2 => !is_path,
        _ => false,
    };
    match is_dynamic {
        true => vec![Place::All],
        false => places(&["ssh", &value], true),
    }
}

#[cfg(test)]
mod tests {
    use super::super::spelling::Hosts;
    use super::*;

    fn ports(arguments: &[&str]) -> Option<(Way, bool, Vec<u16>)> {
        let found = carried(arguments)?;
        let hosts = Hosts::default();
        let sockets = found.places.iter().flat_map(|place| hosts.sockets(place));
        let mut ports: Vec<u16> = sockets.map(|(_, port)| port).collect();
        ports.sort_unstable();
        ports.dedup();
        Some((found.way, found.places.contains(&Place::All), ports))
    }

    #[test]
    fn only_what_comes_back_is_of_this_machine() {
        use Way::{Listener, Tunnel};
        for (line, want) in [
            (
                "ssh -g -L 9000:localhost:3000 bastion",
                Some((Listener, false, vec![])),
            ),
            ("ssh -g -D 9000 bastion", Some((Listener, false, vec![]))),
            (
                "ssh -R 9001:localhost:22 -L 127.0.0.1:3001:localhost:3000 h",
                Some((Tunnel, false, vec![22])),
            ),
            (
                "ssh -g -L 9000:localhost:3000 u@127.0.0.1",
                Some((Listener, false, vec![3000])),
            ),
            (
                "ssh -g -L 9000:localhost:3000 localhost",
                Some((Listener, false, vec![3000])),
            ),
            ("ssh -g -D 9000 localhost", Some((Listener, true, vec![]))),
            (
                "ssh -NfR 80:localhost:3000 h",
                Some((Tunnel, false, vec![3000])),
            ),
            (
                "ssh h -R 80:127.0.0.1:3000",
                Some((Tunnel, false, vec![3000])),
            ),
            ("ssh -R 9000 h", Some((Tunnel, true, vec![]))),
            ("ssh -R 0.0.0.0:9000 h", Some((Tunnel, true, vec![]))),
            ("ssh -R [::]:9000 h", Some((Tunnel, true, vec![]))),
            (
                "ssh -R [::]:9000:[::1]:3000 h",
                Some((Tunnel, false, vec![3000])),
            ),
            (
                "ssh -R 9000/localhost/3000 h",
                Some((Tunnel, false, vec![3000])),
            ),
            (
                "ssh -R 9000:db.example:3000 h",
                Some((Tunnel, false, vec![])),
            ),
            ("ssh -oRemoteForward=9000 h", Some((Tunnel, true, vec![]))),
            ("ssh -i -R h", None),
            ("ssh h rsync -R 9000:localhost:3000", None),
            ("ssh -p 3000 h", None),
            (
                "autossh -M 20000 -R 80:localhost:3000 h",
                Some((Tunnel, false, vec![3000])),
            ),
        ] {
            let arguments: Vec<&str> = line.split(' ').collect();
            assert_eq!(ports(&arguments), want, "{line}");
        }
    }

    #[test]
    fn an_option_of_the_file_may_stand_in_an_argument() {
        for option in [
            "RemoteForward=0.0.0.0:9000 127.0.0.1:3000",
            "remoteforward 9000 localhost:3000",
            "REMOTEFORWARD = 9000 \"localhost:3000\"",
            " RemoteForward  9000 [::1]:3000",
        ] {
            let want = Some((Way::Tunnel, false, vec![3000]));
            assert_eq!(ports(&["ssh", "-N", "-o", option, "h"]), want, "{option}");
        }
        let local = ["ssh", "-o", "LocalForward=9000 localhost:3000", "h"];
        assert_eq!(ports(&local), Some((Way::Listener, false, vec![])));
        assert_eq!(ports(&["ssh", "-o", "BatchMode=yes", "h"]), None);
    }

    #[test]
    fn what_ssh_would_replace_is_unclear() {
        for (value, want) in [
            ("9000:127\\.0.0.1:3000", true),
            ("9000:/run/%u.sock", true),
            ("9000:${HOME}/a.sock", true),
            ("9000:localhost:3000", false),
        ] {
            let found = carried(&["ssh", "-R", value, "h"]).unwrap();
            assert_eq!(found.is_unclear, want, "{value}");
            let far = carried(&["ssh", "-L", value, "h"]).unwrap();
            assert!(!far.is_unclear, "{value}");
        }
    }

    #[test]
    fn sockets_of_the_file_system_come_back_too() {
        let found = carried(&["ssh", "-R", "/tmp/far.sock:/run/app.sock", "h"]).unwrap();
        assert!(found.places.contains(&Place::Path("/run/app.sock".into())));
        let found = carried(&["ssh", "-R", "9000:/run/app.sock", "h"]).unwrap();
        assert_eq!(found.places, [Place::Path("/run/app.sock".into())]);
    }
}

//! Verdicts in words: the message that somebody reads at night, with the process, the address, who can reach it, and the repair.

use std::fmt;

use super::advice::advice;
use super::forward::Way;
use super::judge::{Doubt, Exposure, Opening, Verdict};
use super::spelling::Place;

/// A text that somebody else chose, free of control characters: a process names itself.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl Verdict {
    /// The ways around the gate, each once and in an order of their own, to compare two looks.
    pub fn ways(&self) -> Vec<String> {
        let Self::Exposed(exposure) = self else {
            return Vec::new();
        };
        let mut ways: Vec<String> = exposure.openings.iter().map(Opening::key).collect();
        ways.sort();
        ways.dedup();
        ways
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("on loopback alone"),
            Self::Exposed(exposure) => exposure.fmt(f),
            Self::NotListening => f.write_str("nothing listens there yet"),
            Self::CannotTell(doubts) => {
                f.write_str("cannot tell: ")?;
                for (at, doubt) in doubts.iter().enumerate() {
                    write!(f, "{}{doubt}", if at == 0 { "" } else { "; and " })?;
                }
                Ok(())
            }
        }
    }
}

/// Openings beyond this are counted.
const SHOWN: usize = 4;

impl fmt::Display for Exposure {
    /// A line for what is open, one for each way in, one for each different repair.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match self.openings.iter().any(Opening::is_reachable) {
            true => "can be reached without passing this gate:",
            false => {
                "is not on loopback alone, so that others may come to reach it without passing this gate:"
            }
        };
        write!(f, "{} {head}", self.upstream)?;
        // Workers of one service share an address.
        let mut said: Vec<String> = Vec::new();
        for sentence in self.openings.iter().map(Opening::sentence) {
            if !said.contains(&sentence) {
                said.push(sentence);
            }
        }
        for sentence in said.iter().take(SHOWN) {
            write!(f, "\n  {sentence}")?;
        }
        if said.len() > SHOWN {
            write!(f, "\n  and {} more ways", said.len() - SHOWN)?;
        }
        for repair in self.repairs() {
            write!(f, "\n  repair: {repair}")?;
        }
        Ok(())
    }
}

impl Exposure {
    /// The first way in, for a log line.
    pub fn summary(&self) -> String {
        self.openings
            .first()
            .map_or_else(String::new, Opening::sentence)
    }

    /// What to do, each once.
    pub fn repairs(&self) -> Vec<String> {
        let mut repairs: Vec<String> = Vec::new();
        for repair in self.openings.iter().map(|o| o.repair(self.port)) {
            if !repairs.contains(&repair) && repairs.len() < SHOWN {
                repairs.push(repair);
            }
        }
        repairs
    }
}

impl Opening {
    /// Whether somebody can use it now: not a socket on an address that no interface has.
    fn is_reachable(&self) -> bool {
        match self {
            Self::Socket { reach, .. } => !reach.networks.is_empty() || !reach.public.is_empty(),
            Self::Forwarder { .. } | Self::Redirect { .. } => true,
        }
    }

    /// Who and where, without who can reach it now.
    fn key(&self) -> String {
        match self {
            Self::Socket {
                socket, process, ..
            } => format!(
                "{} {}",
                process.as_ref().map(|p| p.label()).unwrap_or_default(),
                socket.address
            ),
            Self::Forwarder { forward } => forward.process.label(),
            Self::Redirect { address } => address.to_string(),
        }
    }

    /// What it is and who can use it.
    pub fn sentence(&self) -> String {
        match self {
            Self::Socket {
                socket,
                process,
                reach,
                is_beside,
            } => {
                let who = match process {
                    Some(process) => match advice(Some(process), socket.address).what {
                        Some(what) => format!("{}, {what},", process.label()),
                        None => process.label(),
                    },
                    None => format!(
                        "a process that cannot be seen from here (user {})",
                        socket.uid
                    ),
                };
                let beside = if *is_beside {
                    " beside the one on loopback"
                } else {
                    ""
                };
                let address = socket.address;
                format!("{who} listens on {address}{beside}: reachable by {reach}")
            }
            Self::Forwarder { forward } => match forward.way {
                Way::Tunnel => format!(
                    "{} carries the port out of this machine ({})",
                    forward.process.label(),
                    forward.what
                ),
                Way::Listener => format!(
                    "{} forwards to it from a port that others can reach ({})",
                    forward.process.label(),
                    forward.what
                ),
            },
            Self::Redirect { address } => format!(
                "{address} answers although no socket is bound there: the kernel redirects it (a container's published port, or address \
                 translation)"
            ),
        }
    }

    fn repair(&self, port: u16) -> String {
        match self {
            Self::Socket {
                socket, process, ..
            } => advice(process.as_ref(), socket.address).repair,
            Self::Forwarder { forward } if forward.places.contains(&Place::All) => format!(
                "end {} (pid {}), or name the one port that it is for: it leads wherever its visitors ask for",
                forward.what, forward.process.pid
            ),
            Self::Forwarder { forward } => format!(
                "end {} (pid {}), or point it at this gate instead of {}",
                forward.what,
                forward.process.pid,
                match port {
                    0 => "the socket".to_owned(),
                    port => format!("port {port}"),
                }
            ),
            Self::Redirect { .. } => format!(
                "publish the container's port as `-p 127.0.0.1:{port}:PORT`, or look for port {port} in `nft list ruleset`"
            ),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable(reason) => write!(
                f,
                "the kernel's socket table cannot be read here ({reason}); dialling this machine's own addresses found \
                 nothing open"
            ),
            Self::RoutedLoopback(interfaces) => write!(
                f,
                "it is bound to loopback, but `route_localnet` is set ({}), so address translation or a neighbour on that \
                 link may reach 127.0.0.1; the rules that `loopgate firewall` prints close that",
                interfaces.join(", ")
            ),
            Self::UnseenForwarder(label) => write!(
                f,
                "{label} leads to it, and where that listens cannot be seen from here (ask as root: `loopgate audit`)"
            ),
            Self::FarForwarder(label, pid) => write!(
                f,
                "{label} leads to it from another network namespace, whose sockets are not seen from here (`nsenter -t {pid} -n ss -ltn` \
                 shows where it listens)"
            ),
            Self::UnclearForwarder(label) => write!(
                f,
                "{label} may lead to it: its arguments name the port, or are too long to be read, and do not say where they \
                 go; write the place out (`TCP:127.0.0.1:PORT`), or end it"
            ),
            Self::UnclearChain { who, by } => write!(
                f,
                "{who} may lead to it by way of {by}, and whether it does cannot be told from here; write out where each of them goes \
                 (`TCP:127.0.0.1:PORT`), or end one"
            ),
            Self::AnswersFromElsewhere => f.write_str(
                "it answers although nothing listens here, so the kernel redirects it to another namespace, whose sockets \
                 cannot be seen",
            ),
            Self::UnknownRouting => f.write_str(
                "it is bound to loopback, but whether `route_localnet` lets others reach 127.0.0.1 cannot be read here (/proc/sys)",
            ),
            Self::Transparent => f.write_str(
                "it is bound to loopback, but its socket takes what was sent to other addresses (`IP_TRANSPARENT`), so a TPROXY rule may \
                 bring others to it; look for `tproxy` in `nft list ruleset`",
            ),
            Self::TooManyAddresses(count) => write!(
                f,
                "this machine has {count} more addresses than are dialled, and what the kernel redirects there is not found"
            ),
            Self::AlsoListens { who, at, reach } => write!(
                f,
                "{who} also listens on {at}: if that is the same service, {reach} can reach it without passing this gate; bind that to \
                 loopback too, or close it"
            ),
            Self::LeadsThereToo { who, other } => write!(
                f,
                "{who} stands in its place, and {other}, which others can use, leads to the same service behind it: whoever comes that \
                 way does not pass this gate"
            ),
            Self::LeadsOn { who, to } => write!(
                f,
                "{who} stands in its place and leads to {to}: whoever reaches that address by itself does not pass this gate"
            ),
        }
    }
}

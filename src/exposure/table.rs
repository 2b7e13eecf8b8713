//! The audit as a table for a terminal: three groups, the widest open first, within a given width.

use std::fmt::Write;

use super::audit::{Audit, Row, Standing, Tunnel};

const GROUPS: [(&str, &str); 3] = [
    ("everyone", "OPEN TO EVERYONE WHO CAN ROUTE A PACKET HERE"),
    ("networks", "OPEN TO SINGLE NETWORKS"),
    ("this-machine", "THIS MACHINE ONLY"),
];

/// The whole audit as text, no line wider than `width` save a word that is.
pub fn render(audit: &Audit, width: usize) -> String {
    let mut text = String::new();
    let addresses: Vec<String> = audit.sockets.iter().map(address).collect();
    let column = addresses
        .iter()
        .map(|a| a.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(14, 30);
    for (exposure, title) in GROUPS {
        let rows = || audit.sockets.iter().filter(|row| row.exposure == exposure);
        if rows().next().is_none() {
            continue;
        }
        let _ = writeln!(text, "{title}");
        for row in rows() {
            line(&mut text, row, column, width);
        }
        text.push('\n');
    }
    if !audit.tunnels.is_empty() {
        text.push_str("CARRIED OUT OF THIS MACHINE BY A TUNNEL\n");
        for tunnel in &audit.tunnels {
            wrap(&mut text, &describe(tunnel), 2, 6, width);
        }
        text.push('\n');
    }
    for sentence in &audit.unseen {
        wrap(&mut text, &format!("note: {sentence}"), 0, 6, width);
    }
    wrap(&mut text, &summary(audit), 0, 0, width);
    text
}

fn line(text: &mut String, row: &Row, column: usize, width: usize) {
    let mark = match row.standing {
        Standing::Unguarded => "!",
        Standing::Gate => "#",
        Standing::Expected | Standing::Local => " ",
    };
    let mut who = match (&row.process, row.pid) {
        (Some(name), Some(pid)) => format!("{name} (pid {pid})"),
        _ => format!("? (user {})", row.uid),
    };
    if row.sockets > 1 {
        let _ = write!(who, " ×{}", row.sockets);
    }
    for part in [row.container.as_deref(), row.forwarder]
        .into_iter()
        .flatten()
    {
        if row.process.as_deref() != Some(part) {
            let _ = write!(who, ", {part}");
        }
    }
    if let Some(first) = row.service_of.first() {
        let _ = write!(who, ", the service of {first}");
        let more = row.service_of.len() - 1;
        if more > 0 {
            let _ = write!(who, " and {more} more");
        }
    }
    match row.standing {
        Standing::Expected | Standing::Gate => {
            let _ = write!(who, ": {}", row.advice);
        }
        Standing::Unguarded | Standing::Local => {}
    }
    let first = format!("{mark} {} {:<column$}  {who}", row.protocol, address(row));
    wrap(text, &first, 0, 6, width);
    if row.standing == Standing::Unguarded {
        wrap(
            text,
            &format!("reachable by {}", row.reachable_by),
            6,
            8,
            width,
        );
        wrap(text, &format!("repair: {}", row.advice), 6, 14, width);
    }
}

fn address(row: &Row) -> String {
    row.address.to_string()
}

fn describe(tunnel: &Tunnel) -> String {
    let Tunnel {
        what,
        pid,
        ports,
        everything,
        leads_to_gate,
        is_elsewhere,
    } = tunnel;
    if *is_elsewhere {
        return format!(
            "{what} (pid {pid}) runs in another network namespace: what it carries is of that one"
        );
    }
    if *everything {
        return format!(
            "! {what} (pid {pid}) is a proxy into all of loopback: name the one port that it is for, or end it"
        );
    }
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    match (ports.is_empty(), leads_to_gate) {
        (true, _) => format!(
            "{what} (pid {pid}): its arguments do not say which ports; look at its configuration"
        ),
        (false, true) => format!(
            "{what} (pid {pid}) carries port {}, which is this gate",
            ports.join(", ")
        ),
        (false, false) => format!(
            "! {what} (pid {pid}) carries port {}: point it at the gate, or end it",
            ports.join(", ")
        ),
    }
}

fn summary(audit: &Audit) -> String {
    let count = |standing| {
        audit
            .sockets
            .iter()
            .filter(|row| row.standing == standing)
            .count()
    };
    let tunnels = audit.tunnels.iter().filter(|t| t.is_open()).count();
    let open = count(Standing::Unguarded) + tunnels;
    let head = match open {
        0 => "Nothing is open without a guard".to_owned(),
        1 => "1 is open without a guard (!)".to_owned(),
        n => format!("{n} are open without a guard (!)"),
    };
    format!(
        "{head}; {} expected, {} of this gate (#), {} on this machine only.",
        count(Standing::Expected),
        count(Standing::Gate),
        count(Standing::Local)
    )
}

/// Appends words in lines of a width; the first begins at one column, the others at another. Runs of spaces in the first line stay.
fn wrap(text: &mut String, words: &str, first: usize, later: usize, width: usize) {
    let mut used = first;
    text.push_str(&" ".repeat(first));
    for (at, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && used + 1 + length > width && length > 0 {
            while text.ends_with(' ') {
                text.pop();
            }
            text.push('\n');
            text.push_str(&" ".repeat(later));
            used = later;
        } else if at > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    while text.ends_with(' ') {
        text.pop();
    }
    text.push('\n');
}

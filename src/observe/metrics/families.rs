//! Every metric: its name, its kind and what it means. The text for Prometheus, the table of `docs/operations.md`, the dashboard
//! and the alerts are held to this list by tests.

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up only.
    Counter,
    /// Up and down.
    Gauge,
    /// Durations by their size.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Its labels, comma separated.
    pub labels: &'static str,
    /// What it means.
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static str,
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        labels,
        help,
    }
}

use Kind::{Counter, Gauge, Histogram};

/// All metrics, in the order of the text.
pub const FAMILIES: &[Family] = &[
    family(
        "loopgate_build_info",
        Gauge,
        "version",
        "Always 1; the label says which version runs.",
    ),
    family(
        "loopgate_config_last_reload_successful",
        Gauge,
        "",
        "1 if the configuration that was read last is in force, 0 if it was rejected.",
    ),
    family(
        "loopgate_config_last_reload_success_timestamp_seconds",
        Gauge,
        "",
        "When the configuration in force was accepted (Unix time).",
    ),
    family(
        "loopgate_config_reloads_total",
        Counter,
        "result",
        "Reloads: accepted, rejected.",
    ),
    family(
        "loopgate_requests_total",
        Counter,
        "route,code,method",
        "Requests that have ended.",
    ),
    family(
        "loopgate_request_duration_seconds",
        Histogram,
        "",
        "From the head of a request to the end of its answer; tunnels are left out.",
    ),
    family(
        "loopgate_connections",
        Gauge,
        "listener",
        "Client connections that are open.",
    ),
    family(
        "loopgate_upstream_connections",
        Gauge,
        "",
        "Connections to services that are open, idle ones included.",
    ),
    family(
        "loopgate_upgraded_streams",
        Gauge,
        "",
        "WebSockets and other tunnels that are open.",
    ),
    family(
        "loopgate_decisions_total",
        Counter,
        "decision,reason",
        "Requests and connections that were allowed or refused, and why.",
    ),
    family(
        "loopgate_auth_attempts_total",
        Counter,
        "method,result",
        "Passwords and tokens that were presented, and what came of it.",
    ),
    family(
        "loopgate_auth_cache_hits_total",
        Counter,
        "",
        "Passwords that were right a moment ago and needed no hash.",
    ),
    family(
        "loopgate_auth_cache_misses_total",
        Counter,
        "",
        "Passwords that had to be hashed.",
    ),
    family(
        "loopgate_upstream_errors_total",
        Counter,
        "kind",
        "Requests that the service did not answer: refused, broken, timeout, busy (it accepts no more connections).",
    ),
    family(
        "loopgate_http2_errors_total",
        Counter,
        "kind",
        "What was ended because the client broke a rule of HTTP/2: a stream, or a whole connection. The access log has no line of it; a head that is only too large has one, and is not counted here.",
    ),
    family(
        "loopgate_received_bytes_total",
        Counter,
        "",
        "Body and tunnel bytes from clients, counted when the request ends.",
    ),
    family(
        "loopgate_sent_bytes_total",
        Counter,
        "",
        "Body and tunnel bytes to clients, counted when the request ends.",
    ),
    family(
        "loopgate_answers_cut_total",
        Counter,
        "",
        "Answers that broke off before their end.",
    ),
    family(
        "loopgate_behind_nat_total",
        Counter,
        "",
        "Connections refused because they came from our own default gateway or container bridge: NAT hides the visitor.",
    ),
    family(
        "loopgate_accept_failures_total",
        Counter,
        "",
        "Connections that could not be accepted, most likely for want of descriptors.",
    ),
    family(
        "loopgate_surplus_closed_total",
        Counter,
        "",
        "Connections beyond `limits.connections` or `connections_per_client` that were closed unheard; those that were told are decisions with the reason `too-busy`.",
    ),
    family(
        "loopgate_panics_total",
        Counter,
        "",
        "Panics that were caught: each is a mistake of loopgate.",
    ),
    family(
        "loopgate_locked_clients",
        Gauge,
        "",
        "Client networks that are locked out now.",
    ),
    family(
        "loopgate_certificate_not_after_seconds",
        Gauge,
        "name",
        "The last moment of each certificate in use (Unix time).",
    ),
    family(
        "loopgate_upstream_exposed",
        Gauge,
        "route",
        "1 if the service of the route can be reached around the gate.",
    ),
    family(
        "loopgate_upstream_exposure_unknown",
        Gauge,
        "route",
        "1 if it cannot be told whether the service of the route can be reached around the gate.",
    ),
    family(
        "loopgate_log_lines_lost_total",
        Counter,
        "",
        "Log lines that could not be written: the disk is full, or too slow.",
    ),
    family(
        "process_start_time_seconds",
        Gauge,
        "",
        "When the process began (Unix time).",
    ),
    family(
        "process_resident_memory_bytes",
        Gauge,
        "",
        "Memory of the process.",
    ),
    family("process_open_fds", Gauge, "", "Descriptors that are open."),
    family(
        "process_max_fds",
        Gauge,
        "",
        "Descriptors that may be open.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// With `UPDATE=1` the table is written instead.
    #[test]
    fn the_table_of_the_documentation_has_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let docs = std::fs::read_to_string(path).unwrap();
        let (begin, end) = (
            "<!-- metrics: made from the source -->\n",
            "<!-- end of metrics -->",
        );
        let (before, rest) = docs.split_once(begin).expect("a place for the table");
        let (found, after) = rest.split_once(end).expect("its end");
        let mut table =
            "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
        for Family {
            name,
            kind,
            labels,
            help,
        } in FAMILIES
        {
            let labels: Vec<_> = labels
                .split(',')
                .filter(|l| !l.is_empty())
                .map(|l| format!("`{l}`"))
                .collect();
            table += &format!(
                "| `{name}` | {} | {} | {help} |\n",
                kind.word(),
                labels.join(", ")
            );
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
            return;
        }
        assert_eq!(
            found, table,
            "it is not what is generated; run with UPDATE=1"
        );
    }
}

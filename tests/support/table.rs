//! Rows of raw bytes: what is written, what the upstream recorded, what the client was told.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use super::client::End;
use super::{Client, Gate, Upstream};

/// What has to come of a row.
#[derive(Clone, Debug)]
pub enum Want {
    /// These requests reached the upstream, as [`super::Request::shown`] and ` | ` between them; each was answered with 200.
    Pass(&'static str),
    /// As `Pass`, then one more is refused with this status and the connection ends.
    Then(&'static str, u16),
    /// Refused with this status, and the connection ended. Not one byte reached the upstream.
    No(u16),
    /// Refused with this status, or cut without one (0), once a part had reached the upstream: no whole request did.
    Cut(u16),
    /// Refused with this status; the connection goes on. Not one byte reached the upstream.
    Told(u16),
}

/// One case.
#[derive(Clone)]
pub struct Row {
    pub name: String,
    pub input: Vec<u8>,
    pub sni: Option<&'static str>,
    pub want: Want,
}

impl Row {
    pub fn new(name: impl Into<String>, input: impl Into<Vec<u8>>, want: Want) -> Self {
        Self {
            name: name.into(),
            input: input.into(),
            sni: Some("app.lan"),
            want,
        }
    }
}

/// What was seen on both sides.
#[derive(Debug, Default)]
pub struct Seen {
    pub statuses: Vec<u16>,
    pub end: Option<End>,
    pub requests: Vec<String>,
    pub unfinished: bool,
    pub complaints: Vec<String>,
}

/// Runs every row through the gate and fails with all that went wrong.
pub async fn run(gate: &Gate, upstream: &Upstream, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    let count = rows.len();
    for row in rows {
        let seen = through_gate(gate, upstream, &row).await;
        if let Err(why) = verdict(&row.want, &seen) {
            wrong.push(format!(
                "{}: {why}\n  {:?}\n  {seen:?}",
                row.name,
                row.input.escape_ascii().to_string()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

async fn through_gate(gate: &Gate, upstream: &Upstream, row: &Row) -> Seen {
    upstream.forget();
    let before = upstream.conversations().len();
    let mut client = Client::tls(gate.address, row.sni, "http/1.1").await;
    let _ = client.try_send(&row.input).await;
    let mut seen = Seen::default();
    let methods: Vec<&str> = match &row.want {
        Want::Pass(shown) | Want::Then(shown, _) => shown
            .split(" | ")
            .map(|s| s.split(' ').next().unwrap_or(""))
            .collect(),
        Want::No(_) | Want::Told(_) | Want::Cut(_) => vec!["GET"],
    };
    for method in methods {
        match client.try_answer(method).await {
            Ok(answer) => seen.statuses.push(answer.status),
            Err(_) => break,
        }
    }
    if matches!(row.want, Want::Then(..)) {
        seen.statuses
            .extend(client.try_answer("GET").await.map(|a| a.status));
    }
    let refused = seen.statuses.last().is_none_or(|s| *s != 200);
    if refused && matches!(row.want, Want::No(_) | Want::Cut(_) | Want::Then(..)) {
        seen.end = Some(client.closed().await);
    }
    drop(client);
    gate.deserted().await;
    upstream.settle();
    observe(upstream, before, &mut seen);
    seen
}

/// The same through something that speaks no TLS. The client ends its side, so that nobody waits for ever.
pub async fn through_copier(address: SocketAddr, upstream: &Upstream, row: &Row) -> Seen {
    upstream.forget();
    let before = upstream.conversations().len();
    let mut client = Client::tcp(address).await;
    let _ = client.try_send(&row.input).await;
    let _ = client.stream.shutdown().await;
    let mut seen = Seen {
        end: Some(client.closed().await),
        ..Seen::default()
    };
    while let Ok(answer) = client.try_answer("GET").await {
        seen.statuses.push(answer.status);
    }
    upstream.wait("the copier's connection to end", |list| {
        list.len() > before && list.iter().all(|c| c.closed)
    });
    observe(upstream, before, &mut seen);
    seen
}

fn observe(upstream: &Upstream, before: usize, seen: &mut Seen) {
    let conversations = upstream.conversations();
    seen.requests = conversations
        .iter()
        .flat_map(|c| &c.requests)
        .map(super::Request::shown)
        .collect();
    seen.unfinished = conversations[before..]
        .iter()
        .any(|c| !c.unfinished.is_empty());
    seen.complaints = conversations[before..]
        .iter()
        .filter_map(|c| c.bad.clone())
        .collect();
}

/// Whether what was seen is what has to come.
pub fn verdict(want: &Want, seen: &Seen) -> Result<(), String> {
    if !seen.complaints.is_empty() {
        return Err(format!(
            "UNSAFE, ambiguous bytes were forwarded: {:?}",
            seen.complaints
        ));
    }
    let shown = seen.requests.join(" | ");
    match want {
        Want::Pass(wanted) | Want::Then(wanted, _) if shown != *wanted => {
            Err(format!("the upstream saw `{shown}`, not `{wanted}`"))
        }
        Want::Pass(_) if seen.statuses.iter().any(|s| *s != 200) => {
            Err(format!("statuses {:?}", seen.statuses))
        }
        Want::Pass(wanted) if seen.statuses.len() != wanted.split(" | ").count() => {
            Err("not every request was answered".into())
        }
        Want::Pass(_) => Ok(()),
        Want::Then(wanted, status) => {
            let mut all = vec![200; wanted.split(" | ").count()];
            all.push(*status);
            match seen.statuses == all {
                true => Ok(()),
                false => Err(format!("statuses {:?}, not {all:?}", seen.statuses)),
            }
        }
        Want::No(_) | Want::Told(_) | Want::Cut(_) if !shown.is_empty() => {
            Err(format!("UNSAFE, the upstream saw `{shown}`"))
        }
        Want::No(_) | Want::Told(_) if seen.unfinished => Err("a part of it was forwarded".into()),
        Want::Cut(0) if seen.statuses.is_empty() => Ok(()),
        Want::No(status) | Want::Cut(status) | Want::Told(status) if seen.statuses != [*status] => {
            Err(format!(
                "answered with {:?}, not with {status}",
                seen.statuses
            ))
        }
        Want::No(_) | Want::Cut(_) | Want::Told(_) => Ok(()),
    }
}

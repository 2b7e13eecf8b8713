//! What the verbs of the control socket do. They run on the control thread, between two turns of its loop.

use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::control::{Answer, Failed, Verb};
use super::reload::reloaded;
use super::run::Site;
use super::source::Source;
use super::start::Running;
use crate::base::drain::Phase;
use crate::config::Report;

/// The exit code of contract 3 for a configuration that is wrong.
const CONFIG: u8 = 3;

/// What came of the last reload.
#[derive(Debug)]
pub(super) struct Reloads {
    started: Instant,
    at: SystemTime,
    error: Option<Report>,
    /// Accepted ones since the start.
    count: u64,
}

impl Reloads {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            at: SystemTime::now(),
            error: None,
            count: 0,
        }
    }

    pub fn accepted(&mut self) {
        self.at = SystemTime::now();
        self.error = None;
        self.count += 1;
    }

    pub fn rejected(&mut self, report: Report) {
        self.at = SystemTime::now();
        self.error = Some(report);
    }
}

/// Does what was asked for.
pub(super) async fn answer(
    verb: &Verb,
    running: &mut Running,
    site: &Site<'_>,
    reloads: &mut Reloads,
) -> Answer {
    match verb {
        Verb::Status => answer_at_end(verb, running, site, reloads),
        Verb::Reload => {
            let outcome = reloaded(running, site, reloads).await;
            match outcome {
                Ok(warnings) => Ok(json!({
                    "result": "accepted",
                    "text": warnings.render(false, 100),
                    "problems": warnings.to_json(),
                })),
                Err(report) => Err(Failed {
                    problems: report.to_json(),
                    ..Failed::new(CONFIG, report.render(false, 100))
                }),
            }
        }
    }
}

/// Does what can be done when the gate is about to end.
pub(super) fn answer_at_end(
    verb: &Verb,
    running: &Running,
    site: &Site<'_>,
    reloads: &Reloads,
) -> Answer {
    match verb {
        Verb::Status => Ok(status(running, site, reloads)),
        Verb::Reload => Err(Failed::new(
            1,
            "the gate is about to end; nothing was changed",
        )),
    }
}

fn status(running: &Running, site: &Site<'_>, reloads: &Reloads) -> Value {
    let file = match site.source {
        Source::File(path) => std::path::absolute(path).ok(),
        Source::Given(..) | Source::Led(_) => None,
    };
    json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": match running.phase() {
            Phase::Run => "serving",
            Phase::Drain | Phase::Stop => "draining",
        },
        "uptime_seconds": reloads.started.elapsed().as_secs(),
        "config": file,
        "addresses": running.addresses,
        "connections": running.connections(),
        "reload": {
            "at": stamp(reloads.at),
            "accepted": reloads.error.is_none(),
            "count": reloads.count,
            "text": reloads.error.as_ref().map(|report| report.render(false, 100)),
            "problems": reloads.error.as_ref().map(Report::to_json),
        },
        "log_lines_lost": running.shared.log.lost(),
    })
}

fn stamp(at: SystemTime) -> Option<String> {
    let at = jiff::Timestamp::try_from(at).ok()?;
    at.round(jiff::TimestampRound::new().smallest(jiff::Unit::Second))
        .ok()
        .map(|t| t.to_string())
}

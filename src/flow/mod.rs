//! One request from first to last step. `h1` and `h2` carry it, `judge` decides, `outbound` and `response` write it anew,
//! `refuse` says no. Transport and judgement know nothing of each other.

mod absent;
mod answer;
mod beside;
mod body;
mod certificate;
mod destination;
mod ending;
mod ends;
mod guess;
mod h1;
mod h1_page;
mod h1_to_h2;
mod h2;
mod h2_exchange;
mod h2_head;
mod h2_pump;
mod h2_websocket;
mod identify;
mod intake;
mod judge;
mod known;
mod onboard;
mod origin;
mod outbound;
mod pages;
mod refuse;
mod relay;
mod response;
mod scratch;
mod share;
mod stall;
mod standing;
mod state;
mod trailers;
#[cfg(any(test, fuzzing))]
pub mod trial;
mod tunnel;
mod upload;

pub use absent::{Question, Questions};
pub use certificate::ClientCertificate;
pub use h1::{Done, exchange};
pub use h2::serve_stream;
pub use known::Known;
pub use onboard::{Onboard, Opened};
pub use scratch::Scratch;
pub use stall::{UnlessStalled, unless_stalled};
pub use state::{Bell, Busy, Conn, Shared, Worker};

use intake::Intake;

use crate::base::refusal::{Reason, Refusal};
use crate::net::Wire;
use crate::observe::metrics::Method;
use crate::observe::{Log, Record, Texts};
use crate::web;

/// Keeps the texts of a request, where somebody will read them.
fn note(record: &mut Record, intake: &Intake<'_>, log: &Log) {
    record.method = Method::of(intake.method);
    record.client = intake.origin.client.address;
    let Some(texts) = record.texts.as_mut() else {
        return;
    };
    // What follows is a secret, and so may be whatever stands beside it.
    let is_link = intake.path.is_under(web::SHARE.trim_end_matches('/'));
    let path = match is_link {
        true => web::SHARE,
        false => intake.target.split('?').next().unwrap_or_default(),
    };
    *texts = Texts::of(
        intake.method,
        intake.host,
        path,
        intake.query().filter(|_| log.wants_query() && !is_link),
        intake.facts.user_agent,
    );
}

/// Answers a head that could not be read; the connection ends afterwards.
pub async fn refuse_unread(worker: &Worker, conn: &Conn, client: &Wire, refusal: Refusal) -> Done {
    let plan = worker.plan();
    let mut record = conn.record(worker, "HTTP/1.1");
    record.refusal = Some(refusal);
    let reply = refuse::reply(refusal, None, conn, &plan, record.id, None);
    record.status = reply.status;
    let mut out = Vec::new();
    reply.write_h1(true, true, &mut out);
    worker.finish(record);
    match client.write(&out, plan.limits.body_idle).await {
        Ok(()) if refusal.reason != Reason::NetworkDenied => Done::Linger,
        Ok(()) | Err(_) => Done::Cut,
    }
}

#[cfg(test)]
mod tests {
    /// The size of what an asynchronous function makes.
    fn four<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    fn three<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Both are moved and wiped with every request; rare branches are boxed so that they stay small.
    #[test]
    fn the_futures_of_a_request_are_small() {
        let (h1, h2) = (four(super::h1::exchange), three(super::h2::serve_stream));
        assert!(h1 <= 3700, "{h1}");
        assert!(h2 <= 3100, "{h2}");
    }
}

//! A page of ours for an HTTP/1.1 client, after its form was read.

use super::h1::{Done, Visit, refuse, send_reply};
use super::intake::{Intake, Line};
use super::pages;
use crate::auth::login::LARGEST_BODY;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::framing::Body;
use crate::http1::head::Version;
use crate::observe::Record;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Answers with a page of ours, after its form was read.
pub(super) async fn own_page<'l>(
    visit: &mut Visit<'_>,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    out: &mut Vec<u8>,
    record: &mut Record,
) -> Done {
    if matches!(visit.body, Body::Length(n) if n > LARGEST_BODY as u64) {
        let refusal = Refusal::new(Reason::TooLarge, "a form that is too large");
        return refuse(visit, refusal, Some(intake), out, record).await;
    }
    // Some clients send a large form only once they are told to go on (RFC 9110, 10.1.1). Who is refused anyway is not.
    let waits = !visit.body.is_empty()
        && visit.version == Version::Http11
        && !visit.conn.is_surplus
        && visit.client.input.borrow().is_empty()
        && lines.clone().any(|l| {
            l.name.eq_ignore_ascii_case(b"expect") && l.value.eq_ignore_ascii_case(b"100-continue")
        });
    let idle = visit.plan.limits.body_idle;
    if waits && visit.client.write(CONTINUE, idle).await.is_err() {
        record.cut = true;
        return Done::Cut;
    }
    let reply = match super::body::gather(
        visit.client,
        visit.body,
        LARGEST_BODY,
        visit.plan.limits.body_idle,
    )
    .await
    {
        Ok(form) => {
            visit.body = Body::None;
            pages::answer(
                visit.worker,
                visit.conn,
                visit.plan,
                intake,
                lines,
                &form,
                record,
            )
            .await
        }
        Err(refusal) => Err(refusal),
    };
    match reply {
        Ok(reply) => send_reply(visit, &reply, Some(intake), out).await,
        Err(refusal) => refuse(visit, refusal, Some(intake), out, record).await,
    }
}

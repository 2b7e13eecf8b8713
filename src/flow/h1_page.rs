//! A page of ours for an HTTP/1.1 client, after its form was read.

use super::h1::{Done, Visit, refuse, send_reply};
use super::intake::{Intake, Line};
use super::pages;
use crate::auth::login::LARGEST_BODY;
use crate::http1::framing::Body;
use crate::observe::Record;

/// Answers with a page of ours, after its form was read.
pub(super) async fn own_page<'l>(
    visit: &mut Visit<'_>,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    out: &mut Vec<u8>,
    record: &mut Record,
) -> Done {
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

//! One HTTP/1.1 request from first to last step, in one task: head, judgement, the upstream, the answer.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::absent::hint;
use super::answer::broken;
use super::ending::Asked;
use super::intake::{Facts, Intake, Line};
use super::judge::{Judged, judge, network};
use super::origin::Origin;
use super::outbound::Outbound;
use super::pages::{self, refused};
use super::relay::{Ended, attempt};
use super::response::Inbound;
use super::scratch::Scratch;
use super::standing::Standing;
use super::state::{Conn, Worker};
use super::tunnel;
use crate::base::apart::apart;
use crate::base::loopback::Scheme;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::framing::{self, Body};
use crate::http1::head::{self, HeadError, Version};
use crate::net::Wire;
use crate::observe::Record;
use crate::plan::Plan;

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The connection serves the next request.
    Again,
    /// Our last answer is out: end the connection so that it arrives.
    Linger,
    /// End it at once; a cut must be seen as one.
    Cut,
}

/// Why an exchange ends before its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// Answered with a refusal, when nothing of an answer is out yet.
    Refused(Refusal),
    /// The pooled connection was dead: nothing was answered.
    Dead,
    /// The client is gone, or an answer that had begun cannot go on.
    Cut,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Everything about one request that its steps share.
pub(super) struct Visit<'a> {
    pub worker: &'a Rc<Worker>,
    pub conn: &'a Conn,
    pub client: &'a Wire,
    pub plan: &'a Arc<Plan>,
    pub version: Version,
    pub body: Body,
    pub keep: bool,
    /// A byte of the final answer is out.
    pub begun: Cell<bool>,
    pub bytes_in: Cell<u64>,
    pub bytes_out: Cell<u64>,
    pub status: Cell<u16>,
}

/// Serves the request whose head is in `scratch`.
pub async fn exchange(
    worker: &Rc<Worker>,
    conn: &Conn,
    client: &Wire,
    scratch: &mut Scratch,
) -> Done {
    let plan = worker.plan();
    let record = conn.record(worker, "HTTP/1.1");
    let visit = Visit {
        worker,
        conn,
        client,
        plan: &plan,
        version: Version::Http11,
        body: Body::None,
        keep: false,
        begun: Cell::new(false),
        bytes_in: Cell::new(0),
        bytes_out: Cell::new(0),
        status: Cell::new(0),
    };
    let Scratch {
        head,
        fields,
        request,
        out,
        answer,
        answer_fields,
    } = scratch;
    let room = Room {
        request,
        out,
        answer,
        answer_fields,
    };
    let mut asked = Asked::new(visit, record);
    let (visit, record) = asked.parts();
    let done = read_and_serve(visit, head, fields, room, record).await;
    asked.is_over = true;
    done
}

/// Memory to write in and to read the answer's head into.
pub(super) struct Room<'a> {
    pub request: &'a mut Vec<u8>,
    pub out: &'a mut Vec<u8>,
    pub answer: &'a mut Vec<u8>,
    pub answer_fields: &'a mut Vec<head::Field>,
}

async fn read_and_serve(
    visit: &mut Visit<'_>,
    bytes: &[u8],
    fields: &mut Vec<head::Field>,
    room: Room<'_>,
    record: &mut Record,
) -> Done {
    let parsed = match head::request(bytes, fields, visit.plan.limits.fields) {
        Ok(parsed) => parsed,
        Err(HeadError::Bad(detail)) => {
            return refuse(visit, Refusal::bad(detail), None, room.out, record).await;
        }
        Err(HeadError::TooManyFields) => {
            let refusal = Refusal::new(Reason::HeaderTooLarge, "too many fields");
            return refuse(visit, refusal, None, room.out, record).await;
        }
    };
    if parsed.version == Version::Http10 {
        record.http = "HTTP/1.0";
    }
    let text = |r: &std::ops::Range<u32>| {
        std::str::from_utf8(&bytes[r.start as usize..r.end as usize]).unwrap_or("")
    };
    let lines = fields.iter().map(|f| Line {
        known: f.known,
        underscore: f.underscore,
        name: f.name(bytes),
        value: f.value(bytes),
    });
    let intake = framing::of_request(bytes, fields, parsed.version)
        .map_err(Refusal::bad)
        .and_then(|(body, keep)| {
            (visit.version, visit.body, visit.keep) = (parsed.version, body, keep);
            let facts = Facts::read(lines.clone())?;
            let host = facts.host.ok_or(Refusal::bad("no Host field"))?;
            let origin = Origin::find(visit.conn, visit.plan, lines.clone())?;
            let (method, target) = (text(&parsed.method), text(&parsed.target));
            Intake::read(method, target, host, facts, origin)
        });
    let intake = match intake {
        Ok(intake) => intake,
        Err(refusal) => return refuse(visit, refusal, None, room.out, record).await,
    };
    super::note(record, &intake, &visit.worker.shared.log);
    if let Err(refusal) = network(visit.conn, visit.plan, &intake) {
        return refuse(visit, refusal, Some(&intake), room.out, record).await;
    }
    if pages::is_own(&intake) {
        let out = room.out;
        return apart(|| super::h1_page::own_page(visit, &intake, lines, out, record)).await;
    }
    let upgrade = framing::asked_upgrade(bytes, fields, parsed.version, visit.body);
    let out = &mut *room.out;
    let inner = Room {
        request: room.request,
        out,
        answer: room.answer,
        answer_fields: room.answer_fields,
    };
    match forward(visit, &intake, lines, upgrade, inner, record).await {
        Ok(done) => done,
        Err(Stop::Refused(refusal)) if !visit.begun.get() => {
            refuse(visit, refusal, Some(&intake), room.out, record).await
        }
        Err(Stop::Dead) if !visit.begun.get() => {
            let refusal = broken("the upstream closed the connection without an answer");
            refuse(visit, refusal, Some(&intake), room.out, record).await
        }
        Err(Stop::Refused(refusal)) => {
            record.refusal = Some(refusal);
            record.cut = true;
            Done::Cut
        }
        Err(Stop::Dead | Stop::Cut) => {
            record.cut = true;
            Done::Cut
        }
    }
}

/// Writes the refusal. The connection goes on only when nothing of the request is left unread.
pub(super) async fn refuse(
    visit: &Visit<'_>,
    refusal: Refusal,
    intake: Option<&Intake<'_>>,
    out: &mut Vec<u8>,
    record: &mut Record,
) -> Done {
    record.refusal = Some(refusal);
    let hint = hint(
        visit.worker,
        refusal,
        intake,
        visit.conn,
        visit.plan,
        record,
    )
    .await;
    let reply = refused(
        visit.worker,
        refusal,
        intake,
        visit.conn,
        visit.plan,
        record,
        hint.as_deref(),
    );
    send_reply(visit, &reply, intake, out).await
}

pub(super) async fn send_reply(
    visit: &Visit<'_>,
    reply: &super::refuse::Reply,
    intake: Option<&Intake<'_>>,
    out: &mut Vec<u8>,
) -> Done {
    let close = !visit.keep
        || reply.closes
        || !visit.body.is_empty()
        || visit.conn.is_surplus
        || visit.conn.is_leaving(visit.worker);
    reply.write_h1(intake.is_none_or(|i| i.method != "HEAD"), close, out);
    visit.status.set(reply.status);
    visit.bytes_out.set(reply.body.len() as u64);
    match visit.client.write(out, visit.plan.limits.body_idle).await {
        Ok(()) if close => Done::Linger,
        Ok(()) => Done::Again,
        Err(_) => Done::Cut,
    }
}

async fn forward<'l>(
    visit: &Visit<'_>,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    upgrade: Option<&[u8]>,
    mut room: Room<'_>,
    record: &mut Record,
) -> Result<Done, Stop> {
    let (plan, limits) = (visit.plan, &visit.plan.limits);
    let Judged {
        permit,
        spent,
        set_cookie,
        basis,
        epoch,
    } = judge(
        visit.worker,
        visit.conn,
        plan,
        intake,
        lines.clone(),
        upgrade.is_some(),
        record,
    )
    .await?;
    if let (Body::Length(n), Some(most)) = (visit.body, limits.body_size)
        && n > most
    {
        return Err(Refusal::new(
            Reason::TooLarge,
            "Content-Length is larger than `body_size`",
        )
        .into());
    }
    let route = plan
        .routes
        .get(permit.route())
        .ok_or(Refusal::from(Reason::NoRoute))?;
    let describe = || {
        Standing::new(
            visit.worker,
            visit.conn,
            intake,
            &permit,
            basis.clone(),
            &route.upstream,
            epoch,
        )
    };
    let upgrade = upgrade.filter(|_| route.upstream.scheme() != Scheme::H2c);
    let head = Outbound {
        intake,
        permit: &permit,
        route,
        id: record.id,
        body: visit.body,
        upgrade,
        spent,
    };
    if route.upstream.scheme() == Scheme::H2c {
        let inbound = Inbound {
            route,
            scheme: intake.origin.scheme,
            host: intake.host,
            set_cookie: set_cookie.as_deref(),
        };
        let withdrawn = Standing::lazily(visit.worker, &visit.conn.bell, epoch, describe);
        let (head, inbound, out) = (&head, &inbound, room.out);
        return apart(|| async move {
            let forwarded = super::h1_to_h2::forward(visit, head, inbound, lines, out);
            tokio::select! { biased; () = withdrawn => Err(Stop::Cut), done = forwarded => done }
        })
        .await;
    }
    head.write(lines, room.request);
    let again = head.may_repeat();
    let mut lease = visit
        .worker
        .pool
        .lease(&permit, &route.upstream, again, limits.dial())
        .await?;
    let inbound = Inbound {
        route,
        scheme: intake.origin.scheme,
        host: intake.host,
        set_cookie: set_cookie.as_deref(),
    };
    let request = std::mem::take(room.request);
    let ended = loop {
        match attempt(
            visit,
            intake,
            &lease.wire,
            &request,
            upgrade,
            &inbound,
            Standing::lazily(visit.worker, &visit.conn.bell, epoch, describe),
            &mut room,
        )
        .await
        {
            Err(Stop::Dead) if lease.reused && again && !visit.begun.get() => {
                drop(lease);
                lease = visit
                    .worker
                    .pool
                    .fresh(&permit, &route.upstream, limits.dial())
                    .await?;
            }
            other => break other,
        }
    };
    *room.request = request;
    match ended? {
        Ended::Whole { keep, sent, close } => {
            if keep && sent {
                visit.worker.pool.give(&route.upstream, lease.wire);
            }
            // By what the client was told: one that we leave since then may ask once more (`serve/http1`).
            Ok(if sent && !close {
                Done::Again
            } else {
                Done::Linger
            })
        }
        Ended::Tunnel => {
            let ended = Standing::lazily(visit.worker, &visit.conn.bell, epoch, describe);
            let _open = visit.worker.tally.tunnel();
            let (client, up) = (visit.client, &*lease.wire);
            let (up, down) = apart(|| tunnel::run(client, up, ended, limits.body_idle)).await;
            visit.bytes_in.set(up);
            visit.bytes_out.set(down);
            Ok(Done::Cut)
        }
    }
}

//! The order of judgement for a live request: the pure decision of `access`, with the one step between its halves that
//! may have to wait (who is it).

use std::time::Instant;

use super::intake::Intake;
use super::state::{Conn, Worker};
use crate::access::{Asked, Need, Permit, Stage};
use crate::auth::client_net::ClientNet;
use crate::auth::presented::{Basic, Presented, authorization};
use crate::auth::verify::Outcome;
use crate::auth::{Method, Who};
use crate::base::host::Host;
use crate::base::refusal::{Reason, Refusal};
use crate::observe::{Event, Record};
use crate::plan::Plan;

/// What becomes of a request that was not refused.
#[derive(Debug)]
pub struct Judged {
    /// Why it may pass.
    pub permit: Permit,
    /// `Authorization` carried a credential of ours.
    pub spent: bool,
}

/// Judges a request.
pub async fn judge(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    record: &mut Record,
) -> Result<Judged, Refusal> {
    let stage = before(conn, plan, intake)?;
    record.route = plan.routes.get(stage.route()).map(|r| r.label.clone());
    let (who, spent) = identify(worker, conn, plan, intake, &stage).await?;
    if let Some(who) = &who {
        record.user = Some(who.user.clone());
        record.auth = Some(who.by.word());
    }
    let permit = plan.site.after(stage, who)?;
    Ok(Judged { permit, spent })
}

fn before(conn: &Conn, plan: &Plan, intake: &Intake<'_>) -> Result<Stage, Refusal> {
    let host: &Host<'_> = &intake.authority.host;
    let asked = Asked {
        host,
        sni: conn.sni.as_deref(),
        path: &intake.path,
        method: intake.method,
        client: conn.client,
        local: conn.local.ip(),
    };
    plan.site.before(&asked)
}

/// Who it is, and whether `Authorization` is spent on that.
async fn identify(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    stage: &Stage,
) -> Result<(Option<Who>, bool), Refusal> {
    let Some(value) = intake.facts.authorization else {
        return Ok((None, false));
    };
    match (authorization(value), stage.need()) {
        (Ok(Presented::Basic(basic)), need) => person(worker, conn, plan, &basic, need).await,
        (Ok(Presented::Bearer(_) | Presented::Foreign), _) | (Err(_), Need::Nobody) => {
            Ok((None, false))
        }
        (Err(detail), Need::Person) => Err(Refusal::new(Reason::CredentialsWrong, detail)),
    }
}

/// Name and password to a person. Where nobody is asked for, the credential may be the application's own: it is ours only
/// when it is right, and then it is taken out all the same.
async fn person(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    basic: &Basic,
    need: Need,
) -> Result<(Option<Who>, bool), Refusal> {
    let found = worker
        .shared
        .verifier
        .cached(&plan.users, basic.user(), basic.password(), Instant::now())
        .is_some();
    if !found {
        if need == Need::Nobody && plan.users.find(basic.user()).is_none() {
            return Ok((None, false));
        }
        match Box::pin(verify(worker, conn, plan, basic)).await {
            Outcome::Right => {}
            Outcome::Busy => {
                return Err(Refusal::new(
                    Reason::TooBusy,
                    "too many passwords wait to be verified",
                ));
            }
            Outcome::Wrong if need == Need::Nobody => return Ok((None, false)),
            Outcome::Wrong => {
                let event = Event::info("auth_failed")
                    .with("client", conn.client)
                    .with("user", basic.user())
                    .with("method", "basic");
                worker.shared.log.event(event);
                return Err(Refusal::new(
                    Reason::CredentialsWrong,
                    "the user or the password is wrong",
                ));
            }
        }
    }
    let Some(person) = plan.people.get(basic.user()) else {
        return Ok((None, false));
    };
    let who = Who {
        user: person.user.clone(),
        groups: person.groups.clone(),
        by: Method::Basic,
    };
    Ok(((need == Need::Person).then_some(who), true))
}

async fn verify(worker: &Worker, conn: &Conn, plan: &Plan, basic: &Basic) -> Outcome {
    let client = ClientNet::of(conn.client);
    worker
        .shared
        .verifier
        .verify(&plan.users, basic.user(), basic.password_owned(), client)
        .await
}

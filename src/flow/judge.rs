//! The order of judgement for a live request: the pure decision of `access`, with the one step between its halves that
//! may have to wait (who is it).

use super::certificate;
use super::destination;
use super::identify::{Identity, identify};
use super::intake::{Intake, Line};
use super::state::{Conn, Worker};
use crate::access::{Asked, Permit, Stage};
use crate::base::refusal::{Reason, Refusal};
use crate::observe::Record;
use crate::plan::Plan;

/// Through so many gates a request may have come: what comes again and again to two that forward to each other ends.
const HOPS: u8 = 4;

/// What becomes of a request that was not refused.
#[derive(Debug)]
pub struct Judged {
    /// Why it may pass.
    pub permit: Permit,
    /// `Authorization` carried a credential of ours.
    pub spent: bool,
    /// A session cookie for a browser that came with a password.
    pub set_cookie: Option<String>,
    /// What the permission rests on, for streams that outlive a plan.
    pub basis: super::standing::Basis,
    /// The epoch in which it was judged: whatever changes afterwards is looked at.
    pub epoch: u64,
}

/// Judges a request.
pub async fn judge<'l>(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    is_upgrade: bool,
    record: &mut Record,
) -> Result<Judged, Refusal> {
    let epoch = worker.epoch();
    let stage = before(conn, plan, intake)?;
    if let Some(route) = plan.routes.get(stage.route()) {
        record.route = Some(route.label.clone());
        record.slot = route.slot;
    }
    // A certificate that the route cannot do without comes before everything that costs something; else it stands behind what the
    // request itself says.
    let certified = certificate::demanded(worker, conn, &stage)?;
    let identity = identify(worker, conn, plan, intake, lines, &stage, record).await?;
    let (identity, certified) =
        certificate::completed(worker, conn, plan, &stage, identity, certified)?;
    let Identity {
        who,
        spent,
        set_cookie,
        basis,
    } = identity;
    if let Some(who) = &who {
        record.user = Some(who.user.clone());
        record.auth = Some(who.by.word());
        if who.by.is_ambient() && (is_upgrade || !is_safe(intake.method)) {
            same_origin(intake)?;
        }
    }
    basis.tell_end(&worker.ends);
    let route = stage.route();
    let permit = plan.site.after(stage, who, certified.as_deref())?;
    destination::judge(conn, plan, intake, route, permit.who())?;
    if let Some(route) = plan.routes.get(route) {
        route.upstream.check()?;
    }
    if intake.facts.hops >= HOPS {
        let detail =
            "it has come through four gates: the upstream of one of them is a gate before it";
        return Err(Refusal::new(Reason::UpstreamBroken, detail));
    }
    Ok(Judged {
        permit,
        spent,
        set_cookie,
        basis,
        epoch,
    })
}

/// What is asked, for the pure decision.
pub fn asked<'a>(conn: &'a Conn, intake: &'a Intake<'_>) -> Asked<'a> {
    Asked {
        host: &intake.authority.host,
        sni: conn.sni.as_deref(),
        path: &intake.path,
        method: intake.method,
        client: intake.origin.client.address,
        local: conn.local.ip(),
    }
}

/// Step 1 once more, for a client behind a trusted proxy: its connection carries the requests of many. The peer was judged at
/// accept, and is again whenever the plan changes. Nobody goes further on a connection that is one too
/// many, or whose client was told of its end.
pub fn network(conn: &Conn, plan: &Plan, intake: &Intake<'_>) -> Result<(), Refusal> {
    if plan.has_proxies {
        let listener = plan.rules(conn.listener, conn.local);
        let gone = Refusal::new(Reason::NetworkDenied, "the listener is gone");
        let gate = &listener.ok_or(gone)?.gate;
        gate.judge(intake.origin.client.address)?;
    }
    if conn.busy.is_told() {
        let detail = "the client was told that the connection ends";
        return Err(Refusal::new(Reason::Draining, detail));
    }
    if conn.is_surplus {
        let detail = "more connections than `connections` or `connections_per_client` lets in";
        return Err(Refusal::new(Reason::TooBusy, detail));
    }
    Ok(())
}

fn before(conn: &Conn, plan: &Plan, intake: &Intake<'_>) -> Result<Stage, Refusal> {
    plan.site.before(&asked(conn, intake))
}

fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// A browser adds cookies and remembered passwords to requests that another site makes. `Sec-Fetch-Site` says so, else
/// `Origin`; a client that sends neither is no browser that could be misled (every one sends `Origin` with these).
pub fn same_origin(intake: &Intake<'_>) -> Result<(), Refusal> {
    let foreign = |detail| Err(Refusal::new(Reason::CrossSite, detail));
    if let Some(origin) = intake.facts.origin {
        let ours = super::outbound::own_rest(origin, intake.origin.scheme, intake.host) == Some("");
        return if ours {
            Ok(())
        } else {
            foreign("Origin is another one")
        };
    }
    match intake.facts.fetch_site {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => foreign("Sec-Fetch-Site says that another site asked"),
    }
}

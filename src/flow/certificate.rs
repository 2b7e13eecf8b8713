//! The client certificate of a connection: kept from the handshake, judged under the plan in force whenever it matters. What was
//! found is remembered for a short while, so that a request costs no signature check.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;

use super::identify::{Identity, who};
use super::standing::Basis;
use super::state::{Conn, Worker};
use crate::access::{self, CertificateUse, Stage};
use crate::auth::Method;
use crate::auth::certificate::{CertificateFault, Certified};
use crate::base::refusal::{Reason, Refusal};
use crate::plan::Plan;

/// How long a judgement is remembered: authorities above and revocation lists run out too.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A chain whose key the client holds. It says nothing until it is judged.
#[derive(Debug)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    last: RefCell<Option<Judgement>>,
}

#[derive(Clone, Debug)]
struct Judgement {
    generation: u64,
    from: SystemTime,
    until: SystemTime,
    found: Result<Certified, CertificateFault>,
}

impl ClientCertificate {
    /// The chain of the handshake, or of the session that was resumed.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            last: RefCell::default(),
        }
    }

    /// Whose it is under the plan in force; `None` when its listener, or the one that has taken the address over, asks for none.
    /// `source` is whose connection it is: that of a trusted proxy carries the requests of many, and its certificate is none of theirs.
    pub fn judge(
        &self,
        worker: &Worker,
        (listener, local): (SocketAddr, SocketAddr),
        source: IpAddr,
        now: SystemTime,
    ) -> Result<Option<Arc<str>>, CertificateFault> {
        let plan = worker.plan();
        let Some(clients) = plan.clients(listener, local, source) else {
            return Ok(None);
        };
        let last = self.last.borrow().clone();
        let last = last.filter(|last| {
            last.generation == plan.generation && (last.from..last.until).contains(&now)
        });
        let found = match last {
            Some(last) => last.found,
            None => {
                let found = clients.judge(&self.chain, &plan.users, now);
                let end = now + REMEMBERED;
                *self.last.borrow_mut() = Some(Judgement {
                    generation: plan.generation,
                    from: now,
                    until: found.as_ref().map_or(end, |c| c.until.min(end)),
                    found: found.clone(),
                });
                found
            }
        }?;
        worker.ends.on(Some(found.until));
        Ok(Some(found.user))
    }
}

/// The user of the certificate, where the route does not do without one.
pub(super) fn demanded(
    worker: &Worker,
    conn: &Conn,
    stage: &Stage,
) -> Result<Option<Arc<str>>, Refusal> {
    match stage.certificate_use() {
        CertificateUse::Off | CertificateUse::Accepted => Ok(None),
        CertificateUse::Required | CertificateUse::WithLogin => {
            let certified = look(worker, conn)?;
            access::proven(stage.certificate_use(), certified.as_deref(), None)?;
            Ok(certified)
        }
    }
}

/// Who it is by the certificate, where the request itself says nobody; and whose certificate it is, where that matters.
pub(super) fn completed(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    stage: &Stage,
    found: Identity,
    certified: Option<Arc<str>>,
) -> Result<(Identity, Option<Arc<str>>), Refusal> {
    if found.who.is_some() || stage.certificate_use() == CertificateUse::Off {
        return Ok((found, certified));
    }
    let certified = match certified {
        Some(certified) => Some(certified),
        None => look(worker, conn)?,
    };
    let user = certified.as_ref().and_then(|name| plan.users.find(name));
    let Some(who) = user.and_then(|user| who(plan, user, Method::Certificate)) else {
        return Ok((found, certified));
    };
    let identity = Identity {
        who: Some(who),
        basis: Basis::Certificate,
        ..found
    };
    Ok((identity, certified))
}

/// Whose certificate there is, or why it is nobody's.
fn look(worker: &Worker, conn: &Conn) -> Result<Option<Arc<str>>, Refusal> {
    conn.certified(worker)
        .map_err(|fault| Refusal::new(Reason::CertificateRefused, fault.detail()))
}

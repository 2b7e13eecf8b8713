//! Access that was granted can be withdrawn: what a permission rests on, and whether it still stands under a newer plan.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use super::certificate::ClientCertificate;
use super::intake::Intake;
use super::state::{Bell, Conn, Worker};
use crate::access::{Asked, CertificateUse, Need};
use crate::auth::cache::Key;
use crate::auth::password::Fingerprint;
use crate::auth::{Method, Who};
use crate::base::drain::Phase;
use crate::base::host::Host;
use crate::base::path::Path;
use crate::gate::Gate;
use crate::plan::Plan;

/// By what a person was known.
#[derive(Clone, Debug, Default)]
pub enum Basis {
    /// Nobody was asked for.
    #[default]
    Nobody,
    /// A session.
    Session(Key),
    /// The user's stored hash at that time.
    Password(Arc<str>, Fingerprint),
    /// A token, by its public part.
    Token(String),
    /// The client certificate of the connection.
    Certificate,
}

/// A permission that is looked at again whenever the plan or the sessions change.
#[derive(Debug)]
pub struct Standing {
    worker: Rc<Worker>,
    bell: Bell,
    seen: Cell<u64>,
    listener: SocketAddr,
    peer: IpAddr,
    source: IpAddr,
    client: IpAddr,
    local: SocketAddr,
    sni: Option<Box<str>>,
    host: Host<'static>,
    target: Box<str>,
    method: Box<str>,
    user: Option<Arc<str>>,
    basis: Basis,
    certificate: Option<Rc<ClientCertificate>>,
    upstream: Box<str>,
}

impl Standing {
    /// Remembers what was granted.
    pub fn new(
        worker: &Rc<Worker>,
        conn: &Conn,
        intake: &Intake<'_>,
        who: Option<&Who>,
        basis: Basis,
        upstream: String,
        epoch: u64,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            bell: worker.bell(),
            seen: Cell::new(epoch),
            listener: conn.listener,
            peer: conn.peer.ip(),
            source: conn.source,
            client: intake.origin.client.address,
            local: conn.local,
            sni: conn.sni.clone(),
            host: intake.authority.host.clone().into_owned(),
            target: intake.target.split('?').next().unwrap_or("/").into(),
            method: intake.method.into(),
            user: who.map(|w| w.user.clone()),
            basis,
            certificate: conn.certificate.clone(),
            upstream: upstream.into(),
        }
    }

    /// Ready when the permission does not stand any more, or everything ends.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.listen(cx);
        if self.worker.phase() == Phase::Stop {
            return Poll::Ready(());
        }
        let epoch = self.worker.epoch();
        if self.seen.replace(epoch) == epoch || self.stands(&self.worker.plan()) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// As [`Standing::poll_ended`], to wait for.
    pub async fn ended(&self) {
        poll_fn(|cx| self.poll_ended(cx)).await;
    }

    /// Waits until a permission that is described only when it must be looked at does not stand any more.
    pub async fn lazily(worker: &Rc<Worker>, bell: &Bell, epoch: u64, describe: impl Fn() -> Self) {
        let seen = Cell::new(epoch);
        poll_fn(|cx| {
            bell.listen(cx);
            if worker.phase() == Phase::Stop {
                return Poll::Ready(());
            }
            let epoch = worker.epoch();
            if seen.replace(epoch) == epoch || describe().stands(&worker.plan()) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// The pure decision once more, with what is known now.
    fn stands(&self, plan: &Plan) -> bool {
        let gate = plan
            .rules(self.listener, self.local)
            .is_some_and(|l| self.is_welcome(&l.gate));
        let target = if &*self.target == "*" {
            "/"
        } else {
            &self.target
        };
        let Ok(path) = Path::parse(target) else {
            return false;
        };
        let asked = Asked {
            host: &self.host,
            sni: self.sni.as_deref(),
            path: &path,
            method: &self.method,
            client: self.client,
            local: self.local.ip(),
        };
        let Ok(stage) = plan.site.before(&asked) else {
            return false;
        };
        let same = plan.routes.get(stage.route()).is_some_and(|r| {
            r.upstream.target().to_string() == *self.upstream && !r.upstream.is_refused()
        });
        let certified = match stage.certificate_use() {
            CertificateUse::Off => None,
            CertificateUse::Accepted | CertificateUse::Required | CertificateUse::WithLogin => {
                self.certified()
            }
        };
        let who = match (stage.need(), self.who(plan, certified.as_deref())) {
            (Need::Nobody, _) => None,
            (Need::Person, None) => return false,
            (Need::Person, who) => who,
        };
        gate && same && plan.site.after(stage, who, certified.as_deref()).is_ok()
    }

    /// Step 1 once more. A client that fields named is one only as long as whoever wrote them is believed.
    fn is_welcome(&self, gate: &Gate) -> bool {
        gate.judge_connection(self.peer, self.source).is_ok()
            && gate.judge(self.client).is_ok()
            && (self.client == self.source || gate.trusts(self.source))
    }

    /// Whose client certificate it is now; a bad one is none.
    fn certified(&self) -> Option<Arc<str>> {
        let certificate = self.certificate.as_ref()?;
        let judged = certificate.judge(&self.worker, self.listener, self.source, SystemTime::now());
        judged.ok().flatten()
    }

    fn who(&self, plan: &Plan, certified: Option<&str>) -> Option<Who> {
        let user = self.user.clone()?;
        let by = match &self.basis {
            Basis::Nobody => return None,
            Basis::Session(key) => self
                .worker
                .shared
                .sessions
                .is_alive(&plan.users, key, Instant::now())
                .then_some(Method::Session)?,
            Basis::Password(name, print) => plan
                .users
                .find(name)
                .filter(|u| u.fingerprint() == *print)
                .map(|_| Method::Basic)?,
            Basis::Certificate => (certified == Some(&*user)).then_some(Method::Certificate)?,
            Basis::Token(id) => plan.tokens.by_id(id).map(|_| Method::Token)?,
        };
        Some(Who {
            user,
            groups: "".into(),
            by,
        })
    }
}

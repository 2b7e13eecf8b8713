//! Access that was granted can be withdrawn: what a permission rests on, and whether it still stands under a newer plan.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::certificate::ClientCertificate;
use super::ends::Ends;
use super::intake::Intake;
use super::state::{Bell, Conn, Worker};
use crate::access::{self, Asked, CertificateUse, Permit};
use crate::auth::cache::Key;
use crate::auth::password::Fingerprint;
use crate::auth::token::Token;
use crate::auth::{Method, Who};
use crate::base::drain::Phase;
use crate::base::host::Host;
use crate::base::path::Path;
use crate::plan::{Listener, Plan, Route};
use crate::upstream::Upstream;

/// By what a person was known.
#[derive(Clone, Debug, Default)]
pub enum Basis {
    /// Nobody was asked for.
    #[default]
    Nobody,
    /// A session, and when it ends if nobody uses it.
    Session(Key, Option<Instant>),
    /// The user's stored hash at that time.
    Password(Arc<str>, Fingerprint),
    /// A link that was given away, by its session, and when it ends.
    Share(Key, Instant),
    /// A token.
    Token(TokenBasis),
    /// The client certificate of the connection.
    Certificate,
}

/// A token: by its public part and the hash of its secret.
#[derive(Clone, Debug)]
pub struct TokenBasis {
    id: String,
    sha256: [u8; 32],
    until: Option<SystemTime>,
}

impl TokenBasis {
    /// This one.
    pub fn of(token: &Token) -> Self {
        Self {
            id: token.id.clone(),
            sha256: token.sha256,
            until: token.until(),
        }
    }
}

impl Basis {
    /// What rests on it is looked at when it ends by itself.
    pub fn tell_end(&self, ends: &Ends) {
        match self {
            Self::Session(_, until) => ends.at(*until),
            Self::Share(_, until) => ends.at(Some(*until)),
            Self::Token(token) => ends.on(token.until),
            // A certificate tells when it is judged.
            Self::Nobody | Self::Password(..) | Self::Certificate => {}
        }
    }
}

/// A permission that is looked at again whenever the plan or the sessions change, and when it ends by itself.
#[derive(Debug)]
pub struct Standing {
    worker: Rc<Worker>,
    bell: Bell,
    seen: Cell<u64>,
    turn: Cell<u64>,
    listener: SocketAddr,
    peer: IpAddr,
    source: IpAddr,
    client: IpAddr,
    local: SocketAddr,
    is_plain: bool,
    sni: Option<Box<str>>,
    host: Host<'static>,
    target: Box<str>,
    method: Box<str>,
    user: Option<Arc<str>>,
    basis: Basis,
    certificate: Option<Rc<ClientCertificate>>,
    certificate_use: CertificateUse,
    upstream: Arc<Upstream>,
}

impl Standing {
    /// Remembers what was granted.
    pub fn new(
        worker: &Rc<Worker>,
        conn: &Conn,
        intake: &Intake<'_>,
        permit: &Permit,
        basis: Basis,
        upstream: &Arc<Upstream>,
        epoch: u64,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            bell: worker.bell(),
            seen: Cell::new(epoch),
            turn: Cell::new(worker.turn()),
            listener: conn.listener,
            peer: conn.peer.ip(),
            source: conn.source,
            client: intake.origin.client.address,
            local: conn.local,
            is_plain: conn.is_plain(),
            sni: conn.sni.clone(),
            host: intake.authority.host.clone().into_owned(),
            target: intake.target.split('?').next().unwrap_or("/").into(),
            method: intake.method.into(),
            user: permit.who().map(|w| w.user.clone()),
            basis,
            certificate: conn.certificate.clone(),
            certificate_use: permit.certificate_use(),
            upstream: Arc::clone(upstream),
        }
    }

    /// Ready when the permission does not stand any more, or everything ends.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.listen(cx);
        if self.worker.phase() == Phase::Stop {
            return Poll::Ready(());
        }
        let (epoch, turn) = (self.worker.epoch(), self.worker.turn());
        if self.seen.replace(epoch) == epoch {
            if self.turn.replace(turn) != turn {
                self.passes();
            }
            return Poll::Pending;
        }
        if self.stands(&self.worker.plan()) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Whoever waits for the end of a permission beside its stream is woken by the bell, or by bytes that pass. Those count as use
    /// of the session, whoever sent them: an open stream that is silent does not keep it.
    fn passes(&self) {
        if let Basis::Session(key, _) = &self.basis {
            let (plan, now) = (self.worker.plan(), Instant::now());
            let _ = self.worker.shared.sessions.use_it(&plan.users, key, now);
        }
    }

    /// As [`Standing::poll_ended`], to wait for.
    pub async fn ended(&self) {
        poll_fn(|cx| self.poll_ended(cx)).await;
    }

    /// Waits until a permission that is described only when it must be looked at does not stand any more.
    pub async fn lazily(worker: &Rc<Worker>, bell: &Bell, epoch: u64, describe: impl Fn() -> Self) {
        let (seen, turn) = (Cell::new(epoch), Cell::new(worker.turn()));
        poll_fn(|cx| {
            bell.listen(cx);
            if worker.phase() == Phase::Stop {
                return Poll::Ready(());
            }
            let (epoch, now) = (worker.epoch(), worker.turn());
            if seen.replace(epoch) == epoch {
                if turn.replace(now) != now {
                    describe().passes();
                }
                return Poll::Pending;
            }
            if describe().stands(&worker.plan()) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    fn stands(&self, plan: &Plan) -> bool {
        self.judge(plan).is_some()
    }

    /// The pure decision once more, with what is known now; and whether it may be where it is.
    fn judge(&self, plan: &Plan) -> Option<Permit> {
        let listener = plan.rules(self.listener, self.local);
        listener.filter(|l| self.is_welcome(l))?;
        let path = Path::parse(if &*self.target == "*" {
            "/"
        } else {
            &self.target
        })
        .ok()?;
        let asked = Asked {
            host: &self.host,
            sni: self.sni.as_deref(),
            path: &path,
            method: &self.method,
            client: self.client,
            local: self.local.ip(),
        };
        let stage = plan.site.before(&asked).ok()?;
        let route = plan.routes.get(stage.route())?;
        if !route.leads_to(&self.upstream) && !self.may_finish(plan, &path, route) {
            return None;
        }
        let (who, certified) = self.known(plan, &path, stage.certificate_use());
        plan.site.after(stage, who, certified.as_deref()).ok()
    }

    /// Whether it may finish at a service that its route led to before. The rules of now are about another one, so whoever was let in
    /// there must be known still as he was then.
    fn may_finish(&self, plan: &Plan, path: &Path<'_>, route: &Route) -> bool {
        let (who, certified) = self.known(plan, path, self.certificate_use);
        let proven = access::proven(self.certificate_use, certified.as_deref(), who.as_ref());
        route.lets_finish_at(&self.upstream)
            && (self.user.is_none() || who.is_some())
            && proven.is_ok()
    }

    /// Step 1 once more. A client that fields named is one only as long as whoever wrote them is believed.
    fn is_welcome(&self, listener: &Listener) -> bool {
        let gate = &listener.gate;
        listener.keeps(self.peer, self.source, self.is_plain)
            && gate.judge(self.client).is_ok()
            && (self.client == self.source || gate.trusts(self.source))
    }

    /// Who it is now, and whose certificate it is, where certificates are used so. A bad one is none.
    fn known(
        &self,
        plan: &Plan,
        path: &Path<'_>,
        asked: CertificateUse,
    ) -> (Option<Who>, Option<Arc<str>>) {
        let judge = |certificate: &Rc<ClientCertificate>| {
            let at = (self.listener, self.local);
            let judged = certificate.judge(&self.worker, at, self.source, SystemTime::now());
            judged.ok().flatten()
        };
        let certified = match asked {
            CertificateUse::Off => None,
            CertificateUse::Accepted | CertificateUse::Required | CertificateUse::WithLogin => {
                self.certificate.as_ref().and_then(judge)
            }
        };
        (self.who(plan, path, certified.as_deref()), certified)
    }

    fn who(&self, plan: &Plan, path: &Path<'_>, certified: Option<&str>) -> Option<Who> {
        let user = self.user.clone()?;
        let by = match &self.basis {
            Basis::Nobody => return None,
            Basis::Session(key, _) => {
                let sessions = &self.worker.shared.sessions;
                let found = sessions.look(&plan.users, key, Instant::now())?;
                self.worker.ends.at(found.until);
                Method::Session
            }
            Basis::Password(name, print) => plan
                .users
                .find(name)
                .filter(|u| u.fingerprint() == *print)
                .map(|_| Method::Basic)?,
            Basis::Certificate => (certified == Some(&*user)).then_some(Method::Certificate)?,
            Basis::Share(key, until) => {
                let shares = &self.worker.shared.shares;
                if !shares.is_alive(key, Instant::now()) {
                    return None;
                }
                self.worker.ends.at(Some(*until));
                Method::Share
            }
            Basis::Token(basis) => {
                let token = plan.tokens.by_id(&basis.id)?;
                let judged = token.judge(&self.method, path, seconds(SystemTime::now()));
                if token.sha256 != basis.sha256 || judged.is_err() {
                    return None;
                }
                self.worker.ends.on(token.until());
                Method::Token
            }
        };
        Some(Who {
            user,
            groups: "".into(),
            by,
        })
    }
}

/// Since 1970, as tokens count.
pub(super) fn seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

//! `Authorization` beside a credential of ours: it is the application's, and passes, unless it is ours too. What becomes of it can be
//! seen by whoever sees what the application gets, so that must not tell whether a password is right: a user name that is in the
//! users file is enough to be taken out, unlooked at. Under his own name a person may have a password at the application, too; a few of
//! those pass.

use std::sync::Arc;
use std::time::Instant;

use super::state::{Conn, Worker};
use crate::access::{CertificateUse, Stage};
use crate::auth::cache::Key;
use crate::auth::client_net::ClientNet;
use crate::auth::presented::{Basic, Presented, authorization};
use crate::auth::session::Origin;
use crate::auth::token::is_ours;
use crate::auth::users::User;
use crate::auth::verify::Outcome;
use crate::base::refusal::{Reason, Refusal};
use crate::plan::Plan;

use super::intake::Intake;
use super::known::Proven;

/// What Basic credentials beside a client certificate are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// A login here: there is no good certificate, or the name is another user's.
    Login,
    /// The application's, or to be taken out like ours.
    Application {
        /// It is taken out.
        spent: bool,
    },
}

/// Beside a session. Where it began with Basic a browser goes on sending that password for as long as it runs, longer than it is
/// remembered here.
pub(super) fn session(
    worker: &Worker,
    plan: &Plan,
    value: Option<&[u8]>,
    proven: &Proven,
    key: &Key,
) -> bool {
    let Some(Ok(Presented::Basic(basic))) = value.map(authorization) else {
        return by_name(plan, value);
    };
    let (user, password) = (basic.user(), basic.password());
    if *user != *proven.who.user || proven.origin == Some(Origin::Basic) {
        return plan.users.find(user).is_some();
    }
    let verifier = &worker.shared.verifier;
    let cached = verifier.cached(&plan.users, user, password, Instant::now());
    let may_pass = || {
        let sessions = &worker.shared.sessions;
        sessions.may_pass(key, verifier.credential(user, password))
    };
    cached.is_some() || !may_pass()
}

/// Beside a token in its own field, and where nobody is asked for: a token is nobody's name.
pub(super) fn by_name(plan: &Plan, value: Option<&[u8]>) -> bool {
    match value.map(authorization) {
        Some(Ok(Presented::Basic(basic))) => plan.users.find(basic.user()).is_some(),
        Some(Ok(Presented::Bearer(text))) => is_ours(text),
        Some(Ok(Presented::Foreign) | Err(_)) | None => false,
    }
}

/// Whose good certificate there is, where that alone is enough.
pub(super) fn certified(worker: &Worker, conn: &Conn, stage: &Stage) -> Option<Arc<str>> {
    match stage.certificate_use() {
        CertificateUse::Off | CertificateUse::WithLogin => None,
        CertificateUse::Accepted | CertificateUse::Required => conn.certified(worker).ok()?,
    }
}

/// Beside a client certificate that says who it is.
pub(super) async fn certificate(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    stage: &Stage,
    basic: &Basic,
) -> Result<Beside, Refusal> {
    let Some(certified) = certified(worker, conn, stage) else {
        return Ok(Beside::Login);
    };
    match plan.users.find(basic.user()) {
        None => Ok(Beside::Application { spent: false }),
        Some(user) if *user.name() != *certified => Ok(Beside::Login),
        Some(user) => Box::pin(own_name(worker, plan, intake, user, basic)).await,
    }
}

/// The password is looked at, so that ours never passes; it is no guess, as whoever has the certificate is in already. Only the first
/// few that are not ours are told from ours, by what the application gets and by nothing else: a right one is taken out, and begins
/// no session.
async fn own_name(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    user: &User,
    basic: &Basic,
) -> Result<Beside, Refusal> {
    let (verifier, passed) = (&worker.shared.verifier, &worker.shared.passed);
    let (name, password) = (user.name(), basic.password());
    let (stored, credential) = (user.fingerprint(), verifier.credential(name, password));
    let ours = Beside::Application { spent: true };
    // Before what is remembered: a password that another client has just used would be told after any number of wrong ones.
    if let Some(passes) = passed.look(stored, credential) {
        return Ok(Beside::Application { spent: !passes });
    }
    let now = Instant::now();
    if verifier.cached(&plan.users, name, password, now).is_some() {
        return Ok(ours);
    }
    let network = ClientNet::of(intake.origin.client.address);
    let password = basic.password_owned();
    match verifier.verify(&plan.users, name, password, network).await {
        Outcome::Right => Ok(ours),
        Outcome::Wrong => Ok(Beside::Application {
            spent: !passed.put(stored, credential),
        }),
        Outcome::Busy => Err(Refusal::new(
            Reason::TooBusy,
            "too many passwords wait to be verified",
        )),
    }
}

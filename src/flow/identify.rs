//! Who is it: session cookie, then token, then password. Only a password that is not remembered waits, and only it is a
//! guess that can lock out.

use std::net::IpAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::intake::{Intake, Line};
use super::standing::Basis;
use super::state::Worker;
use crate::access::{Need, Stage};
use crate::auth::client_net::ClientNet;
use crate::auth::presented::{Basic, Presented, authorization};
use crate::auth::session::Origin;
use crate::auth::token::is_ours;
use crate::auth::users::User;
use crate::auth::verify::Outcome;
use crate::auth::{Method, Who};
use crate::base::refusal::{Reason, Refusal};
use crate::base::secret::Secret;
use crate::http1::field::Name;
use crate::limit::lockout::Scope;
use crate::observe::Event;
use crate::observe::metrics::AuthResult;
use crate::plan::Plan;

/// What was found out.
#[derive(Debug, Default)]
pub struct Identity {
    /// Who it is; `None` when nobody is needed or nobody is logged in.
    pub who: Option<Who>,
    /// `Authorization` carried a credential of ours.
    pub spent: bool,
    /// A session cookie to set.
    pub set_cookie: Option<String>,
    /// What this rests on.
    pub basis: Basis,
}

/// Finds out who it is.
pub async fn identify<'l>(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    stage: &Stage,
) -> Result<Identity, Refusal> {
    let needed = stage.need() == Need::Person;
    let facts = &intake.facts;
    let session = if facts.has_cookie {
        session(worker, plan, lines)
    } else {
        None
    };
    if let Some((who, basis, origin)) = session {
        let spent = is_ours_beside(worker, plan, facts.authorization, origin);
        return Ok(Identity {
            who: needed.then_some(who),
            spent,
            set_cookie: None,
            basis,
        });
    }
    if let Some(value) = facts.authorization {
        match authorization(value) {
            Ok(Presented::Basic(basic)) => {
                return password(worker, plan, intake, &basic, needed).await;
            }
            Ok(Presented::Bearer(text)) if is_ours(text) => {
                return token(worker, plan, intake, text.as_bytes(), needed);
            }
            Ok(Presented::Bearer(_) | Presented::Foreign) => {}
            Err(detail) if needed => return Err(Refusal::new(Reason::CredentialsWrong, detail)),
            Err(_) => {}
        }
    }
    // The second place for a token: `Authorization` may be the application's own. The field itself never passes.
    match facts.token.filter(|_| needed) {
        Some(text) => Ok(Identity {
            spent: false,
            ..token(worker, plan, intake, text, needed)?
        }),
        None => Ok(Identity::default()),
    }
}

/// The session of our cookie.
fn session<'l>(
    worker: &Worker,
    plan: &Plan,
    lines: impl Iterator<Item = Line<'l>>,
) -> Option<(Who, Basis, Origin)> {
    let values = lines.filter(|l| l.known == Name::Cookie).map(|l| l.value);
    // The cookie twice with two values is somebody else's doing: neither is believed.
    let id = plan.cookie.find(values).ok()??;
    let found = worker
        .shared
        .sessions
        .lookup(&plan.users, id, Instant::now())?;
    let basis = Basis::Session(found.key);
    who(plan, found.user, Method::Session).map(|who| (who, basis, found.origin))
}

fn who(plan: &Plan, user: &User, by: Method) -> Option<Who> {
    let person = plan.people.get(user.name())?;
    Some(Who {
        user: person.user.clone(),
        groups: person.groups.clone(),
        by,
    })
}

/// Whether `Authorization` beside a session is a credential of ours, which is taken out; everything else there belongs to the
/// application. A browser whose session began with Basic goes on sending that password for as long as it runs, longer than it
/// is remembered here: there the name of a user of ours is enough.
fn is_ours_beside(worker: &Worker, plan: &Plan, value: Option<&[u8]>, origin: Origin) -> bool {
    let Some(Ok(presented)) = value.map(authorization) else {
        return false;
    };
    match presented {
        Presented::Basic(basic) => {
            let named = || plan.users.find(basic.user()).is_some();
            let remembered = || {
                let (user, password) = (basic.user(), basic.password());
                worker
                    .shared
                    .verifier
                    .cached(&plan.users, user, password, Instant::now())
                    .is_some()
            };
            (origin == Origin::Basic && named()) || remembered()
        }
        Presented::Bearer(text) => is_ours(text),
        Presented::Foreign => false,
    }
}

fn token(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    text: &[u8],
    needed: bool,
) -> Result<Identity, Refusal> {
    if !needed {
        return Ok(Identity {
            spent: true,
            ..Identity::default()
        });
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64);
    let text = std::str::from_utf8(text)
        .map_err(|_| Refusal::new(Reason::CredentialsWrong, "the token has bytes above ASCII"))?;
    let token = plan
        .tokens
        .check(text.trim(), intake.method, &intake.path, now)
        .map_err(|why| {
            let event = Event::info("auth_failed")
                .with("client", intake.origin.client.address)
                .with("method", "token")
                .with("why", why);
            worker.shared.log.event(event);
            worker.tally.login("token", AuthResult::Failure);
            Refusal::new(why.reason(), "the token does not let this request in")
        })?;
    worker.tally.login("token", AuthResult::Success);
    let who = Who {
        user: format!("token:{}", token.name).into(),
        groups: "".into(),
        by: Method::Token,
    };
    Ok(Identity {
        who: Some(who),
        spent: true,
        set_cookie: None,
        basis: Basis::Token(token.id.clone()),
    })
}

/// Name and password. Where nobody is asked for, the credential may be the application's own: it is taken for ours, and out,
/// when the name is one of our users'.
async fn password(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    basic: &Basic,
    needed: bool,
) -> Result<Identity, Refusal> {
    if !needed {
        // Nobody is asked for, so nobody is guessed at: the name alone tells whose credential it is.
        return Ok(Identity {
            spent: plan.users.find(basic.user()).is_some(),
            ..Identity::default()
        });
    }
    let client = intake.origin.client.address;
    let ours = by_heart(
        worker,
        client,
        plan,
        basic.user(),
        basic.password(),
        "basic",
    )?;
    if !ours {
        let password = basic.password_owned();
        Box::pin(verify(
            worker,
            client,
            plan,
            basic.user(),
            password,
            "basic",
        ))
        .await?;
    }
    let user = plan
        .users
        .find(basic.user())
        .ok_or(Refusal::from(Reason::CredentialsWrong))?;
    // Browsers that send no Basic credentials with a WebSocket send the cookie; other clients have no use for one.
    let browser = intake.is_navigation() || intake.facts.fetch_mode == Some(b"navigate");
    let set_cookie = (browser && intake.origin.is_secure()).then(|| {
        let opened = worker
            .shared
            .sessions
            .open(user, Origin::Basic, Instant::now());
        plan.cookie.set(opened.id.expose(), plan.session.as_secs())
    });
    let basis = Basis::Password(user.name().into(), user.fingerprint());
    Ok(Identity {
        who: who(plan, user, Method::Basic),
        spent: true,
        set_cookie,
        basis,
    })
}

/// Whether the password is remembered. It counts only where a guess would be listened to: otherwise a client that is locked
/// out could go on guessing at a password that another one has just used.
pub fn by_heart(
    worker: &Worker,
    client: IpAddr,
    plan: &Plan,
    user: &str,
    password: &[u8],
    method: &'static str,
) -> Result<bool, Refusal> {
    let now = Instant::now();
    let shared = &worker.shared;
    if shared
        .verifier
        .cached(&plan.users, user, password, now)
        .is_none()
    {
        worker.tally.remembered(false);
        return Ok(false);
    }
    if shared.lockout.listens(ClientNet::of(client), user, now) {
        worker.tally.remembered(true);
        worker.tally.login(method, AuthResult::Success);
        return Ok(true);
    }
    worker.tally.login(method, AuthResult::LockedOut);
    Err(Refusal::new(
        Reason::LockedOut,
        "too many failed logins from this network or for this user",
    ))
}

/// Verifies a password that is not remembered, as a guess that counts from its first moment.
pub async fn verify(
    worker: &Worker,
    client: IpAddr,
    plan: &Plan,
    user: &str,
    password: Secret<Vec<u8>>,
    method: &'static str,
) -> Result<(), Refusal> {
    let shared = &worker.shared;
    let network = ClientNet::of(client);
    let credential = shared.verifier.credential(user, password.expose());
    let guess = shared
        .lockout
        .begin(network, user, credential, Instant::now())
        .map_err(|_| {
            worker.tally.login(method, AuthResult::LockedOut);
            Refusal::new(
                Reason::LockedOut,
                "too many failed logins from this network or for this user",
            )
        })?;
    match shared
        .verifier
        .verify(&plan.users, user, password, network)
        .await
    {
        Outcome::Right => {
            guess.right(Instant::now());
            worker.tally.login(method, AuthResult::Success);
            Ok(())
        }
        Outcome::Busy => {
            guess.unjudged();
            worker.tally.login(method, AuthResult::TooBusy);
            Err(Refusal::new(
                Reason::TooBusy,
                "too many passwords wait to be verified",
            ))
        }
        Outcome::Wrong => {
            worker.tally.login(method, AuthResult::Failure);
            shared.log.event(
                Event::info("auth_failed")
                    .with("client", client)
                    .with("user", user)
                    .with("method", method),
            );
            for ban in guess.wrong(Instant::now()) {
                let what = match ban.scope {
                    Scope::Client => "client",
                    Scope::User => "user",
                    Scope::Pair => "user_at_client",
                };
                let event = Event::warn("locked_out")
                    .with("scope", what)
                    .with("client", client)
                    .with("user", user);
                shared
                    .log
                    .event(event.with("seconds", ban.length.as_secs()));
            }
            Err(Refusal::new(
                Reason::CredentialsWrong,
                "the user or the password is wrong",
            ))
        }
    }
}

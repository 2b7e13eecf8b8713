//! Who is it: session cookie, then a token in its own field, then `Authorization`. Only a password that is not remembered waits, and only it is a
//! guess that can lock out.

use std::time::{Instant, SystemTime};

use super::beside::{self, Beside};
use super::guess::{by_heart, verify};
use super::intake::{Intake, Line};
use super::known::{Kind, Proven, State};
use super::share;
use super::standing::{Basis, TokenBasis, seconds};
use super::state::{Conn, Worker};
use crate::access::{Need, Stage};
use crate::auth::cache::Key;
use crate::auth::presented::{Basic, Presented, authorization};
use crate::auth::session::Origin;
use crate::auth::token::is_ours;
use crate::auth::users::User;
use crate::auth::{Method, Who};
use crate::base::refusal::{Reason, Refusal};
use crate::http1::field::Name;
use crate::observe::metrics::AuthResult;
use crate::observe::{Event, Record};
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
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    stage: &Stage,
    record: &mut Record,
) -> Result<Identity, Refusal> {
    let needed = stage.need() == Need::Person;
    let facts = &intake.facts;
    let beside = lines.clone();
    let session = if facts.has_cookie {
        session(worker, conn, plan, intake, lines)
    } else {
        None
    };
    if let Some((proven, key)) = session {
        let spent = beside::session(worker, plan, facts.authorization, &proven, &key);
        return Ok(Identity {
            who: needed.then_some(proven.who),
            spent,
            set_cookie: None,
            basis: proven.basis,
        });
    }
    if facts.has_cookie
        && let Some(came) = share::visitor(worker, plan, intake, beside, stage.need())
    {
        return came;
    }
    // A token in its own field says that `Authorization` is the application's; something else there says nothing.
    let field = facts.token.filter(|_| needed);
    if let Some(text) = field.filter(|text| std::str::from_utf8(text).is_ok_and(is_ours)) {
        return Ok(Identity {
            spent: beside::by_name(plan, facts.authorization),
            ..token(worker, plan, intake, text, needed, record)?
        });
    }
    if let Some(value) = facts.authorization {
        if needed
            && !wants_cookie(intake)
            && let Some(proven) = fresh(worker, conn, plan, intake, value)
        {
            worker.tally.remembered(true);
            worker.tally.login("basic", AuthResult::Success);
            return Ok(Identity {
                who: Some(proven.who),
                spent: true,
                set_cookie: None,
                basis: proven.basis,
            });
        }
        match authorization(value) {
            Ok(Presented::Basic(basic)) => {
                let what = match needed {
                    true => beside::certificate(worker, conn, plan, intake, stage, &basic).await?,
                    false => Beside::Login,
                };
                return match what {
                    Beside::Login => password(worker, conn, plan, intake, &basic, needed).await,
                    Beside::Application { spent } => Ok(Identity {
                        spent,
                        ..Identity::default()
                    }),
                };
            }
            Ok(Presented::Bearer(text)) if is_ours(text) => {
                return token(worker, plan, intake, text.as_bytes(), needed, record);
            }
            Ok(Presented::Bearer(_) | Presented::Foreign) => {}
            // No credential of ours is written like that.
            Err(_) if needed && beside::certified(worker, conn, stage).is_some() => {}
            Err(detail) if needed => return Err(Refusal::new(Reason::CredentialsWrong, detail)),
            Err(_) => {}
        }
    }
    match field {
        Some(text) => token(worker, plan, intake, text, needed, record),
        None => Ok(Identity::default()),
    }
}

/// What must be as it was for somebody to be known by one look.
fn state(worker: &Worker, plan: &Plan, intake: &Intake<'_>) -> State {
    State {
        generation: plan.generation,
        ended: worker.shared.sessions.endings(),
        client: intake.origin.client.address,
    }
}

fn fresh(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    value: &[u8],
) -> Option<Proven> {
    let state = state(worker, plan, intake);
    conn.known
        .fresh(Kind::Authorization, value, state, Instant::now())
}

/// The session of our cookie.
fn session<'l>(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>>,
) -> Option<(Proven, Key)> {
    let values = lines.filter(|l| l.known == Name::Cookie).map(|l| l.value);
    // The cookie twice with two values is somebody else's doing: neither is believed.
    let id = plan.cookie.find(values).ok()??;
    // Before the look: what ends in between is noticed by the next request.
    let state = state(worker, plan, intake);
    let now = Instant::now();
    if let Some(proven) = conn.known.fresh(Kind::Cookie, id.as_bytes(), state, now)
        && let Basis::Session(key, _) = proven.basis
    {
        return Some((proven, key));
    }
    let found = worker.shared.sessions.lookup(&plan.users, id, now)?;
    let proven = Proven {
        who: who(plan, found.user, Method::Session)?,
        basis: Basis::Session(found.key, found.until),
        origin: Some(found.origin),
    };
    conn.known
        .put(Kind::Cookie, id.as_bytes(), state, now, &proven);
    Some((proven, found.key))
}

pub(super) fn who(plan: &Plan, user: &User, by: Method) -> Option<Who> {
    let person = plan.people.get(user.name())?;
    Some(Who {
        user: person.user.clone(),
        groups: person.groups.clone(),
        by,
    })
}

/// Browsers that send no Basic credentials with a WebSocket send the cookie; other clients have no use for one.
fn wants_cookie(intake: &Intake<'_>) -> bool {
    let browser = intake.is_navigation() || intake.facts.fetch_mode == Some(b"navigate");
    browser && intake.origin.is_secure()
}

fn token(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    text: &[u8],
    needed: bool,
    record: &mut Record,
) -> Result<Identity, Refusal> {
    if !needed {
        return Ok(Identity {
            spent: true,
            ..Identity::default()
        });
    }
    let now = seconds(SystemTime::now());
    let text = std::str::from_utf8(text)
        .map_err(|_| Refusal::new(Reason::CredentialsWrong, "the token has bytes above ASCII"))?;
    let genuine = plan.tokens.genuine(text.trim());
    let name = genuine.map_or_else(|_| "-".to_owned(), |token| format!("token:{}", token.name));
    let judged = genuine.and_then(|t| t.judge(intake.method, &intake.path, now).map(|()| t));
    let token = judged.map_err(|why| {
        let (event, client) = (Event::info("auth_failed"), intake.origin.client.address);
        let event = match genuine {
            // It is no guess. The filter for fail2ban counts an event whose first word is the client.
            Ok(_) => event.with("user", &name).with("client", client),
            Err(_) => event.with("client", client),
        };
        let event = event.with("method", "token").with("why", why);
        worker
            .shared
            .log
            .event(event.with("request_id", record.id.as_str()));
        worker.tally.login("token", AuthResult::Failure);
        if genuine.is_ok() {
            record.user = Some(name.as_str().into());
            record.auth = Some(Method::Token.word());
        }
        Refusal::new(why.reason(), "the token does not let this request in")
    })?;
    worker.tally.login("token", AuthResult::Success);
    let who = Who {
        user: name.into(),
        groups: "".into(),
        by: Method::Token,
    };
    Ok(Identity {
        who: Some(who),
        spent: true,
        set_cookie: None,
        basis: Basis::Token(TokenBasis::of(token)),
    })
}

/// Name and password. Where nobody is asked for, the credential may be the application's own: it is taken for ours, and out,
/// when the name is one of our users'.
async fn password(
    worker: &Worker,
    conn: &Conn,
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
    let (value, state) = (
        intake.facts.authorization.unwrap_or_default(),
        state(worker, plan, intake),
    );
    let was_right = conn.known.has(Kind::Authorization, value, state);
    let ours = by_heart(
        worker,
        client,
        plan,
        basic.user(),
        basic.password(),
        was_right,
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
    let proven = Proven {
        who: who(plan, user, Method::Basic).ok_or(Refusal::from(Reason::CredentialsWrong))?,
        basis: Basis::Password(user.name().into(), user.fingerprint()),
        origin: None,
    };
    conn.known
        .put(Kind::Authorization, value, state, Instant::now(), &proven);
    let set_cookie = wants_cookie(intake).then(|| {
        let opened = worker
            .shared
            .sessions
            .open(user, Origin::Basic, Instant::now());
        plan.cookie.set(opened.id.expose(), plan.session.as_secs())
    });
    Ok(Identity {
        who: Some(proven.who),
        spent: true,
        set_cookie,
        basis: proven.basis,
    })
}

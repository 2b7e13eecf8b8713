//! A link that logs one visitor in: its page, its one use, and who comes by it afterwards.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use super::beside;
use super::guess::{link, wrong_link};
use super::identify::Identity;
use super::intake::{Intake, Line};
use super::judge::same_origin;
use super::pages::{page, redirect};
use super::refuse::Reply;
use super::standing::Basis;
use super::state::Worker;
use crate::access::Need;
use crate::auth::share::{Closed, Visitor};
use crate::auth::{Method, Who};
use crate::base::refusal::{Reason, Refusal};
use crate::http1::field::Name;
use crate::observe::metrics::AuthResult;
use crate::observe::{Event, Record};
use crate::plan::Plan;
use crate::web::{self, SHARE};

/// Whom a link meets, by our cookie.
pub(super) enum Browser<'a> {
    /// A user, who needs none.
    User,
    /// Somebody who came by a link, this one or another; with the id in his cookie.
    Visitor(&'a str, Visitor),
    /// Nobody who is known.
    Stranger,
}

/// Answers for a link. Only the button opens it. Who is in by this very link already, or as a user, goes where it leads.
pub(super) fn answer(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    path: &str,
    browser: Browser<'_>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    let secret = path.strip_prefix(SHARE).unwrap_or_default();
    let about = worker.shared.shares.about(secret, Instant::now());
    let is_in = match &browser {
        Browser::User => true,
        Browser::Visitor(_, visitor) => about
            .as_ref()
            .is_some_and(|(_, visit)| *visit == Some(visitor.key)),
        Browser::Stranger => false,
    };
    match intake.method {
        "GET" | "HEAD" | "POST" if is_in => {
            let path = about.as_ref().map_or("/", |(path, _)| path.as_str());
            Ok(redirect(path))
        }
        "GET" | "HEAD" => {
            let mut reply = page(200, web::share_page(&plan.realm, intake.target));
            // The address is a secret: it goes nowhere, not even to the application behind us.
            for (name, value) in &mut reply.fields {
                if *name == "referrer-policy" {
                    *value = Cow::Borrowed("no-referrer");
                }
            }
            Ok(reply)
        }
        "POST" => open(worker, plan, intake, secret, &browser, record),
        _ => Err(Refusal::new(Reason::MethodDenied, "a page of ours")),
    }
}

fn open(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    secret: &str,
    browser: &Browser<'_>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    // A page without a referrer sends `Origin: null` with its own form; `Sec-Fetch-Site` says where it stands.
    let is_null = intake.facts.origin == Some(b"null");
    if !(is_null && intake.facts.fetch_site == Some(b"same-origin")) {
        same_origin(intake)?;
    }
    let client = intake.origin.client.address;
    let guess = link(worker, client, secret)?;
    let (now, wall) = (Instant::now(), SystemTime::now());
    let (visitor, id) = match worker.shared.shares.redeem(secret, now, wall) {
        Ok(opened) => opened,
        Err(Closed::Unknown) => {
            wrong_link(worker, client, guess);
            let what = "the link is unknown, used, over or revoked";
            record.refusal = Some(Refusal::new(Reason::CredentialsWrong, what));
            // A page without a challenge: a browser would ask for a name and a password, which are of no use here.
            return Ok(page(401, web::spent_page(&plan.realm, record.id)));
        }
        Err(Closed::Elsewhere) => {
            guess.unjudged();
            // Its page again, by the process that has taken our place: this connection has had its last answer.
            let mut reply = redirect(&format!("{SHARE}{secret}"));
            reply.closes = true;
            return Ok(reply);
        }
    };
    guess.unjudged();
    // The new cookie takes the place of the old one, which nobody has from now on.
    if let Browser::Visitor(old, _) = browser {
        leave(worker, old, now);
    }
    worker.tally.login("share", AuthResult::Success);
    let name = format!("share:{}", visitor.id);
    let event = Event::info("share_opened").with("client", client);
    worker.shared.log.event(event.with("user", &name));
    record.user = Some(name.into());
    record.auth = Some(Method::Share.word());
    let mut reply = redirect(&visitor.limits.path);
    let left = visitor.until.saturating_duration_since(now).as_secs();
    let cookie = plan.cookie.set(id.expose(), left);
    reply.fields.push(("set-cookie", cookie.into()));
    Ok(reply)
}

/// Ends a visit, and what runs by it on every thread.
pub(super) fn leave(worker: &Worker, id: &str, now: Instant) {
    if worker.shared.shares.leave(id, now) {
        worker.shared.sessions.stir();
    }
}

/// Who comes by a link, by our cookie; `None` when nobody does. Outside of the limits he is known, and may not.
pub(super) fn visitor<'l>(
    worker: &Worker,
    plan: &Plan,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>>,
    need: Need,
) -> Option<Result<Identity, Refusal>> {
    let values = lines.filter(|l| l.known == Name::Cookie).map(|l| l.value);
    let id = plan.cookie.find(values).ok()??;
    let visitor = worker.shared.shares.lookup(id, Instant::now())?;
    let spent = beside::by_name(plan, intake.facts.authorization);
    if need == Need::Nobody {
        return Some(Ok(Identity {
            spent,
            ..Identity::default()
        }));
    }
    if !visitor.limits.cover(&intake.authority.host, &intake.path) {
        let what = "the link is for another path or host";
        return Some(Err(Refusal::new(Reason::NotPermitted, what)));
    }
    if visitor.limits.path != "/" && intake.facts.destination.is_some() {
        let what = "a link for a path names no Destination, which may be another path";
        return Some(Err(Refusal::new(Reason::NotPermitted, what)));
    }
    let who = Who {
        user: format!("share:{}", visitor.id).into(),
        groups: "".into(),
        by: Method::Share,
    };
    Some(Ok(Identity {
        who: Some(who),
        spent,
        set_cookie: None,
        basis: Basis::Share(visitor.key, visitor.until),
    }))
}

//! Our own pages under `/.loopgate/`: log in, log out, who am I. Never forwarded, whatever the routes say.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;

use super::guess::{by_heart, verify};
use super::intake::{Intake, Line};
use super::judge::{asked, same_origin};
use super::onboard;
use super::refuse::{Reply, reply};
use super::share::{self, Browser};
use super::state::{Conn, Worker};
use crate::auth::cookie::CookieName;
use crate::auth::login::{Csrf, FORM_LIFE, Form, form, safe_return};
use crate::auth::session::{Found, Origin};
use crate::auth::session_id::ID_LENGTH;
use crate::auth::share::Visitor;
use crate::base::id::RequestId;
use crate::base::path::percent_decode;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::field::Name;
use crate::observe::Record;
use crate::plan::Plan;
use crate::web::{self, AccountPage, LOGIN, LOGOUT, LoginPage};

/// Whether the path is one of ours. Judged on the decoded path, so that no spelling of it reaches an application.
pub fn is_own(intake: &Intake<'_>) -> bool {
    intake.path.is_under(web::PREFIX.trim_end_matches('/'))
}

/// What a page is made from.
struct Visit<'a> {
    worker: &'a Worker,
    plan: &'a Plan,
    intake: &'a Intake<'a>,
    /// The values of all `Cookie` fields.
    cookies: Vec<&'a [u8]>,
}

/// Answers a request for one of our pages. `body` is what a form sent.
pub async fn answer<'l>(
    worker: &Worker,
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    body: &[u8],
    record: &mut Record,
) -> Result<Reply, Refusal> {
    plan.site.host(&asked(conn, intake))?;
    let cookies = lines
        .filter(|l| l.known == Name::Cookie)
        .map(|l| l.value)
        .collect();
    let visit = Visit {
        worker,
        plan,
        intake,
        cookies,
    };
    let path = std::str::from_utf8(&intake.path.decoded).unwrap_or_default();
    let id = record.id;
    let answered = match (path, intake.method) {
        (LOGIN, "GET" | "HEAD") => Ok(visit.login_form(None, None, 200)),
        (LOGIN, "POST") => visit.login(body, record).await,
        (LOGOUT, "POST") => visit.logout(),
        ("/.loopgate" | "/.loopgate/" | LOGOUT, "GET" | "HEAD") => Ok(visit.account()),
        (path, _) if web::SHARE.len() + ID_LENGTH == path.len() && path.starts_with(web::SHARE) => {
            share::answer(worker, plan, intake, path, visit.browser(), record)
        }
        (path, _) if path.starts_with(web::ONBOARD) => {
            onboard::answer(&worker.shared.onboard, path, intake, &plan.realm)
        }
        (LOGIN | LOGOUT | "/.loopgate/", _) => {
            Err(Refusal::new(Reason::MethodDenied, "a page of ours"))
        }
        _ => Err(Refusal::new(
            Reason::NoRoute,
            "no page of ours has this path",
        )),
    };
    answered.map(|reply| reply.numbered(id))
}

/// Where a browser without credentials is sent.
pub fn to_login(intake: &Intake<'_>) -> Reply {
    redirect(&web::login_url(intake.target))
}

pub(super) fn redirect(to: &str) -> Reply {
    let fields = vec![
        ("location", Cow::Owned(to.to_owned())),
        ("cache-control", Cow::Borrowed("no-store")),
    ];
    Reply {
        status: 303,
        fields,
        body: Bytes::new(),
        closes: false,
    }
}

pub(super) fn page(status: u16, html: String) -> Reply {
    let fields = web::page_headers()
        .into_iter()
        .map(|(name, value)| (name, Cow::Borrowed(value)))
        .collect();
    Reply {
        status,
        fields,
        body: Bytes::from(html),
        closes: false,
    }
}

impl Visit<'_> {
    fn session(&self) -> Option<(&str, Found<'_>)> {
        let id = self.plan.cookie.find(self.cookies.iter().copied()).ok()??;
        Some((
            id,
            self.worker
                .shared
                .sessions
                .lookup(&self.plan.users, id, Instant::now())?,
        ))
    }

    /// Who came by a link before, with the id in his cookie.
    fn visitor(&self) -> Option<(&str, Visitor)> {
        let id = self.plan.cookie.find(self.cookies.iter().copied()).ok()??;
        let visitor = self.worker.shared.shares.lookup(id, Instant::now())?;
        Some((id, visitor))
    }

    /// Whom a link meets.
    fn browser(&self) -> Browser<'_> {
        match (self.session(), self.visitor()) {
            (Some(_), _) => Browser::User,
            (None, Some((id, visitor))) => Browser::Visitor(id, visitor),
            (None, None) => Browser::Stranger,
        }
    }

    /// Where the query of the form's address asks to go afterwards.
    fn asked_return(&self) -> String {
        let to = self
            .intake
            .query()
            .and_then(|q| q.split('&').find_map(|pair| pair.strip_prefix("to=")))
            .unwrap_or("/");
        percent_decode(to)
            .as_deref()
            .and_then(safe_return)
            .unwrap_or("/")
            .to_owned()
    }

    fn login_form(
        &self,
        tried: Option<&Form>,
        error: Option<(&str, RequestId)>,
        status: u16,
    ) -> Reply {
        let to = tried.map_or_else(
            || self.asked_return(),
            |f| safe_return(&f.to).unwrap_or("/").to_owned(),
        );
        if tried.is_none() && self.session().is_some() {
            return redirect(&to);
        }
        let known = self
            .plan
            .login_cookie
            .find(self.cookies.iter().copied())
            .ok()
            .flatten();
        let browser = known.map_or_else(Csrf::browser, str::to_owned);
        let csrf = self.worker.shared.csrf.token(&browser, Instant::now());
        let shown = LoginPage {
            realm: &self.plan.realm,
            to: &to,
            csrf: &csrf,
            user: tried.map(|f| f.user.as_str()),
            error,
        };
        let mut reply = page(status, web::login_page(&shown));
        if known.is_none() {
            reply.fields.push((
                "set-cookie",
                self.plan
                    .login_cookie
                    .set(&browser, FORM_LIFE.as_secs())
                    .into(),
            ));
        }
        reply
    }

    async fn login(&self, body: &[u8], record: &mut Record) -> Result<Reply, Refusal> {
        let form = form(body).map_err(Refusal::bad)?;
        let now = Instant::now();
        let browser = self
            .plan
            .login_cookie
            .find(self.cookies.iter().copied())
            .ok()
            .flatten();
        if !browser.is_some_and(|b| self.worker.shared.csrf.check(&form.csrf, b, now)) {
            return Ok(self.login_form(
                Some(&form),
                Some(("This form was too old. Please try again.", record.id)),
                403,
            ));
        }
        let users = &self.plan.users;
        let known = by_heart(
            self.worker,
            self.intake.origin.client.address,
            self.plan,
            &form.user,
            form.password.expose(),
            false,
            "login",
        );
        let right = match known {
            Ok(true) => Ok(()),
            Ok(false) => {
                verify(
                    self.worker,
                    self.intake.origin.client.address,
                    self.plan,
                    &form.user,
                    form.password.clone(),
                    "login",
                )
                .await
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = right {
            return Ok(self.login_refused(&form, refusal, record));
        }
        let Some(user) = users.find(&form.user) else {
            return Ok(self.login_refused(&form, Refusal::from(Reason::CredentialsWrong), record));
        };
        if let Some((old, _)) = self.session() {
            self.worker.shared.sessions.close(old);
        }
        let opened = self.worker.shared.sessions.open(user, Origin::Login, now);
        record.user = Some(user.name().into());
        record.auth = Some("login");
        let mut reply = redirect(safe_return(&form.to).unwrap_or("/"));
        reply.fields.push((
            "set-cookie",
            self.plan
                .cookie
                .set(opened.id.expose(), self.plan.session.as_secs())
                .into(),
        ));
        reply
            .fields
            .push(("set-cookie", self.plan.login_cookie.clear().into()));
        Ok(reply)
    }

    fn login_refused(&self, form: &Form, refusal: Refusal, record: &mut Record) -> Reply {
        record.refusal = Some(refusal);
        let row = refusal.reason.row();
        let mut reply = self.login_form(Some(form), Some((row.sentence, record.id)), row.status);
        if refusal.retry() > 0 {
            reply
                .fields
                .push(("retry-after", refusal.retry().to_string().into()));
        }
        reply
    }

    fn logout(&self) -> Result<Reply, Refusal> {
        same_origin(self.intake)?;
        if let Some((id, _)) = self.session() {
            self.worker.shared.sessions.close(id);
        }
        let id = self.plan.cookie.find(self.cookies.iter().copied());
        if let Some(id) = id.ok().flatten() {
            share::leave(self.worker, id, Instant::now());
        }
        let mut reply = page(200, web::logged_out_page(&self.plan.realm));
        let clear = |name: &CookieName| ("set-cookie", Cow::Owned(name.clear()));
        reply.fields.push(clear(&self.plan.cookie));
        Ok(reply)
    }

    fn account(&self) -> Reply {
        let Some((_, found)) = self.session() else {
            return match self.visitor() {
                Some((_, visitor)) => self.visit_page(&visitor),
                None => redirect(&web::login_url("/.loopgate/")),
            };
        };
        let groups = self
            .plan
            .people
            .get(found.user.name())
            .map(|p| p.groups.clone())
            .unwrap_or_else(|| "".into());
        let groups: Vec<&str> = groups.split(',').filter(|g| !g.is_empty()).collect();
        let shown = AccountPage {
            realm: &self.plan.realm,
            user: found.user.name(),
            groups: &groups,
            by: "a session of this browser",
            until: None,
            csrf: Some(""),
            next: "/",
        };
        page(200, web::account_page(&shown))
    }

    fn visit_page(&self, visitor: &Visitor) -> Reply {
        let shown = AccountPage {
            realm: &self.plan.realm,
            user: &format!("share:{}", visitor.id),
            groups: &[],
            by: "a link that was given to you",
            until: None,
            csrf: Some(""),
            next: &visitor.limits.path,
        };
        page(200, web::account_page(&shown))
    }
}

/// The answer to a refused request: a browser that opens a page without credentials is sent to the form.
pub fn refused(
    worker: &Worker,
    refusal: Refusal,
    intake: Option<&Intake<'_>>,
    conn: &Conn,
    plan: &Plan,
    record: &Record,
    hint: Option<&str>,
) -> Reply {
    if refusal.reason == Reason::UpstreamRefused {
        worker.shared.dial_failed.notify_one();
    }
    match intake {
        Some(intake)
            if refusal.reason == Reason::CredentialsMissing
                && intake.is_navigation()
                && intake.origin.is_secure() =>
        {
            to_login(intake).numbered(record.id)
        }
        _ => reply(refusal, intake, conn, plan, record.id, hint),
    }
}

//! The decision for a request that nobody sent, step by step: the same pure functions as on the live path. `explain` prints
//! the steps, and a `[[test]]` compares the end of them.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::meant::{gates, is_here};
use super::url::split;
use super::{Plan, certificate, visitor};
use crate::access::{Asked, Need, People, Rule};
use crate::auth::{Method, Who};
use crate::base::host::{Authority, Host};
use crate::base::loopback::Scheme;
use crate::base::path::Path;
use crate::base::refusal::{Reason, Refusal};
use crate::config::raw;

/// Where pages of our own live (contract 6).
const OWN: &str = "/.loopgate";

/// A request that nobody sent.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The address that connects.
    pub from: IpAddr,
    /// Whom it names when it is a trusted proxy: the value of `X-Forwarded-For`, behind it whom the PROXY header names.
    pub forwarded_for: Option<&'a str>,
    /// The user who is logged in.
    pub user: Option<&'a str>,
    /// The user whose client certificate there is; one that is good.
    pub certificate: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// `https://host[:port]/path`, or a path on the first host of the file.
    pub url: &'a str,
}

/// One step of the order of judgement (contract 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// What it found.
    pub found: String,
    /// The key of the configuration that decided.
    pub key: Option<String>,
    /// Whether the request goes on.
    pub passes: bool,
}

/// The steps, and how they end.
#[derive(Clone, Debug)]
pub struct Explained {
    /// As far as the request came.
    pub steps: Vec<Step>,
    /// Forwarded, or why not.
    pub decision: Result<(), Refusal>,
    /// The connection is a proxy's, so a refusal of the client is answered.
    pub(super) is_answered: bool,
    /// It is for a page of our own: answered here, never forwarded.
    pub is_own: bool,
}

impl Explained {
    /// `allowed`, or the word of the refusal.
    pub fn word(&self) -> &'static str {
        match self.decision {
            Ok(()) => "allowed",
            Err(refusal) => refusal.reason.word(),
        }
    }

    /// What the client sees: 0 where the socket is closed, `None` where the request is forwarded.
    pub fn status(&self) -> Option<u16> {
        let row = *self.decision.err()?.reason.row();
        Some(
            if self.is_answered {
                row.answered()
            } else {
                row
            }
            .status,
        )
    }

    /// The route to which an allowed request is forwarded, by its place in the file.
    pub fn forwarded_to(&self) -> Option<usize> {
        let is_forwarded = self.decision.is_ok() && !self.is_own;
        let route = self.steps.iter().find(|step| step.name == "route")?;
        let key = route.key.as_deref().filter(|_| is_forwarded)?;
        key.strip_prefix("route[")?.split(']').next()?.parse().ok()
    }

    /// Adds step 10, which no file decides: what a look at the service has found.
    #[must_use]
    pub fn looked_at(mut self, found: String, is_refused: bool) -> Self {
        self.step("exposure", found, None);
        match is_refused {
            true => self.ended(Refusal::new(
                Reason::UpstreamExposed,
                "the service can be reached around this gate",
            )),
            false => self,
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let step = |s: &Step| json!({ "step": s.name, "passes": s.passes, "found": s.found, "key": s.key });
        json!({
            "decision": self.word(),
            "status": self.status(),
            "own_page": self.is_own,
            "steps": self.steps.iter().map(step).collect::<Value>(),
        })
    }

    pub(super) fn step(
        &mut self,
        name: &'static str,
        found: impl Into<String>,
        key: Option<String>,
    ) {
        self.steps.push(Step {
            name,
            found: found.into(),
            key,
            passes: true,
        });
    }

    fn refused(
        mut self,
        name: &'static str,
        refusal: Refusal,
        found: impl Into<String>,
        key: Option<String>,
    ) -> Self {
        self.step(name, found, key);
        self.ended(refusal)
    }

    /// Refused in the last step.
    fn ended(mut self, refusal: Refusal) -> Self {
        if let Some(last) = self.steps.last_mut() {
            last.passes = false;
        }
        Self {
            decision: Err(refusal),
            ..self
        }
    }
}

/// A request as it is judged here.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The address that connects.
    pub from: IpAddr,
    /// Whom it names when it is a trusted proxy.
    pub forwarded_for: Option<&'a str>,
    /// It comes by plain HTTP.
    pub is_plain: bool,
    /// The listener's address, where it is known; else the port of the authority tells.
    pub listener: Option<SocketAddr>,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// Host and port.
    pub authority: Authority<'a>,
    /// The address that was connected to.
    pub local: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: Path<'a>,
    /// Who has proven who he is: a user, or `token:NAME`.
    pub user: Option<&'a str>,
    /// The user whose client certificate there is; one that is good.
    pub certificate: Option<&'a str>,
}

/// Judges the question. `Err` says what is wrong with the question itself.
pub fn explain(
    plan: &Plan,
    config: &raw::Config,
    question: &Question<'_>,
) -> Result<Explained, String> {
    let (authority, target) = split(question.url, config)?;
    let authority =
        Authority::parse(&authority).map_err(|what| format!("`{}`: {what}", question.url))?;
    let raw_path = target.split(['?', '#']).next().unwrap_or("/");
    // What is asked of the service as a whole is judged as its root.
    let raw_path = match (raw_path, question.method) {
        ("*", "OPTIONS") => "/",
        other => other.0,
    };
    let path = Path::parse(raw_path).map_err(|what| format!("`{}`: {what}", question.url))?;
    let sni = match &authority.host {
        Host::Name(name) => Some(name.clone().into_owned()),
        Host::Ip(_) => None,
    };
    let local = match &authority.host {
        Host::Ip(address) if is_here(plan, *address) => *address,
        Host::Ip(_) | Host::Name(_) => IpAddr::from([127, 0, 0, 1]),
    };
    let request = Request {
        from: question.from,
        forwarded_for: question.forwarded_for,
        is_plain: question.url.starts_with("http://"),
        listener: None,
        sni: sni.as_deref(),
        authority,
        local,
        method: question.method,
        path,
        user: question.user,
        certificate: question.certificate,
    };
    judge(plan, &request)
}

/// Judges the request. `Err` when there is nothing to judge it by.
pub fn judge(plan: &Plan, request: &Request<'_>) -> Result<Explained, String> {
    let mut told = Explained {
        steps: Vec::new(),
        decision: Ok(()),
        is_answered: false,
        is_own: false,
    };

    let (authority, path, local) = (&request.authority, &request.path, request.local);

    let gates = gates(plan, request.listener, authority);
    let admits = |i: &&usize| {
        let mut trial = told.clone();
        visitor::judge(&plan.listeners[**i].gate, "", request, &mut trial).is_ok()
    };
    let Some(listener) = gates.iter().find(admits).or(gates.first()).copied() else {
        return Err("there is no listener".into());
    };
    let gate = &plan.listeners[listener].gate;
    let visitor = match visitor::judge(gate, &format!("listener[{listener}]"), request, &mut told) {
        Ok(visitor) => visitor,
        Err(refusal) => return Ok(told.ended(refusal)),
    };
    if let Some(why) = plan.listeners[listener].closed() {
        let key = Some(format!("listener[{listener}].only_on"));
        told.step("listener", format!("but it is closed now: {why}"), key);
    }
    if request.is_plain && plan.listeners[listener].tls.is_some() {
        let found = "plain HTTP is answered with a redirect to https and nothing else; what follows is the request that comes back by https";
        let key = Some(format!("listener[{listener}].tls"));
        told.step("scheme", found, key);
    }

    let asked = Asked {
        host: &authority.host,
        sni: request.sni,
        path,
        method: request.method,
        client: visitor.client,
        local,
    };
    if let Err(refusal) = plan.site.host(&asked) {
        return Ok(told.refused("host", refusal, refusal.detail, None));
    }
    told.step("host", format!("{} is one of ours", authority.host), None);

    if path.is_under(OWN) {
        let found = "a page of loopgate's own: it is answered here and never forwarded; no route, lockout or login decides";
        told.step("own page", found, None);
        told.is_own = true;
        return Ok(told);
    }

    let stage = match plan.site.before(&asked) {
        Ok(stage) => stage,
        Err(refusal) => {
            let (name, route) = match refusal.reason {
                Reason::RouteNetworkDenied => ("route's networks", true),
                Reason::MethodDenied => ("method", true),
                Reason::NotPermitted => ("may they", true),
                _ => ("route", false),
            };
            let found = plan.site.table.find(&authority.host, local, path).ok();
            let key = found
                .filter(|_| route)
                .map(|at| format!("route[{at}].access"));
            return Ok(told.refused(name, refusal, refusal.detail, key));
        }
    };
    let at = stage.route();
    let route = plan.routes.get(at).ok_or("the route has no target")?;
    told.step(
        "route",
        format!("{} leads to {}", route.label, route.upstream.target()),
        Some(format!("route[{at}]")),
    );
    if route.upstream.scheme() == Scheme::Https {
        let key = Some(format!("route[{at}].upstream_cert"));
        told.step("service", route.upstream.pin().to_string(), key);
    }

    let rule_key = Some(format!("route[{at}].access"));
    let believes = plan.listeners[listener].clients.is_some() && !visitor.is_through_proxy;
    let given = request.certificate.filter(|_| believes);
    let certified = match certificate::judge(plan, &stage, given, &mut told) {
        Ok(certified) => certified,
        Err(refusal) => return Ok(told.ended(refusal)),
    };
    let (needed, user) = (stage.need() == Need::Person, request.user.or(certified));
    let who = match user.filter(|_| needed).map(|name| who(plan, request, name)) {
        None => None,
        Some(Ok((who, key))) if request.user.is_none() => {
            told.step("who", format!("{}, by the certificate", who.user), key);
            let by = Method::Certificate;
            Some(Who { by, ..who })
        }
        Some(Ok((who, key))) => {
            told.step("who", format!("{} is logged in", who.user), key);
            Some(who)
        }
        Some(Err((refusal, found, key))) => {
            return Ok(told.refused("who", refusal, found, key));
        }
    };
    if !needed {
        told.step("who", "nobody is asked for", rule_key.clone());
    }
    let need = stage.need();
    if let Err(refusal) = plan.site.after(stage, who, certified) {
        let name = if refusal.reason == Reason::CredentialsMissing {
            "who"
        } else {
            "may they"
        };
        return Ok(told.refused(name, refusal, refusal.detail, rule_key));
    }
    if need == Need::Person {
        told.step("may they", rule(plan.site.rules.get(at)), rule_key);
    }
    Ok(told)
}

fn rule(rule: Option<&Rule>) -> &'static str {
    match rule.map(|r| &r.people) {
        Some(People::Some(_)) => "named, or in a named group",
        Some(People::Users | People::Anyone | People::Nobody) | None => "every user may",
    }
}

type Named = Result<(Who, Option<String>), (Refusal, String, Option<String>)>;

/// Who it is, or why not; each with the key that decided.
fn who(plan: &Plan, request: &Request<'_>, name: &str) -> Named {
    let users = Some("auth.users_file".into());
    if let Some(token) = name.strip_prefix("token:") {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |d| d.as_secs() as i64);
        let key = Some("auth.tokens_file".into());
        return match plan.tokens.judge(token, request.method, &request.path, now) {
            None => {
                let refusal = Refusal::new(Reason::CredentialsWrong, "there is no such token");
                Err((refusal, format!("there is no token `{token}`"), key))
            }
            Some(Err(why)) => Err((Refusal::new(why.reason(), ""), why.to_string(), key)),
            Some(Ok(())) => Ok((
                Who {
                    user: name.into(),
                    groups: "".into(),
                    by: Method::Token,
                },
                key,
            )),
        };
    }
    match plan.people.get(name) {
        Some(person) => Ok((
            Who {
                user: person.user.clone(),
                groups: person.groups.clone(),
                by: Method::Session,
            },
            users,
        )),
        None => {
            let refusal = Refusal::new(Reason::CredentialsWrong, "there is no such user");
            Err((refusal, format!("there is no user `{name}`"), users))
        }
    }
}

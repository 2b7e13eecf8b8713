//! The plan, from a configuration that was read. All mistakes are gathered; one is enough that there is no plan.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::routes::Making;
use super::{Kept, Limits, Plan, Route, Services, clients, expect, listener, own, people};
use crate::access::{self, Rule, Site};
use crate::auth::cookie::CookieName;
use crate::auth::users::Users;
use crate::base::loopback::{LoopbackAddr, Scheme, Target, TargetError};
use crate::config::Problem;
use crate::config::raw::{self, LogFormat, LogTarget, Workers};
use crate::limit::lockout::LockoutSettings;
use crate::net::Machine;
use crate::observe::{Format, Rotation, Sink};
use crate::route::{self, Own};

/// Compiles a plan. `base` is the directory that relative paths are meant from; `extra` are users beside those of the file.
/// Gives the warnings with the plan, or all problems.
pub fn compile(
    config: &raw::Config,
    base: &Path,
    machine: &Machine,
    kept: &Kept,
    before: Option<&Plan>,
    extra: Option<Users>,
) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    let mut problems = Vec::new();
    let list = &mut problems;
    let are_kept = extra.is_none();
    clients::agree(config, list);
    let users = extra.unwrap_or_else(|| people::users(&config.auth, base, list));
    let tokens = people::tokens(&config.auth, base, list);
    let groups = people::groups(&config.group, &users, list);
    let listeners: Vec<_> = config
        .listener
        .iter()
        .enumerate()
        .map(|(i, raw)| {
            listener::compile(
                raw,
                &format!("listener[{i}]"),
                base,
                machine,
                kept,
                config,
                list,
            )
        })
        .collect();
    for (i, listener) in listeners.iter().enumerate() {
        let others = listeners.iter().take(i).flat_map(|l| &l.listener.addresses);
        for address in others.filter(|a| a.port() != 0 && listener.listener.addresses.contains(a)) {
            let message = format!("another listener has the address {address} already");
            list.push(
                Problem::error(
                    "duplicate-address",
                    format!("listener[{i}].address"),
                    message,
                )
                .hint("put its rules into one `[[listener]]`"),
            );
        }
    }
    if config.listener.is_empty() {
        let problem = Problem::error(
            "no-listener",
            "",
            "there is no listener, so nothing would be served",
        );
        list.push(problem.hint("add `[[listener]]` with `address = \"0.0.0.0:8443\"` and `networks = { allow = [\"this-lan\", \"loopback\"] }`"));
    }
    if config.route.is_empty() {
        let problem = Problem::error(
            "no-route",
            "",
            "there is no route, so nothing would be served",
        );
        list.push(problem.hint("add `[[route]]` with `upstream = \"127.0.0.1:3000\"`"));
    }
    let mut names: HashSet<String> = machine.names.iter().cloned().collect();
    let mut addresses: HashSet<_> = machine.addresses.iter().copied().collect();
    for listener in &listeners {
        names.extend(listener.names.iter().cloned());
        addresses.extend(listener.ips.iter().copied());
    }
    let table = route::compile(&config.route, Own { names, addresses }, list);
    let known = |user: &str| {
        users.find(user).is_some()
            || user
                .strip_prefix("token:")
                .is_some_and(|name| tokens.iter().any(|t| t.name == name))
    };
    let (mut rules, mut routes): (Vec<Rule>, Vec<Route>) = (Vec::new(), Vec::new());
    let mut making = Making::new(before, kept, base, are_kept);
    for (i, raw) in config.route.iter().enumerate() {
        let key = format!("route[{i}]");
        let rule = access::compile(raw, &key, &groups, &known, machine, list);
        let needs_people = matches!(rule.people, access::People::Users);
        if needs_people && users.is_empty() && config.auth.users_file.is_none() {
            let problem = Problem::error(
                "no-users",
                format!("{key}.access"),
                "this route is for users, but there is no users file",
            );
            list.push(problem.hint("write `users_file = \"users.htpasswd\"` under `[auth]` and add somebody with `loopgate user add NAME`, or write `access = \"anyone\"`"));
        }
        if let Some(route) = making.route(raw, &key, &rule, list) {
            routes.push(route);
        }
        rules.push(rule);
    }
    let people = people::people(&users, &groups);
    let admin = admin(config.admin.as_ref(), &mut problems);
    let own: Vec<_> = listeners
        .iter()
        .flat_map(|l| l.listener.addresses.iter().copied())
        .collect();
    own::refuse(config, &own, admin.as_ref(), &mut problems);
    let is_unread = |p: &Problem| {
        matches!(p.code, "users-file" | "tokens-file")
            && p.severity == crate::config::Severity::Error
    };
    if problems.iter().any(is_unread) {
        // Nobody can tell who is missing in a file that cannot be read.
        problems.retain(|p| p.code != "unknown-user");
    }
    if before.is_some() {
        // Who was removed may still be named in a group or a rule, where nobody can be him any more. That must not keep him in:
        // refusing the whole file would leave the old plan, and him, in force.
        for problem in problems.iter_mut().filter(|p| p.code == "unknown-user") {
            problem.severity = crate::config::Severity::Warning;
        }
    }
    if problems
        .iter()
        .any(|p| p.severity == crate::config::Severity::Error)
    {
        return Err(problems);
    }
    let listeners: Vec<_> = listeners
        .into_iter()
        .map(|l| Arc::new(l.listener))
        .collect();
    // Two gates on one host have two ports, and where the ports that clients see are others, two states. Both stay the same from start
    // to start. A reload keeps the names, and with them the sessions.
    let port = listeners
        .first()
        .and_then(|l| l.addresses.first())
        .map_or(0, |a| a.port())
        .to_string();
    let instance = || match kept.instance() {
        "" => port.clone(),
        name => format!("{port}-{name}"),
    };
    let plan = Plan {
        generation: 1,
        written: Arc::new(raw::Config {
            test: Vec::new(),
            ..config.clone()
        }),
        has_proxies: listeners.iter().any(|l| l.gate.has_proxies()),
        listeners,
        leaving: Vec::new(),
        site: Site { table, rules },
        limits: limits(&config.limits, &routes),
        services: Services::of(&routes),
        routes,
        users: Arc::new(users),
        people,
        realm: config.auth.realm.clone(),
        cookie: before.map_or_else(|| CookieName::session(&instance()), |b| b.cookie.clone()),
        login_cookie: before.map_or_else(
            || CookieName::login(&instance()),
            |b| b.login_cookie.clone(),
        ),
        session: config.auth.session.lifetime,
        session_idle: config.auth.session.idle,
        lockout: LockoutSettings {
            failures: u8::try_from(config.auth.lockout.failures).unwrap_or(u8::MAX),
            window: config.auth.lockout.window,
            ban: config.auth.lockout.ban,
            ..LockoutSettings::default()
        },
        // By port: two gates may share a state directory.
        lockout_file: match before {
            Some(before) => before.lockout_file.clone(),
            None => are_kept.then(|| kept.state.join(format!("lockouts-{port}"))),
        },
        tokens,
        workers: match config.server.workers {
            Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Workers::Count(n) => usize::from(n.get()),
        },
        admin: admin.map(Arc::new),
        sandbox: config.server.sandbox,
        drain: config.server.drain,
        log: log(&config.log, base),
    };
    expect::run(&plan, config, &mut problems);
    if problems
        .iter()
        .any(|p| p.severity == crate::config::Severity::Error)
    {
        return Err(problems);
    }
    Ok((plan, problems))
}

/// The admin address: written like an upstream, so nothing but loopback or a Unix socket can be.
fn admin(raw: Option<&raw::Admin>, problems: &mut Vec<Problem>) -> Option<LoopbackAddr> {
    let text = &raw?.address;
    let wrong = |what: String| {
        Problem::error("bad-admin", "admin.address", what)
            .hint("write `127.0.0.1:9095`, `[::1]:9095` or `unix:/run/loopgate/admin.sock`; it has no login, so no other machine may reach it")
    };
    match text.parse::<Target>() {
        Ok(target) if target.scheme == Scheme::Http && !text.contains("://") => {
            Some(target.address)
        }
        Ok(_) => {
            problems.push(wrong(format!("`{text}` is written without a scheme")));
            None
        }
        Err(TargetError::Wildcard { .. } | TargetError::NotLoopback { .. }) => {
            let what = format!(
                "`{text}` is not a loopback address, and the admin address is served without a login"
            );
            problems.push(wrong(what));
            None
        }
        Err(error) => {
            problems.push(wrong(error.to_string()));
            None
        }
    }
}

fn limits(raw: &raw::Limits, routes: &[Route]) -> Limits {
    let services: HashSet<_> = routes.iter().map(|r| Arc::as_ptr(&r.upstream)).collect();
    Limits {
        handshake: raw.handshake,
        head: raw.head,
        body_idle: raw.body_idle,
        idle: raw.idle,
        connect: raw.connect,
        answer: raw.answer.unwrap_or(Limits::FOREVER),
        head_size: raw.head_size.bytes(),
        fields: usize::from(raw.fields),
        body_size: raw.body_size.map(|s| s.bytes() as u64),
        connections: raw.connections as usize,
        connections_per_client: raw.connections_per_client as usize,
        // As far as there are descriptors (`app/descriptors`).
        service_connections: raw.connections as usize,
        services: services.len(),
    }
}

fn log(raw: &raw::Log, base: &Path) -> (Sink, Format, bool) {
    let sink = match &raw.access {
        LogTarget::Stdout => Sink::Stdout,
        LogTarget::Off => Sink::Off,
        LogTarget::File(path) => {
            let rotation = raw.rotate_size.map(|size| Rotation {
                size: size.0,
                keep: raw.keep,
            });
            Sink::File(base.join(path), rotation)
        }
    };
    let format = match raw.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    (sink, format, raw.query)
}

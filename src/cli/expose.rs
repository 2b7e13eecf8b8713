//! `loopgate expose` and `demo`: a gate for one service, from options alone.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::args::{Expose, HostHeader, LogFormat};
use super::banner::{Banner, UpstreamState, Url};
use super::called::{asked, asked_in_time, say_refused};
use super::output::Output;
use super::password::fresh_password;
use super::serve::{Ground, compiled, ground, proven, run, started};
use super::{Code, Failure};
use crate::app::{Ears, Lead, Source};
use crate::auth::password;
use crate::auth::users::Users;
use crate::base::drain::Drain;
use crate::base::loopback::{Scheme, Target};
use crate::base::secret::Secret;
use crate::config::raw::{self, Access, AccessWord, Listener, Networks, Route, Tls};
use crate::config::unit::write_duration;
use crate::demo;
use crate::exposure;

/// How long a look at the service may take before the banner says that it is not there.
const LOOK: Duration = Duration::from_millis(300);

pub(super) fn demo(output: &Output, options: &Expose) -> Result<(), Failure> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::failed)?;
    listener.set_nonblocking(true).map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let service = async move {
        let drain = Drain::default();
        if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
            let _ = demo::serve(listener, drain.watch()).await;
        }
    };
    gate(
        output,
        &address.to_string(),
        "the sample service",
        options,
        service,
    )
}

pub(super) fn expose(output: &Output, target: &str, options: &Expose) -> Result<(), Failure> {
    gate(output, target, target, options, std::future::pending())
}

fn gate(
    output: &Output,
    target: &str,
    shown: &str,
    options: &Expose,
    beside: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let parsed: Target = target.parse().map_err(|e: crate::base::loopback::TargetError| {
        let looks_own = matches!(e, crate::base::loopback::TargetError::NotLoopback { .. });
        let why = if looks_own { "\n  A service that other machines can reach needs no gate to be reached: it is reachable around it." } else { "" };
        Failure::new(Code::Usage, format!("{e}\n  {}{why}", e.repair()))
    })?;
    if options.upstream_cert.is_some() && parsed.scheme != Scheme::Https {
        let what = format!(
            "`--upstream-cert` is for https services; write `https://` before {target}, or leave it out"
        );
        return Err(Failure::new(Code::Usage, what));
    }
    let (users, password) = person(options)?;
    let mut config = config(target, options);
    let ground = ground()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let host = visited(options, &ground);
    let at_start = match options.host_header {
        HostHeader::Auto => runtime.block_on(asked(target, &host)),
        HostHeader::Keep | HostHeader::Upstream => None,
    };
    if let Some(Some(refused)) = &at_start
        && !refused.opens_in_local_mode()
    {
        output.say(&format!("loopgate: {}", refused.sentence(&host)));
    } else if let Some(Some(refused)) = &at_start {
        for route in &mut config.route {
            route.host_header = raw::HostHeader::Upstream;
        }
        let fact = refused.fact(&host);
        output.say(&format!("loopgate: {fact}; it is called localhost"));
    }
    let source = Source::Given(Box::new(Lead::new(config, users)));
    let plan = compiled(output, &source, &ground)?;
    let unknown = proven(&plan, &ground.machine, &[], "add `--unsafe-upstream`")?;
    let running = started(plan, &ground.machine, crate::app::start_alone)?;
    let urls = urls(&running.addresses, options, &ground);
    let shown = Shown {
        target: shown,
        upstream_state: state(&parsed),
        urls: &urls,
        password: password.as_ref(),
        unknown: &unknown,
    };
    output
        .print(&banner(output, &shown, options, &ground))
        .map_err(Failure::failed)?;
    if options.upstream_cert.as_deref() == Some("any") {
        output.say(&unchecked(target));
    }
    let told = async {
        if options.host_header == HostHeader::Upstream || at_start.is_some() {
            return;
        }
        if let Some(refused) = asked_in_time(target, &host).await {
            say_refused(output, options, &source, &refused, &host);
        }
    };
    let beside = async {
        tokio::join!(told, beside);
    };
    run(
        running,
        &source,
        ground,
        options.duration,
        |_| Ears::open().map_err(Failure::failed),
        beside,
    )
}

/// The name that a visitor will most likely call the service by.
fn visited(options: &Expose, ground: &Ground) -> String {
    let port = options.listen.first().map_or(8443, SocketAddr::port);
    let lan = |ip: &&IpAddr| ground.machine.this_lan.iter().any(|net| net.contains(*ip));
    let address = ground.machine.addresses.iter().find(lan);
    match (options.name.first(), address) {
        (Some(name), _) => format!("{name}:{port}"),
        (None, Some(ip)) => SocketAddr::new(*ip, port).to_string(),
        (None, None) => format!("localhost:{port}"),
    }
}

/// What the banner shows that is not an option.
pub(super) struct Shown<'a> {
    pub target: &'a str,
    pub upstream_state: UpstreamState,
    pub urls: &'a [Url],
    pub password: Option<&'a Secret<String>>,
    /// Why it cannot be told who can reach the service, if so.
    pub unknown: &'a [String],
}

/// The banner as text.
pub(super) fn banner(
    output: &Output,
    shown: &Shown<'_>,
    options: &Expose,
    ground: &Ground,
) -> String {
    let networks = networks(options);
    let until = options
        .duration
        .map(|d| format!("closes after {}", write_duration(d)));
    let own = options.tls_cert.is_some() || options.unsafe_plain_http;
    let unseen = exposure::unseen();
    let authority = (!own)
        .then(|| ground.kept.authority(&ground.machine).ok())
        .flatten();
    let fingerprint = authority.map(|a| a.fingerprint());
    let banner = Banner {
        target: shown.target,
        upstream_state: shown.upstream_state,
        urls: shown.urls,
        user: (!options.unsafe_no_auth).then_some(options.user.as_str()),
        password: shown.password,
        networks: &networks,
        until: until.as_deref(),
        fingerprint: fingerprint.as_deref(),
        ca_hint: (!own).then_some(
            "`loopgate onboard` opens a page for 10 minutes that helps a phone to trust it",
        ),
        is_plain: options.unsafe_plain_http,
        is_unproven: options.unsafe_upstream,
        unseen: &unseen,
        unknown: shown.unknown,
    };
    banner.render(output.width, output.is_terminal, output.paint())
}

/// The one who may log in, with a password that was made for this run.
pub(super) fn person(options: &Expose) -> Result<(Users, Option<Secret<String>>), Failure> {
    if options.unsafe_no_auth {
        return Ok((Users::default(), None));
    }
    let password = fresh_password();
    let hash = password::hash(password.expose().as_bytes()).map_err(Failure::failed)?;
    let line = format!("{}:{hash}\n", options.user);
    let loaded = Users::parse(line.as_bytes()).map_err(|e| {
        let what = e
            .problems
            .first()
            .map_or("it is no user name", |p| p.message.as_str())
            .to_owned();
        Failure::new(Code::Usage, format!("`--user {}`: {what}", options.user))
    })?;
    Ok((loaded.users, Some(password)))
}

fn networks(options: &Expose) -> Vec<String> {
    if options.allow.is_empty() {
        vec!["this-lan".into(), "loopback".into()]
    } else {
        options.allow.clone()
    }
}

/// The options as a configuration.
pub(super) fn config(target: &str, options: &Expose) -> raw::Config {
    let listen: Vec<String> = match options.listen.is_empty() {
        true => vec!["0.0.0.0:8443".into(), "[::]:8443".into()],
        false => options.listen.iter().map(ToString::to_string).collect(),
    };
    let mut listener = Listener::new("");
    listener.address = listen;
    listener.networks = Some(Networks {
        allow: networks(options),
        deny: Vec::new(),
    });
    if options.unsafe_plain_http {
        listener.tls = Tls::From {
            from: raw::CertificateSource::UnsafePlain,
        };
    }
    let here = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let (Some(chain), Some(key)) = (&options.tls_cert, &options.tls_key) {
        listener.tls = Tls::Files {
            chain: here(chain),
            key: here(key),
        };
    }
    let route = |hosts: Vec<String>| {
        let mut route = Route::new(target);
        route.hosts = hosts;
        route.access = Access::Word(if options.unsafe_no_auth {
            AccessWord::Anyone
        } else {
            AccessWord::Users
        });
        if options.unsafe_upstream {
            route.exposed_upstream = raw::ExposedUpstream::Warn;
        }
        if let Some(written) = &options.upstream_cert {
            route.upstream_cert = upstream_cert(written);
        }
        if options.host_header == HostHeader::Upstream {
            route.host_header = raw::HostHeader::Upstream;
        }
        route
    };
    let mut routes = vec![route(Vec::new())];
    if !options.name.is_empty() {
        routes.push(route(options.name.clone()));
    }
    let mut config = raw::Config {
        listener: vec![listener],
        route: routes,
        ..raw::Config::default()
    };
    config.log.format = match options.log_format {
        LogFormat::Text => raw::LogFormat::Text,
        LogFormat::Json => raw::LogFormat::Json,
    };
    config
}

/// What is said where any certificate of the service is taken.
pub(super) fn unchecked(target: &str) -> String {
    format!(
        "loopgate: the certificate of {target} is not checked (`--upstream-cert any`): whoever takes the port can answer in its place"
    )
}

/// `--upstream-cert`: what is no word and no fingerprint is a file.
fn upstream_cert(written: &str) -> raw::UpstreamCert {
    match written {
        "first-seen" | "any" => raw::UpstreamCert::Word(written.into()),
        _ if written.starts_with("sha256:") => raw::UpstreamCert::Word(written.into()),
        _ => raw::UpstreamCert::File {
            file: std::path::absolute(written).unwrap_or_else(|_| written.into()),
        },
    }
}

/// Every address that works, best first: names that were given, this network, this machine.
pub(super) fn urls(bound: &[SocketAddr], options: &Expose, ground: &Ground) -> Vec<Url> {
    let Some(port) = bound.first().map(SocketAddr::port) else {
        return Vec::new();
    };
    let scheme = match options.unsafe_plain_http {
        true => "http",
        false => "https",
    };
    let mut urls: Vec<Url> = options
        .name
        .iter()
        .map(|n| Url {
            url: format!("{scheme}://{n}:{port}/"),
            note: "the name you gave".into(),
        })
        .collect();
    let listens = |ip: IpAddr| {
        bound
            .iter()
            .any(|a| a.ip() == ip || (a.ip().is_unspecified() && a.is_ipv4() == ip.is_ipv4()))
    };
    let lan = |ip: &IpAddr| ground.machine.this_lan.iter().any(|net| net.contains(ip));
    let link = |ip: &IpAddr| matches!(ip, IpAddr::V6(six) if six.is_unicast_link_local());
    for ip in ground
        .machine
        .addresses
        .iter()
        .filter(|ip| lan(ip) && listens(**ip) && !link(ip))
    {
        urls.push(Url {
            url: format!("{scheme}://{}/", SocketAddr::new(*ip, port)),
            note: "this network".into(),
        });
    }
    if let Some(name) = ground
        .machine
        .names
        .iter()
        .find(|n| n.ends_with(".local"))
        .filter(|_| !ground.machine.this_lan.is_empty())
        .filter(|_| bound.iter().any(|a| !a.ip().is_loopback()))
    {
        urls.push(Url {
            url: format!("{scheme}://{name}:{port}/"),
            note: "this network, where names ending in .local are known".into(),
        });
    }
    let loopback = bound
        .iter()
        .any(|a| a.ip().is_unspecified() || a.ip().is_loopback());
    if loopback && networks(options).iter().any(|n| n == "loopback") {
        urls.push(Url {
            url: format!("{scheme}://localhost:{port}/"),
            note: "this machine".into(),
        });
    }
    urls
}

/// Whether something listens there now. Not to be there yet is no mistake.
pub(super) fn state(target: &Target) -> UpstreamState {
    let there = match target.address.unix() {
        Some(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
        None => target
            .address
            .sockets()
            .any(|a| std::net::TcpStream::connect_timeout(&a, LOOK).is_ok()),
    };
    if there {
        UpstreamState::Up
    } else {
        UpstreamState::Waiting
    }
}

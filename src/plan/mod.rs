//! Everything the gate works by, validated, as one immutable value that is replaced as one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::access::Site;
use crate::auth::certificate::Clients;
use crate::auth::cookie::CookieName;
use crate::auth::token::Tokens;
use crate::auth::users::Users;
use crate::base::loopback::LoopbackAddr;
use crate::base::secret::Secret;
use crate::config::raw;
use crate::gate::Gate;
use crate::limit::lockout::LockoutSettings;
use crate::observe::metrics::Slot;
use crate::observe::{Format, Metrics, Sink};
use crate::tls::ServerTls;
use crate::upstream::{Bounds, Upstream};

mod certificate;
mod clients;
mod compile;
mod expect;
mod explain;
mod instance;
mod kept;
mod leaving;
mod listener;
mod live;
mod meant;
mod own;
mod past;
mod people;
mod routes;
mod url;
mod visitor;
mod withdraw;

pub use compile::compile;
pub use explain::{Explained, Question, Request, Step, explain, judge};
pub use kept::Kept;
pub use leaving::{Former, Leaving, Services};
pub use live::Live;
pub use past::{again, is_beside};
pub use withdraw::Withdrawal;

/// The whole validated configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which plan of this process it is; set when it goes live.
    pub generation: u64,
    /// What it was made of, without its tests: the same again when the machine is elsewhere.
    pub written: Arc<raw::Config>,
    /// Where to listen.
    pub listeners: Vec<Arc<Listener>>,
    /// Where the plans before listened; what runs there may finish. Set when it goes live.
    pub leaving: Vec<Leaving>,
    /// A listener believes proxies. Where none does, no request is looked at for what they say.
    pub has_proxies: bool,
    /// Hosts, paths and rules.
    pub site: Site,
    /// What each route leads to; the index is the route.
    pub routes: Vec<Route>,
    /// The services of all routes.
    pub services: Services,
    /// The limits.
    pub limits: Limits,
    /// Who may log in.
    pub users: Arc<Users>,
    /// Name and groups of each user, ready to be handed out.
    pub people: HashMap<String, Person>,
    /// The realm that people see.
    pub realm: String,
    /// The session cookie.
    pub cookie: CookieName,
    /// The cookie that binds the login form to a browser.
    pub login_cookie: CookieName,
    /// How long a session lives, idle or not.
    pub session: Duration,
    /// The same without a request.
    pub session_idle: Duration,
    /// Failed logins: how many, within what time, and for how long they lock out at first.
    pub lockout: LockoutSettings,
    /// Where failed logins are kept over a restart; `None` where the users are new ones every time.
    pub lockout_file: Option<PathBuf>,
    /// API tokens.
    pub tokens: Tokens,
    /// Data threads.
    pub workers: usize,
    /// Where health checks and metrics are served.
    pub admin: Option<Arc<LoopbackAddr>>,
    /// What the process gives up at start.
    pub sandbox: raw::Sandbox,
    /// How long running requests may go on at the end.
    pub drain: Duration,
    /// Where the access log goes, and how it looks.
    pub log: (Sink, Format, bool),
}

impl Plan {
    /// The open listener with this address, as it is written. A socket finds its rules by its address: the order of tables in
    /// the file means nothing.
    pub fn listener(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        self.open()
            .find(|listener| listener.addresses.contains(&address))
    }

    /// Gives each route its place among the counters, just before the plan goes into force.
    pub fn count_by(&mut self, metrics: &Metrics) {
        for route in &mut self.routes {
            route.slot = metrics.route(&route.label);
        }
    }

    /// The listeners that are open where this machine is now.
    pub fn open(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.iter().filter(|listener| listener.is_open)
    }

    /// Every address to listen on now.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.open()
            .flat_map(|listener| listener.addresses.iter().copied())
    }
}

/// One listener: several addresses with the same rules.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The addresses to bind.
    pub addresses: Vec<SocketAddr>,
    /// The networks in which it is open; empty for everywhere.
    pub only_on: Vec<IpNet>,
    /// Whether this machine has an address in one of them.
    pub is_open: bool,
    /// Who may connect.
    pub gate: Gate,
    /// The TLS side; `None` for plain HTTP, which only an unsafe option gives.
    pub tls: Option<Arc<ServerTls>>,
    /// Whose client certificates are believed; `None` asks for none.
    pub clients: Option<Arc<Clients>>,
}

impl Listener {
    /// Why it is closed, when it is.
    pub fn closed(&self) -> Option<String> {
        (!self.is_open).then(|| listener::elsewhere(&self.only_on))
    }

    /// Whether a connection that is open may go on: its addresses may connect, and in clear it is not where TLS is spoken now.
    pub fn keeps(&self, peer: IpAddr, source: IpAddr, is_plain: bool) -> bool {
        self.gate.judge_connection(peer, source).is_ok() && !(is_plain && self.tls.is_some())
    }
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route as logs and metrics name it: `host/path`, or `*/path`.
    pub label: Arc<str>,
    /// Its place among the counters; known once the plan goes into force.
    pub slot: Slot,
    /// The service.
    pub upstream: Arc<Upstream>,
    /// Those that it led to before; what runs there may finish. Set when the plan goes live.
    pub former: Arc<[Former]>,
    /// `host_header = "upstream"`.
    pub local_mode: bool,
    /// The rule asks for the method, so no field may change it behind us.
    pub by_method: bool,
    /// By this the application knows that the request came through the gate.
    pub secret: Option<Secret<String>>,
}

/// A user, ready to be handed to a request.
#[derive(Clone, Debug)]
pub struct Person {
    /// The name.
    pub user: Arc<str>,
    /// The groups, comma separated.
    pub groups: Arc<str>,
}

/// The limits of contract 4.
#[derive(Clone, Copy, Debug)]
#[allow(
    missing_docs,
    reason = "each is the key of that name, documented in config/raw/limits"
)]
pub struct Limits {
    pub handshake: Duration,
    pub head: Duration,
    pub body_idle: Duration,
    pub idle: Duration,
    pub connect: Duration,
    pub answer: Duration,
    pub head_size: usize,
    pub fields: usize,
    pub body_size: Option<u64>,
    pub connections: usize,
    pub connections_per_client: usize,
    /// How many connections to services there may be, idle ones included.
    pub service_connections: usize,
    /// How many services there are.
    pub services: usize,
}

impl Limits {
    /// Within what a connection to a service is made; a service that hangs leaves a quarter of them to the others.
    pub fn dial(&self) -> Bounds {
        let all = self.service_connections;
        Bounds {
            connect: self.connect,
            all,
            each: if self.services > 1 {
                all - all / 4
            } else {
                all
            },
        }
    }

    /// Stands for "none": longer than any process lives.
    pub const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
}

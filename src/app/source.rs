//! Where plans come from: a file, the options of `expose`, or a child that is followed. The same for start, reload and a changed
//! network.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::files::Stamp;
use crate::auth::users::Users;
use crate::config::{self, Origins, Problem, Report, raw};
use crate::net::Machine;
use crate::plan::{Kept, Plan, Withdrawal, compile};

/// Where plans come from.
#[derive(Debug)]
pub enum Source {
    /// A configuration file.
    File(PathBuf),
    /// The options of a command; users are not in a file.
    Given(Box<Lead>),
    /// The options of `run`, whose upstream is where the child is found.
    Led(Box<Lead>),
}

/// A source that changes while it runs: where its upstream is, how that is called, and, for a child, when it is over.
#[derive(Debug)]
pub struct Lead {
    config: Mutex<raw::Config>,
    users: Users,
    moved: Notify,
    over: Notify,
}

impl Lead {
    /// Begins with the upstream of `config`.
    pub fn new(config: raw::Config, users: Users) -> Self {
        Self {
            config: Mutex::new(config),
            users,
            moved: Notify::new(),
            over: Notify::new(),
        }
    }

    /// Every route leads to `upstream` from now on; a gate that runs from this source follows.
    pub fn front(&self, upstream: &str) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_news = false;
        for route in &mut config.route {
            is_news |= route.upstream != upstream;
            upstream.clone_into(&mut route.upstream);
        }
        if is_news {
            self.moved.notify_one();
        }
    }

    /// Every route calls the service by its own name from now on.
    pub fn call_local(&self) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        for route in &mut config.route {
            route.host_header = raw::HostHeader::Upstream;
        }
        self.moved.notify_one();
    }

    /// The gate that runs from this source drains and ends.
    pub fn end(&self) {
        self.over.notify_one();
    }
}

impl Source {
    /// Reads, checks and compiles. Gives the warnings with the plan, or everything that is wrong.
    pub fn plan(
        &self,
        machine: &Machine,
        kept: &Kept,
        before: Option<&Plan>,
    ) -> Result<(Plan, Report), Report> {
        match self {
            Self::File(path) => {
                // The paths in it are resolved already.
                let loaded = config::load(path, std::env::vars())?;
                report(
                    compile(&loaded.raw, Path::new(""), machine, kept, before, None),
                    loaded.origins,
                )
            }
            Self::Given(lead) | Self::Led(lead) => {
                let raw = lead.config.lock().unwrap_or_else(PoisonError::into_inner);
                given(&raw, &lead.users, machine, kept, before)
            }
        }
    }
}

fn given(
    raw: &raw::Config,
    users: &Users,
    machine: &Machine,
    kept: &Kept,
    before: Option<&Plan>,
) -> Result<(Plan, Report), Report> {
    let users = Some(users.clone());
    report(
        compile(raw, Path::new("."), machine, kept, before, users),
        Origins::default(),
    )
}

impl Source {
    /// Waits for the source to say something else than before.
    pub(super) async fn moved(&self) {
        match self {
            Self::File(_) => pending().await,
            Self::Given(lead) | Self::Led(lead) => lead.moved.notified().await,
        }
    }

    /// Waits for the source to say that it is over.
    pub(super) async fn over(&self) {
        match self {
            Self::File(_) | Self::Given(_) => pending().await,
            Self::Led(lead) => lead.over.notified().await,
        }
    }

    /// Whether signals are somebody else's: a child gets them first, and we end with it.
    pub(super) fn is_led(&self) -> bool {
        matches!(self, Self::Led(_))
    }
}

impl Source {
    /// The plan in force, for a machine that is elsewhere now. The file is not read again: a mistake in it must not keep the networks
    /// of the place before. Nor are its tests run, which may be about that place.
    pub fn again(
        &self,
        machine: &Machine,
        kept: &Kept,
        before: &Plan,
    ) -> Result<(Plan, Report), Report> {
        let base = match self {
            Self::File(_) => "",
            Self::Given(_) | Self::Led(_) => ".",
        };
        let users = Some(before.users.as_ref().clone());
        let (raw, base) = (&before.written, Path::new(base));
        report(
            compile(raw, base, machine, kept, Some(before), users),
            Origins::default(),
        )
    }

    /// The plan in force with the users, tokens and revocations that are in their files now, though the rest of the configuration is
    /// not taken. `None` where people are in no file.
    pub fn withdrawn(&self, kept: &Kept, before: &Plan) -> Option<Withdrawal> {
        match self {
            // The paths in it are resolved already.
            Self::File(_) => Some(before.with_people_of_now(Path::new(""), kept)),
            Self::Given(_) | Self::Led(_) => None,
        }
    }

    /// What the files behind the plan look like. The
    /// files of the plan in force count though the configuration cannot be read any more: who is removed there is out.
    pub fn stamp(&self, kept: &Kept, plan: &Plan) -> Stamp {
        let (mut config, mut beside) = (Vec::new(), Vec::new());
        if let Self::File(path) = self {
            // Those that cannot be read in one way, too: somebody repairs them.
            config = config::files(path);
            beside = named(&plan.written, kept);
            if let Ok(loaded) = config::load(path, std::env::vars()) {
                beside.extend(named(&loaded.raw, kept));
            }
        }
        Stamp::of(config, beside)
    }
}

/// The files that a configuration names. The paths in it are resolved already.
fn named(config: &raw::Config, kept: &Kept) -> Vec<PathBuf> {
    let mut files = kept.files(config);
    files.extend(config.auth.users_file.clone());
    files.extend(config.auth.tokens_file.clone());
    for route in &config.route {
        if let raw::UpstreamCert::File { file } = &route.upstream_cert {
            files.push(file.clone());
        }
    }
    for listener in &config.listener {
        if let raw::Tls::Files { chain, key } = &listener.tls {
            files.extend([chain, key].map(Clone::clone));
        }
        if let Some(raw::ClientCertificates::Files { ca, crl, .. }) = &listener.client_certificates
        {
            files.extend([ca].into_iter().chain(crl).cloned());
        }
    }
    files
}

fn report(
    compiled: Result<(Plan, Vec<Problem>), Vec<Problem>>,
    origins: Origins,
) -> Result<(Plan, Report), Report> {
    match compiled {
        Ok((plan, warnings)) => Ok((plan, Report::new(warnings, origins))),
        Err(problems) => Err(Report::new(problems, origins)),
    }
}

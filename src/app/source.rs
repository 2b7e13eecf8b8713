//! Where plans come from: a file, the options of `expose`, or a child that is followed. The same for start, reload and a changed
//! network.

use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::auth::users::Users;
use crate::config::{self, Origins, Problem, Report, raw};
use crate::net::Machine;
use crate::plan::{Kept, Plan, compile};

/// What files looked like: inode, size, and time of the last change.
pub type Stamp = Vec<(PathBuf, Option<(u64, u64, i64, i64)>)>;

/// Where plans come from.
#[derive(Debug)]
pub enum Source {
    /// A configuration file.
    File(PathBuf),
    /// The options of a command; users are not in a file.
    Given(Box<raw::Config>, Users),
    /// The options of `run`, whose upstream is where the child is found.
    Led(Box<Lead>),
}

/// A source whose upstream changes while it runs, and who says when it is over.
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
            Self::Given(raw, users) => given(raw, users, machine, kept, before),
            Self::Led(lead) => {
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
            Self::File(_) | Self::Given(..) => pending().await,
            Self::Led(lead) => lead.moved.notified().await,
        }
    }

    /// Waits for the source to say that it is over.
    pub(super) async fn over(&self) {
        match self {
            Self::File(_) | Self::Given(..) => pending().await,
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
            Self::Given(..) | Self::Led(_) => ".",
        };
        let users = Some(before.users.as_ref().clone());
        let (raw, base) = (&before.written, Path::new(base));
        report(
            compile(raw, base, machine, kept, Some(before), users),
            Origins::default(),
        )
    }

    /// What the files behind the plan look like: another value means that one of them has changed. Links are followed, so the
    /// exchange of a whole mounted directory is seen too.
    pub fn stamp(&self, kept: &Kept) -> Stamp {
        let Self::File(path) = self else {
            return Vec::new();
        };
        let mut files = vec![path.clone()];
        if let Ok(loaded) = config::load(path, std::env::vars()) {
            files = loaded.files;
            files.extend(kept.files(&loaded.raw));
            files.extend(loaded.raw.auth.users_file);
            files.extend(loaded.raw.auth.tokens_file);
            for listener in loaded.raw.listener {
                if let raw::Tls::Files { chain, key } = listener.tls {
                    files.extend([chain, key]);
                }
                if let Some(raw::ClientCertificates::Files { ca, crl, .. }) =
                    listener.client_certificates
                {
                    files.extend([ca].into_iter().chain(crl));
                }
            }
        }
        let look = |path: &PathBuf| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
        };
        files
            .into_iter()
            .map(|path| (path.clone(), look(&path)))
            .collect()
    }
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

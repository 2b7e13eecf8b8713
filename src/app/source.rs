//! Where plans come from: a file, or the options of `expose`. The same for start, reload and a changed network.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
            Self::Given(raw, users) => report(
                compile(
                    raw,
                    Path::new("."),
                    machine,
                    kept,
                    before,
                    Some(users.clone()),
                ),
                Origins::default(),
            ),
        }
    }
}

impl Source {
    /// What the files behind the plan look like: another value means that one of them has changed. Links are followed, so the
    /// exchange of a whole mounted directory is seen too.
    pub fn stamp(&self) -> Stamp {
        let Self::File(path) = self else {
            return Vec::new();
        };
        let mut files = vec![path.clone()];
        if let Ok(loaded) = config::load(path, std::env::vars()) {
            files = loaded.files;
            files.extend(loaded.raw.auth.users_file);
            files.extend(loaded.raw.auth.tokens_file);
            for listener in loaded.raw.listener {
                if let raw::Tls::Files { chain, key } = listener.tls {
                    files.extend([chain, key]);
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

//! Where plans come from: a file, or the options of `expose`. The same for start, reload and a changed network.

use std::path::{Path, PathBuf};

use crate::auth::users::Users;
use crate::config::{self, Origins, Problem, Report, raw};
use crate::net::Machine;
use crate::plan::{Kept, Plan, compile};

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
                let loaded = config::load(path, std::env::vars())?;
                let base = path
                    .parent()
                    .filter(|p| !p.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                report(
                    compile(&loaded.raw, base, machine, kept, before, None),
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

fn report(
    compiled: Result<(Plan, Vec<Problem>), Vec<Problem>>,
    origins: Origins,
) -> Result<(Plan, Report), Report> {
    match compiled {
        Ok((plan, warnings)) => Ok((plan, Report::new(warnings, origins))),
        Err(problems) => Err(Report::new(problems, origins)),
    }
}

//! `loopgate check`: every mistake of a configuration, and what is unwise in it.

use std::collections::BTreeSet;
use std::path::Path;

use super::args::ConfigFile;
use super::output::Output;
use super::serve::{env, looking};
use super::{Code, Failure};
use crate::app::{self, Source};
use crate::base::loopback::Scheme;
use crate::config::{self, Problem};
use crate::exposure::{self, Verdict, unix};
use crate::net::Machine;
use crate::plan::{Plan, Route};

pub(super) fn check(output: &Output, file: &ConfigFile, json: bool) -> Result<(), Failure> {
    let path = match config::find(file.config.as_deref(), &env) {
        Ok(path) => path,
        Err(problem) => {
            let report = config::Report::new(vec![problem], config::Origins::default());
            return tell(output, &report, json, "").and(Err(Failure::new(Code::Config, "")));
        }
    };
    let ground = looking()?;
    match Source::File(path.clone()).plan(&ground.machine, &ground.kept, None) {
        Ok((plan, mut warnings)) => {
            warnings.problems.extend(state(&ground.state));
            warnings.problems.extend(sockets(&plan));
            warnings.problems.extend(around(&plan, &ground.machine));
            let good = format!("{}: no mistakes{}", path.display(), services(&plan));
            tell(output, &warnings, json, &good)
        }
        Err(report) => tell(output, &report, json, "").and(Err(Failure::new(Code::Config, ""))),
    }
}

/// A state directory that others can change.
fn state(dir: &Path) -> Option<Problem> {
    let why = app::open_state(dir)?;
    let message = format!("the state directory {}: {why}", dir.display());
    Some(Problem::warning("state-open", "", message))
}

/// Unix sockets to which others than they should may connect, as they are now. What is not there yet is no mistake.
fn sockets(plan: &Plan) -> Vec<Problem> {
    let told = |(at, route): (usize, &Route)| {
        let standing = unix::standing(route.upstream.target().address.unix()?);
        let key = format!("route[{at}].upstream");
        let problem = Problem::warning("upstream-socket", key, standing.to_string());
        standing.is_warning().then_some(problem)
    };
    plan.routes.iter().enumerate().filter_map(told).collect()
}

/// Services that can be reached around the gate as they run now, or of which that cannot be told. Nothing is dialled for it, and it is
/// no mistake of the file.
fn around(plan: &Plan, machine: &Machine) -> Vec<Problem> {
    let upstreams = plan
        .routes
        .iter()
        .map(|r| r.upstream.target().address.clone());
    let upstreams: Vec<_> = upstreams.collect();
    let now = exposure::gather(&upstreams, &[]);
    let told = |(at, route): (usize, &Route)| {
        let upstream = &route.upstream.target().address;
        let key = format!("route[{at}].upstream");
        match exposure::judge(&now, &machine.interfaces, upstream, &[]) {
            verdict @ Verdict::CannotTell(_) => Some(Problem::warning(
                "exposure-unknown",
                key,
                verdict.to_string(),
            )),
            Verdict::Exposed(exposure) => {
                let what = match route.upstream.refuses_exposed() {
                    true => "it would be refused (`upstream-exposed`)",
                    false => "it would be served all the same",
                };
                let what = format!("as things are now {what}: {}", exposure.summary());
                let problem = Problem::warning("upstream-exposed", key, what);
                Some(problem.hint(exposure.repairs().join("; or ")))
            }
            Verdict::Loopback | Verdict::NotListening => None,
        }
    };
    plan.routes.iter().enumerate().filter_map(told).collect()
}

/// Which certificates https services are held to; a line for each.
fn services(plan: &Plan) -> String {
    let upstreams = plan.routes.iter().map(|route| &route.upstream);
    let lines: BTreeSet<String> = upstreams
        .filter(|upstream| upstream.scheme() == Scheme::Https)
        .map(|upstream| format!("\n{}: {}", upstream.target(), upstream.pin()))
        .collect();
    lines.into_iter().collect()
}

fn tell(output: &Output, report: &config::Report, json: bool, good: &str) -> Result<(), Failure> {
    let text = match (json, report.problems.is_empty()) {
        (true, _) => report.to_json().to_string(),
        (false, true) => good.to_owned(),
        (false, false) if good.is_empty() => report.render(output.color, output.width),
        (false, false) => format!("{}\n{good}", report.render(output.color, output.width)),
    };
    output.print(&text).map_err(Failure::failed)
}

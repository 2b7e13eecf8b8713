//! `loopgate check`: every mistake of a configuration, and what is unwise in it.

use std::collections::BTreeSet;

use super::args::ConfigFile;
use super::output::Output;
use super::serve::{env, ground};
use super::{Code, Failure};
use crate::app::Source;
use crate::base::loopback::Scheme;
use crate::config::{self, Problem};
use crate::exposure::unix;
use crate::plan::{Plan, Route};

pub(super) fn check(output: &Output, file: &ConfigFile, json: bool) -> Result<(), Failure> {
    let path = match config::find(file.config.as_deref(), &env) {
        Ok(path) => path,
        Err(problem) => {
            let report = config::Report::new(vec![problem], config::Origins::default());
            return tell(output, &report, json, "").and(Err(Failure::new(Code::Config, "")));
        }
    };
    let ground = ground()?;
    match Source::File(path.clone()).plan(&ground.machine, &ground.kept, None) {
        Ok((plan, mut warnings)) => {
            warnings.problems.extend(sockets(&plan));
            let good = format!("{}: no mistakes{}", path.display(), services(&plan));
            tell(output, &warnings, json, &good)
        }
        Err(report) => tell(output, &report, json, "").and(Err(Failure::new(Code::Config, ""))),
    }
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

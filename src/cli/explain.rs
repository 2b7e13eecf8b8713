//! `loopgate explain`: why a request passes or not, with the line of the file that decided.

use std::net::IpAddr;

use clap::Args;
use serde_json::Value;

use super::args::ConfigFile;
use super::output::{Output, Paint, plain};
use super::serve::{env, looking, wrong};
use super::table::Table;
use super::{Code, Failure, past};
use crate::app::Source;
use crate::config::{self, Origins};
use crate::exposure::{self, Verdict};
use crate::net::interfaces::Interfaces;
use crate::plan::{Explained, Plan, Question, explain as judge};

/// `loopgate explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The address that connects: the client's, or with --forwarded-for the proxy's
    #[arg(long, value_name = "IP", required_unless_present = "id")]
    pub from: Option<IpAddr>,
    /// A request of the log, by its id: what was decided, and what would be decided now
    #[arg(long, value_name = "REQUEST_ID", conflicts_with_all = ["from", "forwarded_for", "user", "certificate", "request"])]
    pub id: Option<String>,
    /// Whom a trusted proxy names, as X-Forwarded-For has it; the last one stands in the PROXY header where that is required
    #[arg(long, value_name = "LIST")]
    pub forwarded_for: Option<String>,
    /// The user who is logged in; without it nobody is
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The user whose client certificate the client has; without it there is none
    #[arg(long, value_name = "NAME")]
    pub certificate: Option<String>,
    /// `[METHOD] URL`: `https://app.lan/admin`, `POST /upload`
    #[arg(required_unless_present = "id", num_args = 1..=2, value_names = ["METHOD", "URL"])]
    pub request: Vec<String>,
    #[command(flatten)]
    pub file: ConfigFile,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

pub(super) fn explain(output: &Output, ask: &Explain) -> Result<(), Failure> {
    if let Some(id) = &ask.id {
        return past::explain(output, id, ask);
    }
    let usage = |what: &str| Failure::new(Code::Usage, what);
    let from = ask
        .from
        .ok_or_else(|| usage("say who asks with `--from IP`"))?;
    let path = config::find(ask.file.config.as_deref(), &env)
        .map_err(|p| Failure::new(Code::Config, p.message))?;
    let ground = looking()?;
    let loaded = config::load(&path, std::env::vars()).map_err(|report| wrong(output, &report))?;
    let (plan, _) = Source::File(path)
        .plan(&ground.machine, &ground.kept, None)
        .map_err(|report| wrong(output, &report))?;
    let (method, url) = match ask.request.as_slice() {
        [url] => ("GET", url.as_str()),
        [method, url, ..] => (method.as_str(), url.as_str()),
        [] => return Err(usage("name a URL, for example `https://app.lan/`")),
    };
    let question = Question {
        from,
        forwarded_for: ask.forwarded_for.as_deref(),
        user: ask.user.as_deref(),
        certificate: ask.certificate.as_deref(),
        method,
        url,
    };
    let told =
        judge(&plan, &loaded.raw, &question).map_err(|what| Failure::new(Code::Usage, what))?;
    let mut told = looked_at(told, &plan, &ground.machine.interfaces).to_json();
    let origins = Some(&loaded.origins);
    let text = if ask.json {
        for step in told["steps"].as_array_mut().into_iter().flatten() {
            step["place"] = place(origins, step["key"].as_str()).into();
        }
        told.to_string()
    } else {
        let steps = table(output, &told["steps"], origins);
        format!("{}\n{}", steps.trim_end(), end(&told, output.paint()))
    };
    output.print(&text).map_err(Failure::failed)
}

/// Adds the step that no file decides: whether the service can be reached around the gate, as this machine is now. Nothing is dialled
/// for it.
fn looked_at(told: Explained, plan: &Plan, interfaces: &Interfaces) -> Explained {
    let Some(route) = told.forwarded_to().and_then(|at| plan.routes.get(at)) else {
        return told;
    };
    let address = &route.upstream.target().address;
    let now = exposure::gather(std::slice::from_ref(address), &[]);
    let verdict = exposure::judge(&now, interfaces, address, &[]);
    let refuses = route.upstream.refuses_exposed();
    let found = match &verdict {
        Verdict::Exposed(exposure) if refuses => exposure.summary(),
        Verdict::Exposed(exposure) => format!(
            "{}; the file says to serve it all the same",
            exposure.summary()
        ),
        Verdict::Loopback => format!("{address} is {verdict}, as far as can be seen"),
        Verdict::NotListening | Verdict::CannotTell(_) => verdict.to_string(),
    };
    let found = match now.surroundings.hidden() {
        Some(why) => format!("{found}. {why}"),
        None => found,
    };
    told.looked_at(found, verdict.is_exposed() && refuses)
}

/// Where the key is written; empty where that is not known.
pub(super) fn place(origins: Option<&Origins>, key: Option<&str>) -> String {
    origins
        .zip(key)
        .and_then(|(origins, key)| origins.place(key))
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The steps as a table.
pub(super) fn table(output: &Output, steps: &Value, origins: Option<&Origins>) -> String {
    let mut table = Table::new(["", "STEP", "FOUND", "WHERE"]);
    for step in steps.as_array().into_iter().flatten() {
        let text = |key: &str| step[key].as_str().unwrap_or_default();
        table.row([
            match step["passes"].as_bool() {
                Some(true) => "ok",
                Some(false) | None => "no",
            },
            text("step"),
            &plain(text("found")),
            &place(origins, step["key"].as_str()),
        ]);
    }
    table.render(output.width, output.paint())
}

/// How it ends, in one line.
pub(super) fn end(told: &Value, paint: Paint) -> String {
    let word = told["decision"].as_str().unwrap_or_default();
    match told["status"].as_u64() {
        None if told["own_page"] == true => {
            paint.good("allowed: loopgate answers it itself, nothing is forwarded")
        }
        None => paint.good("allowed: the request is forwarded"),
        Some(0) => paint.bad(&format!("{word}: the socket is closed, nothing is sent")),
        Some(status) => paint.bad(&format!("{word}: the client sees {status}")),
    }
}

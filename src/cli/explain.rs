//! `loopgate explain`: why a request passes or not, with the line of the file that decided.

use serde_json::json;

use super::args::Explain;
use super::output::Output;
use super::serve::{env, ground, wrong};
use super::table::Table;
use super::{Code, Failure};
use crate::app::Source;
use crate::config;
use crate::plan::{Question, explain as judge};

pub(super) fn explain(output: &Output, ask: &Explain) -> Result<(), Failure> {
    let path = config::find(ask.file.config.as_deref(), &env)
        .map_err(|p| Failure::new(Code::Config, p.message))?;
    let ground = ground()?;
    let loaded = config::load(&path, std::env::vars()).map_err(|report| wrong(output, &report))?;
    let (plan, _) = Source::File(path)
        .plan(&ground.machine, &ground.kept, None)
        .map_err(|report| wrong(output, &report))?;
    let (method, url) = match ask.request.as_slice() {
        [url] => ("GET", url.as_str()),
        [method, url, ..] => (method.as_str(), url.as_str()),
        [] => {
            return Err(Failure::new(
                Code::Usage,
                "name a URL, for example `https://app.lan/`",
            ));
        }
    };
    let question = Question {
        from: ask.from,
        forwarded_for: ask.forwarded_for.as_deref(),
        user: ask.user.as_deref(),
        certificate: ask.certificate.as_deref(),
        method,
        url,
    };
    let told =
        judge(&plan, &loaded.raw, &question).map_err(|what| Failure::new(Code::Usage, what))?;
    let place = |key: &Option<String>| {
        key.as_deref()
            .and_then(|k| loaded.origins.place(k))
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let word = told.word();
    let status = told.status();
    let text = if ask.json {
        let steps: Vec<_> = told
            .steps
            .iter()
            .map(|s| json!({ "step": s.name, "passes": s.passes, "found": s.found, "key": s.key, "place": place(&s.key) }))
            .collect();
        json!({ "decision": word, "status": status, "steps": steps }).to_string()
    } else {
        let mut table = Table::new(["", "STEP", "FOUND", "WHERE"]);
        for step in &told.steps {
            table.row([
                if step.passes { "ok" } else { "no" },
                step.name,
                &step.found,
                &place(&step.key),
            ]);
        }
        let paint = output.paint();
        let end = match status {
            None => paint.good("allowed: the request is forwarded"),
            Some(0) => paint.bad(&format!("{word}: the socket is closed, nothing is sent")),
            Some(status) => paint.bad(&format!("{word}: the client sees {status}")),
        };
        format!("{}\n{end}", table.render(output.width, paint).trim_end())
    };
    output.print(&text).map_err(Failure::failed)
}

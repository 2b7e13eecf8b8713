//! `loopgate status`: how the running gate is doing.

use serde_json::Value;

use super::Failure;
use super::args::WhichGate;
use super::control::{gates, name};
use super::output::{Output, plain};

pub(super) fn status(output: &Output, which: &WhichGate, json: bool) -> Result<(), Failure> {
    let gates = gates(which)?;
    let text = if json {
        gates
            .iter()
            .map(|g| g.status.clone())
            .collect::<Value>()
            .to_string()
    } else if gates.len() > 1 && !which.all {
        let lines = gates
            .iter()
            .map(|g| format!("loopgate status --pid {}\n", name(g)));
        lines.collect()
    } else {
        gates
            .iter()
            .map(|g| page(&g.status))
            .collect::<Vec<_>>()
            .join("\n")
    };
    output.print(&text).map_err(Failure::failed)
}

fn page(status: &Value) -> String {
    let text = |key: &str| plain(status[key].as_str().unwrap_or("-")).into_owned();
    let mut page = format!(
        "loopgate {}  {}  pid {}  up {}s\n",
        text("version"),
        text("state"),
        status["pid"],
        status["uptime_seconds"]
    );
    page += &format!("  file         {}\n", text("config"));
    page += &format!("  connections  {}\n", status["connections"]);
    let reload = &status["reload"];
    let at = reload["at"].as_str().unwrap_or("-");
    match reload["text"].as_str() {
        None => page += &format!("  last load    {at}, accepted\n"),
        Some(why) => page += &format!("  last load    {at}, rejected:\n{}\n", plain_lines(why)),
    }
    page
}

fn plain_lines(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {}\n", plain(line)))
        .collect()
}

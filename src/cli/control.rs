//! Which running gate a command means, whether what a command has written is in force there, and `loopgate reload`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::args::WhichGate;
use super::output::{Output, plain};
use super::serve::{env, looking};
use super::{Code, Failure};
use crate::app::control::{AskError, Failed, Gate, Verb, ask, client_dirs, find};
use crate::app::{EXPOSED, Source, state_dir};
use crate::config::Severity;

/// For a reload: the plan is compiled, its tests run, every upstream is looked at.
pub(super) const PATIENCE: Duration = Duration::from_secs(130);

/// The running gates that are meant: all, the one of a file, the one of a number, or the only one. One that drains because another
/// process of its file serves now is meant only by its number, or with all.
pub(super) fn gates(which: &WhichGate) -> Result<Vec<Gate>, Failure> {
    reached(which).map(|(gates, _)| gates)
}

/// The same, and those that drain beside one of them: what is withdrawn has to end there too.
pub(super) fn reached(which: &WhichGate) -> Result<(Vec<Gate>, Vec<Gate>), Failure> {
    let dirs = client_dirs(&env, state_dir(&env).as_deref());
    let (mut gates, silent) = find(&dirs);
    if let Some(file) = &which.config {
        gates.retain(|gate| runs(gate, file));
    }
    let served: Vec<PathBuf> = gates
        .iter()
        .filter(|gate| !drains(gate))
        .filter_map(|gate| gate.status["config"].as_str().map(PathBuf::from))
        .collect();
    let is_left = |gate: &Gate| drains(gate) && served.iter().any(|file| runs(gate, file));
    let (left, gates) = match (which.pid, which.all) {
        (Some(pid), _) => {
            let meant = |gate: &Gate| gate.status["pid"].as_u64() == Some(u64::from(pid));
            let (meant, others): (Vec<_>, Vec<_>) = gates.into_iter().partition(meant);
            (others, meant)
        }
        (None, true) => (Vec::new(), gates),
        (None, false) => gates.into_iter().partition(is_left),
    };
    let beside = |one: &Gate| {
        let file = one.status["config"].as_str().map(Path::new);
        file.is_some_and(|file| gates.iter().any(|gate| !drains(gate) && runs(gate, file)))
    };
    let left = left
        .into_iter()
        .filter(|g| drains(g) && beside(g))
        .collect();
    if !gates.is_empty() {
        return Ok((gates, left));
    }
    if let Some(error) = silent.into_iter().next() {
        return Err(failure(error));
    }
    let what = match (&which.config, which.pid) {
        (Some(file), _) => format!("no running gate of yours has the file {}", file.display()),
        (None, Some(pid)) => format!("no running gate of yours has the process number {pid}"),
        (None, None) => "no gate of yours is running here".to_owned(),
    };
    let places: Vec<String> = dirs.iter().map(|d| d.display().to_string()).collect();
    Err(Failure::failed(format!(
        "{what}\n  Looked in {}. One that was started by another user, or with another STATE_DIRECTORY or RUNTIME_DIRECTORY, is found with the same.",
        places.join(", ")
    )))
}

/// Whether it ends as soon as what runs there has ended.
pub(super) fn drains(gate: &Gate) -> bool {
    gate.status["state"] == "draining"
}

pub(super) fn runs(gate: &Gate, file: &Path) -> bool {
    reads(gate, "config", file)
}

fn is_same(a: &Path, b: &Path) -> bool {
    // The file itself may be gone for the moment.
    let full = |path: &Path| std::path::absolute(path).ok();
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    (full(a).is_some() && full(a) == full(b)) || (real(a).is_some() && real(a) == real(b))
}

/// The one gate that is meant; which one has to be said when there are several.
pub(super) fn one<'g>(gates: &'g [Gate], command: &str) -> Result<&'g Gate, Failure> {
    match gates {
        [gate] => Ok(gate),
        _ => Err(Failure::new(
            Code::Usage,
            format!(
                "{} gates of yours are running here; say which one with `-c FILE` or `--pid PID`, or `--all`:\n{}",
                gates.len(),
                gates
                    .iter()
                    .map(|g| format!("  loopgate {command} --pid {}\n", name(g)))
                    .collect::<String>()
                    .trim_end()
            ),
        )),
    }
}

/// A gate in a few words: its process, and what it runs.
pub(super) fn name(gate: &Gate) -> String {
    let status = &gate.status;
    let file = status["config"].as_str().unwrap_or("without a file");
    let address = status["addresses"][0].as_str().unwrap_or("nowhere");
    let drains = if drains(gate) { ", draining" } else { "" };
    format!(
        "{}   # {}, on {address}{drains}",
        status["pid"],
        plain(file)
    )
}

/// What went wrong, with the exit code that the gate gave it.
pub(super) fn failure(error: AskError) -> Failure {
    match error {
        AskError::Failed(Failed { code, message, .. }) => Failure::new(
            match code {
                2 => Code::Usage,
                3 => Code::Config,
                4 => Code::Exposed,
                _ => Code::Failed,
            },
            message,
        ),
        error @ (AskError::Talk { .. } | AskError::Strange { .. }) => Failure::failed(error),
    }
}

/// Has the running gates read what a command has just written, and says where it is in force. `reads` are the gates that are
/// concerned. One that does not take it is the thing to know: what was withdrawn still counts there.
pub(super) fn enforce(output: &Output, reads: impl Fn(&Gate) -> bool) -> Result<(), Failure> {
    let (mut gates, silent) = find(&client_dirs(&env, state_dir(&env).as_deref()));
    gates.retain(reads);
    let mut failed: Vec<String> = silent.iter().map(ToString::to_string).collect();
    for gate in &gates {
        let rest = match ask(&gate.path, &Verb::Reload, PATIENCE) {
            Ok(_) => "",
            Err(AskError::Failed(Failed {
                are_people_taken: true,
                ..
            })) => {
                "; nothing else of its configuration is, because that has mistakes: see `loopgate check`"
            }
            Err(error) => {
                failed.push(format!("{}:\n{error}", name(gate)));
                continue;
            }
        };
        output.say(&format!("in force at {}{rest}", name(gate)));
    }
    if gates.is_empty() && failed.is_empty() {
        output.say("no gate of yours that reads it is running here; one that is started with it, or runs elsewhere and sees the file, takes it by itself");
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the file is changed, but here what it said before still counts until the gate reads it; repair what is said, then `loopgate reload`:\n{}",
        failed.join("\n")
    )))
}

/// What a command has written for people, and what it is about.
pub(super) struct Written<'a> {
    /// The key of the file under `[auth]`; a gate's status has the same.
    pub key: &'static str,
    /// The file.
    pub file: &'a Path,
    /// The configuration that named it.
    pub config: Option<PathBuf>,
    /// What a gate that goes by another file still does: `lets alice in`.
    pub still: Option<String>,
    /// Whether it does, by that other file.
    pub counts: &'a dyn Fn(&Path) -> bool,
}

/// The same for what is written about people. The gate of the configuration is concerned too when it goes by another file than the
/// configuration names now, because that was not taken: there the command has changed nothing.
pub(super) fn enforce_written(output: &Output, written: &Written<'_>) -> Result<(), Failure> {
    let (key, file) = (written.key, written.file);
    let (gates, _) = find(&client_dirs(&env, state_dir(&env).as_deref()));
    let mut configs: Vec<PathBuf> = written.config.iter().cloned().collect();
    for gate in gates.iter().filter(|gate| reads(gate, key, file)) {
        let config = gate.status["config"].as_str().map(PathBuf::from);
        configs.extend(config.filter(|one| !configs.iter().any(|known| is_same(known, one))));
    }
    let mut elsewhere = Vec::new();
    for gate in gates.iter().filter(|gate| !reads(gate, key, file)) {
        let Some(config) = written.config.as_deref().filter(|c| runs(gate, c)) else {
            continue;
        };
        let _ = ask(&gate.path, &Verb::Reload, PATIENCE);
        let now = ask(&gate.path, &Verb::Status, Duration::from_secs(10));
        let named = now.as_ref().unwrap_or(&gate.status)[key].as_str();
        let other = named.map(PathBuf::from);
        if let Some(line) = other.and_then(|other| still(written, gate, config, &other)) {
            elsewhere.push(line);
        }
    }
    for config in &configs {
        next_start(output, config);
    }
    let is_read = gates.iter().any(|gate| reads(gate, key, file));
    let done = match is_read || elsewhere.is_empty() {
        true => enforce(output, |gate| reads(gate, key, file)),
        false => Ok(()),
    };
    if elsewhere.is_empty() {
        return done;
    }
    let rest = done.err().map(|failure| failure.message);
    elsewhere.extend(rest);
    Err(Failure::failed(elsewhere.join("\n")))
}

/// What a gate of this configuration still does by another file; `None` when it goes by ours now, or that one does not say so.
fn still(written: &Written<'_>, gate: &Gate, config: &Path, other: &Path) -> Option<String> {
    if is_same(other, written.file) || !(written.counts)(other) {
        return None;
    }
    let (pid, option) = (&gate.status["pid"], written.key.replace('_', "-"));
    let what = match &written.still {
        Some(still) => format!("still {still} by {}", other.display()),
        None => format!("goes by {} and knows nothing of it", other.display()),
    };
    Some(format!(
        "{} is changed, but gate {pid} {what} (its configuration {} has mistakes and is not taken: see `loopgate check`).\n  Repair that, or write into the file that counts there: `--{option} {}`",
        written.file.display(),
        config.display(),
        other.display(),
    ))
}

/// Says which lines keep the next start from this configuration: whoever was removed is out at once, though a group or a rule still
/// names him, but no gate starts with a name in it that nobody has.
fn next_start(output: &Output, config: &Path) {
    let Ok(ground) = looking() else {
        return;
    };
    let Err(mut report) = Source::File(config.to_owned()).plan(&ground.machine, &ground.kept, None)
    else {
        return;
    };
    report.problems.retain(|p| p.severity == Severity::Error);
    output.warn(&format!(
        "warning: no gate starts with {} again before this is changed in it:\n\n{}",
        config.display(),
        report.render(output.color, output.width).trim_end()
    ));
}

/// Whether the plan in force there was made of this file; `key` is where its status names it.
pub(super) fn reads(gate: &Gate, key: &str, file: &Path) -> bool {
    let named = gate.status[key].as_str().map(Path::new);
    named.is_some_and(|named| is_same(named, file))
}

/// The file that the running gate of this configuration goes by, for a configuration that cannot be read any more: it must not
/// stand between somebody and a removal.
pub(super) fn in_force(config: &Path, key: &str) -> Option<PathBuf> {
    let (gates, _) = find(&client_dirs(&env, state_dir(&env).as_deref()));
    let gates = || gates.iter().filter(|gate| runs(gate, config));
    let gate = gates().find(|gate| !drains(gate)).or(gates().next())?;
    gate.status[key].as_str().map(PathBuf::from)
}

pub(super) fn reload(output: &Output, which: &WhichGate, json: bool) -> Result<(), Failure> {
    let (mut gates, left) = reached(which)?;
    if !which.all {
        one(&gates, "reload")?;
    }
    gates.extend(left);
    let mut result = Ok(());
    let mut told = Vec::new();
    for gate in &gates {
        match ask(&gate.path, &Verb::Reload, PATIENCE) {
            Ok(done) => {
                told.push(json!({"pid": gate.status["pid"], "result": "accepted", "problems": done["problems"]}));
                let code = |problem: &Value| problem["code"] == EXPOSED;
                let exposed = done["problems"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(code));
                let warnings = done["text"].as_str().unwrap_or_default();
                if !json {
                    if !warnings.is_empty() {
                        output.warn(warnings);
                    }
                    let but = match exposed {
                        true => ", but what can be reached around it is refused",
                        false => "",
                    };
                    let end = if drains(gate) { ", which drains" } else { "" };
                    let what = format!("accepted by {}{end}{but}", gate.status["pid"]);
                    output.print(&what).map_err(Failure::failed)?;
                }
                if exposed && result.is_ok() {
                    result = Err(Failure::new(Code::Exposed, ""));
                }
            }
            Err(error) => {
                let (problems, people) = match &error {
                    AskError::Failed(failed) => (failed.problems.clone(), failed.are_people_taken),
                    AskError::Talk { .. } | AskError::Strange { .. } => (Value::Null, false),
                };
                let word = word(&error);
                let mut failed = failure(error);
                told.push(json!({"pid": gate.status["pid"], "result": word, "message": failed.message, "problems": problems, "people_taken": people}));
                if json {
                    failed.message.clear();
                } else {
                    output.warn(&std::mem::take(&mut failed.message));
                    let but = match people {
                        true => ", but users, tokens and revocations are taken",
                        false => "",
                    };
                    let rest = match word {
                        UNKNOWN => "whether it was taken is said by `loopgate status`",
                        _ => "what was in force before stays in force",
                    };
                    output.warn(&format!("{word} by {}: {rest}{but}", gate.status["pid"]));
                }
                result = Err(failed);
            }
        }
    }
    if json {
        let text = Value::from(told).to_string();
        output.print(&text).map_err(Failure::failed)?;
    }
    result
}

const UNKNOWN: &str = "not answered";

/// What came of a reload that was not accepted. Who has not answered may have taken it.
fn word(error: &AskError) -> &'static str {
    match error {
        AskError::Failed(failed) if failed.is_busy => "not taken",
        AskError::Failed(Failed { code: 3, .. }) => "rejected",
        AskError::Failed(_) | AskError::Talk { .. } | AskError::Strange { .. } => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_still_the_same_by_its_name() {
        let here = std::env::current_dir().unwrap();
        let gone = Path::new("gone-for-a-moment.toml");
        assert!(is_same(&here.join(gone), gone));
        assert!(is_same(gone, &here.join(gone)));
        assert!(!is_same(&here.join("another.toml"), gone));
        assert!(!is_same(&here.join("folder").join(gone), gone));
    }
}

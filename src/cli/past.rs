//! `loopgate explain --id`: what was decided about a request of the log, and what would be decided now. The running gate remembers
//! the last ones; else the access log of the configuration is read.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::control::runs;
use super::explain::Explain;
use super::explain::{end, place, table};
use super::output::{Output, plain};
use super::serve::{env, looking};
use super::{Code, Failure};
use crate::app::control::{Verb, ask, client_dirs, find};
use crate::app::{Source, state_dir};
use crate::base::refusal::Reason;
use crate::config::raw::LogTarget;
use crate::config::{self, Loaded, Origins};
use crate::observe::Past;
use crate::plan::{again, is_beside};

/// For a gate to look.
const PATIENCE: Duration = Duration::from_secs(10);
/// As much of a log file is read, from its end.
const MOST: u64 = 256 << 20;
/// The longest line that is looked at.
const LONGEST: u64 = 1 << 20;

/// What was found.
struct Found {
    past: Past,
    /// What would be decided now.
    now: Result<Value, String>,
    /// Where it was found, and whether the plan has changed since.
    since: String,
    /// The same for programs; not known of a line in a file whose configuration was not touched.
    is_changed: Option<bool>,
    origins: Option<Origins>,
}

pub(super) fn explain(output: &Output, id: &str, asked: &Explain) -> Result<(), Failure> {
    if id.is_empty() || !id.bytes().all(|c| c.is_ascii_alphanumeric()) {
        let what = "a request id has letters and digits only; it stands in the log and on the page of a refusal";
        return Err(Failure::new(Code::Usage, what));
    }
    let own = asked.file.config.as_deref();
    let mut looked = Vec::new();
    let (found, files) = by_gates(id, own, &mut looked);
    let files = match (files.is_empty(), own) {
        (false, _) => files,
        (true, Some(file)) => vec![file.to_owned()],
        (true, None) => config::find(None, &env).ok().into_iter().collect(),
    };
    let found = match found {
        Some(found) => Some(found),
        None => files.iter().find_map(|file| by_file(id, file, &mut looked)),
    };
    let Some(found) = found else {
        if looked.is_empty() {
            looked.push("no gate of yours is running here, and there is no configuration file; name it with `-c FILE`".to_owned());
        }
        return Err(Failure::failed(format!(
            "there is no request {id} where one could look:\n  {}",
            looked.join("\n  ")
        )));
    };
    let text = match asked.json {
        true => for_programs(&found),
        false => for_people(output, &found),
    };
    output.print(&text).map_err(Failure::failed)
}

/// Asks the gates that run here, and gives their files as well.
fn by_gates(
    id: &str,
    own: Option<&Path>,
    looked: &mut Vec<String>,
) -> (Option<Found>, Vec<PathBuf>) {
    let (mut gates, silent) = find(&client_dirs(&env, state_dir(&env).as_deref()));
    looked.extend(silent.iter().map(ToString::to_string));
    if let Some(file) = own {
        gates.retain(|gate| runs(gate, file));
    }
    let mut files = Vec::new();
    for gate in &gates {
        let file = gate.status["config"].as_str().map(PathBuf::from);
        let verb = Verb::Explain { id: id.to_owned() };
        match ask(&gate.path, &verb, PATIENCE) {
            Ok(answer) => {
                let found = told(answer, file.as_deref());
                return (found, Vec::new());
            }
            Err(error) => looked.push(format!("the running gate {}: {error}", gate.status["pid"])),
        }
        files.extend(file);
    }
    (None, files)
}

fn told(mut answer: Value, file: Option<&Path>) -> Option<Found> {
    let past: Past = serde_json::from_value(answer["request"].take()).ok()?;
    let then = past.generation.unwrap_or(0);
    let generation = answer["generation"].as_u64().unwrap_or(0);
    let now = match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["now"].take()),
    };
    let since = match generation.saturating_sub(then) {
        0 => "The plan has not changed since.".to_owned(),
        1 => "The plan has been replaced once since; the steps are those of the plan in force."
            .to_owned(),
        n => format!(
            "The plan has been replaced {n} times since; the steps are those of the plan in force."
        ),
    };
    Some(Found {
        past,
        now,
        since,
        is_changed: Some(generation != then),
        origins: file
            .and_then(|file| config::load(file, std::env::vars()).ok())
            .map(|loaded| loaded.origins),
    })
}

fn by_file(id: &str, file: &Path, looked: &mut Vec<String>) -> Option<Found> {
    let shown = file.display();
    let loaded = match config::load(file, std::env::vars()) {
        Ok(loaded) => loaded,
        Err(_) => {
            looked.push(format!(
                "{shown}: it has mistakes (see `loopgate check`), so its log was not looked for"
            ));
            return None;
        }
    };
    let log = match &loaded.raw.log.access {
        LogTarget::File(log) => log.clone(),
        LogTarget::Off => {
            looked.push(format!(
                "{shown}: log.access is off, so nothing is written down"
            ));
            return None;
        }
        LogTarget::Stdout => {
            looked.push(format!(
                "{shown}: the access log goes to standard output, which cannot be read again here"
            ));
            return None;
        }
    };
    let mut older = log.clone().into_os_string();
    older.push(".1");
    for log in [log, older.into()] {
        match search(&log, id) {
            Ok(Some(past)) => return Some(by_line(past, &log, file, loaded)),
            Ok(None) => looked.push(format!("{}: it is not in there", log.display())),
            Err(error) => looked.push(format!("{}: {error}", log.display())),
        }
    }
    None
}

fn by_line(past: Past, log: &Path, file: &Path, loaded: Loaded) -> Found {
    let at = past.at.parse::<jiff::Timestamp>().ok();
    let auth = &loaded.raw.auth;
    let files = loaded.files.iter().map(PathBuf::as_path);
    let files = files
        .chain(auth.users_file.as_deref())
        .chain(auth.tokens_file.as_deref());
    let is_later = |path: &Path| {
        let changed = std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let changed = changed.and_then(|time| jiff::Timestamp::try_from(time).ok());
        matches!((changed, at), (Some(changed), Some(at)) if changed > at)
    };
    let changed = files
        .filter(|path| is_later(path))
        .map(|p| p.display().to_string());
    let changed: Vec<String> = changed.collect();
    let judged = match changed.is_empty() {
        true => "That file, its users and its tokens have not been written to since.".to_owned(),
        false => format!("Written to since: {}.", changed.join(", ")),
    };
    let plan = looking()
        .map_err(|failure| failure.message)
        .and_then(|ground| {
            let made = Source::File(file.to_owned()).plan(&ground.machine, &ground.kept, None);
            made.map(|(plan, _)| plan)
                .map_err(|report| report.render(false, 100))
        });
    Found {
        now: plan.and_then(|plan| again(&plan, &past).map(|told| told.to_json())),
        past,
        since: format!(
            "Found in {}, judged by {} as it is now. {judged}",
            log.display(),
            file.display()
        ),
        is_changed: (!changed.is_empty()).then_some(true),
        origins: Some(loaded.origins),
    }
}

/// The line of the request in the last part of a log.
fn search(log: &Path, id: &str) -> std::io::Result<Option<Past>> {
    let mut file = crate::disk::regular(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
    let mut reader = BufReader::new(file.take(MOST));
    let (mut found, mut line) = (None, Vec::new());
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            continue;
        };
        if text.contains(id)
            && let Some(past) = parse(text.trim_end(), id)
        {
            found = Some(past);
        }
    }
}

fn parse(line: &str, id: &str) -> Option<Past> {
    match line.starts_with('{') {
        true => from_json(&serde_json::from_str(line).ok()?, id),
        false => from_text(line, id),
    }
}

fn from_json(line: &Value, id: &str) -> Option<Past> {
    let text = |key: &str| line[key].as_str();
    if text("event") != Some("request") || text("request_id") != Some(id) {
        return None;
    }
    let peer: Option<std::net::SocketAddr> = text("peer").and_then(|t| t.parse().ok());
    Some(Past {
        id: id.to_owned(),
        at: text("ts")?.to_owned(),
        generation: None,
        peer: peer.map(|peer| peer.ip()),
        client: text("client")?.parse().ok()?,
        listener: text("listener").and_then(|t| t.parse().ok()),
        host: text("host").unwrap_or_default().to_owned(),
        method: text("method").unwrap_or_default().to_owned(),
        path: text("path").unwrap_or_default().to_owned(),
        user: text("user").map(str::to_owned),
        auth: text("auth").map(str::to_owned),
        status: line["status"].as_u64().and_then(|n| n.try_into().ok())?,
        reason: text("reason").map(str::to_owned),
        detail: text("rule").unwrap_or_default().to_owned(),
    })
}

/// `TIME CLIENT USER METHOD HOST/PATH STATUS 1.2ms 3B [REASON [(DETAIL)]] [cut] ID`; what a client says has no space in it.
fn from_text(line: &str, id: &str) -> Option<Past> {
    let rest = line.strip_suffix(id)?.strip_suffix(' ')?;
    let mut words = rest.splitn(9, ' ');
    let mut word = || words.next();
    let (at, client, user, method, url) = (word()?, word()?, word()?, word()?, word()?);
    let status = word()?.parse().ok()?;
    let (_took, _bytes) = (word()?, word()?);
    let tail = word().unwrap_or_default();
    let tail = tail.strip_suffix("cut").unwrap_or(tail).trim_end();
    let (reason, detail) = tail.split_once(' ').unwrap_or((tail, ""));
    let path = url.find('/').unwrap_or(url.len());
    Some(Past {
        id: id.to_owned(),
        at: at.to_owned(),
        generation: None,
        peer: None,
        client: client.parse().ok()?,
        listener: None,
        host: url[..path].to_owned(),
        method: method.to_owned(),
        path: url[path..].to_owned(),
        user: (user != "-").then(|| user.to_owned()),
        auth: None,
        status,
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        detail: detail
            .trim_start_matches('(')
            .trim_end_matches(')')
            .to_owned(),
    })
}

fn for_programs(found: &Found) -> String {
    let (mut now, error) = match &found.now {
        Ok(now) => (now.clone(), None),
        Err(error) => (Value::Null, Some(error)),
    };
    for step in now["steps"].as_array_mut().into_iter().flatten() {
        let at = place(found.origins.as_ref(), step["key"].as_str());
        step["place"] = at.into();
    }
    json!({ "request": found.past, "changed": found.is_changed, "now": now, "error": error })
        .to_string()
}

fn for_people(output: &Output, found: &Found) -> String {
    let (past, paint) = (&found.past, output.paint());
    let user = past.user.as_deref().map(|user| format!(", as {user}"));
    let what = format!(
        "{}  {} {}{}  from {}{}",
        past.at,
        past.method,
        past.host,
        past.path,
        past.client,
        user.unwrap_or_default()
    );
    let seen = match past.status {
        0 => "the client got no answer".to_owned(),
        status => format!("the client saw {status}"),
    };
    let then = match past.reason.as_deref() {
        None => paint.good(&format!("Then: allowed; {seen}")),
        Some(reason) if past.detail.is_empty() => paint.bad(&format!("Then: {reason}; {seen}")),
        Some(reason) => paint.bad(&format!("Then: {reason} ({}); {seen}", plain(&past.detail))),
    };
    let beside = past
        .reason
        .as_deref()
        .and_then(Reason::from_word)
        .filter(|r| is_beside(*r));
    let beside = beside.map_or(String::new(), |reason| {
        format!("\nWhat was refused as {} is not among the steps: they are about networks, names, routes and permissions.", reason.word())
    });
    let now = match &found.now {
        Ok(now) => {
            let steps = table(output, &now["steps"], found.origins.as_ref());
            format!("{}\nNow: {}", steps.trim_end(), end(now, paint))
        }
        Err(error) => format!("Now: it cannot be judged again: {error}"),
    };
    format!("{}\n{then}\n{}{beside}\n\n{now}", plain(&what), found.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_formats_are_read_and_nobody_forges_one() {
        let id = "abcdefgh12345678";
        let text = format!(
            "2026-11-28T17:20:00.123Z 192.0.2.7 ann POST app.lan:8443/a/b 403 0.1ms 12B not-permitted (the user is not named) cut {id}"
        );
        let past = parse(&text, id).expect("a line");
        assert_eq!(
            (past.client.to_string().as_str(), past.user.as_deref()),
            ("192.0.2.7", Some("ann"))
        );
        assert_eq!(
            (past.host.as_str(), past.path.as_str(), past.method.as_str()),
            ("app.lan:8443", "/a/b", "POST")
        );
        assert_eq!(
            (past.reason.as_deref(), past.detail.as_str(), past.status),
            (Some("not-permitted"), "the user is not named", 403)
        );
        let text = format!("2026-11-28T17:20:00.123Z ::1 - GET app.lan/ 200 0.1ms 12B {id}");
        let past = parse(&text, id).expect("a line");
        assert_eq!((past.reason, past.user), (None, None));
        let json = json!({ "ts": "2026-11-28T17:20:00.123Z", "event": "request", "request_id": id, "peer": "127.0.0.1:5", "client": "192.0.2.7",
            "listener": "127.0.0.1:8443", "host": "app.lan", "method": "GET", "path": "/", "status": 401, "user": null, "reason": "credentials-missing", "rule": "" });
        let past = parse(&json.to_string(), id).expect("a line");
        assert_eq!(
            (past.peer, past.reason.as_deref()),
            ("127.0.0.1".parse().ok(), Some("credentials-missing"))
        );
        // The id in a path, an event, or the user agent is not the request.
        for other in [
            format!(
                "2026-11-28T17:20:00.123Z ::1 - GET app.lan/{id} 200 0.1ms 12B zzzzzzzz12345678"
            ),
            json!({ "event": "request", "request_id": "zz", "path": format!("/{id}") }).to_string(),
            json!({ "event": "auth_failed", "request_id": id, "client": "::1" }).to_string(),
            format!("{{broken {id}"),
            id.to_owned(),
        ] {
            assert_eq!(parse(&other, id), None, "{other}");
        }
    }
}

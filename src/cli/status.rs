//! `loopgate status`: how the running gate is doing, as a page of 80 columns, once or again every second.

use std::time::Duration;

use serde_json::Value;

use super::Failure;
use super::args::WhichGate;
use super::control::{gates, name, one};
use super::output::{Output, Paint, plain};
use super::table::{Table, wrap};

/// How often the page is drawn anew.
const EVERY: Duration = Duration::from_secs(1);
/// Leaves of the local authority are renewed ten days before their end.
const SOON: i64 = 3 * 86400;

pub(super) fn status(
    output: &Output,
    which: &WhichGate,
    json: bool,
    watch: bool,
) -> Result<(), Failure> {
    if watch {
        return watched(output, which, json);
    }
    let text = text(output, which, json)?;
    output.print(&text).map_err(Failure::failed)
}

fn text(output: &Output, which: &WhichGate, json: bool) -> Result<String, Failure> {
    let gates = gates(which)?;
    if json {
        let all: Value = gates.iter().map(|g| g.status.clone()).collect();
        return Ok(all.to_string());
    }
    if gates.len() > 1 && !which.all {
        let lines = gates
            .iter()
            .map(|g| format!("loopgate status --pid {}\n", name(g)));
        return Ok(lines.collect());
    }
    let pages = gates
        .iter()
        .map(|g| page(&g.status, output.width, output.paint()));
    Ok(pages.collect::<Vec<_>>().join("\n"))
}

/// Until Ctrl-C, or until the gate or the reader is gone. Without a terminal, one page after the other (`--json`: one line after the other).
fn watched(output: &Output, which: &WhichGate, json: bool) -> Result<(), Failure> {
    if !which.all {
        one(&gates(which)?, "status --watch")?;
    }
    let mut start = "\u{1b}[2J";
    loop {
        let text = text(output, which, json)?;
        let text = match output.is_terminal && !json {
            // Home, each line to its end, and what is below: nothing flickers.
            true => format!(
                "{start}\u{1b}[H{}\u{1b}[J",
                text.replace('\n', "\u{1b}[K\n")
            ),
            false => text,
        };
        if !output.print_on(&text).map_err(Failure::failed)? {
            return Ok(());
        }
        start = "";
        std::thread::sleep(EVERY);
    }
}

fn page(status: &Value, width: usize, paint: Paint) -> String {
    let mut page = head(status, paint);
    page += &figures(status, paint);
    page += &reload(&status["reload"], paint);
    page += &restless(&status["restless"], width.max(40), paint);
    page += &log_fault(&status["log"]["fault"], width.max(40), paint);
    page += &deaf(&status["deaf"], width.max(40), paint);
    page += &sandbox(status, paint);
    for table in [
        listeners(status),
        routes(status),
        services(status),
        certificates(status),
    ] {
        if !table.is_empty() {
            page += "\n";
            page += &table.render(width.max(40), paint);
        }
    }
    for (upstream, why) in unknown(status) {
        page += "\n";
        for line in wrap(&format!("! {upstream}: {why}"), width.max(40)) {
            page += &paint.warning(&line);
            page += "\n";
        }
    }
    for why in list(&status["unseen"]) {
        page += "\n";
        for line in wrap(&format!("note: {}", words(why)), width.max(40)) {
            page += &paint.soft(&line);
            page += "\n";
        }
    }
    page
}

fn head(status: &Value, paint: Paint) -> String {
    let state = words(&status["state"]);
    let state = match state.as_str() {
        "serving" => paint.good(&state),
        _ => paint.warning(&state),
    };
    let up = span(status["uptime_seconds"].as_i64().unwrap_or(0));
    let name = paint.strong(&format!("loopgate {}", words(&status["version"])));
    let file = match status["config"].as_str() {
        Some(file) => plain(file).into_owned(),
        None => "without a file".to_owned(),
    };
    format!(
        "{name}  {state}  pid {}  up {up}\n{file}\n\n",
        status["pid"]
    )
}

fn figures(status: &Value, paint: Paint) -> String {
    let (requests, bytes, log) = (&status["requests"], &status["bytes"], &status["log"]);
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let connections = match number(&status["tunnels"]) {
        0 => number(&status["connections"]).to_string(),
        n => format!("{} and {n} tunnels", number(&status["connections"])),
    };
    let alarm = |value: &Value, some: &str, none: &str| match number(value) {
        0 => paint.good(none),
        n => paint.warning(&format!("{n} {some}")),
    };
    let rows = [
        (
            "Connections",
            connections,
            "Locked out",
            alarm(&status["locked_clients"], "networks", "nobody"),
        ),
        (
            "Requests",
            format!(
                "{}/s, {} in all",
                rate(&requests["per_second"]),
                number(&requests["total"])
            ),
            "Log",
            alarm(&log["lines_lost"], "lines lost", "nothing lost"),
        ),
        (
            "Refused",
            format!(
                "{}/s, {} in all",
                rate(&requests["refused_per_second"]),
                number(&requests["refused"])
            ),
            "Panics",
            alarm(&status["panics"], "caught", "none"),
        ),
        (
            "Bytes out, in",
            format!(
                "{}/s, {}/s",
                size(&bytes["out_per_second"]),
                size(&bytes["in_per_second"])
            ),
            "Memory",
            size(&status["memory_bytes"]),
        ),
    ];
    let line = |(a, b, c, d): (&str, String, &str, String)| {
        let (a, c) = (
            paint.soft(&format!("{a:<14}")),
            paint.soft(&format!("{c:<11}")),
        );
        format!("{a}{b:<32}{c}{d}\n")
    };
    rows.into_iter().map(line).collect()
}

/// A file that was changed and does not come to rest.
fn restless(restless: &Value, width: usize, paint: Paint) -> String {
    let (Some(file), Some(why)) = (restless["file"].as_str(), restless["why"].as_str()) else {
        return String::new();
    };
    let what = paint.bad("a changed file is not in force");
    format!("{:<14}{what}\n\n", "") + &paragraph(file, why, width)
}

/// Access lines that are lost, or go into another file than they should.
fn log_fault(fault: &Value, width: usize, paint: Paint) -> String {
    let Some(why) = fault["why"].as_str() else {
        return String::new();
    };
    let file = fault["path"].as_str().unwrap_or("standard output");
    let label = paint.soft(&format!("{:<14}", "Access log"));
    let what = paint.bad("not as it should be");
    let since = words(&fault["since"]);
    format!("{label}{what} since {since}\n\n") + &paragraph(file, why, width)
}

/// Addresses that take no connection.
fn deaf(deaf: &Value, width: usize, paint: Paint) -> String {
    let mut text = String::new();
    for one in list(deaf) {
        let label = paint.soft(&format!("{:<14}", "Listening"));
        let what = paint.bad("not everywhere");
        text += &format!("{label}{what}\n\n");
        text += &paragraph(&words(&one["address"]), &words(&one["why"]), width);
    }
    text
}

fn paragraph(file: &str, why: &str, width: usize) -> String {
    let mut text = String::new();
    for line in [format!("{}:", plain(file)), plain(why).into_owned()] {
        let lines = wrap(&line, width.saturating_sub(2));
        text.extend(lines.iter().map(|line| format!("  {}\n", line.trim_end())));
    }
    text + "\n"
}

fn reload(reload: &Value, paint: Paint) -> String {
    let label = paint.soft(&format!("{:<14}", "Last load"));
    let at = words(&reload["at"]);
    match reload["text"].as_str() {
        None => {
            let warnings = reload["warnings"].as_str().unwrap_or_default();
            let end = if warnings.is_empty() { "" } else { "\n" };
            let rest = indented(warnings);
            format!("{label}{at}, {}\n{end}{rest}{end}", paint.good("in force"))
        }
        Some(why) => {
            let what = match reload["people_taken"].as_bool() {
                Some(true) => {
                    "rejected; the plan before stays in force, with the users and tokens of now"
                }
                Some(false) | None => "rejected; the plan before stays in force",
            };
            let what = paint.bad(what);
            format!("{label}{at}, {what}\n\n{}\n", indented(why).trim_end())
        }
    }
}

fn indented(text: &str) -> String {
    let line = |line: &str| format!("  {}\n", plain(line).trim_end());
    text.trim_end().lines().map(line).collect()
}

/// What the process has given up; cut in two where it is long.
fn sandbox(status: &Value, paint: Paint) -> String {
    let given = words(&status["sandbox"]);
    let given = match given.as_str() {
        "none" => paint.warning("nothing was given up"),
        _ => given.replacen(", capabilities", &format!(",\n{:14}capabilities", ""), 1),
    };
    format!("{}{given}\n", paint.soft(&format!("{:<14}", "Sandbox")))
}

fn listeners(status: &Value) -> Table {
    let mut table = Table::new(["LISTENER", "CONNECTIONS"]);
    for listener in list(&status["listeners"]) {
        table.row([
            &words(&listener["address"]),
            &listener["connections"].to_string(),
        ]);
    }
    table
}

fn routes(status: &Value) -> Table {
    let mut table = Table::new(["ROUTE", "SERVICE", "AROUND THE GATE"]);
    for route in list(&status["routes"]) {
        let verdict = match (route["exposed"].as_bool(), route["refused"].as_bool()) {
            (Some(false), _) if !route["around_unknown"].is_null() => "UNKNOWN: see below",
            (Some(false), _) if route["around"] == "not-listening" => "nothing listens there now",
            (Some(false), _) => "no way found",
            (_, Some(true)) => "REACHABLE, so it is refused: see loopgate audit",
            _ => "REACHABLE: see loopgate audit",
        };
        table.row([&words(&route["route"]), &words(&route["upstream"]), verdict]);
    }
    table
}

/// Why it cannot be told who can reach a service, once for each.
fn unknown(status: &Value) -> Vec<(String, String)> {
    let mut told: Vec<(String, String)> = Vec::new();
    for route in list(&status["routes"]) {
        let why = words(&route["around_unknown"]);
        let upstream = words(&route["upstream"]);
        if !route["around_unknown"].is_null() && !told.iter().any(|(name, _)| *name == upstream) {
            told.push((upstream, why));
        }
    }
    told
}

/// The certificates of https services, cut to what the eye can compare; whole in `--json` and in `loopgate upstream-cert list`.
fn services(status: &Value) -> Table {
    let mut table = Table::new(["HTTPS SERVICE", "CERTIFICATE", "STATE"]);
    let mut seen = Vec::new();
    for route in list(&status["routes"]) {
        let (name, cert) = (words(&route["upstream"]), &route["certificate"]);
        if cert.is_null() || seen.contains(&name) {
            continue;
        }
        let believed = list(&cert["believed"]).iter().map(words);
        let believed: Vec<String> = believed.map(|one| one.chars().take(19).collect()).collect();
        let state = match (cert["refused"].is_null(), cert["trust"].as_str()) {
            (false, _) => "ANOTHER ONE IS REFUSED: see loopgate upstream-cert list",
            (true, Some("any")) => "any is taken",
            (true, Some("listed")) => "as written",
            (true, _) if believed.is_empty() => "none seen yet",
            (true, _) => "seen first",
        };
        table.row([&name, &believed.join(" "), state]);
        seen.push(name);
    }
    table
}

fn certificates(status: &Value) -> Table {
    let mut table = Table::new(["CERTIFICATE", "ENDS", "LEFT"]);
    for certificate in list(&status["certificates"]) {
        let left = certificate["seconds_left"].as_i64().unwrap_or(0);
        let left = match left {
            ..=0 => "OVER".to_owned(),
            1..SOON => format!("{}, SOON", span(left)),
            _ => span(left),
        };
        table.row([
            &words(&certificate["name"]),
            &words(&certificate["not_after"]),
            &left,
        ]);
    }
    table
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn words(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-")).into_owned()
}

/// A stretch of time in its two largest units.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min {} s", seconds % 60),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) if d < 60 => format!("{d} d {h} h"),
        (d, ..) => format!("{d} d"),
    }
}

fn rate(value: &Value) -> String {
    match value.as_f64().unwrap_or(0.0) {
        0.0 => "0".to_owned(),
        n if n < 10.0 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

fn size(value: &Value) -> String {
    let n = value.as_f64().unwrap_or(0.0);
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = |power: usize| 1024f64.powi(i32::try_from(power).unwrap_or(0));
    let power = (0..units.len()).rev().find(|p| n >= step(*p)).unwrap_or(0);
    match power {
        0 => format!("{n:.0} B"),
        p => format!("{:.1} {}", n / step(p), units[p]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_fits_80_columns_and_says_what_is_wrong() {
        let status = json!({
            "version": "0.1.0", "state": "serving", "pid": 4711, "uptime_seconds": 273_000,
            "config": "/etc/loopgate/loopgate.toml", "connections": 12, "tunnels": 3, "locked_clients": 1,
            "requests": {"total": 1_234_567, "per_second": 4.25, "refused": 12, "refused_per_second": 0.1},
            "bytes": {"in_per_second": 2048, "out_per_second": 3_500_000}, "memory_bytes": 20_000_000,
            "log": {"lines_lost": 0}, "panics": 0,
            "sandbox": "no new privileges, not dumpable, capabilities dropped, no files for what serves (Landlock)",
            "reload": {"at": "2026-11-28T17:20:00Z", "accepted": false, "text": "error: unknown key `acces`\n --> a.toml:7:1\n"},
            "listeners": [{"address": "0.0.0.0:8443", "connections": 12}],
            "routes": [
                {"route": "app.lan/", "upstream": "127.0.0.1:3000", "exposed": false, "refused": false,
                 "around": "unknown", "around_unknown": "cannot tell: python (pid 7) also listens on 0.0.0.0:3001: if that is the same service, everyone can reach it"},
                {"route": "off.lan/", "upstream": "127.0.0.1:3001", "exposed": false, "refused": false, "around": "not-listening", "around_unknown": null},
                {"route": "cam.lan/", "upstream": "127.0.0.1:8080", "exposed": true, "refused": true},
                {"route": "pve.lan/", "upstream": "https://127.0.0.1:8006", "exposed": false, "refused": false,
                 "certificate": {"trust": "first-seen", "believed": [format!("sha256:{}", "ab".repeat(32))], "refused": format!("sha256:{}", "cd".repeat(32))}},
            ],
            "unseen": ["Processes of other users are hidden here (`hidepid`): a forwarder that another user runs is not noticed."],
            "certificates": [
                {"name": "app.lan\u{1b}[2J", "not_after": "2026-11-30T00:00:00Z", "seconds_left": 112_000},
                {"name": "local-ca", "not_after": "2036-11-28T00:00:00Z", "seconds_left": 315_000_000},
            ],
        });
        let mut restless = status.clone();
        restless["restless"] = json!({"file": "/etc/loopgate/users\u{1b}[2J", "seconds": 31, "why": "it goes on changing, ".repeat(12) + "or `loopgate reload`"});
        let restless = page(&restless, 80, Paint::default());
        assert!(restless.contains("a changed file is not in force\n\n  /etc/loopgate/users"));
        assert!(restless.contains("or `loopgate reload`\n\n"));
        for line in restless.lines() {
            assert!(
                line.chars().count() <= 80 && !line.contains('\u{1b}'),
                "{line}"
            );
        }
        let mut log = status.clone();
        log["log"]["fault"] = json!({"path": "/var/log/loopgate/access\u{1b}[2J.log", "since": "2026-11-28T17:20:00Z", "why": "cannot open /var/log/loopgate/access.log anew: Permission denied (os error 13)"});
        let log = page(&log, 80, Paint::default());
        assert!(log.contains(
            "Access log    not as it should be since 2026-11-28T17:20:00Z\n\n  /var/log/loopgate/"
        ));
        assert!(log.contains("denied (os error 13)\n\n") && !log.contains('\u{1b}'));
        assert!(log.lines().all(|line| line.chars().count() <= 80), "{log}");
        assert!(!page(&status, 80, Paint::default()).contains("Access log"));
        let mut deaf = status.clone();
        deaf["deaf"] =
            json!([{"address": "192.0.2.7:8443", "why": "Address already in use (os error 98)"}]);
        let deaf = page(&deaf, 80, Paint::default());
        assert!(
            deaf.contains("Listening     not everywhere\n\n  192.0.2.7:8443:\n  Address already")
        );
        let mut taken = status.clone();
        taken["reload"] = json!({"at": "2026-11-28T17:20:00Z", "accepted": true, "text": null, "warnings": "warning: there is no user `bob`\n --> a.toml:9:1\n"});
        let taken = page(&taken, 80, Paint::default());
        assert!(taken.contains("in force\n\n  warning: there is no user `bob`\n   --> a.toml"));
        let page = page(&status, 80, Paint::default());
        for line in page.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert!(!line.contains('\u{1b}'));
        }
        for want in [
            "UNKNOWN: see below",
            "off.lan/  127.0.0.1:3001",
            "nothing listens there now",
            "note: Processes of other users are hidden here (`hidepid`): a forwarder that",
            "! 127.0.0.1:3000: cannot tell: python (pid 7) also listens on",
            "loopgate 0.1.0  serving  pid 4711  up 3 d 3 h",
            "12 and 3 tunnels",
            "4.2/s, 1234567 in all",
            "3.3 MiB/s, 2.0 KiB/s",
            "1 networks",
            "Sandbox       no new privileges, not dumpable,\n              capabilities dropped, no files",
            "rejected; the plan before stays in force",
            "  error: unknown key `acces`",
            "REACHABLE, so it is",
            "sha256:abababababab",
            "ANOTHER ONE IS",
            "1 d 7 h, SOON",
            "3645 d",
        ] {
            assert!(page.contains(want), "{want} is missing in\n{page}");
        }
    }

    #[test]
    fn times_and_sizes_have_the_unit_that_people_read() {
        for (seconds, want) in [
            (5, "5 s"),
            (65, "1 min 5 s"),
            (3700, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (86_400 * 90, "90 d"),
        ] {
            assert_eq!(span(seconds), want);
        }
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (5_u64 << 30, "5.0 GiB"),
        ] {
            assert_eq!(size(&json!(bytes)), want);
        }
    }
}

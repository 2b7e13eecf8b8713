//! The table of routes, from text.

use std::collections::HashMap;

use super::{Own, Paths, Table};
use crate::base::host::Host;
use crate::base::path::Path;
use crate::config::Problem;
use crate::config::raw;

/// The table of all routes. Their order in the file changes nothing: two routes for the same host and path are a mistake.
pub fn compile(routes: &[raw::Route], own: Own, problems: &mut Vec<Problem>) -> Table {
    let mut table = Table {
        own,
        ..Table::default()
    };
    let mut first: HashMap<(String, String), usize> = HashMap::new();
    for (i, route) in routes.iter().enumerate() {
        let key = format!("route[{i}]");
        let Some(path) = prefix(&route.path, &key, problems) else {
            continue;
        };
        if route.hosts.is_empty() {
            if !table.general.add(&path, i) {
                problems.push(twice(
                    &key,
                    "every host",
                    &path,
                    first.get(&(String::new(), path.clone())).copied(),
                ));
            }
            first.entry((String::new(), path)).or_insert(i);
            continue;
        }
        for (j, text) in route.hosts.iter().enumerate() {
            let at = format!("{key}.hosts[{j}]");
            let paths: &mut Paths = match Host::parse(text) {
                Ok(Host::Name(name)) => table.named.entry(name.into_owned()).or_default(),
                Ok(Host::Ip(address)) => table.addressed.entry(address).or_default(),
                Err(what) => {
                    let problem =
                        Problem::error("bad-host", at, format!("`{text}` is no host: {what}"));
                    problems.push(problem.hint("write a name such as `app.lan`, or an address, without scheme, port or wildcard"));
                    continue;
                }
            };
            if !paths.add(&path, i) {
                problems.push(twice(
                    &at,
                    text,
                    &path,
                    first.get(&(text.clone(), path.clone())).copied(),
                ));
            }
            first.entry((text.clone(), path.clone())).or_insert(i);
        }
    }
    table
}

fn twice(key: &str, host: &str, path: &str, first: Option<usize>) -> Problem {
    let other = first.map_or_else(
        || "another route".to_owned(),
        |i| format!("route {}", i + 1),
    );
    Problem::error(
        "duplicate-route",
        key,
        format!("{other} has the path `{path}` for `{host}` already"),
    )
    .hint("give one of them another path or host, or remove it")
}

/// A path prefix: absolute, without a trailing slash (but `/` itself), and with one reading only.
fn prefix(text: &str, key: &str, problems: &mut Vec<Problem>) -> Option<String> {
    let at = format!("{key}.path");
    let trimmed = if text.len() > 1 {
        text.strip_suffix('/').unwrap_or(text)
    } else {
        text
    };
    let wrong = match Path::parse(trimmed) {
        Err(what) => Some(what),
        Ok(path) => path.doubt.or(trimmed
            .contains(['%', '?', '*'])
            .then_some("it is written as it is decoded, without `%`, `?` or `*`")),
    };
    if let Some(what) = wrong {
        let problem = Problem::error(
            "bad-path",
            at,
            format!("`{text}` is no path of a route: {what}"),
        );
        problems.push(
            problem.hint("write a path such as `/` or `/admin`; it covers everything below it"),
        );
        return None;
    }
    if trimmed.starts_with("/.loopgate") {
        problems.push(
            Problem::error(
                "bad-path",
                at,
                "`/.loopgate/` is kept for loopgate's own pages",
            )
            .hint("choose another path"),
        );
        return None;
    }
    Some(trimmed.to_owned())
}

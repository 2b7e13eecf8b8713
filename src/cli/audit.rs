//! `loopgate audit` and `firewall`: the machine's sockets by who can reach them, and rules that match the plan.

use std::net::SocketAddr;

use super::args::ConfigFile;
use super::output::{Output, Paint};
use super::serve::{compiled, env, looking};
use super::{Code, Failure};
use crate::app::Source;
use crate::app::control::{client_dirs, find};
use crate::config;
use crate::exposure::audit::{GateListener, Service};
use crate::exposure::{audit as judged, firewall as nft, survey, table};
use crate::plan::{Plan, Route};

pub(super) fn audit(output: &Output, file: &ConfigFile, json: bool) -> Result<(), Failure> {
    let ground = looking()?;
    // The gate's own listeners can be named only where there is a file that says which they are.
    let mut unread = None;
    let plan = match config::find(file.config.as_deref(), &env) {
        // Who names a file has its mistakes told, as by `firewall`.
        Ok(path) if file.config.is_some() => Some(compiled(output, &Source::File(path), &ground)?),
        Ok(path) => {
            let name = path.display().to_string();
            let plan = Source::File(path).plan(&ground.machine, &ground.kept, None);
            let what =
                "has mistakes (see `loopgate check`), so what its gate lets in is not known.";
            unread = plan.is_err().then(|| format!("{name} {what}"));
            plan.ok().map(|(plan, _)| plan)
        }
        Err(problem) if file.config.is_some() => {
            return Err(Failure::new(Code::Config, problem.message));
        }
        Err(_) => None,
    };
    let gate: Vec<GateListener> = plan.iter().flat_map(listeners).collect();
    let mut snapshot = survey();
    // The sandbox of a gate hides its sockets from its own user, but it answers him.
    let dirs = client_dirs(&env, Some(&ground.state));
    for running in find(&dirs).0 {
        let status = &running.status;
        let pid = status["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok());
        snapshot.gates.extend(pid);
        let addresses = status["addresses"].as_array().into_iter().flatten();
        let parsed = addresses.filter_map(|a| a.as_str()?.parse().ok());
        snapshot.told.extend::<Vec<SocketAddr>>(parsed.collect());
    }
    let services: Vec<Service> = plan.iter().flat_map(services).collect();
    let mut found = judged(&snapshot, &ground.machine.interfaces, &gate, &services);
    found.unseen.extend(unread);
    let text = match json {
        true => serde_json::to_string(&found).map_err(Failure::failed)?,
        false => painted(&table::render(&found, output.width), output.paint()),
    };
    output.print(text.trim_end()).map_err(Failure::failed)?;
    match found.has_unguarded() {
        true => Err(Failure::new(Code::Exposed, "")),
        false => Ok(()),
    }
}

/// The table with colours: what is open and unguarded, our own, and the headings. Lines that go on are indented and stay plain.
fn painted(table: &str, paint: Paint) -> String {
    let line = |line: &str| {
        let is_heading = line.chars().all(|c| c.is_ascii_uppercase() || c == ' ');
        match line.split_once(' ') {
            Some(("!", _)) => paint.bad(line),
            Some(("#", _)) => paint.good(line),
            Some(("note:", _)) => paint.soft(line),
            _ if line.trim_start().starts_with("repair: ") => paint.warning(line),
            _ if is_heading => paint.strong(line),
            _ => line.to_owned(),
        }
    };
    table.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The listeners of a plan that are open where this machine is now: elsewhere (`only_on`) the gate has no socket, and whoever has one
/// at that address is somebody else.
fn listeners(plan: &Plan) -> Vec<GateListener> {
    let lets_in = |gate: &crate::gate::Gate| {
        gate.allowed()
            .iter()
            .chain(gate.trusted())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    plan.listeners
        .iter()
        .filter(|l| l.is_open)
        .flat_map(|l| {
            l.addresses
                .iter()
                .map(|address| GateListener {
                    address: *address,
                    lets_in: lets_in(&l.gate),
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// What the routes of a plan lead to.
fn services(plan: &Plan) -> Vec<Service> {
    let service = |route: &Route| Service {
        route: route.label.to_string(),
        at: route.upstream.target().address.sockets().collect(),
    };
    plan.routes.iter().map(service).collect()
}

pub(super) fn firewall(output: &Output, file: &ConfigFile) -> Result<(), Failure> {
    let path = config::find(file.config.as_deref(), &env)
        .map_err(|p| Failure::new(Code::Config, p.message))?;
    let ground = looking()?;
    let plan = compiled(output, &Source::File(path), &ground)?;
    let listeners: Vec<nft::Listener> = plan
        .listeners
        .iter()
        .flat_map(|l| {
            let one = |address: &std::net::SocketAddr| nft::Listener {
                address: *address,
                allow: [l.gate.allowed(), l.gate.trusted()].concat(),
                deny: l.gate.denied().to_vec(),
                closed: l.closed(),
            };
            l.addresses.iter().map(one).collect::<Vec<_>>()
        })
        .collect();
    let ports: Vec<u16> = plan
        .routes
        .iter()
        .filter_map(|r| r.upstream.target().address.port())
        .collect();
    output
        .print(nft::rules(&listeners, &ports).trim_end())
        .map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_mark_what_is_open_and_leave_the_words_alone() {
        let table = "OPEN TO SINGLE NETWORKS\n! tcp 0.0.0.0:80  x\n      repair: bind it\n# tcp 0.0.0.0:8443  loopgate\n  udp 0.0.0.0:5353\n\nnote: so";
        assert_eq!(painted(table, Paint { color: false }), table);
        let painted = painted(table, Paint { color: true });
        let colored: Vec<bool> = painted.lines().map(|l| l.contains("\u{1b}[")).collect();
        assert_eq!(colored, [true, true, true, true, false, false, true]);
    }
}

//! `loopgate audit` and `firewall`: the machine's sockets by who can reach them, and rules that match the plan.

use super::args::ConfigFile;
use super::output::Output;
use super::serve::{compiled, env, ground};
use super::{Code, Failure};
use crate::app::Source;
use crate::config;
use crate::exposure::audit::GateListener;
use crate::exposure::{audit as judged, firewall as nft, survey, table};
use crate::plan::Plan;

pub(super) fn audit(output: &Output, file: &ConfigFile, json: bool) -> Result<(), Failure> {
    let ground = ground()?;
    // The gate's own listeners can be named only where there is a file that says which they are.
    let plan = match config::find(file.config.as_deref(), &env) {
        Ok(path) => Source::File(path)
            .plan(&ground.machine, &ground.kept, None)
            .ok()
            .map(|(plan, _)| plan),
        Err(problem) if file.config.is_some() => {
            return Err(Failure::new(Code::Config, problem.message));
        }
        Err(_) => None,
    };
    let gate: Vec<GateListener> = plan.iter().flat_map(listeners).collect();
    let found = judged(&survey(), &ground.machine.interfaces, &gate);
    let text = match json {
        true => serde_json::to_string(&found).map_err(Failure::failed)?,
        false => table::render(&found, output.width),
    };
    output.print(text.trim_end()).map_err(Failure::failed)?;
    match found.has_unguarded() {
        true => Err(Failure::new(Code::Exposed, "")),
        false => Ok(()),
    }
}

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

pub(super) fn firewall(output: &Output, file: &ConfigFile) -> Result<(), Failure> {
    let path = config::find(file.config.as_deref(), &env)
        .map_err(|p| Failure::new(Code::Config, p.message))?;
    let ground = ground()?;
    let plan = compiled(output, &Source::File(path), &ground)?;
    let listeners: Vec<nft::Listener> = plan
        .listeners
        .iter()
        .flat_map(|l| {
            let one = |address: &std::net::SocketAddr| nft::Listener {
                address: *address,
                allow: [l.gate.allowed(), l.gate.trusted()].concat(),
                deny: l.gate.denied().to_vec(),
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

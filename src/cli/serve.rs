//! `loopgate serve`, and what it shares with `expose`: from a source of plans to a gate that runs to its end.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::args::ConfigFile;
use super::control::{drains, runs};
use super::output::Output;
use super::{Code, Failure};
use crate::app::control::{Control, find, server_dir};
use crate::app::{self, BindError, Ears, Estate, Running, Site, Source, StartError};
use crate::config::{self, Report};
use crate::net::Machine;
use crate::net::machine;
use crate::observe::Event;
use crate::plan::{Kept, Plan};

pub(super) fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// What a command starts from.
pub(super) struct Ground {
    pub machine: Machine,
    pub kept: Kept,
    /// The state directory.
    pub state: PathBuf,
}

/// Looks at the machine and finds the state directory.
pub(super) fn ground() -> Result<Ground, Failure> {
    ground_with(Kept::new)
}

/// The same for a command that only looks: it writes nothing there.
pub(super) fn looking() -> Result<Ground, Failure> {
    ground_with(Kept::looking)
}

fn ground_with(kept: impl FnOnce(PathBuf) -> Kept) -> Result<Ground, Failure> {
    let machine = machine::read()
        .map_err(|e| Failure::failed(format!("cannot read the network interfaces: {e}")))?;
    let state = app::state_dir(&env).ok_or_else(|| {
        Failure::failed("no place for the state is known; set STATE_DIRECTORY to a directory")
    })?;
    Ok(Ground {
        machine,
        kept: kept(state.clone()),
        state,
    })
}

/// Compiles, or shows what is wrong.
pub(super) fn compiled(output: &Output, source: &Source, ground: &Ground) -> Result<Plan, Failure> {
    match source.plan(&ground.machine, &ground.kept, None) {
        Ok((plan, warnings)) => {
            if !warnings.problems.is_empty() {
                output.warn(&warnings.render(output.color, output.width));
            }
            Ok(plan)
        }
        Err(report) => Err(wrong(output, &report)),
    }
}

/// A report as a failure.
pub(super) fn wrong(output: &Output, report: &Report) -> Failure {
    Failure::new(Code::Config, report.render(output.color, output.width))
}

/// What to write in a file for a service that may be reached around the gate.
const IN_FILE: &str = "write `exposed_upstream = \"warn\"` in its `[[route]]`";

/// Proves that nothing goes around the gate, or says what does (exit 4), and what to do `otherwise`.
/// `ours` are addresses that we have sockets of already. What cannot be told is given, in sentences.
pub(super) fn proven(
    plan: &Plan,
    machine: &Machine,
    ours: &[SocketAddr],
    otherwise: &str,
) -> Result<Vec<String>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let found = runtime.block_on(app::look(plan, machine, ours, None));
    if found.exposed.is_empty() {
        return Ok(found.unsure.into_iter().map(|(_, why)| why).collect());
    }
    let mut lines: Vec<String> = found
        .exposed
        .iter()
        .map(|(_, verdict)| verdict.to_string())
        .collect();
    lines.push(format!(
        "Nothing was started. If you mean that, {otherwise}."
    ));
    Err(Failure::new(Code::Exposed, lines.join("\n")))
}

/// Binds and begins.
pub(super) fn started(
    plan: Plan,
    machine: &Machine,
    start: impl FnOnce(Plan) -> Result<Running, StartError>,
) -> Result<Running, Failure> {
    for tls in plan.listeners.iter().filter_map(|l| l.tls.as_ref()) {
        tls.warm(&machine.addresses, SystemTime::now())
            .map_err(Failure::failed)?;
    }
    start(plan).map_err(|error| {
        let code = match error {
            StartError::Bind(BindError::InUse { .. } | BindError::NotPermitted { .. })
            | StartError::Inherited(_)
            | StartError::AdminInUse { .. } => Code::Address,
            StartError::Bind(BindError::Other { .. })
            | StartError::Admin { .. }
            | StartError::Log { .. }
            | StartError::Writer(_)
            | StartError::Thread(_)
            | StartError::Sandbox(_) => Code::Failed,
        };
        Failure::new(code, error.to_string())
    })
}

/// Runs to the end. `ready` is told once everything can be asked for, and may end it.
pub(super) fn run(
    mut running: Running,
    source: &Source,
    ground: Ground,
    limit: Option<Duration>,
    ready: impl FnOnce(&mut Running) -> Result<Ears, Failure>,
    beside: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let Ground {
        machine,
        kept,
        state,
    } = ground;
    runtime.block_on(async {
        let control = control(&running, &state);
        if let Some(why) = app::open_state(&state) {
            let event = Event::warn("state_open").with("directory", state.display());
            running.shared.log.event(event.with("why", why));
        }
        let ears = match ready(&mut running) {
            Ok(ears) => ears,
            Err(failure) => {
                running.stop();
                return Err(failure);
            }
        };
        let site = Site {
            source,
            kept: &kept,
            machine,
        };
        app::guard(&running).map_err(Failure::failed)?;
        let main = app::until_stopped(running, site, control, limit, ears);
        tokio::pin!(main, beside);
        let ended = tokio::select! {
            ended = &mut main => ended,
            () = &mut beside => main.await,
        };
        ended.map(drop).map_err(Failure::failed)
    })
}

/// The control socket. A gate without one serves all the same: a read-only root has no place for it.
pub(super) fn control(running: &Running, state: &Path) -> Control {
    let dir = server_dir(&env, state);
    Control::open(&dir).unwrap_or_else(|error| {
        let event = Event::warn("control_socket_failed")
            .with("directory", dir.display())
            .with("error", error);
        running.shared.log.event(event);
        Control::none()
    })
}

pub(super) fn serve(output: &Output, file: &ConfigFile, take_over: bool) -> Result<(), Failure> {
    let path = config::find(file.config.as_deref(), &env).map_err(|problem| {
        let hint = problem
            .hint
            .as_deref()
            .map(|h| format!("\n  {h}"))
            .unwrap_or_default();
        Failure::new(Code::Config, format!("{}{hint}", problem.message))
    })?;
    let source = Source::File(path.clone());
    let ground = ground()?;
    let plan = compiled(output, &source, &ground)?;
    let mut estate = match take_over {
        true => Some(estate(&path, &ground.state)?),
        false => None,
    };
    let ours = estate.as_ref().map(Estate::addresses).unwrap_or_default();
    proven(&plan, &ground.machine, &ours, IN_FILE)?;
    let running = started(plan, &ground.machine, |plan| {
        match &mut estate {
            Some(estate) => app::start_after(plan, estate),
            None => app::start_alone(plan),
        }
        .map_err(|error| placed(error, &path))
    })?;
    let ready = |running: &mut Running| {
        if let Some(estate) = estate {
            let rest = estate.take(running).map_err(Failure::failed)?;
            let ring = running.bell();
            tokio::spawn(rest.hear(Arc::clone(&running.shared), ring));
        }
        let ears = Ears::open().map_err(Failure::failed)?;
        let addresses: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
        let event = Event::info("serving")
            .with("addresses", addresses.join(" "))
            .with("sandbox", &running.sandbox);
        running.shared.log.event(event);
        Ok(ears)
    };
    run(
        running,
        &source,
        ground,
        None,
        ready,
        std::future::pending(),
    )
}

/// With the line of the file that it is about.
fn placed(error: StartError, file: &Path) -> StartError {
    match (error, config::load(file, std::env::vars())) {
        (StartError::Log { path, source, .. }, Ok(loaded)) => {
            let place = loaded.origins.place("log.access");
            let place = place.map_or_else(String::new, |place| format!("{place}: "));
            StartError::Log {
                place,
                path,
                source,
            }
        }
        (error, _) => error,
    }
}

/// What the gate that runs this file has.
fn estate(file: &Path, state: &Path) -> Result<Estate, Failure> {
    let dir = server_dir(&env, state);
    let (mut gates, silent) = find(std::slice::from_ref(&dir));
    gates.retain(|gate| runs(gate, file));
    let drain: Vec<String> = gates
        .extract_if(.., |gate| drains(gate))
        .map(|gate| gate.status["pid"].to_string())
        .collect();
    let [gate] = &gates[..] else {
        if gates.is_empty() && !drain.is_empty() {
            return Err(Failure::failed(format!(
                "the gate that has the file {} (process {}) drains: it has closed its listeners and ends by itself, so there is nothing to take over\n  Without `--take-over` this one starts at once; where there is an `[admin]` address, as soon as that one has ended (a second TERM ends it).",
                file.display(),
                drain.join(", ")
            )));
        }
        if let Some(error) = silent.into_iter().next() {
            return Err(Failure::failed(error));
        }
        let what = match gates.len() {
            0 => "no running gate of yours has the file",
            _ => "more than one running gate of yours has the file",
        };
        return Err(Failure::failed(format!(
            "{what} {}, so there is nothing to take over\n  Looked in {}. Without `--take-over` this one starts by itself.",
            file.display(),
            dir.display()
        )));
    };
    Estate::ask(&gate.path).map_err(Failure::failed)
}

//! `loopgate serve`, and what it shares with `expose`: from a source of plans to a gate that runs to its end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::args::ConfigFile;
use super::output::Output;
use super::{Code, Failure};
use crate::app::control::{Control, server_dir};
use crate::app::{self, BindError, Running, Site, Source, StartError};
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
    let machine = machine::read()
        .map_err(|e| Failure::failed(format!("cannot read the network interfaces: {e}")))?;
    let state = app::state_dir(&env).ok_or_else(|| {
        Failure::failed("no place for the state is known; set STATE_DIRECTORY to a directory")
    })?;
    Ok(Ground {
        machine,
        kept: Kept::new(state.clone()),
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

/// Proves that nothing goes around the gate, or says what does (exit 4).
pub(super) fn proven(plan: &Plan, machine: &Machine) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let found = runtime.block_on(app::look(plan, machine, &[], None));
    if found.exposed.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = found
        .exposed
        .iter()
        .map(|(_, verdict)| verdict.to_string())
        .collect();
    lines.push("Nothing was started. If you mean that, write `exposed_upstream = \"warn\"` or `--unsafe-upstream`.".into());
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
            | StartError::Log(_)
            | StartError::Thread(_)
            | StartError::Sandbox(_) => Code::Failed,
        };
        Failure::new(code, error.to_string())
    })
}

/// Runs to the end. `ready` is told once everything can be asked for.
pub(super) fn run(
    running: Running,
    source: &Source,
    ground: Ground,
    limit: Option<Duration>,
    ready: impl FnOnce(&Running),
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
    runtime
        .block_on(async {
            let control = control(&running, &state);
            ready(&running);
            let site = Site {
                source,
                kept: &kept,
                machine,
            };
            let main = app::until_stopped(running, site, control, limit);
            tokio::pin!(main, beside);
            tokio::select! {
                ended = &mut main => ended,
                () = &mut beside => main.await,
            }
        })
        .map(drop)
        .map_err(Failure::failed)
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

pub(super) fn serve(output: &Output, file: &ConfigFile) -> Result<(), Failure> {
    let path = config::find(file.config.as_deref(), &env).map_err(|problem| {
        let hint = problem
            .hint
            .as_deref()
            .map(|h| format!("\n  {h}"))
            .unwrap_or_default();
        Failure::new(Code::Config, format!("{}{hint}", problem.message))
    })?;
    let source = Source::File(path);
    let ground = ground()?;
    let plan = compiled(output, &source, &ground)?;
    proven(&plan, &ground.machine)?;
    let running = started(plan, &ground.machine, app::start_alone)?;
    let ready = |running: &Running| {
        let addresses: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
        let event = Event::info("serving")
            .with("addresses", addresses.join(" "))
            .with("sandbox", &running.sandbox);
        running.shared.log.event(event);
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

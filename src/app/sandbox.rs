//! The process gives up what it does not need, after everything is bound: new privileges, being looked into, capabilities, and, on
//! every thread that reads a byte from the network, all files.
//!
//! The control thread keeps its files: it reads configuration and certificates at reload, opens logs anew, and names the process
//! behind an exposed port, which Landlock would forbid. It reads nothing that comes from a network:
//! the control socket and the admin address are for this machine alone.

use std::fmt;
use std::io;
use std::sync::Arc;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What the configuration asks for.
pub use crate::config::raw::Sandbox as Wish;

/// What the process keeps of what it had: to open the sockets and files of services that belong to others, and to name the
/// process behind a port.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_PTRACE);

/// What was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// No program that is started can have more rights than we have.
    pub no_new_privileges: bool,
    /// Nobody but root can look into the memory; nothing of it is written to a core file.
    pub is_opaque: bool,
    /// No capability is left but those of `KEPT`.
    pub has_few_capabilities: bool,
    /// The threads that serve cannot open a file or bind a port, and cannot send signals.
    pub has_no_files: bool,
}

impl Sandbox {
    /// Whether everything was given up.
    pub fn is_whole(&self) -> bool {
        self.no_new_privileges && self.is_opaque && self.has_few_capabilities && self.has_no_files
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.no_new_privileges, "no new privileges"),
            (self.is_opaque, "not dumpable"),
            (self.has_few_capabilities, "capabilities dropped"),
            (self.has_no_files, "no files for what serves (Landlock)"),
        ];
        let has: Vec<&str> = parts
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, word)| *word)
            .collect();
        f.write_str(if has.is_empty() { "none" } else { "" })?;
        f.write_str(&has.join(", "))
    }
}

/// What a thread that serves is confined by; shared by all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell(Option<Arc<RulesetCreated>>);

/// Gives up what the whole process can. Called on the first thread, before there are others: they inherit it.
pub(super) fn enter(wish: Wish) -> Result<Sandbox, io::Error> {
    let mut sandbox = Sandbox::default();
    if wish == Wish::Off {
        return Ok(sandbox);
    }
    sandbox.has_few_capabilities = drop_capabilities().is_ok();
    sandbox.no_new_privileges = set_no_new_privs(true).is_ok();
    sandbox.is_opaque = set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
    sandbox.has_no_files = ruleset(CompatLevel::HardRequirement).is_ok_and(is_taken);
    if wish == Wish::Require && !sandbox.is_whole() {
        return Err(io::Error::other(format!(
            "the kernel gives only this: {sandbox}; write `sandbox = \"auto\"` to go on with that"
        )));
    }
    Ok(sandbox)
}

fn drop_capabilities() -> io::Result<()> {
    let now = capabilities(None)?;
    // Bit by bit: only who may set it can lower the bound of what a program could regain; for others it has no meaning.
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(KEPT).iter() {
            // A capability that this kernel does not know.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    clear_ambient_capability_set()?;
    let kept = now.permitted & KEPT;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// Nothing is allowed: no rule is added. Connections to services stay possible.
fn ruleset(level: CompatLevel) -> Result<RulesetCreated, landlock::RulesetError> {
    Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::Signal)?
        .create()
}

/// Whether the kernel confines a thread by these rules: a system call filter, or too many layers of rules, may forbid it. Tried on a
/// thread that does nothing else, as there is no way back.
fn is_taken(rules: RulesetCreated) -> bool {
    let cell = Cell(Some(Arc::new(rules)));
    let trial = std::thread::Builder::new().spawn(move || cell.close());
    trial.is_ok_and(|trial| trial.join().unwrap_or(false))
}

impl Cell {
    /// The cell that the configuration asks for; none where the kernel has no Landlock.
    pub fn new(wish: Wish) -> Self {
        match wish {
            Wish::Off => Self(None),
            Wish::Auto | Wish::Require => Self(ruleset(CompatLevel::BestEffort).ok().map(Arc::new)),
        }
    }

    /// Confines the calling thread, and whatever it starts, for ever. False where that was not possible.
    pub fn close(&self) -> bool {
        let Some(rules) = &self.0 else { return false };
        rules
            .try_clone()
            .map(|rules| rules.restrict_self())
            .is_ok_and(|status| {
                status.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
            })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_closed_thread_opens_no_file_and_binds_no_port_and_others_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cell = Cell::new(Wish::Auto);
        let closed = std::thread::spawn(move || {
            let (before, inside) = (File::open("/etc/passwd").is_ok(), cell.close());
            let here = std::env::temp_dir().join("loopgate-sandbox-test");
            let files = File::open("/etc/passwd").is_ok() || File::create(here).is_ok();
            let listed = std::fs::read_dir("/").is_ok();
            let bound = TcpListener::bind("127.0.0.1:0").is_ok();
            (
                before,
                inside,
                files || listed,
                bound,
                TcpStream::connect(address).is_ok(),
            )
        });
        let (before, inside, files, bound, connected) = closed.join().unwrap();
        assert!(before && connected, "a service can be reached");
        if inside {
            assert!(!files, "a file was opened");
            let ports = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            let knows_ports = ports.handle_access(AccessNet::BindTcp).is_ok();
            assert!(!(knows_ports && bound), "a port was bound");
        }
        assert!(
            File::open("/etc/passwd").is_ok(),
            "this thread is as it was"
        );
        assert!(!Cell::new(Wish::Off).close());
    }

    #[test]
    fn a_kernel_that_makes_rules_and_does_not_take_them_is_none_that_confines() {
        // A thread has so many layers of rules at most (landlock(7)); this one gets no more after them.
        const LAYERS: usize = 16;
        let full = std::thread::spawn(|| {
            let before = ruleset(CompatLevel::BestEffort).is_ok_and(is_taken);
            let all = (0..LAYERS).all(|_| Cell::new(Wish::Auto).close());
            let made = ruleset(CompatLevel::BestEffort);
            (before && all, made.is_ok(), made.is_ok_and(is_taken))
        });
        let (confines, made, taken) = full.join().unwrap();
        assert!(!confines || made && !taken, "it was tried, not supposed");
    }

    #[test]
    fn says_what_was_given_up() {
        assert_eq!(Sandbox::default().to_string(), "none");
        let some = Sandbox {
            no_new_privileges: true,
            is_opaque: true,
            ..Sandbox::default()
        };
        assert_eq!(some.to_string(), "no new privileges, not dumpable");
        assert!(!some.is_whole());
    }
}

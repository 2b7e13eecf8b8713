//! The child and everything below it, in a process group of its own. We are the reaper of the family: a process whose parent has
//! gone comes to us, so one that tries to leave by forking twice is still found.

use std::collections::HashSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_current_process_group, kill_process,
    kill_process_group, set_child_subreaper, wait,
};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::signals::{Came, Signals};
use super::terminal::Terminal;
use super::tree;

/// How long the family has for its own end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long we look for what SIGKILL has not ended yet.
const LAST: Duration = Duration::from_secs(2);
/// How often we look whether they have gone.
const LOOK: Duration = Duration::from_millis(20);
/// A stop of our own group has come into force after this time, or never will.
const STOP: Duration = Duration::from_millis(300);

/// Why the child was not started.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum StartError {
    #[error("`{program}` was not found; write the program and its arguments after `--`")]
    NotFound { program: String },
    #[error("`{program}` cannot be run: {source}")]
    NotRunnable { program: String, source: io::Error },
    #[error("cannot start `{program}`: {source}")]
    Failed { program: String, source: io::Error },
}

impl StartError {
    /// The exit code that shells use for it.
    pub fn code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotRunnable { .. } => 126,
            Self::Failed { .. } => 1,
        }
    }
}

/// What became of the child since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It was stopped by the terminal (Ctrl-Z, or it read while another group had the terminal).
    Stopped(Signal),
    /// It has ended with this code, 128 + n for a signal.
    Ended(u8),
}

/// A started child, and all that it starts.
#[derive(Debug)]
pub struct Family {
    leader: Pid,
    terminal: Option<Terminal>,
    code: Option<u8>,
}

impl Family {
    /// Starts the command in a process group of its own, with our standard streams and, where we have it, the terminal.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self, StartError> {
        let program = command.get_program().to_string_lossy().into_owned();
        // Without it a family that forks twice is out of sight, and nothing worse.
        let _ = set_child_subreaper(Some(getpid()));
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => StartError::NotFound { program },
                io::ErrorKind::PermissionDenied => StartError::NotRunnable { program, source },
                _ => StartError::Failed { program, source },
            })?;
        let family = Self {
            leader: Pid::from_child(&child),
            terminal: Terminal::open(),
            code: None,
        };
        if let Some(terminal) = &family.terminal
            && terminal.is_ours_alone()
            && terminal.lend(family.leader)
        {
            // It may have asked for the terminal before it had it, which stopped it.
            family.send(Signal::CONT);
        }
        Ok(family)
    }

    /// Its exit code, once it has ended.
    pub fn code(&self) -> Option<u8> {
        self.code
    }

    /// Whether this signal came from a person at the keyboard of our own terminal.
    pub(super) fn is_at_keyboard(&self, signal: Signal) -> bool {
        matches!(signal, Signal::INT | Signal::QUIT)
            && self.terminal.as_ref().is_some_and(Terminal::is_with_us)
    }

    /// Sends a signal to the child's group.
    pub(super) fn send(&self, signal: Signal) {
        if self.code.is_none() {
            let _ = kill_process_group(self.leader, signal);
        }
    }

    /// Collects whoever has ended below us. Never waits.
    pub(super) fn reap(&mut self) -> Change {
        let mut change = Change::None;
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid == self.leader => {
                    if let Some(code) = code(status) {
                        self.code = Some(code);
                        change = Change::Ended(code);
                    } else if let Some(signal) =
                        status.stopping_signal().and_then(Signal::from_named_raw)
                    {
                        change = Change::Stopped(signal);
                    }
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return change,
            }
        }
    }

    /// The terminal has stopped the child: give it the terminal if that is what it waits for, else stop as it did, and go on with it.
    pub(super) async fn stopped(&self, by: Signal, signals: &mut Signals) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let wants_terminal = matches!(by, Signal::TTIN | Signal::TTOU);
        if wants_terminal && terminal.lend(self.leader) {
            return self.send(Signal::CONT);
        }
        if by == Signal::STOP {
            return;
        }
        terminal.take_back(self.leader);
        let _ = kill_current_process_group(Signal::TSTP);
        // Here the shell has the terminal, until it tells us to go on. A group without a shell is not stopped by TSTP.
        let until = Instant::now() + STOP;
        while let Ok(came) = timeout(until - Instant::now(), signals.next()).await {
            match came {
                Came::Meant(signal) => self.send(signal),
                Came::Continued => break,
                Came::Child => {}
            }
        }
        terminal.lend(self.leader);
        self.send(Signal::CONT);
    }

    /// Ends all that still runs, by SIGTERM and, when that does not help in time or `at_once`, by SIGKILL; then takes the terminal
    /// back. Gives those that could not be ended: they belong to another user.
    pub async fn end(&mut self, at_once: bool) -> Vec<u32> {
        let began = Instant::now();
        let patience = if at_once { Duration::ZERO } else { PATIENCE };
        let mut told = HashSet::new();
        let left = loop {
            self.reap();
            let left = tree::below(std::process::id(), &tree::all());
            let spent = began.elapsed();
            if left.is_empty() || spent > patience + LAST {
                break left;
            }
            for pid in left
                .iter()
                .filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
            {
                if spent >= patience {
                    let _ = kill_process(pid, Signal::KILL);
                } else if told.insert(pid) {
                    let _ = kill_process(pid, Signal::TERM);
                    let _ = kill_process(pid, Signal::CONT);
                }
            }
            sleep(LOOK).await;
        };
        self.reap();
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.leader);
            terminal.tidy();
        }
        left
    }
}

fn code(status: WaitStatus) -> Option<u8> {
    let by_signal = status.terminating_signal().map(|signal| 128 + signal);
    let code = status.exit_status().or(by_signal)?;
    Some(u8::try_from(code).unwrap_or(u8::MAX))
}

//! The terminal, which only one process group at a time may read: lent to the child, taken back when it stops or ends.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// The terminal that we were started from.
pub struct Terminal {
    file: File,
    modes: Termios,
}

impl Terminal {
    /// The controlling terminal; `None` where there is none, as in a service or a pipeline of CI.
    pub fn open() -> Option<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()?;
        let modes = tcgetattr(&file).ok()?;
        Some(Self { file, modes })
    }

    /// Whether the child should have it from the start. In a pipeline others of our group may need it (`loopgate run … | less`).
    pub fn is_ours_alone(&self) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Whether our group has it now.
    pub fn is_with_us(&self) -> bool {
        tcgetpgrp(&self.file).is_ok_and(|group| group == getpgrp())
    }

    /// Gives it to this group, if it is ours to give. Whether it was.
    pub fn lend(&self, group: Pid) -> bool {
        self.is_with_us() && tcsetpgrp(&self.file, group).is_ok()
    }

    /// Takes it back from this group, if that has it.
    pub fn take_back(&self, group: Pid) {
        if tcgetpgrp(&self.file).is_ok_and(|now| now == group) {
            quietly(|| {
                let _ = tcsetpgrp(&self.file, getpgrp());
            });
        }
    }

    /// Puts the modes back that it had: a child that was killed leaves echo off and lines unbroken.
    pub fn tidy(&self) {
        if self.is_with_us() {
            quietly(|| {
                let _ = tcsetattr(&self.file, OptionalActions::Now, &self.modes);
            });
        }
    }
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Terminal")
    }
}

/// A group in the background that changes the terminal is stopped by SIGTTOU, unless it blocks that signal (tcsetpgrp(3)).
fn quietly(change: impl FnOnce()) {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTTOU);
    let is_blocked = set.thread_block().is_ok();
    if is_blocked {
        change();
        let _ = set.thread_unblock();
    }
}

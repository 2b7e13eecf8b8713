//! Where state lives (contract 7).

use std::ffi::OsString;
use std::path::PathBuf;

/// `$STATE_DIRECTORY`, else `/var/lib/loopgate` as root, else `$XDG_STATE_HOME/loopgate` (`~/.local/state/loopgate`).
/// `None` when not even a home is known.
pub fn state_dir(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
    // systemd gives a list; the first one is ours.
    let given = env("STATE_DIRECTORY").and_then(|list| {
        list.to_str()
            .and_then(|l| l.split(':').next())
            .map(PathBuf::from)
    });
    if let Some(dir) = given.filter(|p| p.is_absolute()) {
        return Some(dir);
    }
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/loopgate".into());
    }
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|h| h.join(".local/state")))
        .map(|dir| dir.join("loopgate"))
}

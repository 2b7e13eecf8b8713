//! Where state lives (contract 7).

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// Who else could exchange what is in the state directory, in one sentence; `None` when nobody can. Each file in it is judged by
/// itself, but what another user takes away is not missed. A volume of its own, as containers have, belongs to whoever mounts it.
pub fn open_state(dir: &Path) -> Option<String> {
    let about = fs::metadata(dir).ok()?;
    let above = fs::metadata(dir.join("..")).ok()?;
    if about.dev() != above.dev() {
        return None;
    }
    let we = rustix::process::geteuid().as_raw();
    let (owner, mode, shown) = (about.uid(), about.mode() & 0o7777, dir.display());
    if owner != 0 && owner != we {
        return Some(format!(
            "it belongs to another user ({owner}), who can change what is in it; run `chown {we} {shown}`, or set STATE_DIRECTORY"
        ));
    }
    (mode & 0o022 != 0).then(|| {
        format!("its mode {mode:04o} lets others change what is in it; run `chmod 700 {shown}`")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_state_that_others_can_change_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(open_state(&state), None, "it is not there yet");
        fs::create_dir(&state).unwrap();
        for (mode, want) in [(0o700, false), (0o755, false), (0o775, true), (0o777, true)] {
            fs::set_permissions(&state, PermissionsExt::from_mode(mode)).unwrap();
            let told = open_state(&state);
            assert_eq!(
                told.is_some_and(|t| t.contains("chmod 700")),
                want,
                "{mode:o}"
            );
        }
        fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
        // Only root can give it away.
        if chown(&state, Some(65534), None).is_ok() {
            let told = open_state(&state).unwrap();
            assert!(told.contains("65534"), "{told}");
        }
    }
}

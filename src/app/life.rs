//! How long it is since a file was written, where the wall clock may have been set meanwhile: by the clock of the machine's own life, which
//! only goes on. It is written beside the file; after a reboot, or where what stands there is of another writing, the wall clock counts.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::disk;

/// Bytes of what is written beside a file, at most.
const MOST: u64 = 256;

/// Since the machine was started, sleep included, and which start that was.
fn life() -> Option<(String, u64)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let (up, _) = up.split_once('.')?;
    Some((boot.trim().to_owned(), up.parse().ok()?))
}

/// Says when `file` was written: at `taken`, by the wall clock. Where that cannot be said the wall clock counts.
pub(super) fn note(file: &Path, taken: SystemTime) {
    let Some((boot, up)) = life() else { return };
    let text = format!("{boot} {} {up}\n", seconds(taken));
    let _ = disk::put(&file.with_extension("time"), text.as_bytes());
}

/// What the wall clock would show now if nobody had set it since `file` was written at `taken`.
pub(super) fn wall(file: &Path, taken: u64) -> SystemTime {
    let since = || {
        let text = disk::read(&file.with_extension("time"), MOST).ok()?;
        let (text, (boot, up)) = (String::from_utf8(text).ok()?, life()?);
        let mut words = text.split_whitespace();
        let is_it =
            text.ends_with('\n') && words.next()? == boot && words.next()?.parse() == Ok(taken);
        up.checked_sub(words.next()?.parse().ok()?)
            .filter(|_| is_it)
    };
    let then = |since| {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(taken))?;
        at.checked_add(Duration::from_secs(since))
    };
    since().and_then(then).unwrap_or_else(SystemTime::now)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_not_asked_in_the_same_life_of_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lockouts-8443");
        let taken = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let now = || wall(&file, 1_000_000).duration_since(taken).unwrap();
        let by_clock = SystemTime::now().duration_since(taken).unwrap() / 2;
        assert!(now() > by_clock, "nothing is known");
        note(&file, taken);
        assert!(now() < Duration::from_secs(60));
        note(&file, taken);
        let beside = file.with_extension("time");
        let text = fs::read_to_string(&beside).unwrap();
        let (boot, up) = life().unwrap();
        assert!(text.starts_with(&boot) && now() < Duration::from_secs(60));
        for other in [
            // Another boot, another writing, a life that went back, no numbers, nothing.
            format!("{} 1000000 {up}\n", "0".repeat(36)),
            format!("{boot} 1000001 {up}\n"),
            format!("{boot} 1000000 {}\n", up + 100_000),
            format!("{boot} 1000000 {}\n", u128::MAX),
            format!("{boot} 1000000\n"),
            String::new(),
        ] {
            fs::write(&beside, &other).unwrap();
            assert!(now() > by_clock, "{other:?}");
        }
        fs::write(&beside, format!("{boot} 1000000 {}\n", up - 1)).unwrap();
        assert!(now() < Duration::from_secs(60));
    }
}

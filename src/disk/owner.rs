//! Who can have written a file: its owner, whatever its mode is now.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether nobody could have put it there but us and root, who can do everything. Root also believes whom the folder `above`
/// belongs to, when that is given: it administers the state of a service.
pub fn is_trusted(about: &Metadata, above: Option<&Path>) -> bool {
    let we = rustix::process::geteuid();
    let owner = about.uid();
    let owns = |above: &Path| std::fs::metadata(above).is_ok_and(|above| above.uid() == owner);
    owner == 0 || owner == we.as_raw() || (we.is_root() && above.is_some_and(owns))
}

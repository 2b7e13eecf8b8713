//! What tells two gates apart that are reached by one host name: drawn once, and kept in the state directory. It is a name, not a
//! secret. Without it two containers that both listen on 8443, published as 8443 and 9443, would have one cookie between them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::base::id::random;
use crate::disk::rewrite;

const FILE: &str = "instance";
/// 40 bits: two of one house have two.
const LENGTH: usize = 8;

/// The name of the instance whose state is in `dir`; drawn now when it has none and `may_write`. What is no such name is replaced:
/// nothing is lost by it but sessions.
pub(super) fn find(dir: &Path, may_write: bool) -> io::Result<String> {
    let path = dir.join(FILE);
    match fs::read(&path) {
        Ok(bytes) if read(&bytes).is_some() => return Ok(read(&bytes).unwrap_or_default()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if !may_write {
        return Ok(String::new());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut name = String::new();
    // Two that start at once get the same one.
    rewrite(&path, |old| match old.and_then(read) {
        Some(there) => {
            name = there;
            Ok::<_, io::Error>(None)
        }
        None => {
            name = drawn();
            Ok(Some(format!("{name}\n").into_bytes()))
        }
    })?;
    Ok(name)
}

fn read(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes.strip_suffix(b"\n")?).ok()?;
    let is_one = text.len() == LENGTH && text.bytes().all(|c| LETTERS.contains(&c));
    is_one.then(|| text.to_owned())
}

const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn drawn() -> String {
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte & 31)]);
    random::<LENGTH>().iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_drawn_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("a/state"), dir.path().join("b"));
        assert_eq!(find(&one, false).unwrap(), "");
        assert!(!one.exists(), "who only looks writes nothing");
        let name = find(&one, true).unwrap();
        assert!(read(format!("{name}\n").as_bytes()).is_some(), "{name}");
        for may_write in [true, false] {
            assert_eq!(find(&one, may_write).unwrap(), name);
        }
        assert_ne!(find(&two, true).unwrap(), name);
        for damaged in ["", "x", "ABCDEFGH\n", "; Path=/\n", "abcdefgh"] {
            fs::write(one.join(FILE), damaged).unwrap();
            assert_eq!(find(&one, false).unwrap(), "", "{damaged}");
            let again = find(&one, true).unwrap();
            assert_eq!(
                (again.len(), find(&one, false).unwrap()),
                (LENGTH, again.clone())
            );
        }
        fs::remove_file(one.join(FILE)).unwrap();
        fs::create_dir(one.join(FILE)).unwrap();
        assert!(find(&one, true).is_err());
    }
}

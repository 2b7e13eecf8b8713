//! Where the configuration file is found.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::problem::Problem;

/// The configuration file: `explicit` (`-c`), `$LOOPGATE_CONFIG`, `./loopgate.toml`,
/// `$XDG_CONFIG_HOME/loopgate/loopgate.toml`, `/etc/loopgate/loopgate.toml`. One that was named must exist; nothing
/// found is a mistake too, which lists the places looked at.
pub fn find(
    explicit: Option<&Path>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, Problem> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(file) = explicit {
        return named(file.to_owned(), "-c");
    }
    if let Some(file) = set("LOOPGATE_CONFIG") {
        return named(file.into(), "$LOOPGATE_CONFIG");
    }
    let home = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
    let mut places = vec![PathBuf::from("loopgate.toml")];
    places.extend(home.map(|home| home.join("loopgate/loopgate.toml")));
    places.push("/etc/loopgate/loopgate.toml".into());
    if let Some(found) = places.iter().find(|file| file.is_file()) {
        return Ok(found.clone());
    }
    let list: Vec<_> = places
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    Err(Problem::error(
        "no-file",
        "",
        format!("no configuration found; looked for {}", list.join(", ")),
    )
    .hint("name one with `-c FILE`, or use `loopgate expose TARGET`, which needs none"))
}

fn named(file: PathBuf, by: &str) -> Result<PathBuf, Problem> {
    // Not `is_file`: a pipe (`-c <(…)`) is as good.
    if file.exists() && !file.is_dir() {
        return Ok(file);
    }
    let what = if file.is_dir() {
        "is a directory"
    } else {
        "does not exist"
    };
    let message = format!("the configuration file `{}` {what}", file.display());
    Err(Problem::error("no-file", "", message)
        .hint(format!("it was named by {by}: name another, or write it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_with(pairs: &[(&str, &Path)], explicit: Option<&Path>) -> Result<PathBuf, Problem> {
        find(explicit, &|name| {
            let pair = pairs.iter().find(|(known, _)| *known == name);
            pair.map(|(_, value)| value.as_os_str().to_owned())
        })
    }

    #[test]
    fn looks_where_it_says_and_never_invents_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("loopgate/loopgate.toml");
        let missing = dir.path().join("missing.toml");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "").unwrap();
        let xdg = ("XDG_CONFIG_HOME", dir.path());
        assert_eq!(find_with(&[xdg], None), Ok(file.clone()));
        assert_eq!(find_with(&[], Some(&file)), Ok(file.clone()));
        let by_env = ("LOOPGATE_CONFIG", file.as_path());
        assert_eq!(find_with(&[by_env], None), Ok(file));
        for wrong in [&missing, dir.path()] {
            // A file that was named is never replaced by one that was found.
            assert_eq!(find_with(&[xdg], Some(wrong)).unwrap_err().code, "no-file");
            let named = [xdg, ("LOOPGATE_CONFIG", wrong)];
            assert_eq!(find_with(&named, None).unwrap_err().code, "no-file");
        }
        let nowhere = find_with(&[("HOME", &missing)], None).unwrap_err();
        assert!(
            nowhere
                .message
                .contains("missing.toml/.config/loopgate/loopgate.toml")
        );
    }
}

//! What a child is told: where to listen, where it will be found, and whom to trust when it calls itself through the gate.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

/// What a service manager has said to us and to nobody else: a child that speaks by it would be taken for us.
const OURS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "MAINPID",
];

/// The address that a child is asked to bind.
pub const HOST: &str = "127.0.0.1";

/// What a child is told.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The port that it should open. It may open another one.
    pub port: u16,
    /// The address that visitors open.
    pub url: Option<&'a str>,
    /// The certificate of the local authority, in a file of its own.
    pub authority: Option<&'a Path>,
}

/// The command of these words, the program first, with placeholders replaced and the environment set. What the person has put into
/// `NODE_EXTRA_CA_CERTS` stays.
pub fn command(words: &[OsString], given: &Given<'_>) -> Command {
    let mut words = words.iter().map(|word| filled(word, given.port));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    for name in OURS {
        command.env_remove(name);
    }
    command
        .env("HOST", HOST)
        .env("PORT", given.port.to_string());
    if let Some(url) = given.url {
        command.env("LOOPGATE_URL", url);
    }
    if let Some(path) = given.authority
        && std::env::var_os("NODE_EXTRA_CA_CERTS").is_none_or(|value| value.is_empty())
    {
        command.env("NODE_EXTRA_CA_CERTS", path);
    }
    command
}

/// `{port}` and `{host}` replaced; a word that is no text stays as it is.
fn filled(word: &OsStr, port: u16) -> OsString {
    match word.to_str() {
        Some(text) => text
            .replace("{port}", &port.to_string())
            .replace("{host}", HOST)
            .into(),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn placeholders_are_filled_and_everything_else_stays() {
        for (word, want) in [
            ("{port}", "4711"),
            ("--listen={host}:{port}", "--listen=127.0.0.1:4711"),
            ("{ports} {PORT} {}", "{ports} {PORT} {}"),
            ("", ""),
        ] {
            assert_eq!(filled(word.as_ref(), 4711), want, "{word}");
        }
        let bytes = OsStr::from_bytes(b"\xff{port}");
        assert_eq!(filled(bytes, 4711), bytes);
    }

    #[test]
    fn the_environment_says_where_to_listen_and_where_it_is_found() {
        let words = ["prog".into(), "-p".into(), "{port}".into()];
        let given = Given {
            port: 4711,
            url: Some("https://a.lan:8443/"),
            authority: None,
        };
        let command = command(&words, &given);
        assert_eq!(command.get_program(), "prog");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["-p", "4711"]);
        let set = |name: &str| {
            command
                .get_envs()
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value.map(OsStr::to_owned))
        };
        assert_eq!(set("HOST").as_deref(), Some(OsStr::new("127.0.0.1")));
        assert_eq!(set("PORT").as_deref(), Some(OsStr::new("4711")));
        assert_eq!(
            set("LOOPGATE_URL").as_deref(),
            Some(OsStr::new("https://a.lan:8443/"))
        );
        assert_eq!(set("NODE_EXTRA_CA_CERTS"), None);
        let taken = command.get_envs().filter(|(_, value)| value.is_none());
        assert_eq!(taken.count(), OURS.len());
    }
}

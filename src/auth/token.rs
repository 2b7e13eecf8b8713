//! Tokens for programs: `lgt_<id>_<secret>`, with a name for the log, paths, methods and an end.
//! The file keeps the SHA-256 of the secret. A fast hash is right here, and slow ones would be wrong: 256 random bits
//! cannot be guessed at any speed, and every request of a program has to be judged in microseconds.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, digest};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use thiserror::Error;

use super::users::name_problem;
use crate::base::fold;
use crate::base::id::random;
use crate::base::path::Path;
use crate::base::refusal::Reason;
use crate::base::secret::Secret;

const PREFIX: &str = "lgt_";
const ID_LENGTH: usize = 8;
/// 32 bytes of secret and 3 of checksum, in base32.
const TAIL_LENGTH: usize = 56;
/// A clock that shows a moment so long before a token was made tells nothing about its end. Seconds: time zones are less.
const DOUBT: i64 = 24 * 60 * 60;

/// What the file says about one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The public part; names the token in the file.
    pub id: String,
    /// Names it in the log.
    pub name: String,
    /// SHA-256 of the secret.
    pub sha256: [u8; 32],
    /// Seconds since 1970.
    pub created: i64,
    /// Seconds since 1970; it no longer counts from then on. `None`: it never ends.
    pub expires: Option<i64>,
    /// Path prefixes by whole segments; none written means all.
    pub paths: Vec<String>,
    /// Methods; none written means all. `GET` stands for `HEAD` too.
    pub methods: Vec<String>,
}

/// All tokens. Replaced whole when the file changes.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    list: Vec<Token>,
    by_id: HashMap<String, usize>,
}

/// Why a token does not let a request in.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the message says it")]
pub enum TokenRefusal {
    #[error("the token is not whole")]
    Malformed,
    #[error("the token is unknown or was revoked")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error(
        "this machine's clock shows a day before the token was made, so nobody knows whether it has ended"
    )]
    NotYet,
    #[error("the token is not for this path")]
    Path,
    #[error("the token is not for this method")]
    Method,
}

impl TokenRefusal {
    /// The word for it on the request path.
    pub fn reason(self) -> Reason {
        match self {
            Self::Malformed | Self::Unknown | Self::Expired | Self::NotYet => {
                Reason::CredentialsWrong
            }
            Self::Path | Self::Method => Reason::NotPermitted,
        }
    }
}

impl Tokens {
    /// Those of a file that was read; ids and names are unique there.
    pub fn new(list: Vec<Token>) -> Self {
        let ids = list.iter().map(|token| token.id.clone());
        let by_id = ids.enumerate().map(|(at, id)| (id, at)).collect();
        Self { list, by_id }
    }

    /// The token that was presented, if it lets this request in. `now` is in seconds since 1970.
    ///
    /// Unknown ids and wrong secrets take the same time and are told apart by nobody.
    pub fn check(
        &self,
        presented: &str,
        method: &str,
        path: &Path<'_>,
        now: i64,
    ) -> Result<&Token, TokenRefusal> {
        let token = self.genuine(presented)?;
        token.judge(method, path, now).map(|()| token)
    }

    /// The token that was presented, whatever it is for: who sends it has not guessed.
    pub fn genuine(&self, presented: &str) -> Result<&Token, TokenRefusal> {
        let (id, sha256) = read(presented).ok_or(TokenRefusal::Malformed)?;
        let found = self.by_id.get(id).map(|at| &self.list[*at]);
        let stored = found.map_or(&[0; 32], |token| &token.sha256);
        let is_equal = constant_time::verify_slices_are_equal(stored, &sha256).is_ok();
        found.filter(|_| is_equal).ok_or(TokenRefusal::Unknown)
    }

    /// Whether the token of that name lets this request in, for `explain`; `None` when there is no such token.
    pub fn judge(
        &self,
        name: &str,
        method: &str,
        path: &Path<'_>,
        now: i64,
    ) -> Option<Result<(), TokenRefusal>> {
        let token = self.list.iter().find(|token| token.name == name)?;
        Some(token.judge(method, path, now))
    }

    /// Whether the token of that name is for this path.
    pub fn covers(&self, name: &str, path: &Path<'_>) -> bool {
        let mut named = self.list.iter().filter(|token| token.name == name);
        named.any(|token| token.covers(path))
    }

    /// The token with that public part, for a stream that goes on.
    pub fn by_id(&self, id: &str) -> Option<&Token> {
        self.by_id.get(id).map(|at| &self.list[*at])
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.list.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Token {
    /// A new token and its text, which is shown once and stored nowhere.
    pub fn new(name: &str, created: i64, expires: Option<i64>) -> (Self, Secret<String>) {
        let secret: [u8; 32] = random();
        let id = BASE32_NOPAD.encode(&random::<5>()).to_ascii_lowercase();
        let head = format!("{PREFIX}{id}_");
        let mut tail = secret.to_vec();
        tail.extend_from_slice(&checksum(&head, &secret));
        let text = Secret::new(head + &BASE32_NOPAD.encode(&tail).to_ascii_lowercase());
        let token = Self {
            id,
            name: name.to_owned(),
            sha256: sha256(&secret),
            created,
            expires,
            paths: Vec::new(),
            methods: Vec::new(),
        };
        (token, text)
    }

    /// The SHA-256 of the secret as the file has it.
    pub fn sha256_text(&self) -> String {
        HEXLOWER.encode(&self.sha256)
    }

    /// What is wrong with the name, the paths or the methods.
    pub fn problem(&self) -> Option<String> {
        if let Some(problem) = name_problem(&self.name) {
            return Some(problem.replace("user name", "token name"));
        }
        let is_path = |path: &&String| {
            let read = Path::parse(path).ok();
            let trailing = path.len() > 1 && path.ends_with('/');
            !trailing && read.is_some_and(|read| read.doubt.is_none() && !path.contains(['?', '%']))
        };
        if let Some(path) = self.paths.iter().find(|path| !is_path(path)) {
            return Some(format!("`{path}` is not a plain path such as `/api`"));
        }
        let is_method =
            |method: &&String| !method.is_empty() && method.bytes().all(|c| c.is_ascii_uppercase());
        let method = self.methods.iter().find(|method| !is_method(method))?;
        Some(format!("`{method}` is not a method such as `GET`"))
    }

    /// When it no longer counts; `None` for never.
    pub fn until(&self) -> Option<SystemTime> {
        let end = u64::try_from(self.expires?).unwrap_or(0);
        UNIX_EPOCH.checked_add(Duration::from_secs(end))
    }

    /// Whether it lets this request in now, in seconds since 1970.
    pub fn judge(&self, method: &str, path: &Path<'_>, now: i64) -> Result<(), TokenRefusal> {
        if let Some(end) = self.expires {
            if now >= end {
                return Err(TokenRefusal::Expired);
            }
            // A clock that was set back does not give an end more time than it had.
            if now < self.created.saturating_sub(DOUBT) {
                return Err(TokenRefusal::NotYet);
            }
        }
        if !self.covers(path) {
            return Err(TokenRefusal::Path);
        }
        if !self.allows(method) {
            return Err(TokenRefusal::Method);
        }
        Ok(())
    }

    /// A path that a decoder behind us could read differently is covered only by a token for all paths.
    fn covers(&self, path: &Path<'_>) -> bool {
        let is_everywhere = self.paths.is_empty() || self.paths.iter().any(|prefix| prefix == "/");
        let is_under = |path: &Path<'_>| self.paths.iter().any(|prefix| path.is_under(prefix));
        is_everywhere || (path.doubt.is_none() && is_under(path) && self.keeps(path))
    }

    /// Whether a loose application, too, reads a path under one of ours.
    fn keeps(&self, path: &Path<'_>) -> bool {
        let is_under = |reading: &String| {
            let mut prefixes = self.paths.iter().map(|prefix| fold::folded(prefix));
            prefixes.any(|prefix| fold::covers(&prefix, reading))
        };
        path.readings().is_ok_and(|all| all.iter().all(is_under))
    }

    fn allows(&self, method: &str) -> bool {
        let is_listed = |wanted: &str| self.methods.iter().any(|method| method == wanted);
        self.methods.is_empty() || is_listed(method) || (method == "HEAD" && is_listed("GET"))
    }
}

/// Whether a text was meant as one of our tokens, whatever became of it: it must not go on to the application.
pub fn is_ours(presented: &str) -> bool {
    presented.starts_with(PREFIX)
}

/// The public part and the hash of the secret, if every character and the checksum are in order.
fn read(presented: &str) -> Option<(&str, [u8; 32])> {
    let rest = presented.strip_prefix(PREFIX)?;
    let (id, tail) = rest.split_once('_')?;
    let is_plain = |text: &str| text.bytes().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7'));
    if id.len() != ID_LENGTH || tail.len() != TAIL_LENGTH || !is_plain(id) || !is_plain(tail) {
        return None;
    }
    let mut upper = [0; TAIL_LENGTH];
    upper.copy_from_slice(tail.as_bytes());
    upper.make_ascii_uppercase();
    let mut bytes = [0; 35];
    BASE32_NOPAD.decode_mut(&upper, &mut bytes).ok()?;
    let (secret, check) = bytes.split_at(32);
    let head = &presented[..PREFIX.len() + ID_LENGTH + 1];
    (checksum(head, secret) == check).then(|| (id, sha256(secret)))
}

/// Tells a token that was cut or mistyped from one that is unknown; it guards nothing.
fn checksum(head: &str, secret: &[u8]) -> [u8; 3] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(head.as_bytes());
    context.update(secret);
    let sum = context.finish();
    let sum = sum.as_ref();
    [sum[0], sum[1], sum[2]]
}

fn sha256(secret: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(change: impl FnOnce(&mut Token)) -> (Tokens, String) {
        let (mut token, text) = Token::new("ci", 100, Some(200));
        change(&mut token);
        (Tokens::new(vec![token]), text.expose().clone())
    }

    fn check(
        tokens: &Tokens,
        text: &str,
        method: &str,
        path: &str,
        now: i64,
    ) -> Result<String, TokenRefusal> {
        let path = Path::parse(path).unwrap();
        tokens
            .check(text, method, &path, now)
            .map(|token| token.name.clone())
    }

    #[test]
    fn a_token_has_a_shape_that_scanners_can_find() {
        let (_, text) = one(|_| {});
        assert_eq!(text.len(), PREFIX.len() + ID_LENGTH + 1 + TAIL_LENGTH);
        let is_word = text
            .bytes()
            .all(|c| c == b'_' || c.is_ascii_lowercase() || c.is_ascii_digit());
        assert!(is_word && is_ours(&text), "{text}");
    }

    #[test]
    fn lets_in_within_paths_methods_and_time() {
        let (tokens, text) = one(|token| {
            token.paths = vec!["/api".into(), "/v2".into()];
            token.methods = vec!["GET".into()];
        });
        for (method, path, now, want) in [
            ("GET", "/api", 150, None),
            ("GET", "/v2/x?y", 199, None),
            ("HEAD", "/api/x", 150, None),
            ("GET", "/api/x", 200, Some(TokenRefusal::Expired)),
            ("GET", "/apis", 150, Some(TokenRefusal::Path)),
            ("GET", "/", 150, Some(TokenRefusal::Path)),
            ("GET", "/api/../admin", 150, Some(TokenRefusal::Path)),
            ("GET", "/api/%2e%2e/admin", 150, Some(TokenRefusal::Path)),
            ("GET", "/API", 150, Some(TokenRefusal::Path)),
            ("GET", "/api/X.Y", 150, None),
            (
                "GET",
                "/api/%EF%BC%8E%EF%BC%8E/admin",
                150,
                Some(TokenRefusal::Path),
            ),
            (
                "GET",
                "/api%EF%BC%8F..%EF%BC%8Fadmin",
                150,
                Some(TokenRefusal::Path),
            ),
            ("POST", "/api", 150, Some(TokenRefusal::Method)),
            ("get", "/api", 150, Some(TokenRefusal::Method)),
        ] {
            let path = path.split('?').next().unwrap_or_default();
            let got = check(&tokens, &text, method, path, now);
            assert_eq!(got.err(), want, "{method} {path} {now}");
        }
    }

    #[test]
    fn a_clock_before_its_first_day_tells_nothing_about_its_end() {
        let dated =
            |token: &mut Token| (token.created, token.expires) = (DOUBT * 9, Some(DOUBT * 10));
        for (now, want) in [
            (0, Some(TokenRefusal::NotYet)),
            (i64::MIN, Some(TokenRefusal::NotYet)),
            (DOUBT * 8 - 1, Some(TokenRefusal::NotYet)),
            (DOUBT * 8, None),
            (DOUBT * 9, None),
            (DOUBT * 10, Some(TokenRefusal::Expired)),
        ] {
            let (tokens, text) = one(dated);
            assert_eq!(check(&tokens, &text, "GET", "/", now).err(), want, "{now}");
            let (tokens, text) = one(|token| {
                dated(token);
                token.expires = None;
            });
            assert!(
                check(&tokens, &text, "GET", "/", now).is_ok(),
                "endless {now}"
            );
        }
        assert_eq!(TokenRefusal::NotYet.reason(), Reason::CredentialsWrong);
    }

    #[test]
    fn without_paths_methods_or_end_it_lets_everything_in() {
        let (tokens, text) = one(|token| token.expires = None);
        assert_eq!(
            check(&tokens, &text, "DELETE", "/a/../b;c", i64::MAX),
            Ok("ci".into())
        );
    }

    #[test]
    fn tells_a_damaged_token_from_an_unknown_one() {
        let (tokens, text) = one(|_| {});
        let (_, other) = one(|_| {});
        let flipped = if text.ends_with('a') { "b" } else { "a" };
        for (presented, want) in [
            (other, TokenRefusal::Unknown),
            (text[..text.len() - 1].into(), TokenRefusal::Malformed),
            (
                format!("{}{flipped}", &text[..text.len() - 1]),
                TokenRefusal::Malformed,
            ),
            (format!("{text}a"), TokenRefusal::Malformed),
            (text.to_ascii_uppercase(), TokenRefusal::Malformed),
            (
                format!("lgt_aaaaaaaa{}", &text[12..]),
                TokenRefusal::Malformed,
            ),
            (String::new(), TokenRefusal::Malformed),
            ("lgt_".into(), TokenRefusal::Malformed),
            ("lgt_ä".into(), TokenRefusal::Malformed),
        ] {
            assert_eq!(
                check(&tokens, &presented, "GET", "/", 150).unwrap_err(),
                want,
                "{presented}"
            );
            assert_eq!(want.reason(), Reason::CredentialsWrong);
        }
    }

    #[test]
    fn the_right_id_with_another_secret_is_unknown() {
        let (tokens, text) = one(|_| {});
        let secret = [7u8; 32];
        let head = &text[..13];
        let tail = [&secret[..], &checksum(head, &secret)].concat();
        let forged = format!("{head}{}", BASE32_NOPAD.encode(&tail).to_ascii_lowercase());
        assert_eq!(
            check(&tokens, &forged, "GET", "/", 150),
            Err(TokenRefusal::Unknown)
        );
    }

    #[test]
    fn names_paths_and_methods_are_judged_when_written() {
        for (name, path, method, good) in [
            ("ci", "/api", "GET", true),
            ("ci", "/", "PROPFIND", true),
            ("c i", "/api", "GET", false),
            ("ci", "api", "GET", false),
            ("ci", "/api/", "GET", false),
            ("ci", "/a/../b", "GET", false),
            ("ci", "/a%20b", "GET", false),
            ("ci", "/api", "get", false),
            ("ci", "/api", "", false),
        ] {
            let (mut token, _) = Token::new(name, 0, None);
            token.paths = vec![path.into()];
            token.methods = vec![method.into()];
            assert_eq!(token.problem().is_none(), good, "{name} {path} {method}");
        }
    }
}

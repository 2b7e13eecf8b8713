//! The text of a stored password hash: which forms are accepted, and what is said about the others.

use argon2::Params;
use thiserror::Error;

const MOST_ARGON2_KIB: u32 = 256 * 1024;
/// Memory times passes: about two seconds of one core.
const MOST_ARGON2_WORK: u64 = 1024 * 1024;
const MOST_ARGON2_LANES: u32 = 16;
const MOST_BCRYPT_COST: u32 = 15;
const MOST_ROUNDS: u32 = 1_000_000;
/// What glibc and the specification take when the text names no rounds.
pub(super) const DEFAULT_ROUNDS: u32 = 5_000;
const LEAST_ROUNDS: u32 = 1_000;
/// No accepted form is longer.
const LONGEST_TEXT: usize = 512;

/// Which kind a stored hash is, with its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `$argon2id$`, version 19.
    Argon2id {
        /// Memory in KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes; they run one after the other.
        lanes: u32,
    },
    /// `$2a$`, `$2b$`, `$2y$`.
    Bcrypt {
        /// The logarithm of the number of rounds.
        cost: u32,
    },
    /// `$5$`.
    Sha256 {
        /// Rounds.
        rounds: u32,
    },
    /// `$6$`.
    Sha512 {
        /// Rounds.
        rounds: u32,
    },
}

/// Why a stored hash is refused. The text itself is never part of the message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the message says it")]
pub enum HashError {
    #[error("there is no password hash after the colon")]
    Empty,
    #[error("the password hash is {0}, which is too weak to guard a service on the network")]
    Weak(&'static str),
    #[error("the password hash is {0}, which loopgate cannot verify")]
    Unsupported(&'static str),
    #[error("this looks like a plain password, not like a hash of one")]
    Plain,
    #[error("the {kind} hash is damaged: {why}")]
    Damaged {
        kind: &'static str,
        why: &'static str,
    },
    #[error("the {kind} hash asks for {what} {found}; at most {most} is accepted")]
    TooCostly {
        kind: &'static str,
        what: &'static str,
        found: u64,
        most: u64,
    },
}

impl HashError {
    /// The command that puts a good hash in place of this one.
    pub fn repair(&self, user: &str) -> String {
        format!("run `loopgate user add {user}` to set the password anew")
    }
}

/// The kind and cost of a stored hash, if all of its text is in order.
pub(super) fn kind(text: &str) -> Result<Kind, HashError> {
    if text.is_empty() {
        return Err(HashError::Empty);
    }
    if text.len() > LONGEST_TEXT {
        return Err(HashError::Unsupported("longer than any known form"));
    }
    if let Some(rest) = text.strip_prefix("$argon2id$") {
        return argon2id(text, rest);
    }
    for prefix in ["$2a$", "$2b$", "$2y$"] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return bcrypt_kind(text, rest);
        }
    }
    if let Some(rest) = text.strip_prefix("$5$") {
        return sha_rounds(rest, "$5$", 43).map(|rounds| Kind::Sha256 { rounds });
    }
    if let Some(rest) = text.strip_prefix("$6$") {
        return sha_rounds(rest, "$6$", 86).map(|rounds| Kind::Sha512 { rounds });
    }
    Err(refused(text))
}

/// Forms that people bring along and that are refused by name; the first prefix that fits names it.
const REFUSED: [(&str, HashError); 17] = [
    ("{SHA}", HashError::Weak("unsalted SHA-1 ({SHA})")),
    ("{SSHA", HashError::Weak("one round of salted SHA ({SSHA})")),
    ("{", HashError::Unsupported("of an LDAP form ({…})")),
    ("$apr1$", HashError::Weak("Apache's MD5 ($apr1$)")),
    ("$1$", HashError::Weak("MD5-crypt ($1$)")),
    (
        "$2x$",
        HashError::Weak("the broken bcrypt of old systems ($2x$)"),
    ),
    ("$2$", HashError::Weak("the first, broken bcrypt ($2$)")),
    ("$3$", HashError::Weak("an NT hash ($3$)")),
    ("$md5", HashError::Weak("Sun's MD5 ($md5)")),
    ("$sha1$", HashError::Weak("SHA-1-crypt ($sha1$)")),
    (
        "$argon2i$",
        HashError::Weak("argon2i ($argon2i$, weak against time-memory trade-offs)"),
    ),
    (
        "$argon2d$",
        HashError::Weak("argon2d ($argon2d$, open to side channels)"),
    ),
    ("$y$", HashError::Unsupported("yescrypt ($y$)")),
    ("$gy$", HashError::Unsupported("gost-yescrypt ($gy$)")),
    ("$7$", HashError::Unsupported("scrypt ($7$)")),
    ("$scrypt$", HashError::Unsupported("scrypt ($scrypt$)")),
    ("$", HashError::Unsupported("of an unknown form ($…)")),
];

fn refused(text: &str) -> HashError {
    if let Some((_, error)) = REFUSED.iter().find(|(prefix, _)| text.starts_with(prefix)) {
        return error.clone();
    }
    if text.len() == 13 && text.bytes().all(is_crypt_letter) {
        return HashError::Weak("crypt's DES (13 characters)");
    }
    if text.starts_with(['!', '*']) {
        return HashError::Unsupported("a lock mark");
    }
    if text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return HashError::Weak("a bare MD5");
    }
    HashError::Plain
}

fn argon2id(text: &str, rest: &str) -> Result<Kind, HashError> {
    let damaged = |why| HashError::Damaged {
        kind: "argon2id",
        why,
    };
    let costly = |what, found: u64, most: u64| HashError::TooCostly {
        kind: "argon2id",
        what,
        found,
        most,
    };
    let parts: Vec<&str> = rest.split('$').collect();
    let [version, costs, salt, digest] = parts[..] else {
        return Err(damaged(
            "it has not the five parts version, costs, salt, digest",
        ));
    };
    if version != "v=19" {
        return Err(damaged("its version is not v=19"));
    }
    let mut found = [0u32; 3];
    let names = ["m=", "t=", "p="];
    let mut given = costs.split(',');
    for (name, slot) in names.iter().zip(&mut found) {
        *slot = given
            .next()
            .and_then(|part| part.strip_prefix(name))
            .and_then(decimal)
            .ok_or(damaged("its costs are not m=…,t=…,p=…"))?;
    }
    if given.next().is_some() {
        return Err(damaged("its costs are not m=…,t=…,p=…"));
    }
    let [memory, passes, lanes] = found;
    let work = u64::from(memory) * u64::from(passes);
    if memory > MOST_ARGON2_KIB {
        return Err(costly(
            "memory (m, KiB)",
            memory.into(),
            MOST_ARGON2_KIB.into(),
        ));
    }
    if work > MOST_ARGON2_WORK {
        return Err(costly(
            "memory times passes (m × t)",
            work,
            MOST_ARGON2_WORK,
        ));
    }
    if lanes > MOST_ARGON2_LANES {
        return Err(costly("lanes (p)", lanes.into(), MOST_ARGON2_LANES.into()));
    }
    if Params::new(memory, passes, lanes, None).is_err() {
        return Err(damaged("its costs are below the least that argon2 allows"));
    }
    if salt.len() < 11 || digest.len() < 22 {
        return Err(damaged("its salt or its digest is too short"));
    }
    // The whole once more by the library's own reader: what verify would stumble over is refused now.
    match argon2::PasswordHash::new(text) {
        Ok(hash) if hash.hash.is_some() => Ok(Kind::Argon2id {
            memory,
            passes,
            lanes,
        }),
        Ok(_) | Err(_) => Err(damaged("its salt or its digest is not plain base64")),
    }
}

fn bcrypt_kind(text: &str, rest: &str) -> Result<Kind, HashError> {
    let damaged = |why| HashError::Damaged {
        kind: "bcrypt",
        why,
    };
    let (cost, _) = rest
        .split_once('$')
        .ok_or(damaged("it ends after its cost"))?;
    if cost.len() != 2 {
        return Err(damaged("its cost is not two digits"));
    }
    let cost = cost
        .parse::<u8>()
        .ok()
        .filter(|_| cost.bytes().all(|c| c.is_ascii_digit()));
    let cost = u32::from(cost.ok_or(damaged("its cost is not two digits"))?);
    if cost < 4 {
        return Err(damaged("its cost is below 4"));
    }
    if cost > MOST_BCRYPT_COST {
        return Err(HashError::TooCostly {
            kind: "bcrypt",
            what: "cost",
            found: cost.into(),
            most: MOST_BCRYPT_COST.into(),
        });
    }
    match text.parse::<bcrypt::HashParts>() {
        Ok(_) => Ok(Kind::Bcrypt { cost }),
        Err(_) => Err(damaged("it is not 60 characters of bcrypt's alphabet")),
    }
}

fn sha_rounds(rest: &str, kind: &'static str, digest_length: usize) -> Result<u32, HashError> {
    let damaged = |why| HashError::Damaged { kind, why };
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        None => (DEFAULT_ROUNDS, rest),
        Some(tail) => {
            let (digits, tail) = tail
                .split_once('$')
                .ok_or(damaged("it ends after its rounds"))?;
            (
                decimal(digits).ok_or(damaged("its rounds are not a number"))?,
                tail,
            )
        }
    };
    if rounds > MOST_ROUNDS {
        return Err(HashError::TooCostly {
            kind,
            what: "rounds",
            found: rounds.into(),
            most: MOST_ROUNDS.into(),
        });
    }
    if rounds < LEAST_ROUNDS {
        return Err(damaged("it has fewer than 1000 rounds"));
    }
    let (salt, digest) = rest.split_once('$').ok_or(damaged("it has no digest"))?;
    if salt.is_empty() || salt.len() > 16 || !salt.bytes().all(is_crypt_letter) {
        return Err(damaged(
            "its salt is not 1 to 16 characters of crypt's alphabet",
        ));
    }
    if digest.len() != digest_length || !digest.bytes().all(is_crypt_letter) {
        return Err(damaged(
            "its digest is cut short or has a foreign character",
        ));
    }
    Ok(rounds)
}

/// A number as these forms write it: digits, no sign, no leading zero.
fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    // What does not fit is surely too much, and is told so by the bounds.
    Some(text.parse().unwrap_or(u32::MAX))
}

fn is_crypt_letter(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'.' || c == b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALTED: &str = "c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const DIGEST_5: &str = "BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D";

    #[test]
    fn reads_the_four_kinds() {
        for (text, want) in [
            (
                format!("$argon2id$v=19$m=19456,t=2,p=1${SALTED}"),
                Kind::Argon2id {
                    memory: 19_456,
                    passes: 2,
                    lanes: 1,
                },
            ),
            (
                "$2y$05$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC".into(),
                Kind::Bcrypt { cost: 5 },
            ),
            (format!("$5$abcd${DIGEST_5}"), Kind::Sha256 { rounds: 5000 }),
            (
                format!("$5$rounds=10000$abcd${DIGEST_5}"),
                Kind::Sha256 { rounds: 10_000 },
            ),
            (
                format!("$6$abcd${DIGEST_5}{DIGEST_5}"),
                Kind::Sha512 { rounds: 5000 },
            ),
        ] {
            assert_eq!(kind(&text), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else_with_its_reason() {
        for (text, want) in [
            ("", "no password hash"),
            ("hunter2", "plain password"),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            ("{SSHA}abc", "salted SHA"),
            ("{CRYPT}abc", "LDAP"),
            ("$apr1$1IHzh2Ch$tFXk//rXPUjM72yYjKkSW.", "Apache's MD5"),
            ("$1$abc$def", "MD5-crypt"),
            ("rl.3StKT.4T8M", "DES"),
            ("5f4dcc3b5aa765d61d8327deb882cf99", "bare MD5"),
            ("$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$x", "argon2i "),
            ("$argon2d$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$x", "argon2d "),
            (
                "$2x$05$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC",
                "$2x$",
            ),
            ("$y$j9T$abc$def", "yescrypt"),
            ("$9$abc", "unknown form"),
            ("!$6$abc", "lock mark"),
            // bcrypt
            (
                "$2y$16$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC",
                "cost 16",
            ),
            (
                "$2y$03$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC",
                "below 4",
            ),
            (
                "$2y$+5$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC",
                "two digits",
            ),
            (
                "$2y$05$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MG",
                "60 characters",
            ),
            (
                "$2y$05$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1M:C",
                "60 characters",
            ),
            // SHA-crypt
            (
                "$5$rounds=1000001$a$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D",
                "rounds 1000001",
            ),
            (
                "$5$rounds=99999999999$a$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D",
                "rounds",
            ),
            (
                "$5$rounds=999$a$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D",
                "fewer than 1000",
            ),
            (
                "$5$rounds=x$a$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D",
                "not a number",
            ),
            ("$5$a$BgCbKzckrgGdFcL", "cut short"),
            ("$5$a$", "cut short"),
            ("$5$$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D", "salt"),
            ("$6$seventeen_letters$x", "salt"),
            ("$6$abc", "no digest"),
        ] {
            let error = kind(text).unwrap_err();
            assert!(error.to_string().contains(want), "{text}: {error}");
            assert!(error.repair("bob").contains("`loopgate user add bob`"));
        }
    }

    #[test]
    fn refuses_argon2_costs_that_would_stop_the_process_and_damaged_text() {
        for (middle, want) in [
            ("v=19$m=262145,t=1,p=1", "m, KiB"),
            ("v=19$m=262144,t=5,p=1", "m × t"),
            ("v=19$m=4096,t=4294967295,p=1", "m × t"),
            ("v=19$m=4096,t=1,p=17", "lanes"),
            ("v=19$m=4,t=1,p=1", "below the least"),
            ("v=19$m=4096,t=0,p=1", "below the least"),
            ("v=16$m=4096,t=3,p=1", "v=19"),
            ("m=4096,t=3,p=1", "five parts"),
            ("v=19$t=3,m=4096,p=1", "m=…,t=…,p=…"),
            ("v=19$m=4096,t=3,p=1,keyid=AA", "m=…,t=…,p=…"),
            ("v=19$m=04096,t=3,p=1", "m=…,t=…,p=…"),
        ] {
            let error = kind(&format!("$argon2id${middle}${SALTED}")).unwrap_err();
            assert!(error.to_string().contains(want), "{middle}: {error}");
        }
        for (tail, want) in [
            (
                "c29t$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "too short",
            ),
            ("c29tZXNhbHRzb21l$AAAA", "too short"),
            ("c29tZXNhbHRzb21l", "five parts"),
            (
                "c29tZXNhbHRz=21l$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "base64",
            ),
        ] {
            let error = kind(&format!("$argon2id$v=19$m=64,t=1,p=1${tail}")).unwrap_err();
            assert!(error.to_string().contains(want), "{tail}: {error}");
        }
    }
}

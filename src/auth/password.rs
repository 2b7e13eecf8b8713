//! Stored password hashes: which ones are accepted, what they cost, and whether a password matches one.
//! Nothing weaker than the four kinds below is ever verified, and no cost in a file can stop the process.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
};
use aws_lc_rs::digest;
use sha_crypt::ShaCrypt;
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::stored::{self, HashError, Kind};
use crate::base::id::random;

/// The longest password, in bytes: longer ones are refused when set and never match.
pub const LONGEST: usize = 1024;
/// bcrypt reads 72 bytes and ignores the rest; what is longer never matches here and is refused when set.
pub const BCRYPT_LONGEST: usize = 72;

/// Memory for argon2 that is kept from one hash to the next.
#[derive(Default)]
pub struct Scratch(Vec<Block>);

impl Scratch {
    /// Gives back what is more than `most` bytes.
    pub fn release(&mut self, most: usize) {
        if self.0.len() * Block::SIZE > most {
            self.0 = Vec::new();
        }
    }
}

/// SHA-256 of a stored hash as text: tells whether it is still the same one, and is no secret worth stealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A stored password hash that may be verified: its kind is strong, its cost bounded, its text whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    kind: Kind,
    text: String,
    fingerprint: Fingerprint,
}

impl Hash {
    /// Reads a stored hash. Weak kinds, damaged text and absurd costs are refused, each with its reason.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let kind = stored::kind(text)?;
        let mut print = [0; 32];
        print.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Ok(Self {
            kind,
            text: text.to_owned(),
            fingerprint: Fingerprint(print),
        })
    }

    /// Whether the password is the one. Slow on purpose: never on an async thread.
    /// Takes the same time for passwords that can never match.
    pub fn verify(&self, password: &[u8]) -> bool {
        self.verify_in(password, &mut Scratch::default())
    }

    /// [`Hash::verify`] with memory from an earlier one: a thread that hashes often need not get it anew each time.
    pub fn verify_in(&self, password: &[u8], scratch: &mut Scratch) -> bool {
        let read = match self.kind {
            Kind::Bcrypt { .. } => password.len().min(BCRYPT_LONGEST),
            Kind::Argon2id { .. } | Kind::Sha256 { .. } | Kind::Sha512 { .. } => {
                password.len().min(LONGEST)
            }
        };
        let matches = match self.kind {
            Kind::Argon2id { .. } => {
                argon2_matches(&self.text, &password[..read], scratch).unwrap_or(false)
            }
            Kind::Bcrypt { .. } => bcrypt::verify(&password[..read], &self.text).unwrap_or(false),
            Kind::Sha256 { .. } | Kind::Sha512 { .. } => ShaCrypt::default()
                .verify_password(&password[..read], self.text.as_str())
                .is_ok(),
        };
        matches & (read == password.len()) & !password.is_empty()
    }

    /// The kind and its cost.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The stored text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names this stored hash and no other.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Bytes of memory that one verification takes.
    pub fn memory(&self) -> usize {
        match self.kind {
            Kind::Argon2id { memory, .. } => memory as usize * 1024,
            Kind::Bcrypt { .. } | Kind::Sha256 { .. } | Kind::Sha512 { .. } => 8 * 1024,
        }
    }

    /// What is unwise about a hash that is accepted all the same.
    pub fn advice(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Argon2id { memory, passes, .. }
                if u64::from(memory) * u64::from(passes) < 19_456 =>
            {
                Some("this argon2id hash is cheap to guess")
            }
            Kind::Bcrypt { cost } if cost < 10 => Some("this bcrypt hash is cheap to guess"),
            Kind::Sha256 { rounds } | Kind::Sha512 { rounds }
                if rounds < stored::DEFAULT_ROUNDS =>
            {
                Some("this SHA-crypt hash is cheap to guess")
            }
            Kind::Argon2id { .. }
            | Kind::Bcrypt { .. }
            | Kind::Sha256 { .. }
            | Kind::Sha512 { .. } => None,
        }
    }

    /// A hash that costs exactly what this one costs and that no password matches: its digest is random.
    pub fn decoy(&self) -> Self {
        let start = self.text.rfind('$').map_or(0, |at| at + 1);
        let start = match self.kind {
            Kind::Bcrypt { .. } => start + 22,
            Kind::Argon2id { .. } | Kind::Sha256 { .. } | Kind::Sha512 { .. } => start,
        };
        let noise: [u8; 128] = random();
        let length = self.text.len() - start;
        let mut text = self.text[..start].to_owned();
        for i in 0..length {
            // These stand in every base64 alphabet concerned; `A` and `.` as last one leave no stray bits.
            let last = if matches!(self.kind, Kind::Argon2id { .. }) {
                'A'
            } else {
                '.'
            };
            let letter = char::from(b'a' + noise[i % noise.len()] % 26);
            text.push(if i + 1 == length { last } else { letter });
        }
        Self {
            text,
            ..self.clone()
        }
    }

    /// The decoy where there is no hash to take after.
    pub fn default_decoy() -> Self {
        let text = "$argon2id$v=19$m=19456,t=2,p=1$bG9vcGdhdGVkZWNveXM$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        Self::parse(text).expect("a constant hash").decoy()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({:?})", self.kind)
    }
}

/// As the library's own `verify_password`, in memory of the caller's. Every block is written before it is read.
fn argon2_matches(text: &str, password: &[u8], scratch: &mut Scratch) -> Option<bool> {
    let hash = PasswordHash::new(text).ok()?;
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let params = Params::try_from(&hash).ok()?;
    let blocks = params.block_count();
    if scratch.0.len() < blocks {
        // Not grown in place: that would copy blocks which nobody reads.
        scratch.0 = Vec::new();
        scratch.0.resize(blocks, Block::default());
    }
    let mut found = vec![0; expected.as_bytes().len()];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut found, &mut scratch.0[..blocks])
        .ok()?;
    Some(found.ct_eq(expected.as_bytes()).into())
}

/// Why a password cannot be set.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the message says it")]
pub enum PasswordError {
    #[error("the password is empty")]
    Empty,
    #[error("the password has a control character in it; no browser could send it")]
    Control,
    #[error("the password is not UTF-8; no browser could send it")]
    NotUtf8,
    #[error("the password is longer than {LONGEST} bytes")]
    TooLong,
    #[error(
        "bcrypt reads only the first {BCRYPT_LONGEST} bytes of a password, and this one is longer"
    )]
    TooLongForBcrypt,
    #[error("the hash could not be made")]
    Failed,
}

/// Whether a password may be set at all.
pub fn acceptable(password: &[u8]) -> Result<(), PasswordError> {
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.len() > LONGEST {
        return Err(PasswordError::TooLong);
    }
    if password.iter().any(u8::is_ascii_control) {
        return Err(PasswordError::Control);
    }
    match std::str::from_utf8(password) {
        Ok(_) => Ok(()),
        Err(_) => Err(PasswordError::NotUtf8),
    }
}

/// Hashes a new password with argon2id (19 MiB, 2 passes, 1 lane). Slow on purpose.
pub fn hash(password: &[u8]) -> Result<String, PasswordError> {
    acceptable(password)?;
    let params = Params::new(19_456, 2, 1, None).map_err(|_| PasswordError::Failed)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password)
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Failed)
}

/// Hashes a new password with bcrypt (cost 12), for files that another program reads too.
pub fn hash_bcrypt(password: &[u8]) -> Result<String, PasswordError> {
    acceptable(password)?;
    if password.len() > BCRYPT_LONGEST {
        return Err(PasswordError::TooLongForBcrypt);
    }
    bcrypt::hash(password, 12).map_err(|_| PasswordError::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `htpasswd -nbB` and `openssl passwd -5`, `-6`.
    const KNOWN: [(&str, &str); 4] = [
        (
            "$2y$05$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC",
            "pass wörd",
        ),
        (
            "$5$abcd$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D",
            "secret",
        ),
        (
            "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
            "secret",
        ),
        (
            "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
            "Hello world!",
        ),
    ];

    #[test]
    fn verifies_what_other_programs_wrote_and_refuses_another_password() {
        for (text, password) in &KNOWN {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(b"wrong"), "{text}");
            assert!(!hash.verify(b""), "{text}");
        }
    }

    #[test]
    fn a_hash_made_here_matches_its_password_only() {
        let text = hash(b"correct horse").unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        let hash = Hash::parse(&text).unwrap();
        assert!(hash.verify(b"correct horse") && !hash.verify(b"correct horsE"));
        assert_eq!(hash.memory(), 19_456 * 1024);
        assert_eq!(hash.advice(), None);
    }

    #[test]
    fn memory_of_another_hash_changes_nothing() {
        let mut scratch = Scratch::default();
        let cheap = "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let (small, large) = (
            Hash::parse(cheap).unwrap(),
            Hash::parse(&hash(b"right").unwrap()).unwrap(),
        );
        for _ in 0..2 {
            assert!(!small.verify_in(b"right", &mut scratch));
            assert!(
                large.verify_in(b"right", &mut scratch) && !large.verify_in(b"wrong", &mut scratch)
            );
        }
        scratch.release(large.memory());
        assert!(!scratch.0.is_empty());
        scratch.release(large.memory() - 1);
        assert!(scratch.0.is_empty() && large.verify_in(b"right", &mut scratch));
    }

    #[test]
    fn bcrypt_never_matches_more_than_it_reads() {
        let exact = [b'x'; BCRYPT_LONGEST];
        let text = bcrypt::hash(exact, 4).unwrap();
        let hash = Hash::parse(&text).unwrap();
        assert!(hash.verify(&exact));
        assert!(
            !hash.verify(&[b'x'; BCRYPT_LONGEST + 1]),
            "the 73rd byte counts"
        );
        assert!(!hash.verify(&exact[..71]));
        assert_eq!(
            hash_bcrypt(&[b'x'; 73]),
            Err(PasswordError::TooLongForBcrypt)
        );
    }

    #[test]
    fn refuses_passwords_that_no_client_could_send() {
        for (password, want) in [
            (&b""[..], PasswordError::Empty),
            (b"a\0b", PasswordError::Control),
            (b"a\nb", PasswordError::Control),
            (b"a\x7f", PasswordError::Control),
            (b"\xff\xfe", PasswordError::NotUtf8),
            (&[b'x'; LONGEST + 1], PasswordError::TooLong),
        ] {
            assert_eq!(acceptable(password), Err(want));
            assert_eq!(hash(password), Err(want));
        }
        assert_eq!(acceptable("päss wörd ✓".as_bytes()), Ok(()));
    }

    #[test]
    fn a_decoy_costs_the_same_and_matches_nothing() {
        for text in KNOWN.iter().map(|(text, _)| *text).chain([
            "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ]) {
            let hash = Hash::parse(text).unwrap();
            let decoy = hash.decoy();
            assert_ne!(decoy.text(), text);
            let read_again = Hash::parse(decoy.text()).unwrap();
            assert_eq!(read_again.kind(), hash.kind(), "{}", decoy.text());
            assert!(!decoy.verify(b"secret"));
        }
        assert!(!Hash::default_decoy().verify(b"x"));
    }

    #[test]
    fn debug_shows_the_cost_and_never_the_text() {
        let hash = Hash::parse(KNOWN[1].0).unwrap();
        assert_eq!(format!("{hash:?}"), "Hash(Sha256 { rounds: 5000 })");
    }
}

//! What can go wrong with certificates and keys. Every message says what was found, where, and what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a certificate, a key or the local authority cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum TlsError {
    #[error("cannot {act} {path}")]
    Io {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{path} holds a private key and its mode {mode:04o} lets others {} it; run `chmod 600 {path}`", others_may(*mode)
    )]
    KeyReadable { path: PathBuf, mode: u32 },
    #[error(
        "{path} holds the local authority and its mode {mode:04o} lets others change it; run `chmod 700 {path}`"
    )]
    DirWritable { path: PathBuf, mode: u32 },
    #[error(
        "{path} holds a private key and belongs to another user ({owner}), who can change it; if it is yours, run `chown {we} {path}`"
    )]
    KeyOwner { path: PathBuf, owner: u32, we: u32 },
    #[error(
        "{path} holds the local authority and belongs to another user ({owner}), who can change it; if what is in it is yours, run `chown -R {we} {path}`"
    )]
    DirOwner { path: PathBuf, owner: u32, we: u32 },
    #[error("{path} is empty; put the PEM text of the certificate or key there")]
    Empty { path: PathBuf },
    #[error("{path} is larger than {most} bytes, which no certificate or key is")]
    TooLarge { path: PathBuf, most: u64 },
    #[error(
        "{path} has no certificate, but {found}; `chain` takes the PEM certificates, the server's own first"
    )]
    NoCertificate { path: PathBuf, found: &'static str },
    #[error("{path} has no private key, but {found}; `key` takes the PEM private key")]
    NoKey { path: PathBuf, found: &'static str },
    #[error(
        "{path} has a private key that is locked with a passphrase; write one without with `openssl pkey -in {path} -out NEW.key` and `chmod 600 NEW.key`"
    )]
    EncryptedKey { path: PathBuf },
    #[error("{path} cannot be read: {found}")]
    Malformed { path: PathBuf, found: String },
    #[error(
        "the key in {key} does not belong to the certificate in {chain}; give the pair that was made together"
    )]
    KeyMismatch { chain: PathBuf, key: PathBuf },
    #[error(
        "the key in {key} belongs to certificate {position} in {chain}; put that certificate first, then those that signed it"
    )]
    LeafNotFirst {
        chain: PathBuf,
        key: PathBuf,
        position: usize,
    },
    #[error("the certificate in {path} expired on {on}; put a renewed one there")]
    Expired { path: PathBuf, on: String },
    #[error(
        "the certificate in {path} is valid only from {from} on; check it and this machine's clock"
    )]
    NotYet { path: PathBuf, from: String },
    #[error("this machine's clock says {now}, which cannot be; set it and start again")]
    Clock { now: String },
    #[error(
        "another process has held {path} for {seconds} s; end it, or remove the file if no loopgate is running"
    )]
    Locked { path: PathBuf, seconds: u64 },
    #[error(
        "the local authority in {path} expired on {on}; make a new one with `loopgate ca renew` and trust it again"
    )]
    AuthorityExpired { path: PathBuf, on: String },
    #[error(
        "the local authority in {path} is damaged ({found}); put the file back from a backup, or make a new one with `loopgate ca renew`, which every device then has to trust"
    )]
    AuthorityDamaged { path: PathBuf, found: String },
    #[error(
        "the authority for client certificates in {path} cannot be used: {found}; move it away, and a new one is made: every client then needs a new certificate (`loopgate cert client NAME`)"
    )]
    ClientsDamaged { path: PathBuf, found: String },
    #[error(
        "the local authority may not sign for `{subject}`: it is neither a private address nor one of its names; use a name under `.local`, `.lan`, `.home.arpa`, `.internal` or `.test`, or a certificate of your own"
    )]
    NotCovered { subject: String },
    #[error(
        "no client accepts a certificate for `{subject}`: the star stands right under a whole suffix; write the names out, or use `*.NAME.{suffix}`"
    )]
    Wildcard { subject: String, suffix: String },
    #[error("the name in a client certificate has 1 to {most} characters that can be seen")]
    ClientName { most: usize },
    #[error("cannot sign a certificate for `{subject}`: {found}")]
    Sign { subject: String, found: String },
}

impl TlsError {
    /// For `map_err`: an error of the file system, with what was being done to which file.
    pub(super) fn io(act: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }
}

/// What a mode gives to others than the owner.
fn others_may(mode: u32) -> &'static str {
    match (mode & 0o044 != 0, mode & 0o022 != 0) {
        (true, true) => "read and change",
        (true, false) => "read",
        (false, true) => "change",
        (false, false) => "execute",
    }
}

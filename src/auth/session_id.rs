//! The name of a session: opaque text for the browser, and its hash for us. One cannot be made from the other.

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;

use super::cache::Key;
use crate::base::id::random;
use crate::base::secret::Secret;

/// Characters of an id: 256 bits in base64url.
pub const ID_LENGTH: usize = 43;

/// A new id and its key.
pub(super) fn fresh() -> (Secret<String>, Key) {
    let bytes: [u8; 32] = random();
    (Secret::new(BASE64URL_NOPAD.encode(&bytes)), hashed(&bytes))
}

/// The key of an id, if it has the form of one.
pub(super) fn key_of(id: &str) -> Option<Key> {
    let mut bytes = [0; 32];
    if id.len() != ID_LENGTH {
        return None;
    }
    BASE64URL_NOPAD.decode_mut(id.as_bytes(), &mut bytes).ok()?;
    Some(hashed(&bytes))
}

/// A key as text, for another process of ours.
pub(super) fn text(key: &Key) -> String {
    BASE64URL_NOPAD.encode(&key.0)
}

/// The key of such text.
pub(super) fn read(text: &str) -> Option<Key> {
    let mut key = Key([0; 32]);
    if text.len() != ID_LENGTH {
        return None;
    }
    BASE64URL_NOPAD
        .decode_mut(text.as_bytes(), &mut key.0)
        .ok()?;
    Some(key)
}

/// A plain fast hash: there is nothing to guess in 256 random bits.
fn hashed(bytes: &[u8; 32]) -> Key {
    let mut key = Key([0; 32]);
    key.0
        .copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_key_and_what_only_looks_like_one_to_none() {
        let (id, key) = fresh();
        assert_eq!(key_of(id.expose()), Some(key));
        // 43 characters carry 258 bits: the last one has two that must be clear.
        let stray = format!("{}_", "A".repeat(42));
        for wrong in [
            "",
            &id.expose()[1..],
            &stray,
            &"=".repeat(43),
            &"ä".repeat(22)[..42],
        ] {
            assert_eq!(key_of(wrong), None, "{wrong}");
        }
    }
}

//! Request ids: sixteen characters that a person can read out on the telephone.

use std::cell::Cell;
use std::fmt;

use aws_lc_rs::rand;

/// Crockford's alphabet, lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Names one request in the answer, the log and towards the upstream. 80 bits; it is a name, not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

thread_local! {
    /// SplitMix64, seeded once per thread by the system: ids must not collide, they need not be unguessable.
    static STATE: Cell<u64> = Cell::new(u64::from_le_bytes(random()));
}

impl RequestId {
    /// A new id; no system call after the first one of a thread.
    pub fn fresh() -> Self {
        let (a, b) = (next(), next());
        let mut text = [0; 16];
        for (i, c) in text.iter_mut().enumerate() {
            let bits = if i < 8 {
                a >> (5 * i)
            } else {
                b >> (5 * (i - 8))
            };
            *c = ALPHABET[(bits & 31) as usize];
        }
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn next() -> u64 {
    STATE.with(|state| {
        let s = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(s);
        let z = (s ^ (s >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// `N` bytes from the system's generator.
///
/// # Panics
/// When the system has no randomness to give: nothing that follows could be trusted.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_readable_and_differ() {
        let (a, b) = (RequestId::fresh(), RequestId::fresh());
        assert_ne!(a, b);
        assert!(a.as_str().bytes().all(|c| ALPHABET.contains(&c)));
    }
}

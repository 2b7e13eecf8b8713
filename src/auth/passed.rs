//! Passwords of the application under the name of a user of ours, beside his client certificate: the first few are remembered as not
//! ours and pass. Then no other one is looked at: whether it passes tells whether it is his password here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::password::Fingerprint;

/// Of one stored hash.
const MOST: usize = 8;
/// Stored hashes; beyond that all is forgotten.
const MOST_USERS: usize = 4096;

/// What has passed, by the stored hash of the user: another password here begins anew.
#[derive(Debug, Default)]
pub struct Passed(Mutex<HashMap<[u8; 32], Vec<u64>>>);

impl Passed {
    /// Whether this one passes; `None` when it is to be looked at first.
    pub fn look(&self, stored: Fingerprint, credential: u64) -> Option<bool> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = table.get(&stored.0)?;
        match list.contains(&credential) {
            true => Some(true),
            false => (list.len() >= MOST).then_some(false),
        }
    }

    /// It is not ours. False when there were too many before: then it does not pass either.
    pub fn put(&self, stored: Fingerprint, credential: u64) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST_USERS && !table.contains_key(&stored.0) {
            table.clear();
        }
        let list = table.entry(stored.0).or_default();
        let is_known = list.contains(&credential);
        if !is_known && list.len() < MOST {
            list.push(credential);
            return true;
        }
        is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_pass_again_and_again_and_then_no_other() {
        let (passed, one, two) = (
            Passed::default(),
            Fingerprint([1; 32]),
            Fingerprint([2; 32]),
        );
        assert_eq!(passed.look(one, 0), None);
        for n in 0..MOST as u64 {
            assert!(passed.put(one, n));
        }
        assert!(!passed.put(one, 99) && passed.put(one, 3));
        assert_eq!(
            (passed.look(one, 3), passed.look(one, 99)),
            (Some(true), Some(false))
        );
        assert_eq!(passed.look(two, 99), None, "another password here");
    }
}

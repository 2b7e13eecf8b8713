//! A password for somebody who has none yet.

use zeroize::Zeroizing;

use crate::base::id::random;
use crate::base::secret::Secret;

/// A password that can be read out and typed on a telephone: four groups of four letters, none of which looks like
/// another one or needs a second keyboard. 23 letters in 16 places are 72 bits.
pub fn fresh_password() -> Secret<String> {
    const LETTERS: &[u8; 23] = b"abcdefghjkmnpqrstuvwxyz";
    const COUNT: usize = 16;
    let mut text = String::with_capacity(COUNT + 3);
    let mut letters = 0;
    while letters < COUNT {
        // What is beyond the alphabet is thrown away: a remainder would favour its first letters.
        let picked = Zeroizing::new(random::<32>());
        for letter in picked
            .iter()
            .filter_map(|byte| LETTERS.get(usize::from(byte & 31)))
        {
            if letters == COUNT {
                break;
            }
            if letters > 0 && letters % 4 == 0 {
                text.push('-');
            }
            text.push(char::from(*letter));
            letters += 1;
        }
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_readable_and_differ() {
        let (a, b) = (fresh_password(), fresh_password());
        assert_ne!(a.expose(), b.expose());
        let groups: Vec<&str> = a.expose().split('-').collect();
        assert_eq!(groups.len(), 4);
        for group in groups {
            assert_eq!(group.len(), 4);
            assert!(
                group
                    .bytes()
                    .all(|c| c.is_ascii_lowercase() && !b"ilo".contains(&c))
            );
        }
    }
}

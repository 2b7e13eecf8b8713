//! Which certificate a service on loopback may have. The address is proven loopback, but a port is whoever's who takes it: another
//! user of this machine can, while the service is down. So the certificate that was seen first is held to.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::tls::Fingerprint;

/// What is believed, as the configuration and the state directory have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Any certificate whose key has signed the handshake.
    Any,
    /// One of these, and no other.
    Only(Vec<Fingerprint>),
    /// The one that was seen first; `None` until there is one.
    FirstSeen(Option<Fingerprint>),
}

/// Which certificate the service may have, and which ones came. Shared by all threads.
#[derive(Debug)]
pub struct Pin {
    trust: Trust,
    seen: Mutex<Seen>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The one that is held to, where the first one seen counts.
    first: Option<Fingerprint>,
    /// It is in the state directory.
    is_saved: bool,
    /// The last one that was refused.
    stranger: Option<Fingerprint>,
    /// The log knows of that one.
    is_told: bool,
}

/// What somebody should be told, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This one was seen first and is to be written down.
    First(Fingerprint),
    /// This one was refused.
    Stranger(Fingerprint),
}

impl Pin {
    /// Holds to `trust`; whoever has to write down or to tell what happens is woken by `news`.
    pub fn new(trust: Trust, news: &Arc<Notify>) -> Self {
        let first = match &trust {
            Trust::FirstSeen(first) => *first,
            Trust::Any | Trust::Only(_) => None,
        };
        let seen = Seen {
            first,
            is_saved: first.is_some(),
            ..Seen::default()
        };
        Self {
            trust,
            seen: Mutex::new(seen),
            news: Arc::clone(news),
        }
    }

    /// Whether a service with this certificate may be spoken to. Of several that come at once while none is known, one is the
    /// first, and the others are held against it. Called after the handshake: the key has proven itself.
    pub fn admits(&self, found: Fingerprint) -> bool {
        let mut seen = self.lock();
        let is_right = match &self.trust {
            Trust::Any => return true,
            Trust::Only(list) => list.contains(&found),
            Trust::FirstSeen(_) => match seen.first {
                Some(first) => first == found,
                None => {
                    seen.first = Some(found);
                    self.news.notify_one();
                    true
                }
            },
        };
        if !is_right && seen.stranger != Some(found) {
            seen.stranger = Some(found);
            seen.is_told = false;
            self.news.notify_one();
        }
        if is_right {
            seen.stranger = None;
        }
        is_right
    }

    /// What is to be written down or told now; a stranger is given once.
    pub fn news(&self) -> Vec<News> {
        let mut seen = self.lock();
        let first = seen.first.filter(|_| !seen.is_saved).map(News::First);
        let is_new = !std::mem::replace(&mut seen.is_told, true);
        let stranger = seen.stranger.filter(|_| is_new).map(News::Stranger);
        [first, stranger].into_iter().flatten().collect()
    }

    /// The first one is in the state directory.
    pub fn saved(&self) {
        self.lock().is_saved = true;
    }

    /// Whether nobody has been seen yet where the first one counts.
    pub fn is_open(&self) -> bool {
        matches!(self.trust, Trust::FirstSeen(_)) && self.lock().first.is_none()
    }

    /// The ones that are believed; none where any is, or where none was seen.
    pub fn believed(&self) -> Vec<Fingerprint> {
        match &self.trust {
            Trust::Any => Vec::new(),
            Trust::Only(list) => list.clone(),
            Trust::FirstSeen(_) => self.lock().first.into_iter().collect(),
        }
    }

    /// The one that was refused last, while the right one has not come back.
    pub fn stranger(&self) -> Option<Fingerprint> {
        self.lock().stranger
    }

    /// `any`, `listed` or `first-seen`.
    pub fn word(&self) -> &'static str {
        match self.trust {
            Trust::Any => "any",
            Trust::Only(_) => "listed",
            Trust::FirstSeen(_) => "first-seen",
        }
    }

    /// Whether `trust`, as a new plan has it, asks for the same. What is not written down yet goes on.
    pub fn is_as(&self, trust: &Trust) -> bool {
        let seen = self.lock();
        match (&self.trust, trust) {
            (Trust::FirstSeen(_), Trust::FirstSeen(now)) => match now {
                Some(_) => seen.first == *now,
                None => !seen.is_saved,
            },
            (own, other) => own == other,
        }
    }

    /// Whether what goes on by this one is trusted by `now` as well: every certificate that it may have. Where that is not known, it is not.
    pub fn stands_by(&self, now: &Self) -> bool {
        if matches!(now.trust, Trust::Any) || now.is_open() || self.is_as(&now.trust) {
            return true;
        }
        let (were, are) = (self.believed(), now.believed());
        !were.is_empty() && were.iter().all(|one| are.contains(one))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.believed().iter().map(ToString::to_string).collect();
        match (&self.trust, list.is_empty()) {
            (Trust::Any, _) => f.write_str("any certificate is taken"),
            (Trust::Only(_), _) => write!(f, "only the certificate {}", list.join(" or ")),
            (Trust::FirstSeen(_), false) => {
                write!(f, "only the certificate seen first, {}", list.join(" or "))
            }
            (Trust::FirstSeen(_), true) => {
                f.write_str("no certificate seen yet: the first one will be remembered")
            }
        }
    }
}

/// Where the certificates that were seen first are kept, and who is woken when there is something to write.
#[derive(Debug)]
pub struct FirstSeen {
    /// The file.
    pub path: PathBuf,
    /// Woken by every [`Pin`].
    pub news: Arc<Notify>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(trust: Trust) -> Pin {
        Pin::new(trust, &Arc::default())
    }

    fn prints() -> [Fingerprint; 2] {
        [Fingerprint::of(b"a"), Fingerprint::of(b"b")]
    }

    #[test]
    fn the_first_one_is_held_to_and_a_stranger_is_told_once() {
        let ([a, b], pin) = (prints(), pin(Trust::FirstSeen(None)));
        assert!(pin.is_open());
        assert!(pin.admits(a) && pin.admits(a) && !pin.is_open());
        assert_eq!(pin.news(), [News::First(a)]);
        assert_eq!(pin.news(), [News::First(a)], "until it is written down");
        pin.saved();
        assert!(pin.news().is_empty());
        assert!(!pin.admits(b) && !pin.admits(b));
        assert_eq!(
            (pin.stranger(), pin.news()),
            (Some(b), vec![News::Stranger(b)])
        );
        assert!(pin.news().is_empty());
        assert!(pin.admits(a), "the right one may come back");
        assert_eq!(pin.stranger(), None);
        assert!(!pin.admits(b));
        assert_eq!(
            pin.news(),
            [News::Stranger(b)],
            "and the other one is news again"
        );
    }

    #[test]
    fn of_many_at_once_one_is_the_first() {
        let pin = pin(Trust::FirstSeen(None));
        let prints: Vec<_> = (0..8u8).map(|n| Fingerprint::of(&[n])).collect();
        let admitted: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = prints
                .iter()
                .map(|one| scope.spawn(|| usize::from(pin.admits(*one))))
                .collect();
            tries.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1);
        assert_eq!(pin.believed().len(), 1);
    }

    #[test]
    fn listed_ones_are_taken_and_any_is_any() {
        let [a, b] = prints();
        assert!(pin(Trust::Any).admits(a));
        let listed = pin(Trust::Only(vec![a]));
        assert!(listed.admits(a) && !listed.admits(b) && listed.admits(a));
        let both = pin(Trust::Only(vec![a, b]));
        assert!(both.admits(a) && both.admits(b));
        let known = pin(Trust::FirstSeen(Some(a)));
        assert!(!known.is_open() && !known.admits(b) && known.admits(a));
    }

    #[test]
    fn a_new_plan_goes_on_with_what_it_says_itself() {
        let [a, b] = prints();
        let fresh = || pin(Trust::FirstSeen(None));
        let seen = || {
            let pin = fresh();
            pin.admits(a);
            pin
        };
        let saved = || {
            let pin = seen();
            pin.saved();
            pin
        };
        for (name, pin, trust, want) in [
            ("nobody yet", fresh(), Trust::FirstSeen(None), true),
            (
                "somebody else wrote one",
                fresh(),
                Trust::FirstSeen(Some(a)),
                false,
            ),
            ("not written yet", seen(), Trust::FirstSeen(None), true),
            ("written", saved(), Trust::FirstSeen(Some(a)), true),
            (
                "accepted another",
                saved(),
                Trust::FirstSeen(Some(b)),
                false,
            ),
            ("forgotten", saved(), Trust::FirstSeen(None), false),
            ("listed now", saved(), Trust::Only(vec![a]), false),
            ("any now", saved(), Trust::Any, false),
            (
                "the same list",
                self::pin(Trust::Only(vec![a])),
                Trust::Only(vec![a]),
                true,
            ),
            (
                "another list",
                self::pin(Trust::Only(vec![a])),
                Trust::Only(vec![b]),
                false,
            ),
        ] {
            assert_eq!(pin.is_as(&trust), want, "{name}");
        }
    }

    #[test]
    fn what_runs_stands_by_the_certificates_that_it_may_have() {
        let [a, b] = prints();
        let only = |list: &[Fingerprint]| Trust::Only(list.to_vec());
        let seen = |one| Trust::FirstSeen(Some(one));
        for (name, were, now, want) in [
            ("another one beside it", only(&[a]), only(&[a, b]), true),
            ("another order", only(&[a, b]), only(&[b, a]), true),
            ("one less: it may be that", only(&[a, b]), only(&[a]), false),
            ("the first one is written down", seen(a), only(&[a]), true),
            ("another is written down", seen(a), only(&[b]), false),
            ("any was one of many", Trust::Any, only(&[a]), false),
            ("any is, now", only(&[a]), Trust::Any, true),
            ("nobody is known", only(&[a]), Trust::FirstSeen(None), true),
            ("another first one", seen(a), seen(b), false),
        ] {
            assert_eq!(pin(were).stands_by(&pin(now)), want, "{name}");
        }
        // Two that saw the same one first, of which one was there before that was written down.
        let (saved, other) = (pin(seen(a)), pin(Trust::FirstSeen(None)));
        assert!(other.admits(a));
        assert!(saved.stands_by(&other) && other.stands_by(&saved));
    }
}

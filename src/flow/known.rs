//! Whoever has proven on a connection who he is: with the same credential he is known by one look a moment later, without a
//! hash, a table of other threads, or a lock. What is kept is a keyed tag of the credential, never the credential.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::standing::Basis;
use crate::auth::Who;
use crate::auth::session::Origin;

/// For so long nobody else is asked. The idle time of a session and the memory for passwords are that much coarser.
const FRESH: Duration = Duration::from_secs(1);

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The value of `Authorization`.
    Authorization,
    /// The id in our cookie.
    Cookie,
}

/// What must be as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The plan in force: users, groups, tokens.
    pub generation: u64,
    /// How many sessions have ended so far.
    pub ended: u64,
    /// Whom the connection speaks for.
    pub client: IpAddr,
}

/// One who is known.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Who it is.
    pub who: Who,
    /// What that rests on.
    pub basis: Basis,
    /// What a session began with.
    pub origin: Option<Origin>,
}

/// The last one of a connection.
#[derive(Debug, Default)]
pub struct Known {
    /// SipHash with a key of this connection: whoever sends another credential over it meets the same tag once in 2⁶⁴ tries.
    key: RandomState,
    last: RefCell<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    tag: u64,
    state: State,
    until: Instant,
    proven: Proven,
}

impl Known {
    /// Who it is, if he proved it a moment ago.
    pub fn fresh(&self, kind: Kind, value: &[u8], state: State, now: Instant) -> Option<Proven> {
        let last = self.last.borrow();
        let last = last.as_ref().filter(|l| now < l.until)?;
        self.is(last, kind, value, state)
            .then(|| last.proven.clone())
    }

    /// Whether this very credential was right on this connection before, under the same plan.
    pub fn has(&self, kind: Kind, value: &[u8], state: State) -> bool {
        let last = self.last.borrow();
        last.as_ref()
            .is_some_and(|last| self.is(last, kind, value, state))
    }

    /// Remembers who has just been asked about.
    pub fn put(&self, kind: Kind, value: &[u8], state: State, now: Instant, proven: &Proven) {
        // Copies of its own: a count that other threads change too would cost a cache line at every request.
        let who = Who {
            user: Arc::from(&*proven.who.user),
            groups: Arc::from(&*proven.who.groups),
            by: proven.who.by,
        };
        let last = Last {
            tag: self.key.hash_one((kind, value)),
            state,
            until: now + FRESH,
            proven: Proven {
                who,
                ..proven.clone()
            },
        };
        *self.last.borrow_mut() = Some(last);
    }

    fn is(&self, last: &Last, kind: Kind, value: &[u8], state: State) -> bool {
        last.state == state && last.tag == self.key.hash_one((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Method;

    #[test]
    fn one_is_known_by_the_same_credential_in_the_same_state_for_a_moment() {
        let (known, now) = (Known::default(), Instant::now());
        let state = State {
            generation: 1,
            ended: 0,
            client: IpAddr::from([192, 0, 2, 1]),
        };
        let who = Who {
            user: "alice".into(),
            groups: "ops".into(),
            by: Method::Basic,
        };
        let proven = Proven {
            who,
            basis: Basis::Nobody,
            origin: None,
        };
        known.put(Kind::Authorization, b"Basic x", state, now, &proven);
        let other = IpAddr::from([192, 0, 2, 2]);
        for (kind, value, state, at, is_known) in [
            (Kind::Authorization, &b"Basic x"[..], state, now, true),
            (Kind::Authorization, b"Basic y", state, now, false),
            (Kind::Authorization, b"Basic x ", state, now, false),
            (Kind::Authorization, b"", state, now, false),
            (Kind::Cookie, b"Basic x", state, now, false),
            (Kind::Authorization, b"Basic x", state, now + FRESH, false),
            (
                Kind::Authorization,
                b"Basic x",
                State {
                    generation: 2,
                    ..state
                },
                now,
                false,
            ),
            (
                Kind::Authorization,
                b"Basic x",
                State { ended: 1, ..state },
                now,
                false,
            ),
            (
                Kind::Authorization,
                b"Basic x",
                State {
                    client: other,
                    ..state
                },
                now,
                false,
            ),
        ] {
            let found = known.fresh(kind, value, state, at).map(|p| p.who);
            assert_eq!(found.is_some(), is_known, "{kind:?} {state:?}");
            let is_late = at > now;
            assert_eq!(known.has(kind, value, state), is_known || is_late);
        }
        assert!(
            Known::default()
                .fresh(Kind::Authorization, b"Basic x", state, now)
                .is_none(),
            "another connection knows nothing"
        );
    }
}

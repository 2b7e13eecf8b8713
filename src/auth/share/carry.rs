//! Links that another process of ours goes on with. One that was opened stays opened, and in between nobody opens any: of two
//! processes that both have a link, never both let somebody in by it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::super::session_id;
use super::{Limits, MOST, Share, Shares};

/// The ends of links that may wait to be told. Whoever falls behind by so much has lost track.
const MOST_UNTOLD: usize = 4 * MOST;

/// A link as it is told to another process: hashes of its secrets, and how much time is left.
///
/// One with a field that we do not know is not read: that may be what limits it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    id: String,
    link: String,
    /// Of whoever has opened it.
    session: Option<String>,
    host: Option<String>,
    path: String,
    /// Milliseconds.
    left: u64,
    /// Seconds since 1970: when it ends, and when it was opened.
    ends: u64,
    used: Option<u64>,
}

/// The ids of links that have ended before their time, from the begin on. `None` from the channel: something is missing.
pub type Ends = mpsc::Receiver<String>;

impl Shares {
    /// Which links end from now on.
    pub fn follow(&self) -> Ends {
        let (told, ends) = mpsc::channel(MOST_UNTOLD);
        let mut list = self.lock(Instant::now());
        list.told.retain(|follower| !follower.is_closed());
        list.told.push(told);
        ends
    }

    /// All there are, and which end from then on. None opens here any more, until [`Shares::resume`].
    pub fn carry(&self, now: Instant) -> (Vec<Carried>, Ends) {
        let ends = self.follow();
        let mut list = self.lock(now);
        list.is_given = true;
        (
            list.all.iter().map(|share| share.carried(now)).collect(),
            ends,
        )
    }

    /// Nobody has taken them.
    pub fn resume(&self) {
        self.lock(Instant::now()).is_given = false;
    }

    /// Goes on with a link of another process. False when it is here, over, damaged, or one too many.
    pub fn adopt(&self, carried: Carried, now: Instant) -> bool {
        let Some(link) = session_id::read(&carried.link) else {
            return false;
        };
        let session = match &carried.session {
            Some(text) => match session_id::read(text) {
                Some(key) => Some(key),
                None => return false,
            },
            None => None,
        };
        let wall = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let (Some(until), Some(ends)) = (
            now.checked_add(Duration::from_millis(carried.left)),
            wall(carried.ends),
        ) else {
            return false;
        };
        let mut list = self.lock(now);
        let is_here = { list.all.iter() }.any(|one| one.id == carried.id || one.link == link);
        if is_here || until <= now || list.all.len() >= MOST {
            return false;
        }
        list.all.push(Share {
            id: carried.id,
            link,
            session,
            limits: Limits {
                host: carried.host,
                path: carried.path,
            },
            until,
            ends,
            used: carried.used.and_then(wall),
        });
        true
    }
}

impl Share {
    fn carried(&self, now: Instant) -> Carried {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let left = self.until.saturating_duration_since(now).as_millis();
        Carried {
            id: self.id.clone(),
            link: session_id::text(&self.link),
            session: self.session.as_ref().map(session_id::text),
            host: self.limits.host.clone(),
            path: self.limits.path.clone(),
            left: u64::try_from(left).unwrap_or(u64::MAX),
            ends: seconds(self.ends),
            used: self.used.map(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Closed;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn limits() -> Limits {
        Limits {
            host: None,
            path: "/x".into(),
        }
    }

    fn told(all: &[Carried]) -> Vec<Carried> {
        serde_json::from_str(&serde_json::to_string(all).unwrap()).unwrap()
    }

    #[test]
    fn one_that_was_opened_stays_opened_and_one_that_was_not_opens_once() {
        let (old, new, now, wall) = (
            Shares::default(),
            Shares::default(),
            Instant::now(),
            SystemTime::now(),
        );
        let make = || old.open(limits(), HOUR, now, wall).unwrap();
        let ((_, used), (_, unused)) = (make(), make());
        let (visitor, session) = old.redeem(used.expose(), now, wall).unwrap();
        let (all, _ends) = old.carry(now);
        assert_eq!(
            old.redeem(unused.expose(), now, wall).unwrap_err(),
            Closed::Elsewhere
        );
        assert_eq!(
            old.redeem(used.expose(), now, wall).unwrap_err(),
            Closed::Unknown,
            "whoever asks"
        );
        let text = serde_json::to_string(&all).unwrap();
        for secret in [&used, &unused, &session] {
            assert!(!text.contains(secret.expose()));
        }
        assert!(told(&all).into_iter().all(|one| new.adopt(one, now)));
        assert!(
            !told(&all).into_iter().any(|one| new.adopt(one, now)),
            "once"
        );
        assert!(new.redeem(used.expose(), now, wall).is_err());
        let found = new.lookup(session.expose(), now).unwrap();
        assert_eq!((found.id, found.limits), (visitor.id, visitor.limits));
        assert!(new.redeem(unused.expose(), now, wall).is_ok());
        assert!(new.redeem(unused.expose(), now, wall).is_err());
        assert!(new.lookup(session.expose(), now + HOUR).is_none());
        old.resume();
        assert!(
            old.redeem(unused.expose(), now, wall).is_ok(),
            "nobody took them"
        );
    }

    #[test]
    fn what_is_revoked_or_left_is_told_and_what_is_damaged_is_not_taken() {
        let (old, now, wall) = (Shares::default(), Instant::now(), SystemTime::now());
        let visit = || {
            let (id, secret) = old.open(limits(), HOUR, now, wall).unwrap();
            (id, old.redeem(secret.expose(), now, wall).unwrap().1)
        };
        let (one, two) = (visit(), visit());
        let (all, mut ends) = old.carry(now);
        assert_eq!(old.revoke(Some(&one.0), now), 1);
        assert!(old.leave(two.1.expose(), now));
        assert_eq!(ends.try_recv(), Ok(one.0));
        assert_eq!(ends.try_recv(), Ok(two.0));
        let new = Shares::default();
        for (link, session, left) in [
            ("x", None, 1000),
            (&*all[0].link, Some("x".to_owned()), 1000),
            (&*all[0].link, None, 0),
            (&*all[0].link, None, u64::MAX),
        ] {
            let one = Carried {
                link: link.into(),
                session,
                left,
                ..all[0].clone()
            };
            let kept = new.adopt(one, now) && left != u64::MAX;
            assert!(!kept, "{link} {left}");
        }
    }

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let (old, new, now, wall) = (
            Shares::default(),
            Shares::default(),
            Instant::now(),
            SystemTime::now(),
        );
        for _ in 0..MOST {
            old.open(limits(), HOUR, now, wall).unwrap();
        }
        new.open(limits(), HOUR, now, wall).unwrap();
        let all = old.carry(now).0.into_iter();
        assert_eq!(
            all.filter(|one| new.adopt(one.clone(), now)).count(),
            MOST - 1
        );
    }
}

//! Links that log one visitor in, for a while and within limits. The link opens once; what it opened is a session of its own, which
//! ends with its time or when it is revoked. Of either secret only the hash is here. Nothing outlives the process but what it hands on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;
use tokio::sync::mpsc;

use super::cache::Key;
use super::session_id;
use crate::base::fold;
use crate::base::host::Host;
use crate::base::id::random;
use crate::base::path::Path;
use crate::base::secret::Secret;

mod carry;

pub use carry::{Carried, Ends};

/// Links at a time: each was asked for by the owner.
const MOST: usize = 256;

/// What a link may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Only this host, as [`Host`] shows it; `None` for every one of the gate.
    pub host: Option<String>,
    /// Only below this path, by whole segments.
    pub path: String,
}

/// The links of a process.
#[derive(Debug, Default)]
pub struct Shares(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    all: Vec<Share>,
    /// Another process goes on with them: none opens here.
    is_given: bool,
    /// Other processes that go on with what is here.
    told: Vec<mpsc::Sender<String>>,
}

#[derive(Debug)]
struct Share {
    id: String,
    link: Key,
    session: Option<Key>,
    limits: Limits,
    until: Instant,
    ends: SystemTime,
    used: Option<SystemTime>,
}

/// No room for another one.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("there are {MOST} links already; revoke some")]
pub struct Full;

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is none, used, over or revoked.
    Unknown,
    /// Another process goes on with it: it is to be opened there, over a new connection.
    Elsewhere,
}

/// Somebody who came by a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Names the link in logs and lists.
    pub id: String,
    /// For [`Shares::is_alive`].
    pub key: Key,
    /// What it may open.
    pub limits: Limits,
    /// When it ends, by either clock.
    pub until: Instant,
    /// The same.
    pub ends: SystemTime,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Names it.
    pub id: String,
    /// What it may open.
    pub limits: Limits,
    /// When it ends.
    pub ends: SystemTime,
    /// When somebody came by it.
    pub used: Option<SystemTime>,
}

impl Limits {
    /// Whether a request is within them. A path that a decoder behind us could read differently is within no narrower one than `/`.
    pub fn cover(&self, host: &Host<'_>, path: &Path<'_>) -> bool {
        let is_host = self
            .host
            .as_ref()
            .is_none_or(|own| *own == host.to_string());
        is_host && (self.path == "/" || self.is_below(path))
    }

    /// In every reading that an application may have: as it is, loosely, and decoded again.
    fn is_below(&self, path: &Path<'_>) -> bool {
        let own = fold::folded(&self.path);
        let is_loosely = |reading: &String| fold::covers(&own, reading);
        let is_kept = path.doubt.is_none()
            && path.is_under(&self.path)
            && path.readings().is_ok_and(|all| all.iter().all(is_loosely));
        let deeper = std::iter::successors(path.again(), Path::again);
        is_kept && { deeper }.all(|deeper| deeper.is_under(&self.path))
    }
}

impl Shares {
    /// A new link: its id, and its secret, which nobody can make again.
    pub fn open(
        &self,
        limits: Limits,
        life: Duration,
        now: Instant,
        wall: SystemTime,
    ) -> Result<(String, Secret<String>), Full> {
        let mut list = self.lock(now);
        if list.all.len() >= MOST {
            return Err(Full);
        }
        let id = BASE32_NOPAD.encode(&random::<5>()).to_ascii_lowercase();
        let (secret, link) = session_id::fresh();
        list.all.push(Share {
            id: id.clone(),
            link,
            session: None,
            limits,
            until: now + life,
            ends: wall + life,
            used: None,
        });
        Ok((id, secret))
    }

    /// Opens the link of a secret, once: the id of a session for the visitor's cookie.
    pub fn redeem(
        &self,
        secret: &str,
        now: Instant,
        wall: SystemTime,
    ) -> Result<(Visitor, Secret<String>), Closed> {
        let link = session_id::key_of(secret).ok_or(Closed::Unknown)?;
        let mut list = self.lock(now);
        let is_given = list.is_given;
        let share = { list.all.iter_mut() }
            .find(|share| share.link == link && share.session.is_none())
            .ok_or(Closed::Unknown)?;
        if is_given {
            return Err(Closed::Elsewhere);
        }
        let (id, key) = session_id::fresh();
        share.session = Some(key);
        share.used = Some(wall);
        Ok((share.visitor(key), id))
    }

    /// Where the link of a secret leads, and the visit that it opened.
    pub fn about(&self, secret: &str, now: Instant) -> Option<(String, Option<Key>)> {
        let link = session_id::key_of(secret)?;
        let list = self.lock(now);
        let share = list.all.iter().find(|share| share.link == link)?;
        Some((share.limits.path.clone(), share.session))
    }

    /// The visitor of an id as it came in a cookie.
    pub fn lookup(&self, id: &str, now: Instant) -> Option<Visitor> {
        let key = session_id::key_of(id)?;
        let list = self.lock(now);
        let share = list.all.iter().find(|share| share.session == Some(key))?;
        Some(share.visitor(key))
    }

    /// Whether the visitor may go on, for a stream.
    pub fn is_alive(&self, key: &Key, now: Instant) -> bool {
        let list = self.lock(now);
        list.all.iter().any(|share| share.session == Some(*key))
    }

    /// Ends the visit of an id as it came in a cookie, and with it the link; whether there was one.
    pub fn leave(&self, id: &str, now: Instant) -> bool {
        let Some(key) = session_id::key_of(id) else {
            return false;
        };
        self.remove(now, |share| share.session == Some(key)) > 0
    }

    /// Revokes a link by its id, used or not; all of them without one. How many there were.
    pub fn revoke(&self, id: Option<&str>, now: Instant) -> usize {
        self.remove(now, |share| id.is_none_or(|id| share.id == id))
    }

    /// Those that are good.
    pub fn list(&self, now: Instant) -> Vec<Listed> {
        let list = self.lock(now);
        let listed = |share: &Share| Listed {
            id: share.id.clone(),
            limits: share.limits.clone(),
            ends: share.ends,
            used: share.used,
        };
        list.all.iter().map(listed).collect()
    }

    fn remove(&self, now: Instant, which: impl Fn(&Share) -> bool) -> usize {
        let mut list = self.lock(now);
        let List { all, told, .. } = &mut *list;
        let gone: Vec<_> = all.extract_if(.., |share| which(share)).collect();
        for share in &gone {
            told.retain(|follower| follower.try_send(share.id.clone()).is_ok());
        }
        gone.len()
    }

    /// Without those that are over.
    fn lock(&self, now: Instant) -> MutexGuard<'_, List> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.all.retain(|share| now < share.until);
        list
    }
}

impl Share {
    fn visitor(&self, key: Key) -> Visitor {
        Visitor {
            id: self.id.clone(),
            key,
            limits: self.limits.clone(),
            until: self.until,
            ends: self.ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn limits(host: Option<&str>, path: &str) -> Limits {
        Limits {
            host: host.map(str::to_owned),
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_link_opens_once_and_for_its_time() {
        let (shares, now, wall) = (Shares::default(), Instant::now(), SystemTime::now());
        let (id, secret) = shares.open(limits(None, "/"), HOUR, now, wall).unwrap();
        let secret = secret.expose();
        assert_eq!(shares.list(now)[0].used, None);
        for wrong in ["", "abc", &"a".repeat(43), &secret[1..], &id] {
            assert!(shares.redeem(wrong, now, wall).is_err(), "{wrong}");
        }
        assert!(shares.lookup(secret, now).is_none(), "a link is no session");
        let (visitor, session) = shares.redeem(secret, now, wall).unwrap();
        assert_eq!(visitor.id, id);
        assert!(shares.redeem(secret, now, wall).is_err(), "once");
        assert!(shares.redeem(session.expose(), now, wall).is_err());
        assert_eq!(shares.lookup(session.expose(), now), Some(visitor.clone()));
        assert_eq!(shares.list(now)[0].used, Some(wall));
        let end = now + HOUR;
        assert!(shares.is_alive(&visitor.key, end - Duration::from_millis(1)));
        assert!(!shares.is_alive(&visitor.key, end));
        assert!(shares.lookup(session.expose(), end).is_none() && shares.list(end).is_empty());
    }

    #[test]
    fn of_many_who_open_it_at_once_one_does() {
        let (shares, now, wall) = (Shares::default(), Instant::now(), SystemTime::now());
        let (_, secret) = shares.open(limits(None, "/"), HOUR, now, wall).unwrap();
        let came: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| usize::from(shares.redeem(secret.expose(), now, wall).is_ok()))
                })
                .collect();
            tries.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(came, 1);
    }

    #[test]
    fn what_is_revoked_or_left_is_over_at_once() {
        let (shares, now, wall) = (Shares::default(), Instant::now(), SystemTime::now());
        let visit = || {
            let (id, secret) = shares.open(limits(None, "/"), HOUR, now, wall).unwrap();
            let (visitor, session) = shares.redeem(secret.expose(), now, wall).unwrap();
            (id, visitor.key, session)
        };
        let [one, two, three] = [visit(), visit(), visit()];
        assert_eq!(shares.revoke(Some(&one.0), now), 1);
        assert_eq!(shares.revoke(Some(&one.0), now), 0);
        assert!(!shares.is_alive(&one.1, now) && shares.is_alive(&two.1, now));
        assert!(shares.leave(two.2.expose(), now) && !shares.leave(two.2.expose(), now));
        let (_, unused) = shares.open(limits(None, "/"), HOUR, now, wall).unwrap();
        assert_eq!(shares.revoke(None, now), 2);
        assert!(!shares.is_alive(&three.1, now));
        assert!(shares.redeem(unused.expose(), now, wall).is_err());
    }

    #[test]
    fn there_are_only_so_many() {
        let (shares, now, wall) = (Shares::default(), Instant::now(), SystemTime::now());
        for _ in 0..MOST {
            shares.open(limits(None, "/"), HOUR, now, wall).unwrap();
        }
        let more = |at| shares.open(limits(None, "/"), HOUR, at, wall).map(drop);
        assert_eq!(more(now), Err(Full));
        assert_eq!(more(now + HOUR), Ok(()), "what is over makes room");
    }

    #[test]
    fn limits_are_whole_segments_on_one_host() {
        for (own, host, path, want) in [
            (limits(None, "/"), "app.lan", "/x", true),
            (limits(None, "/"), "app.lan", "/x%2fy", true),
            (limits(None, "/x"), "app.lan", "/x", true),
            (limits(None, "/x"), "app.lan", "/x/y", true),
            (limits(None, "/x"), "app.lan", "/xy", false),
            (limits(None, "/x"), "app.lan", "/", false),
            (limits(None, "/x"), "app.lan", "/x/../y", false),
            (limits(None, "/x"), "app.lan", "/x%2f..%2fy", false),
            (limits(None, "/x"), "app.lan", "/x/%252e%252e/y", false),
            (limits(None, "/x"), "app.lan", "/x/..%20/y", false),
            (limits(None, "/x"), "app.lan", "/%78/y", true),
            (limits(None, "/x"), "app.lan", "/X/y", false),
            (limits(Some("app.lan"), "/"), "app.lan", "/", true),
            (limits(Some("app.lan"), "/"), "APP.lan", "/", true),
            (limits(Some("app.lan"), "/"), "other.lan", "/", false),
        ] {
            let (host, read) = (Host::parse(host).unwrap(), Path::parse(path).unwrap());
            assert_eq!(own.cover(&host, &read), want, "{own:?} {host} {path}");
        }
    }
}

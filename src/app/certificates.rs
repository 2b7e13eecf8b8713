//! The certificates that we sign ourselves: renewed in time although nobody connects, and told in the log.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::run::Site;
use super::scrape::{self, ROOT};
use super::source::Source;
use super::start::Running;
use crate::observe::Event;
use crate::tls::local_ca::Origin;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    known: BTreeMap<String, SystemTime>,
    is_failing: bool,
    has_begun: bool,
    /// That the authority is a new one was noticed.
    is_made: bool,
}

impl Certificates {
    /// One look: signs what is due, and tells of every certificate that is new.
    /// Those of the start are told only where somebody reads a log, not below the banner of `expose`.
    pub fn look(&mut self, running: &Running, site: &Site<'_>) {
        let (plan, log) = (running.shared.live.current(), &running.shared.log);
        let listeners = plan.listeners.iter().filter_map(|l| l.tls.as_ref());
        let failed = listeners
            .filter_map(|tls| tls.warm(&site.machine.addresses, SystemTime::now()).err())
            .next();
        if let Some(error) = failed.as_ref().filter(|_| !self.is_failing) {
            log.event(Event::error("cert_failed").with("error", error));
        }
        self.is_failing = failed.is_some();
        let now = scrape::certificates(&plan);
        let own: BTreeMap<_, _> = now
            .into_iter()
            .filter(|(name, (_, is_own))| *is_own && name != ROOT)
            .map(|(name, (until, _))| (name, until))
            .collect();
        let is_told = self.has_begun || matches!(site.source, Source::File(_));
        self.tell_authority(running, is_told);
        self.has_begun = true;
        for (name, until) in own.iter().filter(|_| is_told) {
            if self.known.get(name) != Some(until) {
                let event = Event::info("cert_issued").with("name", name);
                log.event(event.with("not_after", scrape::stamp(*until)));
            }
        }
        self.known = own;
    }

    /// Says once that devices have something new to trust.
    fn tell_authority(&mut self, running: &Running, is_told: bool) {
        let plan = running.shared.live.current();
        let all = plan.listeners.iter().filter_map(|l| l.tls.as_ref());
        let made = all
            .filter_map(|tls| tls.authority())
            .find(|authority| authority.origin() == Origin::Made);
        let Some(made) = made.filter(|_| !std::mem::replace(&mut self.is_made, true) && is_told)
        else {
            return;
        };
        let event = Event::info("authority_made").with("file", made.path().display());
        let event = event.with("fingerprint_sha256", made.fingerprint());
        running.shared.log.event(event);
    }
}

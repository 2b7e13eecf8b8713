//! Whether requests can be served: the gate is not about to end, and every service takes a connection and may be served.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::app::scrape::scrape;
use crate::app::worker::Signal;
use crate::base::drain::Phase;
use crate::flow::Shared;
use crate::upstream::Upstream;

/// How long one service may take to accept a connection. Longer is not ready, whatever `limits.connect` says.
const PATIENCE: Duration = Duration::from_secs(2);
/// Services that are dialled at a time.
const AT_ONCE: usize = 16;
/// An answer is good for so long: whoever asks more often dials no more often.
const FRESH: Duration = Duration::from_secs(1);

/// What probes and scrapers ask of.
#[derive(Debug)]
pub struct Health {
    shared: Arc<Shared>,
    signal: watch::Receiver<Signal>,
    last: Mutex<Option<(Instant, u64, Arc<Readiness>)>>,
}

/// Whether requests can be served, and what is in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Nothing is.
    pub is_ready: bool,
    /// What was asked, and what is wrong with it.
    pub parts: Vec<(String, Option<String>)>,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_ready {
            "ready\n"
        } else {
            "not ready\n"
        })?;
        for (part, wrong) in &self.parts {
            match wrong {
                None => writeln!(f, "ready      {part}")?,
                Some(wrong) => writeln!(f, "not ready  {part}: {wrong}")?,
            }
        }
        Ok(())
    }
}

impl Health {
    pub(in crate::app) fn new(shared: Arc<Shared>, signal: watch::Receiver<Signal>) -> Self {
        Self {
            shared,
            signal,
            last: Mutex::default(),
        }
    }

    /// All metrics as text.
    pub fn metrics(&self) -> String {
        scrape(&self.shared)
    }

    /// Asks every service of the plan in force. Who comes while it is asked waits for the same answer.
    pub async fn ready(&self) -> Arc<Readiness> {
        if self.signal.borrow().phase > Phase::Run {
            let parts = vec![("the gate".to_owned(), Some("it is about to end".to_owned()))];
            return Arc::new(Readiness {
                is_ready: false,
                parts,
            });
        }
        let generation = self.shared.live.generation();
        let mut last = self.last.lock().await;
        if let Some((at, of, readiness)) = &*last
            && at.elapsed() < FRESH
            && *of == generation
        {
            return Arc::clone(readiness);
        }
        let readiness = Arc::new(self.ask().await);
        *last = Some((Instant::now(), generation, Arc::clone(&readiness)));
        readiness
    }

    async fn ask(&self) -> Readiness {
        let plan = self.shared.live.current();
        let mut services: Vec<(Arc<Upstream>, bool)> = Vec::new();
        for route in &plan.routes {
            let refuses = route.upstream.is_refused();
            match services
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, &route.upstream))
            {
                Some((_, is_refused)) => *is_refused |= refuses,
                None => services.push((Arc::clone(&route.upstream), refuses)),
            }
        }
        let patience = plan.limits.connect.min(PATIENCE);
        let (mut dials, mut parts) = (JoinSet::new(), Vec::new());
        for (upstream, is_refused) in services {
            if dials.len() >= AT_ONCE {
                parts.extend(dials.join_next().await.and_then(Result::ok));
            }
            dials.spawn(async move {
                let name = upstream.target().to_string();
                if is_refused {
                    return (name, Some("it can be reached around the gate".to_owned()));
                }
                let wrong = upstream.answers(patience).await.err();
                (name, wrong.map(|refusal| refusal.detail.to_owned()))
            });
        }
        while let Some(part) = dials.join_next().await {
            parts.extend(part.ok());
        }
        parts.sort();
        let is_ready = parts.iter().all(|(_, wrong)| wrong.is_none());
        Readiness { is_ready, parts }
    }
}

//! How much goes on now: the totals of the last seconds, so that `status` has a rate without being asked twice.

use std::collections::VecDeque;
use std::time::Instant;

use crate::observe::Metrics;

/// Looks that are kept; at one in two seconds the rates are those of the last ten.
const KEPT: usize = 6;

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    totals: [u64; 4],
}

/// The last looks.
#[derive(Debug, Default)]
pub(super) struct Pulse(VecDeque<Look>);

/// Per second: requests, refusals, bytes from clients and to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates(pub [f64; 4]);

impl Pulse {
    /// Looks at the totals.
    pub fn look(&mut self, metrics: &Metrics, now: Instant) {
        let ((requests, refused), (received, sent)) = (metrics.totals(), metrics.bytes());
        self.note([requests, refused, received, sent], now);
    }

    fn note(&mut self, totals: [u64; 4], at: Instant) {
        self.0.push_back(Look { at, totals });
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// The rates since the oldest look that is kept.
    pub fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else {
            return Rates::default();
        };
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let rate = |i: usize| last.totals[i].saturating_sub(first.totals[i]) as f64 / seconds;
        Rates(std::array::from_fn(rate))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_those_of_the_last_looks() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.rates(), Rates::default());
        for n in 0..20u64 {
            let totals = [n * 10, n, 0, n * n];
            pulse.note(totals, start + Duration::from_secs(2 * n));
        }
        assert_eq!(pulse.rates().0[..3], [5.0, 0.5, 0.0]);
        assert_eq!(pulse.0.len(), KEPT);
    }
}

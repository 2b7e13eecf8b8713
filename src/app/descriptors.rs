//! Descriptors: the process's limit raised as far as it may be, and no more connections than it is good for, so that the one too
//! many is answered instead of failing at accept.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::observe::Event;
use crate::plan::Plan;

/// For files, listeners, logs and whatever else is not a connection.
const BESIDE: u64 = 512;
/// A connection, and one to a service: there are never more of these than of those (`upstream/open`).
const EACH: u64 = 2;

/// Raises the soft limit to the hard one, and lowers `limits.connections` to what that is good for. Gives a word for the log when
/// a tenth of them or more is lost.
pub(super) fn fit(plan: &mut Plan) -> Option<Event> {
    let limit = raised();
    let wanted = plan.limits.connections;
    plan.limits.connections = possible(wanted, limit);
    let fits = plan.limits.connections;
    if fits < wanted {
        // Of what is left one client cannot have all either.
        let most = &mut plan.limits.connections_per_client;
        *most = (*most).min((fits / 2).max(1));
    }
    (fits < wanted - wanted / 10).then(|| {
        Event::warn("descriptors_short")
            .with("limit", limit)
            .with("wanted", wanted as u64 * EACH + BESIDE)
            .with("connections", fits)
            .with(
                "connections_per_client",
                plan.limits.connections_per_client,
            )
            .with("hint", "raise the limit of open files (LimitNOFILE= of the unit, `ulimit -n`), or lower limits.connections")
    })
}

/// The limit, after it was raised.
fn raised() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if now.current != now.maximum && setrlimit(Resource::Nofile, wanted).is_ok() {
        return now.maximum.unwrap_or(u64::MAX);
    }
    now.current.unwrap_or(u64::MAX)
}

fn possible(wanted: usize, limit: u64) -> usize {
    let most = limit.saturating_sub(BESIDE) / EACH;
    // A limit that small is no limit to serve under; a few connections are better than none.
    wanted.min(usize::try_from(most).unwrap_or(usize::MAX).max(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_than_the_limit_is_good_for() {
        for (wanted, limit, want) in [
            (10_000, 1 << 20, 10_000),
            (10_000, u64::MAX, 10_000),
            (10_000, 20_512, 10_000),
            (10_000, 20_000, 9_744),
            (10_000, 1024, 256),
            (10_000, 0, 16),
            (8, 0, 8),
        ] {
            assert_eq!(possible(wanted, limit), want, "{wanted} under {limit}");
        }
    }
}

//! Descriptors: the process's limit raised as far as it may be, and no more connections than it is good for, so that the one too
//! many is answered instead of failing at accept. A client that is idle needs one, one that is served needs two: clients may have
//! most of them, and what is left bounds the connections to services (`upstream/open`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::observe::Event;
use crate::plan::Plan;

/// For files, logs, the admin address, those that are told that they are too many (`serve/surplus`), and whatever else is counted nowhere.
const BESIDE: u64 = 512;
/// And for each data thread, besides a socket for each address that is listened on.
const THREAD: u64 = 8;
/// Connections that there are in all, however low the limit is: that is no limit to serve under, but a few are better than none.
const LEAST: usize = 32;

/// How many connections there may be.
#[derive(Debug, PartialEq, Eq)]
struct Split {
    clients: usize,
    services: usize,
}

/// Raises the soft limit to the hard one, and lowers `limits.connections`, and what services may have of them, to what that is good
/// for. Gives a word for the log when clients lose a tenth or more, or one client has less than was written.
pub(super) fn fit(plan: &mut Plan) -> Option<Event> {
    let limit = raised();
    let beside = BESIDE + plan.workers.max(1) as u64 * (THREAD + plan.addresses().count() as u64);
    let limits = &mut plan.limits;
    let (wanted, wanted_per_client) = (limits.connections, limits.connections_per_client);
    let Split { clients, services } = split(wanted, beside, limit);
    (limits.connections, limits.service_connections) = (clients, services);
    if services < wanted {
        // Of what is left one client cannot have all: each of his may want one to a service.
        limits.connections_per_client = wanted_per_client.min((services / 2).max(1));
    }
    let is_short = clients < wanted - wanted / 10
        || limits.connections_per_client < wanted_per_client.min(wanted / 2);
    is_short.then(|| {
        Event::warn("descriptors_short")
            .with("limit", limit)
            .with("wanted", wanted as u64 * 2 + beside)
            .with("connections", clients)
            .with("connections_per_client", limits.connections_per_client)
            .with("upstream_connections", services)
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

/// Clients have what they want up to two thirds of what there is, services the rest, at most one for each client connection.
fn split(wanted: usize, beside: u64, limit: u64) -> Split {
    let room = usize::try_from(limit.saturating_sub(beside)).unwrap_or(usize::MAX);
    let room = room.max(LEAST);
    let clients = wanted.min(room - room / 3);
    Split {
        clients,
        services: wanted.min(room - clients),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_most_of_the_descriptors_and_services_the_rest() {
        for (wanted, limit, clients, services) in [
            (10_000, 1 << 20, 10_000, 10_000),
            (10_000, u64::MAX, 10_000, 10_000),
            (10_000, 20_512, 10_000, 10_000),
            (10_000, 20_000, 10_000, 9_488),
            (12_000, 20_000, 12_000, 7_488),
            (20_000, 20_000, 12_992, 6_496),
            (10_000, 15_512, 10_000, 5_000),
            (10_000, 1024, 342, 170),
            (100, 1024, 100, 100),
            (10_000, 0, 22, 10),
            (8, 0, 8, 8),
        ] {
            let split = split(wanted, BESIDE, limit);
            assert_eq!(split, Split { clients, services }, "{wanted} under {limit}");
            let sum = (clients + services) as u64;
            assert!(sum <= limit.saturating_sub(BESIDE).max(LEAST as u64));
        }
    }
}

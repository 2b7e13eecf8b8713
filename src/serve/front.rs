//! The accept loop of one listener on one data thread. It judges the address and hands on; it never waits for a peer.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::time::timeout;

use super::handshake;
use super::surplus::{Place, Surplus};
use crate::auth::client_net::ClientNet;
use crate::base::apart::apart;
use crate::base::cidr::fold;
use crate::base::drain::{Phase, Watch};
use crate::base::refusal::{Reason, Refusal};
use crate::flow::{Conn, Worker};
use crate::gate::{Admitted, Arrived, BEHIND_NAT};
use crate::limit::{Counted, Counts};
use crate::observe::{Event, Slot, contained};

/// After a failed accept (no descriptors, most likely) the next one waits this long, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// As many as the kernel holds for a listener that is closed (its backlog) are still taken, so that none of them is cut.
const LAST: usize = 1024;

/// Accepts until the drain begins, or until the listener is closed (`open` turns false and the bell rings). Every connection holds
/// a guard of `drain`.
pub async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    open: Arc<AtomicBool>,
    worker: Rc<Worker>,
    counts: Arc<Counts>,
    drain: Watch,
) {
    let bell = worker.bell();
    let (mut failing, mut last) = (false, 0);
    let listened = worker.shared.metrics.listener(&address.to_string());
    let slot = listened.slot;
    loop {
        let accepted = poll_fn(|cx| {
            bell.listen(cx);
            if worker.phase() > Phase::Run || last >= LAST {
                return Poll::Ready(None);
            }
            match listener.poll_accept(cx) {
                Poll::Pending if !open.load(Ordering::Acquire) => Poll::Ready(None),
                accepted => accepted.map(Some),
            }
        });
        let (stream, peer) = match accepted.await {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                let failures = &worker.shared.metrics.accept_failures;
                failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    worker
                        .shared
                        .log
                        .event(Event::error("accept_failed").with("error", error));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        failing = false;
        last += usize::from(!open.load(Ordering::Acquire));
        let plan = worker.plan();
        let local = stream.local_addr();
        let at = local
            .as_ref()
            .map_or(address, |at| SocketAddr::new(fold(at.ip()), at.port()));
        let Some(rules) = plan.entrance(address, at) else {
            continue;
        };
        let arrived = match rules.gate.arrive(stream, peer) {
            Ok(arrived) => arrived,
            Err(refusal) => {
                denied(&worker, slot, (peer, peer), local.ok(), refusal);
                continue;
            }
        };
        // A trusted proxy stands for many clients. Those that it names by a PROXY header are counted when they are known.
        let client = (!arrived.is_proxy()).then(|| ClientNet::of(arrived.peer().ip()));
        let counted = counts.enter(
            client,
            plan.limits.connections,
            plan.limits.connections_per_client,
        );
        let surplus = || Surplus::enter(&worker).map(|_held| Place::Surplus { _held });
        let Some(place) = counted.map(Place::Counted).or_else(surplus) else {
            unheard(&worker);
            continue;
        };
        let (worker, guard) = (Rc::clone(&worker), drain.guard());
        let open = worker.tally.connection(slot);
        tokio::task::spawn_local(async move {
            let _held = (guard, open);
            let served = serve(arrived, (address, slot), place, Rc::clone(&worker));
            let shared = &worker.shared;
            contained("connection", &shared.log, &shared.metrics, served).await;
        });
    }
}

/// What to do where every visitor has the address of our own gateway.
const REPAIR: &str = "let source addresses through (a container: `--network host`, or no masquerade and no userland proxy for this port; \
    a pod: `externalTrafficPolicy: Local`), or name the proxy in front in trusted_proxies and let it send the client's \
    address; `allow_gateway = true` lets in everybody who comes by that way";

/// Counts a connection that is not let in and writes it down. `ends` are the peer and whom it names.
fn denied(
    worker: &Rc<Worker>,
    listener: Slot,
    (peer, source): (SocketAddr, SocketAddr),
    local: Option<SocketAddr>,
    refusal: Refusal,
) {
    if refusal.reason == Reason::NetworkDenied {
        let is_behind_nat = refusal.detail == BEHIND_NAT;
        worker.tally.denied(is_behind_nat);
        let metrics = &worker.shared.metrics;
        if is_behind_nat && metrics.is_news_behind_nat(listener, SystemTime::now()) {
            let event = Event::warn("behind_nat")
                .with("listener", local.unwrap_or(peer))
                .with("peer", fold(source.ip()))
                .with("why", refusal.detail);
            worker.shared.log.event(event.with("repair", REPAIR));
        }
    }
    if !worker.shared.log.wants_access() {
        return;
    }
    let peer = SocketAddr::new(fold(peer.ip()), peer.port());
    let conn = Conn {
        peer,
        source: fold(source.ip()),
        local: local.unwrap_or(peer),
        sni: None,
        tls: "",
        certificate: None,
        listener: local.unwrap_or(peer),
        bell: worker.bell(),
        busy: Rc::default(),
        known: Default::default(),
        is_surplus: false,
        counted: None,
    };
    let mut record = conn.record(worker, "");
    record.refusal = Some(refusal);
    worker.pen.access(record);
}

/// Counts a connection beyond the limits that is closed without a word.
fn unheard(worker: &Worker) {
    let closed = &worker.shared.metrics.surplus_closed;
    closed.fetch_add(1, Ordering::Relaxed);
}

async fn serve(
    arrived: Arrived,
    (address, slot): (SocketAddr, Slot),
    mut place: Place,
    worker: Rc<Worker>,
) {
    let Some(admitted) = admit(arrived, (address, slot), &mut place, &worker).await else {
        return;
    };
    tokio::select! {
        biased;
        () = speak(admitted, address, place.counted(), worker) => {}
        () = place.over() => {}
    }
}

async fn speak(
    admitted: Admitted,
    address: SocketAddr,
    counted: Option<Rc<Counted>>,
    worker: Rc<Worker>,
) {
    let shaken = apart(|| handshake::shake(admitted, address, counted, &worker));
    let Some(ready) = shaken.await else {
        return;
    };
    match ready {
        handshake::Ready::Http1(conn, wire) => super::http1::serve(conn, wire, worker).await,
        handshake::Ready::Http2(conn, stream) => {
            apart(|| super::http2::serve(conn, stream, worker)).await
        }
    }
}

/// Waits for the PROXY header of a trusted proxy, where one is due. Whom it names is counted from then on.
async fn admit(
    arrived: Arrived,
    (address, slot): (SocketAddr, Slot),
    place: &mut Place,
    worker: &Rc<Worker>,
) -> Option<Admitted> {
    let plan = worker.plan();
    let (peer, local) = (arrived.peer(), arrived.local());
    let admit = plan.rules(address, local)?.gate.admit(arrived);
    let admitted = match timeout(plan.limits.handshake, admit).await {
        Ok(Ok(admitted)) => admitted,
        Ok(Err((source, refusal))) => {
            denied(worker, slot, (peer, source), Some(local), refusal);
            return None;
        }
        Err(_) => {
            let late = Refusal::new(
                Reason::RequestTimeout,
                "the PROXY header did not arrive in time",
            );
            denied(worker, slot, (peer, peer), Some(local), late);
            return None;
        }
    };
    let source = admitted.source();
    let named = source != admitted.peer() && !plan.rules(address, local)?.gate.trusts(source.ip());
    let most = plan.limits.connections_per_client;
    let has_room = match place {
        Place::Counted(counted) => !named || counted.assign(ClientNet::of(source.ip()), most),
        Place::Surplus { .. } => true,
    };
    if !has_room {
        let Some(_held) = Surplus::enter(worker) else {
            unheard(worker);
            return None;
        };
        *place = Place::Surplus { _held };
    }
    Some(admitted)
}

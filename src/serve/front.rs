//! The accept loop of one listener on one data thread. It judges the address and hands on; it never waits for a peer.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpListener;

use super::counts::Counts;
use super::handshake;
use crate::auth::client_net::ClientNet;
use crate::base::cidr::fold;
use crate::base::drain::{Phase, Watch};
use crate::base::refusal::Refusal;
use crate::flow::{Conn, Worker};
use crate::gate::{Admitted, BEHIND_NAT};
use crate::observe::{Event, contained};

/// After a failed accept (no descriptors, most likely) the next one waits this long, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the drain begins. Every connection holds a guard of `drain`.
pub async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    worker: Rc<Worker>,
    counts: Arc<Counts>,
    drain: Watch,
) {
    let bell = worker.bell();
    let mut failing = false;
    let slot = worker.shared.metrics.listener(&address.to_string());
    loop {
        let accepted = poll_fn(|cx| {
            bell.listen(cx);
            if worker.phase() > Phase::Run || worker.plan().listener(address).is_none() {
                return Poll::Ready(None);
            }
            listener.poll_accept(cx).map(Some)
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
        let plan = worker.plan();
        let Some(rules) = plan.listener(address) else {
            return;
        };
        let local = stream.local_addr();
        let admitted = match rules.gate.admit(stream, peer) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                denied(&worker, peer, local.ok(), refusal);
                continue;
            }
        };
        let client = ClientNet::of(fold(peer.ip()));
        let Some(counted) = counts.enter(
            client,
            plan.limits.connections,
            plan.limits.connections_per_client,
        ) else {
            continue;
        };
        let (worker, guard) = (Rc::clone(&worker), drain.guard());
        let open = worker.tally.connection(slot);
        tokio::task::spawn_local(async move {
            let _held = (counted, guard, open);
            let served = serve(admitted, address, Rc::clone(&worker));
            let shared = &worker.shared;
            contained("connection", &shared.log, &shared.metrics, served).await;
        });
    }
}

fn denied(worker: &Rc<Worker>, peer: SocketAddr, local: Option<SocketAddr>, refusal: Refusal) {
    worker.tally.denied(refusal.detail == BEHIND_NAT);
    if !worker.shared.log.wants_access() {
        return;
    }
    let peer = SocketAddr::new(fold(peer.ip()), peer.port());
    let conn = Conn {
        peer,
        client: peer.ip(),
        local: local.unwrap_or(peer),
        sni: None,
        tls: "",
        listener: local.unwrap_or(peer),
        bell: worker.bell(),
        busy: Rc::default(),
    };
    let mut record = conn.record(worker, "");
    record.refusal = Some(refusal);
    worker.shared.log.access(record);
}

async fn serve(admitted: Admitted, address: SocketAddr, worker: Rc<Worker>) {
    let Some(ready) = Box::pin(handshake::shake(admitted, address, &worker)).await else {
        return;
    };
    match ready {
        handshake::Ready::Http1(conn, wire) => super::http1::serve(conn, wire, worker).await,
        handshake::Ready::Http2(conn, stream) => {
            Box::pin(super::http2::serve(conn, stream, worker)).await
        }
    }
}

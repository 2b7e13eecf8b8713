//! A WebSocket over HTTP/2 (RFC 8441), which the upstream sees as an HTTP/1.1 upgrade.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::BASE64;
use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::answer::{self, Interim, Patience, broken};
use super::body::Carried;
use super::h2_head::{begin, lines};
use super::intake::Line;
use super::outbound::Outbound;
use super::response::Inbound;
use super::scratch::Scratch;
use super::standing::Standing;
use super::state::{Held, Worker};
use crate::base::id::random;
use crate::base::refusal::Refusal;
use crate::http1::field::Name;
use crate::http1::framing;
use crate::limit::Exchange;
use crate::net::Wire;
use crate::plan::Plan;

/// RFC 6455, 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Opens the tunnel. The stream is answered with 200 once the upstream has said 101 and proven that it means a WebSocket.
#[allow(
    clippy::too_many_arguments,
    reason = "one call, and each is a part of the exchange"
)]
pub(super) async fn open(
    worker: &Rc<Worker>,
    plan: &Arc<Plan>,
    head: &Outbound<'_>,
    inbound: &Inbound<'_>,
    standing: Standing,
    held: (Held, Option<Exchange>),
    parts: &http::request::Parts,
    scratch: &mut Scratch,
) -> Result<Response<Carried>, Refusal> {
    let limits = &plan.limits;
    let key = BASE64.encode(&random::<16>());
    let ours = Line {
        known: Name::SecWebsocketKey,
        underscore: false,
        name: b"Sec-WebSocket-Key",
        value: key.as_bytes(),
    };
    let lines = lines(&parts.headers);
    head.write(
        lines
            .iter()
            .copied()
            .filter(|l| l.known != Name::SecWebsocketKey)
            .chain(std::iter::once(ours)),
        &mut scratch.request,
    );
    let lease = worker
        .pool
        .lease(head.permit, &head.route.upstream, false, limits.dial())
        .await?;
    let wire = lease.wire;
    wire.write(&scratch.request, limits.body_idle)
        .await
        .map_err(|_| broken("the upstream closed the connection"))?;
    let mut interim = Interim::default();
    let found = loop {
        let found = answer::head(
            &wire,
            &mut scratch.answer,
            &mut scratch.answer_fields,
            false,
            &mut interim,
            &Patience::of(limits.answer),
            limits.answer,
        )
        .await?;
        if !(100..200).contains(&found.status) || found.status == 101 {
            break found;
        }
    };
    let mut response = begin(
        inbound,
        found.status,
        &scratch.answer,
        &scratch.answer_fields,
    )?;
    if (200..300).contains(&found.status) {
        // To an extended CONNECT any 2xx would say that the tunnel stands (RFC 8441, 5).
        return Err(broken("the upstream did not switch to a WebSocket"));
    }
    if found.status != 101 {
        // A refusal of the application; its body is small and is not passed on through a stream that wanted a tunnel.
        return Ok(response);
    }
    let agreed = framing::agreed_upgrade(&scratch.answer, &scratch.answer_fields, found.version);
    if !agreed.map_err(broken)?.eq_ignore_ascii_case(b"websocket") {
        return Err(broken(
            "the upstream switched to another protocol than asked",
        ));
    }
    let accept = response.headers_mut().remove("sec-websocket-accept");
    if accept.is_none_or(|a| a.as_bytes() != expected(&key).as_bytes()) {
        return Err(broken(
            "the upstream's WebSocket answer does not match the question",
        ));
    }
    *response.status_mut() = StatusCode::OK;
    let mut request = http::Request::from_parts(parts.clone(), ());
    let upgrade = hyper::upgrade::on(&mut request);
    let idle = limits.body_idle;
    let tunnel = worker.tally.tunnel();
    worker.spawn("tunnel", async move {
        let _held = (held, tunnel);
        let Ok(upgraded) = upgrade.await else { return };
        run(TokioIo::new(upgraded), &wire, &standing, idle).await;
    });
    Ok(response)
}

fn expected(key: &str) -> String {
    let hash = digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{GUID}").as_bytes(),
    );
    BASE64.encode(hash.as_ref())
}

async fn run(
    stream: TokioIo<hyper::upgrade::Upgraded>,
    wire: &Wire,
    standing: &Standing,
    idle: std::time::Duration,
) {
    let (mut from, mut to) = tokio::io::split(stream);
    let up = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return drop(wire.shutdown(idle).await),
                Ok(n) if wire.write(&buffer[..n], idle).await.is_err() => return,
                Ok(_) => {}
            }
        }
    };
    let down = async {
        loop {
            let data = wire.input.borrow().data().to_vec();
            wire.input.borrow_mut().consume(data.len());
            if !data.is_empty()
                && !matches!(
                    tokio::time::timeout(idle, to.write_all(&data)).await,
                    Ok(Ok(()))
                )
            {
                return;
            }
            if !matches!(poll_fn(|cx| wire.poll_fill_forever(cx, 16 << 10)).await, Ok(n) if n > 0) {
                return drop(tokio::time::timeout(idle, to.shutdown()).await);
            }
        }
    };
    let both = async {
        tokio::pin!(up, down);
        let first = tokio::select! { () = &mut up => true, () = &mut down => false };
        let rest = async {
            if first {
                down.await;
            } else {
                up.await;
            }
        };
        let _ = tokio::time::timeout(super::tunnel::HALF_OPEN, rest).await;
    };
    tokio::select! { () = both => {}, () = standing.ended() => {} }
}

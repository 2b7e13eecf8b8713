//! An HTTP/2 connection: hyper's server on this thread, with limits, and an end when it is idle.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::flood::{Verdict, Watched};
use super::streams::{Shelf, Streams};
use super::unseen::{self, Counts, Unseen};
use crate::flow::{Conn, Worker, serve_stream};
use crate::net::{Cork, Stream};
use crate::observe::Event;

/// Streams at a time on one connection.
const STREAMS: u32 = 128;
/// So many times `head_size` the library takes of a head, and refuses more without a page (`unseen` tells the log). What lies
/// between is refused as over HTTP/1.1 (`flow/h2`). One head at a time is on its way, so a connection holds no more of one.
const HEADS: u32 = 2;
/// Answer bytes that may wait for one stream's window: with [`STREAMS`] the bound of a connection's memory.
const SEND_BUFFER: usize = 64 << 10;

/// Serves the connection to its end.
pub(super) async fn serve(conn: Conn, stream: Box<Stream>, worker: Rc<Worker>) {
    let limits = worker.plan().limits;
    let conn = Rc::new(conn);
    let busy = Rc::clone(&conn.busy);
    let asked = Rc::new(Cell::new(false));
    let service = {
        let (conn, worker, asked) = (Rc::clone(&conn), Rc::clone(&worker), Rc::clone(&asked));
        let shelf = Shelf::here();
        service_fn(move |request| {
            asked.set(true);
            shelf.lend(serve_stream(Rc::clone(&worker), Rc::clone(&conn), request))
        })
    };
    let mut streams = Streams::new(&worker);
    let mut builder = http2::Builder::new(streams.entrance(limits.body_idle));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .max_header_list_size(
            HEADS.saturating_mul(u32::try_from(limits.head_size).unwrap_or(u32::MAX)),
        )
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .enable_connect_protocol();
    let (verdict, counts) = (Verdict::default(), Counts::default());
    let unseen = Unseen::new(Rc::clone(&counts));
    let stream = Cork::new(*stream);
    let stream = Watched::new(stream, limits.head, Rc::clone(&verdict), unseen);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut tick = pin!(tokio::time::sleep(limits.idle));
    let (mut told, mut is_told, mut epoch) = (false, false, worker.epoch());
    let mut is_leaving = conn.is_leaving(&worker);
    let end = poll_fn(|cx| {
        conn.bell.listen(cx);
        if worker.epoch() != epoch {
            epoch = worker.epoch();
            if !conn.is_welcome(&worker) {
                return Poll::Ready(());
            }
            is_leaving = conn.is_leaving(&worker);
        }
        while tick.as_mut().poll(cx).is_ready() {
            let idle = busy.idle();
            if busy.is_idle() && idle >= limits.idle {
                if std::mem::replace(&mut told, true) && busy.is_idle() {
                    return Poll::Ready(());
                }
                served.as_mut().graceful_shutdown();
                tick.as_mut().reset(Instant::now() + Duration::from_secs(5));
            } else {
                let next = if busy.is_idle() {
                    limits.idle - idle
                } else {
                    limits.idle
                };
                tick.as_mut().reset(Instant::now() + next);
            }
        }
        if is_leaving && !std::mem::replace(&mut is_told, true) {
            busy.tell_end();
            told = true;
            served.as_mut().graceful_shutdown();
        }
        // First those that wait for a service: what they have for the connection goes out with the rest.
        streams.poll(cx);
        let polled = served.as_mut().poll(cx).map(drop);
        streams.poll_begun(cx);
        unseen::tell(&counts, &conn, &worker);
        // One too many: it has asked, it is told, and that was it.
        if conn.is_surplus && asked.get() && !std::mem::replace(&mut told, true) {
            served.as_mut().graceful_shutdown();
            return served.as_mut().poll(cx).map(drop);
        }
        polled
    });
    end.await;
    streams.leave();
    if let Some(frames) = verdict.get() {
        let event = Event::info("http2_flood_ended").with("client", conn.source);
        worker.shared.log.event(event.with("frames", frames));
    }
}

//! An HTTP/2 stream in front of an HTTP/1.1 upstream: the request, the wait for an answer, and its head.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, Response};
use hyper::body::Incoming;

use super::answer::{self, Answer, Fault, Interim, Patience, Pump, broken};
use super::body::{Carried, Reader};
use super::h2_head::begin;
use super::h2_pump::{News, spawn_pump};
use super::outbound::Outbound;
use super::response::Inbound;
use super::scratch::Scratch;
use super::standing::Standing;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::framing::{self, Body};
use crate::limit::Exchange;
use crate::plan::Limits;
use crate::upstream::Link;

use super::h2::Stream;

impl Stream<'_> {
    pub(super) async fn to_h1(
        &self,
        head: &Outbound<'_>,
        inbound: &Inbound<'_>,
        (epoch, standing): (u64, &impl Fn() -> Standing),
        body: &mut Option<Incoming>,
        scratch: &mut Scratch,
    ) -> Result<Response<Carried>, Refusal> {
        let limits = &self.plan.limits;
        let again = head.may_repeat();
        let counted = self.conn.exchange(self.plan)?;
        let mut lease = self
            .worker
            .pool
            .lease(head.permit, &head.route.upstream, again, limits.dial())
            .await?;
        let bell = self.worker.bell();
        loop {
            let reused = lease.reused;
            let wire = Rc::new(lease.wire);
            let exchanged = tokio::select! {
                biased;
                // First: what was withdrawn while it waited for a connection is not sent.
                () = Standing::lazily(self.worker, &bell, epoch, standing) => return Err(withdrawn()),
                exchanged = self.exchange(head, &wire, body, scratch) => exchanged,
            };
            match exchanged {
                Err(Fault::Dead) if reused && again => {
                    drop(wire);
                    lease = self
                        .worker
                        .pool
                        .fresh(head.permit, &head.route.upstream, limits.dial())
                        .await?;
                }
                Err(fault) => return Err(fault.into()),
                Ok((found, pump)) => {
                    let response =
                        self.respond(head, inbound, found, (wire, counted), pump, scratch)?;
                    return Ok(match response.body() {
                        Carried::Answer(_) => watched(response, standing()),
                        _ => response,
                    });
                }
            }
        }
    }

    async fn exchange(
        &self,
        head: &Outbound<'_>,
        wire: &Rc<Link>,
        body: &mut Option<Incoming>,
        scratch: &mut Scratch,
    ) -> Result<(answer::Head, Option<Pump>), Fault> {
        let limits = &self.plan.limits;
        wire.write(&scratch.request, limits.body_idle)
            .await
            .map_err(|_| Fault::Dead)?;
        let waits = Patience::of(limits.answer);
        // With a body, who sends it says how long the answer is waited for.
        let sending = match head.body.is_empty() {
            true => None,
            false => body.take().map(|body| {
                let news = Rc::new(News::default());
                let pump = spawn_pump(self.worker, body, wire, head.body, limits, &news);
                (news, pump)
            }),
        };
        let (news, pump) = sending.unzip();
        let patience = news.as_ref().map_or(&waits, |news| &news.patience);
        let mut interim = Interim::default();
        let to_head = head.intake.method == "HEAD";
        loop {
            let found = answer::head(
                wire,
                &mut scratch.answer,
                &mut scratch.answer_fields,
                to_head,
                &mut interim,
                patience,
                limits.answer,
            )
            .await;
            if let Some(refusal) = news.as_ref().and_then(|news| news.failed.get()) {
                return Err(Fault::Refused(refusal));
            }
            let found = found?;
            match found.status {
                101 => {
                    return Err(Fault::Refused(broken(
                        "the upstream switched protocols unasked",
                    )));
                }
                100..200 => {}
                _ => {
                    patience.end();
                    return Ok((found, pump));
                }
            }
        }
    }

    fn respond(
        &self,
        head: &Outbound<'_>,
        inbound: &Inbound<'_>,
        found: answer::Head,
        (wire, counted): (Rc<Link>, Option<Exchange>),
        pump: Option<Pump>,
        scratch: &Scratch,
    ) -> Result<Response<Carried>, Refusal> {
        let mut response = begin(
            inbound,
            found.status,
            &scratch.answer,
            &scratch.answer_fields,
        )?;
        let announced = framing::announced_length(&scratch.answer, &scratch.answer_fields)
            .filter(|_| found.status != 204);
        let streams = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
        let length = match found.body {
            Body::None => Some(0),
            Body::Length(n) => Some(n),
            Body::Chunked | Body::Close => None,
        };
        let mut answer = Answer {
            wire: Some(wire),
            counted,
            reader: Reader::new(found.body),
            worker: Rc::clone(self.worker),
            upstream: Arc::clone(&head.route.upstream),
            keep: found.keep,
            wait: if streams {
                Limits::FOREVER
            } else {
                self.plan.limits.answer
            },
            length,
            pump,
        };
        let body = response.body_mut();
        if let Some(whole) = answer.at_hand() {
            *body = Carried::Full(Some(whole));
        } else if answer.is_done() {
            answer.finish();
        } else {
            *body = Carried::Answer(Box::new(answer));
        }
        // hyper announces the length of a body that it knows by itself, but needs two pieces of memory for it.
        if let Some(n) = announced
            && let Ok(n) = HeaderValue::from_str(itoa::Buffer::new().format(n))
        {
            response
                .headers_mut()
                .insert(http::header::CONTENT_LENGTH, n);
        }
        Ok(response)
    }
}

/// What is told instead of an answer.
pub(super) fn withdrawn() -> Refusal {
    Refusal::new(Reason::NotPermitted, "the permission was withdrawn")
}

/// A body that goes on is cut when its permission ends.
fn watched(response: Response<Carried>, standing: Standing) -> Response<Carried> {
    response.map(|body| Carried::Watched(Box::new(body), Box::new(standing)))
}

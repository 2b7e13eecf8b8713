//! One HTTP/2 stream from first to last step: hyper carries it, the judgement and the upstream side are the same as for
//! HTTP/1.1.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::ext::Protocol;

use super::answer::{self, Answer, Fault, Interim, Pump, broken};
use super::body::{Carried, Count, Reader, write_trailers};
use super::intake::{Facts, Intake, Line};
use super::judge::{Judged, judge};
use super::outbound::Outbound;
use super::refuse::reply;
use super::response::Inbound;
use super::state::{Conn, Scratch, Worker};
use crate::base::loopback::Scheme;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::field::{Name, classify};
use crate::http1::framing::{self, Body};
use crate::http1::{chunked, head};
use crate::net::Wire;
use crate::observe::Record;
use crate::plan::{Limits, Plan, Route};

/// Serves one stream.
pub async fn serve_stream(
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<Carried>, Infallible> {
    let plan = worker.plan();
    let mut record = conn.record(&worker, "HTTP/2");
    let mut scratch = Scratch::take();
    let id = record.id;
    let (parts, body) = request.into_parts();
    let stream = Stream {
        worker: &worker,
        conn: &conn,
        plan: &plan,
        parts: &parts,
        lines: lines(&parts.headers),
    };
    let outcome = stream.serve(body, &mut record, &mut scratch).await;
    scratch.give();
    let response = match outcome {
        Ok(response) => response,
        Err(refusal) => {
            record.refusal = Some(refusal);
            let facts = Facts::read(stream.lines.iter().copied()).unwrap_or_default();
            let intake = stream.intake(facts).ok();
            reply(refusal, intake.as_ref(), &conn, &plan, id).into_h2()
        }
    };
    record.status = response.status().as_u16();
    if !worker.shared.log.wants_access() {
        return Ok(response);
    }
    let count = Rc::new(Ending {
        worker: Rc::clone(&worker),
        record: Cell::new(Some(record)),
        out: Cell::new(0),
        done: Cell::new(false),
    });
    if response.body().is_end_stream() {
        count.done();
    }
    Ok(response.map(|body| Carried::Counted(Box::new(body), count)))
}

/// Writes the record when the answer's body is dropped.
struct Ending {
    worker: Rc<Worker>,
    record: Cell<Option<Box<Record>>>,
    out: Cell<u64>,
    done: Cell<bool>,
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ending")
    }
}

impl Count for Ending {
    fn add(&self, n: u64) {
        self.out.set(self.out.get() + n);
    }

    fn done(&self) {
        self.done.set(true);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.bytes_out = self.out.get();
            record.cut = !self.done.get();
            self.worker.shared.log.access(record);
        }
    }
}

/// The fields of a message, classified once.
pub(super) fn lines(headers: &HeaderMap) -> Vec<Line<'_>> {
    headers
        .iter()
        .map(|(name, value)| {
            let name = name.as_str().as_bytes();
            let (known, underscore) = classify(name);
            Line {
                known,
                underscore,
                name,
                value: value.as_bytes().trim_ascii(),
            }
        })
        .collect()
}

struct Stream<'a> {
    worker: &'a Rc<Worker>,
    conn: &'a Rc<Conn>,
    plan: &'a Arc<Plan>,
    parts: &'a http::request::Parts,
    lines: Vec<Line<'a>>,
}

impl<'a> Stream<'a> {
    /// The request as it is judged (RFC 9113, 8.3.1): `:authority` names the host, and a `Host` field must agree with it.
    fn intake(&self, facts: Facts<'a>) -> Result<Intake<'a>, Refusal> {
        let parts = self.parts;
        let authority = parts.uri.authority().map(|a| a.as_str());
        let host = match (authority, facts.host) {
            (Some(authority), Some(host)) if !authority.as_bytes().eq_ignore_ascii_case(host) => {
                return Err(Refusal::bad("Host and :authority disagree"));
            }
            (Some(authority), _) => authority.as_bytes(),
            (None, Some(host)) => host,
            (None, None) => return Err(Refusal::bad("neither :authority nor Host")),
        };
        if parts
            .headers
            .iter()
            .any(|(name, value)| forbidden(name, value))
        {
            return Err(Refusal::bad("a connection-specific field in HTTP/2"));
        }
        let target = parts.uri.path_and_query().map_or("", |p| p.as_str());
        let method = match (parts.method.as_str(), self.websocket()) {
            ("CONNECT", true) => "GET",
            (method, _) => method,
        };
        Intake::read(method, target, host, facts)
    }

    /// An extended CONNECT for a WebSocket (RFC 8441).
    fn websocket(&self) -> bool {
        self.parts
            .extensions
            .get::<Protocol>()
            .is_some_and(|p| p.as_str() == "websocket")
    }

    async fn serve(
        &self,
        body: Incoming,
        record: &mut Record,
        scratch: &mut Scratch,
    ) -> Result<Response<Carried>, Refusal> {
        let facts = Facts::read(self.lines.iter().copied())?;
        if self.parts.headers.len() > self.plan.limits.fields {
            return Err(Refusal::new(Reason::HeaderTooLarge, "too many fields"));
        }
        let intake = self.intake(facts)?;
        super::note(record, &intake, &self.worker.shared.log);
        let framing = self.framing(&body)?;
        let Judged { permit, spent } =
            judge(self.worker, self.conn, self.plan, &intake, record).await?;
        let route = self
            .plan
            .routes
            .get(permit.route())
            .ok_or(Refusal::from(Reason::NoRoute))?;
        let websocket = self.websocket();
        let head = Outbound {
            intake: &intake,
            conn: self.conn,
            permit: &permit,
            route,
            id: record.id,
            body: framing,
            upgrade: websocket.then_some(b"websocket"),
            spent,
            cookie: &self.plan.cookie,
        };
        if route.upstream.scheme() == Scheme::H2c {
            return self.to_h2(&head, body).await;
        }
        if websocket {
            return Box::pin(super::h2_websocket::open(
                self.worker,
                self.conn,
                self.plan,
                &head,
                self.parts,
                body,
                scratch,
            ))
            .await;
        }
        head.write(self.lines.iter().copied(), &mut scratch.out);
        self.to_h1(&head, body, scratch).await
    }

    /// The body that follows; hyper checks that it matches its content-length.
    fn framing(&self, body: &Incoming) -> Result<Body, Refusal> {
        if self.websocket() {
            return Ok(Body::None);
        }
        let mut lengths = self
            .parts
            .headers
            .get_all(http::header::CONTENT_LENGTH)
            .iter();
        let length = match (lengths.next(), lengths.next()) {
            (None, _) => None,
            (Some(value), None) => {
                let digits = value.to_str().ok().filter(|v| {
                    !v.is_empty() && v.len() <= 19 && v.bytes().all(|c| c.is_ascii_digit())
                });
                Some(digits.and_then(|v| v.parse().ok()).ok_or(Refusal::bad(
                    "a content-length that is not one decimal number",
                ))?)
            }
            (Some(_), Some(_)) => return Err(Refusal::bad("two content-length fields")),
        };
        if let (Some(n), Some(most)) = (length, self.plan.limits.body_size)
            && n > most
        {
            return Err(Refusal::new(
                Reason::TooLarge,
                "content-length is larger than `body_size`",
            ));
        }
        match (length, body.is_end_stream()) {
            (Some(n), true) if n > 0 => Err(Refusal::bad("a content-length without a body")),
            (Some(n), _) => Ok(Body::Length(n)),
            (None, true) => Ok(Body::None),
            (None, false) => Ok(Body::Chunked),
        }
    }

    async fn to_h1(
        &self,
        head: &Outbound<'_>,
        body: Incoming,
        scratch: &mut Scratch,
    ) -> Result<Response<Carried>, Refusal> {
        let limits = &self.plan.limits;
        let again = head.body.is_empty()
            && matches!(head.intake.method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
        let mut lease = self
            .worker
            .pool
            .lease(head.permit, &head.route.upstream, again, limits.connect)
            .await?;
        let mut body = Some(body);
        loop {
            let reused = lease.reused;
            let wire = Rc::new(lease.wire);
            match self.exchange(head, &wire, &mut body, scratch).await {
                Err(Fault::Dead) if reused && again => {
                    lease = self
                        .worker
                        .pool
                        .fresh(head.permit, &head.route.upstream, limits.connect)
                        .await?;
                }
                Err(fault) => return Err(fault.into()),
                Ok((found, pump)) => return self.respond(head, found, wire, pump, scratch),
            }
        }
    }

    async fn exchange(
        &self,
        head: &Outbound<'_>,
        wire: &Rc<Wire>,
        body: &mut Option<Incoming>,
        scratch: &mut Scratch,
    ) -> Result<(answer::Head, Option<Pump>), Fault> {
        let limits = &self.plan.limits;
        wire.write(&scratch.out, limits.body_idle)
            .await
            .map_err(|_| Fault::Dead)?;
        let mut pump = None;
        let failed = Rc::new(Cell::new(None));
        if !head.body.is_empty()
            && let Some(body) = body.take()
        {
            pump = Some(spawn_pump(body, wire, head.body, limits, &failed));
        }
        let wait = if pump.is_some() {
            Limits::FOREVER
        } else {
            limits.answer
        };
        let mut interim = Interim::default();
        let to_head = head.intake.method == "HEAD";
        loop {
            let found = answer::head(
                wire,
                &mut scratch.answer,
                &mut scratch.answer_fields,
                to_head,
                &mut interim,
                wait,
            )
            .await;
            if let Some(refusal) = failed.get() {
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
                _ => return Ok((found, pump)),
            }
        }
    }

    fn respond(
        &self,
        head: &Outbound<'_>,
        found: answer::Head,
        wire: Rc<Wire>,
        pump: Option<Pump>,
        scratch: &Scratch,
    ) -> Result<Response<Carried>, Refusal> {
        let inbound = Inbound {
            route: head.route,
            scheme: self.conn.scheme(),
            host: head.intake.host,
            set_cookie: None,
        };
        let mut response = begin(
            &inbound,
            found.status,
            &scratch.answer,
            &scratch.answer_fields,
        )?;
        let announced = framing::announced_length(&scratch.answer, &scratch.answer_fields)
            .filter(|_| found.status != 204);
        if let Some(n) = announced {
            response
                .headers_mut()
                .insert(http::header::CONTENT_LENGTH, n.into());
        }
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
        if answer.is_done() {
            answer.finish();
            *response.body_mut() = Carried::Empty;
        } else {
            *response.body_mut() = Carried::Answer(Box::new(answer));
        }
        Ok(response)
    }

    /// To an HTTP/2 upstream (gRPC): streams and trailers pass as they are.
    async fn to_h2(
        &self,
        head: &Outbound<'_>,
        body: Incoming,
    ) -> Result<Response<Carried>, Refusal> {
        let limits = &self.plan.limits;
        let request = h2_request(head, self.lines.iter().copied(), Carried::Incoming(body))?;
        let response = self
            .worker
            .h2c
            .send(
                head.permit,
                &head.route.upstream,
                request,
                limits.connect,
                limits.answer,
            )
            .await?;
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers, head.route, self.conn, head.intake.host);
        Ok(Response::from_parts(parts, Carried::Incoming(body)))
    }
}

/// Fields that HTTP/2 forbids (RFC 9113, 8.2.2).
fn forbidden(name: &HeaderName, value: &HeaderValue) -> bool {
    match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => true,
        "te" => !value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

/// The request for an HTTP/2 upstream.
pub(super) fn h2_request<'l>(
    head: &Outbound<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    body: Carried,
) -> Result<Request<Carried>, Refusal> {
    let uri = format!("http://{}{}", head.host(), head.intake.target);
    let mut builder = Request::builder().method(head.intake.method).uri(uri);
    head.fields(lines, |name, value| {
        if let Some(headers) = builder.headers_mut()
            && let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    });
    if let Some(headers) = builder.headers_mut() {
        headers.remove(http::header::EXPECT);
        if head.intake.facts.trailers {
            headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        }
        if let Body::Length(n) = head.body {
            headers.insert(http::header::CONTENT_LENGTH, n.into());
        }
    }
    builder
        .body(body)
        .map_err(|_| Refusal::bad("the request cannot be said in HTTP/2"))
}

/// Fields of an HTTP/2 answer that must not pass, and the ones that are mapped.
pub(super) fn strip(headers: &mut HeaderMap, route: &Route, conn: &Conn, host: &str) {
    let length = headers.get(http::header::CONTENT_LENGTH).cloned();
    let inbound = Inbound {
        route,
        scheme: conn.scheme(),
        host,
        set_cookie: None,
    };
    let old = std::mem::take(headers);
    append(&inbound, lines(&old).into_iter(), headers);
    if let Some(length) = length {
        headers.insert(http::header::CONTENT_LENGTH, length);
    }
}

fn append<'l>(
    inbound: &Inbound<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    headers: &mut HeaderMap,
) {
    inbound.fields(lines, |name, value| {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    });
}

/// The head of an HTTP/2 answer from that of an HTTP/1.1 one.
pub(super) fn begin(
    inbound: &Inbound<'_>,
    status: u16,
    bytes: &[u8],
    fields: &[head::Field],
) -> Result<Response<Carried>, Refusal> {
    let mut response = Response::new(Carried::Empty);
    *response.status_mut() =
        StatusCode::from_u16(status).map_err(|_| broken("a status that is none"))?;
    let lines = fields.iter().map(|f| Line {
        known: f.known,
        underscore: f.underscore,
        name: f.name(bytes),
        value: f.value(bytes),
    });
    append(inbound, lines, response.headers_mut());
    Ok(response)
}

/// Sends the body in a task of its own, which ends with the answer.
fn spawn_pump(
    body: Incoming,
    wire: &Rc<Wire>,
    framing: Body,
    limits: &Limits,
    failed: &Rc<Cell<Option<Refusal>>>,
) -> Pump {
    let sent = Rc::new(Cell::new(false));
    let (wire, done, failed) = (Rc::clone(wire), Rc::clone(&sent), Rc::clone(failed));
    let (idle, answer, most) = (limits.body_idle, limits.answer, limits.body_size);
    let task = tokio::task::spawn_local(async move {
        let chunked = framing == Body::Chunked;
        match pump(body, &wire, chunked, idle, most).await {
            Ok(()) => {
                done.set(true);
                wire.read_by(answer);
            }
            Err(Some(refusal)) => {
                failed.set(Some(refusal));
                // Wakes whoever waits for an answer: there will be none.
                let _ = wire.shutdown(idle).await;
            }
            Err(None) => {}
        }
    });
    Pump {
        task: task.abort_handle(),
        sent,
    }
}

/// `Err(None)`: the upstream takes no more.
async fn pump(
    mut body: Incoming,
    wire: &Wire,
    chunked: bool,
    idle: std::time::Duration,
    most: Option<u64>,
) -> Result<(), Option<Refusal>> {
    let (mut out, mut total) = (Vec::new(), 0u64);
    loop {
        let frame = match tokio::time::timeout(idle, body.frame()).await {
            Err(_) => {
                return Err(Some(Refusal::new(
                    Reason::RequestTimeout,
                    "the body did not arrive in time",
                )));
            }
            Ok(Some(Err(_))) => return Err(Some(Refusal::bad("the body was cut"))),
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
        };
        out.clear();
        match frame.into_data() {
            Ok(data) => {
                total += data.len() as u64;
                if most.is_some_and(|most| total > most) {
                    return Err(Some(Refusal::new(
                        Reason::TooLarge,
                        "the body is larger than `body_size`",
                    )));
                }
                if !chunked {
                    wire.write(&data, idle).await.map_err(|_| None)?;
                    continue;
                }
                chunked::write(&data, &mut out);
                wire.write(&out, idle).await.map_err(|_| None)?;
            }
            Err(frame) => {
                let Ok(map) = frame.into_trailers() else {
                    continue;
                };
                if map
                    .keys()
                    .any(|name| classify(name.as_str().as_bytes()).0 != Name::Other)
                {
                    return Err(Some(Refusal::bad(
                        "a trailer that no trailer section may have",
                    )));
                }
                if chunked {
                    out.extend_from_slice(b"0\r\n");
                    write_trailers(&map, &mut out);
                    return wire.write(&out, idle).await.map_err(|_| None);
                }
            }
        }
    }
    if chunked {
        wire.write(b"0\r\n\r\n", idle).await.map_err(|_| None)?;
    }
    Ok(())
}

//! One HTTP/2 stream from first to last step: hyper carries it, the judgement and the upstream side are the same as for
//! HTTP/1.1.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::ext::Protocol;

use super::absent::hint;
use super::answer::broken;
use super::body::{Carried, discard};
use super::ending::Unanswered;
use super::h2_exchange::withdrawn;
use super::h2_head::{forbidden, h2_request, lines, strip};
use super::h2_pump::nothing;
use super::intake::{Facts, Intake, Line};
use super::judge::{Judged, judge, network};
use super::origin::Origin;
use super::outbound::Outbound;
use super::pages::{self, refused};
use super::response::Inbound;
use super::scratch::Scratch;
use super::stall;
use super::standing::Standing;
use super::state::{Conn, Worker};
use super::upload::{self, Progress, Timed, Upload};
use crate::auth::login::LARGEST_BODY;
use crate::base::apart::apart;
use crate::base::loopback::Scheme;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::framing::{self, Body};
use crate::observe::Record;
use crate::plan::{Limits, Plan};

/// Serves one stream.
pub async fn serve_stream(
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<Carried>, Infallible> {
    let held = conn.busy.hold();
    let plan = worker.plan();
    let mut asked = Unanswered::new(&worker, conn.record(&worker, "HTTP/2"));
    let record = asked.record();
    let mut scratch = Scratch::take();
    let (parts, body) = request.into_parts();
    let stream = Stream {
        worker: &worker,
        conn: &conn,
        plan: &plan,
        parts: &parts,
        lines: lines(&parts.headers),
    };
    let mut body = Some(body);
    let outcome = stream.serve(&mut body, record, &mut scratch).await;
    if let Some(unread) = body.filter(|b| !b.is_end_stream()) {
        worker.spawn("discard", discard(Carried::Request(unread)));
    }
    scratch.give();
    let response = match outcome {
        Ok(response) => response,
        Err(refusal) => {
            record.refusal = Some(refusal);
            let facts = Facts::read(stream.lines.iter().copied()).unwrap_or_default();
            let intake = stream.intake(facts).ok();
            let intake = intake.as_ref();
            let hint = hint(&worker, refusal, intake, &conn, &plan, record).await;
            let hint = hint.as_deref();
            refused(&worker, refusal, intake, &conn, &plan, record, hint).into_h2()
        }
    };
    record.status = response.status().as_u16();
    stall::asked(false);
    let record = asked.answered();
    Ok(super::ending::counted(&worker, record, response, held))
}

pub(super) struct Stream<'a> {
    pub worker: &'a Rc<Worker>,
    pub conn: &'a Rc<Conn>,
    pub plan: &'a Arc<Plan>,
    pub parts: &'a http::request::Parts,
    pub lines: Vec<Line<'a>>,
}

impl<'a> Stream<'a> {
    /// The request as it is judged (RFC 9113, 8.3.1): `:authority` names the host, and a `Host` field must agree with it.
    pub(super) fn intake(&self, facts: Facts<'a>) -> Result<Intake<'a>, Refusal> {
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
            return Err(Refusal::bad(
                "a field that HTTP/2 forbids or HTTP/1 cannot say",
            ));
        }
        if !matches!(parts.uri.scheme_str(), None | Some("https" | "http")) {
            return Err(Refusal::bad("a scheme that is neither https nor http"));
        }
        // Without `:path` and `:authority` the uri is empty, and shows itself as `/`.
        if parts.uri.path().is_empty() {
            return Err(Refusal::bad("no :path"));
        }
        let target = parts.uri.path_and_query().map_or("", |p| p.as_str());
        let method = match (parts.method.as_str(), self.websocket()) {
            ("CONNECT", true) => "GET",
            (method, _) => method,
        };
        let origin = Origin::find(self.conn, self.plan, self.lines.iter().copied())?;
        Intake::read(method, target, host, facts, origin)
    }

    /// The size of the head as HTTP/2 counts it, 32 bytes for each field beside its name and value (RFC 9113, 6.5.2).
    fn list_size(&self) -> usize {
        const EACH: usize = 32;
        let parts = self.parts;
        let pseudo = [
            (":method", Some(parts.method.as_str())),
            (":scheme", parts.uri.scheme_str()),
            (":authority", parts.uri.authority().map(|a| a.as_str())),
            (":path", parts.uri.path_and_query().map(|p| p.as_str())),
        ];
        let pseudo = pseudo
            .iter()
            .filter_map(|(name, value)| value.map(|value| name.len() + value.len()));
        let fields = self.lines.iter().map(|l| l.name.len() + l.value.len());
        pseudo.chain(fields).map(|size| size + EACH).sum()
    }

    /// An extended CONNECT for a WebSocket (RFC 8441).
    pub(super) fn websocket(&self) -> bool {
        self.parts
            .extensions
            .get::<Protocol>()
            .is_some_and(|p| p.as_str() == "websocket")
    }

    async fn serve(
        &self,
        body: &mut Option<Incoming>,
        record: &mut Record,
        scratch: &mut Scratch,
    ) -> Result<Response<Carried>, Refusal> {
        let facts = Facts::read(self.lines.iter().copied())?;
        if self.parts.headers.len() > self.plan.limits.fields {
            return Err(Refusal::new(Reason::HeaderTooLarge, "too many fields"));
        }
        if self.list_size() > self.plan.limits.head_size {
            let what = "the head is larger than `head_size`";
            return Err(Refusal::new(Reason::HeaderTooLarge, what));
        }
        let intake = self.intake(facts)?;
        super::note(record, &intake, &self.worker.shared.log);
        network(self.conn, self.plan, &intake)?;
        let ended = body.as_ref().is_none_or(|b| b.is_end_stream());
        let framing = self.framing(ended)?;
        if pages::is_own(&intake) {
            return apart(|| self.own_page(&intake, body.take(), record)).await;
        }
        let lines = self.lines.iter().copied();
        let Judged {
            permit,
            spent,
            set_cookie,
            basis,
            epoch,
        } = judge(
            self.worker,
            self.conn,
            self.plan,
            &intake,
            lines,
            self.websocket(),
            record,
        )
        .await?;
        let route = self
            .plan
            .routes
            .get(permit.route())
            .ok_or(Refusal::from(Reason::NoRoute))?;
        if let (Body::Length(0), Some(body)) = (framing, body.as_mut()) {
            apart(|| nothing(body, self.plan.limits.body_idle)).await?;
        }
        let websocket = self.websocket();
        let head = Outbound {
            intake: &intake,
            permit: &permit,
            route,
            id: record.id,
            body: framing,
            upgrade: websocket.then_some(b"websocket"),
            spent,
        };
        let inbound = Inbound {
            route,
            scheme: intake.origin.scheme,
            host: intake.host,
            set_cookie: set_cookie.as_deref(),
        };
        let standing = || {
            Standing::new(
                self.worker,
                self.conn,
                &intake,
                &permit,
                basis.clone(),
                &route.upstream,
                epoch,
            )
        };
        if route.upstream.scheme() == Scheme::H2c {
            if websocket {
                return Err(broken("no WebSocket leads to an `h2c://` service"));
            }
            return apart(|| self.to_h2(&head, &inbound, standing(), body.take())).await;
        }
        if websocket {
            let held = (self.conn.busy.hold(), self.conn.exchange(self.plan)?);
            return apart(|| async {
                let bell = self.worker.bell();
                let opened = super::h2_websocket::open(
                    self.worker,
                    self.plan,
                    &head,
                    &inbound,
                    standing(),
                    held,
                    self.parts,
                    scratch,
                );
                tokio::select! {
                    biased;
                    () = Standing::lazily(self.worker, &bell, epoch, &standing) => Err(withdrawn()),
                    opened = opened => opened,
                }
            })
            .await;
        }
        head.write(self.lines.iter().copied(), &mut scratch.request);
        self.to_h1(&head, &inbound, (epoch, &standing), body, scratch)
            .await
    }

    /// The body that follows, where the head did not end the stream; hyper checks that it matches its content-length.
    pub(super) fn framing(&self, ended: bool) -> Result<Body, Refusal> {
        if self.websocket() {
            let has = |name| self.parts.headers.contains_key(name);
            if has(http::header::CONTENT_LENGTH) || has(http::header::EXPECT) {
                return Err(Refusal::bad("a WebSocket that announces a body"));
            }
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
                let detail = "a content-length that is not one plain decimal number";
                Some(framing::length(value.as_bytes()).ok_or(Refusal::bad(detail))?)
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
        match (length, ended) {
            (Some(n), true) if n > 0 => Err(Refusal::bad("a content-length without a body")),
            (Some(n), _) => Ok(Body::Length(n)),
            (None, true) => Ok(Body::None),
            (None, false) => Ok(Body::Chunked),
        }
    }

    /// Answers with a page of ours, after its form was read.
    async fn own_page(
        &self,
        intake: &Intake<'_>,
        body: Option<Incoming>,
        record: &mut Record,
    ) -> Result<Response<Carried>, Refusal> {
        let gathered = http_body_util::Limited::new(
            body.map_or(Carried::Empty, Carried::Request),
            LARGEST_BODY,
        )
        .collect();
        let form = match tokio::time::timeout(self.plan.limits.body_idle, gathered).await {
            Ok(Ok(form)) => form.to_bytes(),
            Ok(Err(_)) => {
                return Err(Refusal::new(
                    Reason::TooLarge,
                    "a form that is too large or was cut",
                ));
            }
            Err(_) => {
                return Err(Refusal::new(
                    Reason::RequestTimeout,
                    "the body did not arrive in time",
                ));
            }
        };
        let lines = self.lines.iter().copied();
        let reply = pages::answer(
            self.worker,
            self.conn,
            self.plan,
            intake,
            lines,
            &form,
            record,
        )
        .await?;
        Ok(reply.into_h2())
    }

    /// To an HTTP/2 upstream (gRPC): streams and trailers pass as they are.
    async fn to_h2(
        &self,
        head: &Outbound<'_>,
        inbound: &Inbound<'_>,
        standing: Standing,
        body: Option<Incoming>,
    ) -> Result<Response<Carried>, Refusal> {
        let limits = &self.plan.limits;
        let progress = Progress::begin(!head.body.is_empty());
        let idle = if upload::is_grpc(&self.parts.headers) {
            Limits::FOREVER
        } else {
            limits.body_idle
        };
        let body = body.map_or(Carried::Empty, Carried::Request);
        let body = Upload::carry(self.worker, body, idle, limits.body_size, &progress);
        let make = |body| h2_request(head, self.lines.iter().copied(), body);
        let send = self.worker.h2c.send(
            head.permit,
            &head.route.upstream,
            make(body)?,
            || {
                head.may_repeat()
                    .then(|| make(Carried::Empty).ok())
                    .flatten()
            },
            limits.dial(),
        );
        let response = tokio::select! {
            biased;
            () = standing.ended() => return Err(withdrawn()),
            response = progress.head(send, limits) => response?,
        };
        let (mut parts, body) = response.into_parts();
        let wait = upload::silence(&parts.headers, limits);
        strip(&mut parts.headers, inbound)?;
        let body = Timed::carry(Carried::Incoming(body), wait);
        let body = Carried::Watched(Box::new(body), Box::new(standing));
        Ok(Response::from_parts(parts, body))
    }
}

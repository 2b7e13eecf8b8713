//! Heads between HTTP/2 and the rest: fields as lines, requests for HTTP/2 upstreams, answers for HTTP/2 clients.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};

use super::answer::broken;
use super::body::Carried;
use super::intake::Line;
use super::outbound::Outbound;
use super::response::Inbound;
use crate::base::refusal::Refusal;
use crate::http1::field::{classify, is_token};
use crate::http1::framing::{self, Body};
use crate::http1::head;

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

/// Fields that HTTP/2 forbids (RFC 9113, 8.2.1 and 8.2.2), and names that HTTP/1 has no way to say.
pub(super) fn forbidden(name: &HeaderName, value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    if bytes.trim_ascii().len() != bytes.len() {
        return true;
    }
    match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => true,
        "te" => !value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        name => !is_token(name.as_bytes()),
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
pub(super) fn strip(headers: &mut HeaderMap, inbound: &Inbound<'_>) -> Result<(), Refusal> {
    if !headers
        .keys()
        .all(|name| is_token(name.as_str().as_bytes()))
    {
        return Err(broken("a field name that is not a token"));
    }
    let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let length = lengths.next().cloned();
    let is_plain = |value: &HeaderValue| framing::length(value.as_bytes()).is_some();
    if lengths.next().is_some() || !length.iter().all(is_plain) {
        return Err(broken(
            "a content-length that is not one plain decimal number",
        ));
    }
    let old = std::mem::take(headers);
    append(inbound, lines(&old).into_iter(), headers);
    if let Some(length) = length {
        headers.insert(http::header::CONTENT_LENGTH, length);
    }
    Ok(())
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
    // Room for what is added, too: to grow costs more than to begin with enough.
    response.headers_mut().reserve(fields.len() + 4);
    append(inbound, lines, response.headers_mut());
    Ok(response)
}

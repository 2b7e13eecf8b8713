//! The head of a stream as HTTP/1.1, without sockets: one head, and what the stream asked.

use std::rc::Rc;

use loopgate::flow::trial;
use loopgate::http1::framing::Body;

use super::clean;
use super::forward_h2::{Stream, streams};
use crate::gate;
use crate::strict::{self, Framing};

/// As the h2 crate would hand it over; `None` where it would not.
fn parts(stream: &Stream) -> Option<http::request::Parts> {
    let one = |name: &str| match &strict::values(&stream.fields, name)[..] {
        [one] => Some(one.to_vec()),
        _ => None,
    };
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(http::uri::PathAndQuery::try_from(one(":path")?).ok()?);
    if let Some(authority) = one(":authority") {
        uri.authority = Some(http::uri::Authority::try_from(authority).ok()?);
        uri.scheme = Some(http::uri::Scheme::try_from(&one(":scheme")?[..]).ok()?);
    }
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::from_bytes(&one(":method")?).ok()?;
    *request.uri_mut() = http::Uri::from_parts(uri).ok()?;
    *request.version_mut() = http::Version::HTTP_2;
    for (name, value) in stream
        .fields
        .iter()
        .filter(|(name, _)| !name.starts_with(b":"))
    {
        let name = http::HeaderName::from_bytes(name).ok()?;
        request
            .headers_mut()
            .append(name, http::HeaderValue::from_bytes(value).ok()?);
    }
    Some(request.into_parts().0)
}

pub fn run(data: &[u8]) {
    let worker = Rc::clone(&gate::world().worker);
    let conn = Rc::new(trial::conn(&worker, None));
    for stream in streams(data) {
        let Some(parts) = parts(&stream) else {
            continue;
        };
        let ended = stream.data.is_empty() && stream.trailers.is_none();
        let Ok((head, body)) = trial::h2_head(&worker, &conn, &parts, ended) else {
            continue;
        };
        let (request, n) = strict::request_head(&head).expect("one head");
        assert_eq!(n, head.len(), "something behind the head");
        clean::alone(&request, &gate::world().cookie());
        assert_eq!(request.method, parts.method.as_str().as_bytes());
        let target = parts
            .uri
            .path_and_query()
            .map(|p| p.as_str())
            .unwrap_or_default();
        assert_eq!(request.target, target.as_bytes());
        let framing = match body {
            Body::None => Framing::None,
            Body::Length(n) => Framing::Length(n),
            Body::Chunked => Framing::Chunked,
            Body::Close => panic!("a request without an end"),
        };
        assert_eq!(request.framing, framing);
        assert_eq!(
            ended,
            matches!(framing, Framing::None | Framing::Length(0)) && ended
        );
    }
}

//! The page of the sample service, and the same facts as JSON.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use super::{Body, reply};
use crate::web::html::{self, Frame};

/// The only script of the page; its hash stands in the policy.
const SCRIPT: &str = include_str!("script.js");

/// What arrived, as the gate tells it.
#[derive(Serialize)]
struct Facts<'a> {
    /// `X-Loopgate-User`.
    user: Option<Cow<'a, str>>,
    /// `X-Loopgate-Groups`.
    groups: Option<Cow<'a, str>>,
    /// `X-Forwarded-For`.
    client: Option<Cow<'a, str>>,
    /// `X-Forwarded-Proto`.
    proto: Option<Cow<'a, str>>,
    /// `X-Forwarded-Host`.
    forwarded_host: Option<Cow<'a, str>>,
    /// `X-Request-Id`.
    request_id: Option<Cow<'a, str>>,
    /// `Host`.
    host: Option<Cow<'a, str>>,
    method: &'a str,
    path: &'a str,
    /// Between the gate and this service.
    version: String,
    /// Where this service listens.
    listens_on: SocketAddr,
    /// Every field, in its order.
    headers: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Facts<'a> {
    fn of<B>(request: &'a Request<B>, listens_on: SocketAddr) -> Self {
        let headers = request.headers();
        let one = |name: &str| headers.get(name).map(|value| readable(value));
        let line =
            |(name, value): (&'a HeaderName, &'a HeaderValue)| (name.as_str(), readable(value));
        Self {
            user: one("x-loopgate-user"),
            groups: one("x-loopgate-groups"),
            client: one("x-forwarded-for"),
            proto: one("x-forwarded-proto"),
            forwarded_host: one("x-forwarded-host"),
            request_id: one("x-request-id"),
            host: one("host"),
            method: request.method().as_str(),
            path: request
                .uri()
                .path_and_query()
                .map_or("/", |path| path.as_str()),
            version: format!("{:?}", request.version()),
            listens_on,
            headers: headers.iter().map(line).collect(),
        }
    }
}

fn readable(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// `/whoami`
pub fn json<B>(request: &Request<B>, listens_on: SocketAddr) -> Response<Body> {
    // A struct of text and numbers always becomes JSON.
    let json = serde_json::to_string(&Facts::of(request, listens_on)).unwrap_or_default();
    reply(StatusCode::OK, "application/json", json + "\n")
}

/// `/`
pub fn page<B>(request: &Request<B>, listens_on: SocketAddr) -> Response<Body> {
    let facts = Facts::of(request, listens_on);
    let title = facts
        .user
        .as_ref()
        .map_or_else(|| "Hello".into(), |user| format!("Hello, {user}"));
    let frame = Frame {
        is_wide: true,
        ..Frame::new(&title, "loopgate demo")
    };
    let footer = html! { p { "The same as JSON: " a href="/whoami" { "/whoami" } } };
    let page = html::page(frame, body(&title, &facts), footer);
    let mut response = reply(StatusCode::OK, "text/html; charset=utf-8", page);
    for (name, value) in html::page_headers() {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::try_from(html::policy(Some(SCRIPT))) {
        response
            .headers_mut()
            .insert("content-security-policy", policy);
    }
    response
}

fn body(title: &str, facts: &Facts<'_>) -> Markup {
    let is_behind_gate = facts.client.is_some();
    html! {
        h1 { (title) }
        p {
            "This sample service listens on " code { (facts.listens_on) } ", which this machine alone can reach. "
            @if is_behind_gate { "You came in through the gate." }
            @else { "You came directly, not through the gate." }
        }
        dl {
            (fact("You", facts.user.as_deref().unwrap_or("nobody in particular")))
            @if let Some(groups) = &facts.groups { (fact("Groups", groups)) }
            (fact("From", facts.client.as_deref().unwrap_or("this machine")))
            (fact("Address", facts.host.as_deref().unwrap_or("none")))
            (fact("To the gate", facts.proto.as_deref().unwrap_or("no gate")))
            dt { "From the gate" } dd { (facts.version) }
            @if let Some(id) = &facts.request_id { dt { "Request id" } dd { code { (id) } } }
        }
        @if is_behind_gate { div.row { a.button.plain href=(crate::web::PREFIX) { "Your account" } } }
        noscript { p.error { "The three parts below need JavaScript." } }
        h2 { "A clock" }
        p { "One event a second, in one answer that never ends: " code #clock { "waiting" } }
        h2 { "An echo" }
        form #echo autocomplete="off" {
            label for="word" { "Send through a WebSocket" }
            div.pair {
                input #word type="text" value="hello" maxlength="1000";
                button type="submit" { "Send" }
            }
        }
        p #said.soft role="status" { "Connecting" }
        h2 { "An upload" }
        form #upload {
            label for="file" { "A file to hash; nothing is kept" }
            div.pair {
                input #file type="file" required;
                button type="submit" { "Upload" }
            }
        }
        p #sent.soft role="status" { "Any size: it streams through." }
        h2 { "All " (facts.headers.len()) " header fields that arrived" }
        table {
            @for (name, value) in &facts.headers { tr { th scope="row" { (name) } td { (value) } } }
        }
        script { (PreEscaped(SCRIPT)) }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    // The names of these two are for scripts to fill in what only the browser knows.
    let id = (name == "To the gate").then_some("proto");
    html! { dt { (name) } dd id=[id] { (value) } }
}

//! A refusal as an answer: the one place where a reason becomes a status, a sentence and bytes.

use std::borrow::Cow;

use bytes::Bytes;

use super::intake::Intake;
use super::state::Conn;
use crate::access::Site;
use crate::base::id::RequestId;
use crate::base::refusal::{Reason, Refusal};
use crate::plan::Plan;
use crate::web::{self, RefusedPage};

/// An answer of our own, for either transport.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Fields, framing left out.
    pub fields: Vec<(&'static str, Cow<'static, str>)>,
    /// Body; left out for HEAD.
    pub body: Bytes,
    /// The connection ends after it.
    pub closes: bool,
}

/// The answer to a refused request. `intake` is missing when the request could not be read; `hint` is for those who may come in.
pub fn reply(
    refusal: Refusal,
    intake: Option<&Intake<'_>>,
    conn: &Conn,
    plan: &Plan,
    id: RequestId,
    hint: Option<&str>,
) -> Reply {
    let row = refusal.reason.row().answered();
    let html = intake.is_some_and(|i| i.facts.accepts_html);
    let mut fields: Vec<(&'static str, Cow<'static, str>)> = Vec::with_capacity(12);
    let body = if html {
        fields.extend(
            web::page_headers()
                .into_iter()
                .map(|(n, v)| (n, Cow::Borrowed(v))),
        );
        let page = RefusedPage {
            reason: refusal.reason,
            request_id: id,
            realm: &plan.realm,
            to: intake.map_or("/", |i| i.target),
            is_safe: intake.is_some_and(|i| matches!(i.method, "GET" | "HEAD")),
            user: None,
            hint,
        };
        web::refused_page(&page)
    } else if intake.is_some_and(|i| i.facts.accepts_json) {
        let [(kind, _), others @ ..] = web::TEXT_HEADERS;
        fields.push((kind, Cow::Borrowed("application/json")));
        fields.extend(others.map(|(n, v)| (n, Cow::Borrowed(v))));
        web::refused_json(refusal.reason, id, hint)
    } else {
        fields.extend(
            web::TEXT_HEADERS
                .into_iter()
                .map(|(n, v)| (n, Cow::Borrowed(v))),
        );
        web::refused_text(refusal.reason, id, hint)
    };
    fields.push(("x-request-id", id.as_str().to_owned().into()));
    if refusal.retry() > 0 {
        fields.push(("retry-after", refusal.retry().to_string().into()));
    }
    match refusal.reason {
        Reason::CredentialsMissing | Reason::CredentialsWrong => {
            fields.push((
                "www-authenticate",
                format!("Basic realm=\"{}\", charset=\"UTF-8\"", plan.realm).into(),
            ));
        }
        Reason::MethodDenied => {
            if let Some(methods) = intake.and_then(|i| allowed(&plan.site, i, conn)) {
                fields.push(("allow", methods.into()));
            }
        }
        _ => {}
    }
    Reply {
        status: row.status,
        fields,
        body: Bytes::from(body),
        closes: row.closes,
    }
}

/// The methods of the route (RFC 9110, 15.5.6 asks for them).
fn allowed(site: &Site, intake: &Intake<'_>, conn: &Conn) -> Option<String> {
    let found = site
        .table
        .find(&intake.authority.host, conn.local.ip(), &intake.path)
        .ok()?;
    site.rules
        .get(found)?
        .methods
        .as_ref()
        .map(|list| list.join(", "))
}

impl Reply {
    /// With the id by which the log knows the request.
    pub fn numbered(mut self, id: RequestId) -> Self {
        self.fields
            .push(("x-request-id", id.as_str().to_owned().into()));
        self
    }

    /// The reply as HTTP/1.1. `with_body` is false for HEAD, which announces the length all the same.
    pub fn write_h1(&self, with_body: bool, close: bool, out: &mut Vec<u8>) {
        let phrase = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|s| s.canonical_reason())
            .unwrap_or("");
        super::response::begin(out, self.status, phrase.as_bytes());
        for (name, value) in &self.fields {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        super::response::end(
            out,
            crate::http1::framing::Body::Length(self.body.len() as u64),
            None,
            close || self.closes,
        );
        if with_body {
            out.extend_from_slice(&self.body);
        }
    }

    /// The reply for HTTP/2.
    pub fn into_h2(self) -> http::Response<super::body::Carried> {
        let mut response = http::Response::new(super::body::Carried::Full(Some(self.body)));
        *response.status_mut() =
            http::StatusCode::from_u16(self.status).unwrap_or(http::StatusCode::BAD_REQUEST);
        for (name, value) in self.fields {
            if let Ok(value) = http::HeaderValue::from_str(&value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

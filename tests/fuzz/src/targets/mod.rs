//! The targets by name. Each panics where a promise of `docs/security.md` does not hold.

mod bodies;
mod heads;
mod names;
mod people;
mod proxy;
mod texts;

mod answer;
mod clean;
mod forward_h1;
mod forward_h2;
mod h2_head;

/// Name and function of each.
pub const ALL: &[(&str, fn(&[u8]))] = &[
    ("request_head", heads::request),
    ("response_head", heads::response),
    ("chunked", bodies::chunked),
    ("path", names::path),
    ("host", names::host),
    ("network", names::network),
    ("proxy_header", proxy::run),
    ("users_file", people::users),
    ("tokens_file", people::tokens),
    ("cookie", people::cookie),
    ("config_text", texts::config),
    ("h2_head", h2_head::run),
    ("forward_h1", forward_h1::run),
    ("forward_h2", forward_h2::run),
    ("answer", answer::run),
];

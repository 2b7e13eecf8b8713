//! The closed sets that labels come from.

use crate::base::refusal::{NOT_ACCEPTED, Reason, Refusal, TABLE};

/// The method of a request, as a label. What a client made up is `other`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the method of that name")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
    #[default]
    Other,
}

impl Method {
    pub(super) const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Options,
        Self::Connect,
        Self::Trace,
        Self::Other,
    ];

    /// The label for a method.
    pub fn of(method: &str) -> Self {
        let known = Self::ALL.into_iter().find(|known| known.word() == method);
        known.unwrap_or(Self::Other)
    }

    /// The label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other => "other",
        }
    }
}

/// The status codes of RFC 9110 and its relatives, each with its label; then one label for the rest of each class.
pub(super) const CODES: &[(u16, &str)] = &[
    (0, "none"),
    (101, "101"),
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (203, "203"),
    (204, "204"),
    (205, "205"),
    (206, "206"),
    (207, "207"),
    (300, "300"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (304, "304"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (402, "402"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (406, "406"),
    (407, "407"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (411, "411"),
    (412, "412"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (416, "416"),
    (417, "417"),
    (418, "418"),
    (421, "421"),
    (422, "422"),
    (423, "423"),
    (424, "424"),
    (425, "425"),
    (426, "426"),
    (428, "428"),
    (429, "429"),
    (431, "431"),
    (451, "451"),
    (499, "499"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (505, "505"),
    (507, "507"),
    (508, "508"),
    (511, "511"),
    (600, "1xx"),
    (601, "2xx"),
    (602, "3xx"),
    (603, "4xx"),
    (604, "5xx"),
    (605, "other"),
];

/// The places of the classes among the codes.
const CLASSES: u16 = 600;

/// The place of a status among the codes.
pub(super) fn code(status: u16) -> usize {
    let at = |status: u16| CODES.binary_search_by_key(&status, |(code, _)| *code);
    let class = match status {
        100..=599 => CLASSES + status / 100 - 1,
        _ => CLASSES + 5,
    };
    let known = if status < CLASSES {
        at(status).ok()
    } else {
        None
    };
    known.or_else(|| at(class).ok()).unwrap_or(0)
}

/// Decisions: allowed, and one for each reason to refuse.
pub(super) const DECISIONS: usize = TABLE.len() + 1;

/// The place of a decision.
pub(super) fn of_refusal(reason: Option<Reason>) -> usize {
    reason.map_or(0, |reason| reason as usize + 1)
}

/// The labels of a decision.
pub(super) fn decision(place: usize) -> (&'static str, &'static str) {
    match place.checked_sub(1).and_then(|i| TABLE.get(i)) {
        None => ("allowed", "none"),
        Some(row) => ("refused", row.word),
    }
}

/// By what somebody tried to log in. A session is no attempt: it is what an attempt has led to.
pub(super) const LOGINS: [&str; 5] = ["basic", "login", "token", "certificate", "share"];

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthResult {
    /// Right.
    Success,
    /// Wrong, unknown, expired, or not for this request.
    Failure,
    /// Not listened to.
    LockedOut,
    /// Nobody had time to look.
    TooBusy,
}

/// The labels, in the order of [`AuthResult`].
pub(super) const RESULTS: [&str; 4] = ["success", "failure", "locked-out", "too-busy"];

/// What went wrong with the service.
pub(super) const UPSTREAM_ERRORS: [&str; 4] = ["refused", "broken", "timeout", "busy"];

/// The place of such an error.
pub(super) fn upstream_error(refusal: Refusal) -> Option<usize> {
    match refusal.reason {
        Reason::UpstreamRefused => Some(0),
        Reason::UpstreamBroken => Some(1),
        Reason::UpstreamTimeout => Some(2),
        Reason::TooBusy if refusal.detail == NOT_ACCEPTED => Some(3),
        _ => None,
    }
}

/// What was ended by a broken rule of HTTP/2.
pub(super) const HTTP2_ERRORS: [&str; 2] = ["stream", "connection"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_and_method_has_a_label_of_a_closed_set() {
        assert!(CODES.is_sorted_by_key(|(code, _)| *code));
        for (status, want) in [
            (0, "none"),
            (200, "200"),
            (299, "2xx"),
            (404, "404"),
            (499, "499"),
            (520, "5xx"),
            (103, "1xx"),
            (600, "other"),
            (604, "other"),
            (999, "other"),
            (65535, "other"),
            (99, "other"),
        ] {
            assert_eq!(CODES[code(status)].1, want, "{status}");
        }
        for (method, want) in [
            ("GET", "GET"),
            ("get", "other"),
            ("PURGE", "other"),
            ("", "other"),
        ] {
            assert_eq!(Method::of(method).word(), want);
        }
        assert_eq!(decision(of_refusal(None)), ("allowed", "none"));
        let last = of_refusal(Some(Reason::RequestTimeout));
        assert_eq!(decision(last), ("refused", "request-timeout"));
        assert!(last < DECISIONS);
    }
}

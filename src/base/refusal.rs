//! One word for no: every reason why a request is not forwarded, with all that follows from it, in one table.
//! Rooms return a [`Refusal`]; status codes and sentences are chosen here and nowhere else.

use std::time::Duration;

/// Why a request stops. The word is stable: it stands in logs, metrics, `explain` and `[[test]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the table below says what each one means")]
pub enum Reason {
    NetworkDenied,
    BadRequest,
    HostUnknown,
    SniMismatch,
    NoRoute,
    RouteNetworkDenied,
    CredentialsMissing,
    CredentialsWrong,
    CertificateMissing,
    CertificateRefused,
    LockedOut,
    TooBusy,
    NotPermitted,
    MethodDenied,
    CrossSite,
    TooLarge,
    HeaderTooLarge,
    UpstreamExposed,
    UpstreamRefused,
    UpstreamBroken,
    UpstreamTimeout,
    Draining,
    RequestTimeout,
}

/// Whose doing it is: decides whether the log calls it a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The one who asked.
    Client,
    /// This proxy, or how it is configured.
    Gate,
    /// The service behind it.
    Upstream,
}

/// What follows from a reason.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The reason this row is about.
    pub reason: Reason,
    /// The stable word.
    pub word: &'static str,
    /// HTTP status; 0 where the socket is closed without an answer.
    pub status: u16,
    /// The one sentence that the client reads.
    pub sentence: &'static str,
    /// Whose doing it is.
    pub blame: Blame,
    /// Seconds for `Retry-After`; 0 for none.
    pub retry: u16,
    /// Whether the connection is closed after the answer.
    pub closes: bool,
}

const fn row(
    reason: Reason,
    word: &'static str,
    status: u16,
    blame: Blame,
    sentence: &'static str,
) -> Row {
    Row {
        reason,
        word,
        status,
        sentence,
        blame,
        retry: 0,
        closes: false,
    }
}

const fn closing(row: Row) -> Row {
    Row {
        closes: true,
        ..row
    }
}

const fn retry(row: Row, seconds: u16) -> Row {
    Row {
        retry: seconds,
        ..row
    }
}

impl Row {
    /// The row for a request that must be answered, because its connection carries those of others too: that of a client
    /// behind a trusted proxy.
    pub const fn answered(self) -> Self {
        match self.status {
            0 => Self {
                status: 403,
                closes: false,
                ..self
            },
            _ => self,
        }
    }
}

use Blame::{Client, Gate, Upstream};

/// The table of contract 5, in the order of [`Reason`].
pub const TABLE: [Row; 23] = [
    closing(row(
        Reason::NetworkDenied,
        "network-denied",
        0,
        Client,
        "This gate is not open to your network.",
    )),
    closing(row(
        Reason::BadRequest,
        "bad-request",
        400,
        Client,
        "This request cannot be read in one way only.",
    )),
    row(
        Reason::HostUnknown,
        "host-unknown",
        421,
        Client,
        "This gate does not serve that host name.",
    ),
    row(
        Reason::SniMismatch,
        "sni-mismatch",
        421,
        Client,
        "The host name differs from the one that the connection was opened for.",
    ),
    row(
        Reason::NoRoute,
        "no-route",
        404,
        Client,
        "Nothing is published under this address.",
    ),
    row(
        Reason::RouteNetworkDenied,
        "route-network-denied",
        403,
        Client,
        "This address is not open to your network.",
    ),
    row(
        Reason::CredentialsMissing,
        "credentials-missing",
        401,
        Client,
        "Please log in.",
    ),
    row(
        Reason::CredentialsWrong,
        "credentials-wrong",
        401,
        Client,
        "That user name and password are not known here.",
    ),
    closing(row(
        Reason::CertificateMissing,
        "certificate-missing",
        403,
        Client,
        "This address asks for a client certificate, and none came.",
    )),
    closing(row(
        Reason::CertificateRefused,
        "certificate-refused",
        403,
        Client,
        "Your client certificate is not accepted here.",
    )),
    retry(
        row(
            Reason::LockedOut,
            "locked-out",
            429,
            Client,
            "Too many failed attempts. Please wait before you try again.",
        ),
        60,
    ),
    retry(
        row(
            Reason::TooBusy,
            "too-busy",
            503,
            Gate,
            "The gate is busy. Please try again in a moment.",
        ),
        2,
    ),
    row(
        Reason::NotPermitted,
        "not-permitted",
        403,
        Client,
        "You are logged in, but this is not open to you.",
    ),
    row(
        Reason::MethodDenied,
        "method-denied",
        405,
        Client,
        "This method is not allowed here.",
    ),
    row(
        Reason::CrossSite,
        "cross-site",
        403,
        Client,
        "This request came from another site and was not passed on.",
    ),
    closing(row(
        Reason::TooLarge,
        "too-large",
        413,
        Client,
        "The request body is larger than allowed.",
    )),
    closing(row(
        Reason::HeaderTooLarge,
        "header-too-large",
        431,
        Client,
        "The request header is larger than allowed.",
    )),
    retry(
        row(
            Reason::UpstreamExposed,
            "upstream-exposed",
            503,
            Upstream,
            "The service is reachable around this gate, so it is not served until that is repaired.",
        ),
        10,
    ),
    row(
        Reason::UpstreamRefused,
        "upstream-refused",
        502,
        Upstream,
        "The service behind this gate is not running.",
    ),
    row(
        Reason::UpstreamBroken,
        "upstream-broken",
        502,
        Upstream,
        "The service behind this gate gave an answer that cannot be understood.",
    ),
    row(
        Reason::UpstreamTimeout,
        "upstream-timeout",
        504,
        Upstream,
        "The service behind this gate did not answer in time.",
    ),
    closing(retry(
        row(
            Reason::Draining,
            "draining",
            503,
            Gate,
            "This gate is shutting down.",
        ),
        5,
    )),
    closing(row(
        Reason::RequestTimeout,
        "request-timeout",
        408,
        Client,
        "The request did not arrive in time.",
    )),
];

impl Reason {
    /// All that follows from this reason.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The stable word.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The reason that a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| row.word == word)
            .map(|row| row.reason)
    }
}

/// What the log says of a service that takes no connections, or too few: the gate is not what is busy, so it counts as an error of the service.
pub const NOT_ACCEPTED: &str = "the service accepts no more connections at the moment";

/// A reason together with the fact that only the log may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// What exactly was found: constant text, never a part of the request.
    pub detail: &'static str,
    /// Seconds until it is worth asking again, where they are known; else 0.
    wait: u32,
}

impl Refusal {
    /// A refusal with its detail for the log.
    pub const fn new(reason: Reason, detail: &'static str) -> Self {
        Self {
            reason,
            detail,
            wait: 0,
        }
    }

    /// The same, with the time until it is worth asking again.
    pub fn until(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            wait: u32::try_from(seconds).unwrap_or(u32::MAX).max(1),
            ..self
        }
    }

    /// Seconds for `Retry-After`; 0 for none.
    pub fn retry(&self) -> u32 {
        match self.wait {
            0 => self.reason.row().retry.into(),
            wait => wait,
        }
    }

    /// Shorthand for the most common one.
    pub const fn bad(detail: &'static str) -> Self {
        Self::new(Reason::BadRequest, detail)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_wait_is_rounded_up_and_else_the_row_s() {
        let refusal = Refusal::from(Reason::LockedOut);
        assert_eq!(refusal.retry(), 60);
        for (wait, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (899_500, 900)] {
            assert_eq!(refusal.until(Duration::from_millis(wait)).retry(), told);
        }
        assert_eq!(Refusal::from(Reason::NoRoute).retry(), 0);
    }

    #[test]
    fn table_is_in_the_order_of_the_reasons_and_words_are_unique() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.reason as usize, i, "{}", row.word);
            assert_eq!(Reason::from_word(row.word), Some(row.reason));
        }
    }
}

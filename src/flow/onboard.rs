//! The page that helps a device to trust the local authority: open for a while when its owner asks, to everybody whom the networks let
//! in, without a login. Closed it is not there.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use super::intake::Intake;
use super::pages::page;
use super::refuse::Reply;
use crate::base::refusal::{Reason, Refusal};
use crate::web::{self, OnboardPage};

/// What is shown while it is open.
#[derive(Clone, Debug)]
pub struct Opened {
    /// From then on it is not there.
    pub until: Instant,
    /// The certificate of the authority, DER.
    pub certificate: Vec<u8>,
    /// Its fingerprint, as devices show it.
    pub fingerprint: String,
}

/// Whether the page is open.
#[derive(Debug, Default)]
pub struct Onboard(Mutex<Option<Arc<Opened>>>);

impl Onboard {
    /// Opens it, or shows something else from now on.
    pub fn open(&self, opened: Opened) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(opened));
    }

    /// Closes it; whether it was open.
    pub fn close(&self, now: Instant) -> bool {
        let was = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        was.is_some_and(|opened| now < opened.until)
    }

    /// What it shows now.
    pub fn now(&self, now: Instant) -> Option<Arc<Opened>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|opened| now >= opened.until) {
            *open = None;
        }
        open.clone()
    }
}

/// Answers for the page and its files. Closed, it is a page that does not exist, whatever the method.
pub(super) fn answer(
    onboard: &Onboard,
    path: &str,
    intake: &Intake<'_>,
    realm: &str,
) -> Result<Reply, Refusal> {
    let nothing = Refusal::new(Reason::NoRoute, "no page of ours has this path");
    let opened = onboard.now(Instant::now()).ok_or(nothing)?;
    if !matches!(intake.method, "GET" | "HEAD") {
        return Err(Refusal::new(Reason::MethodDenied, "a page of ours"));
    }
    match path {
        web::ONBOARD => {
            let url = format!("{}://{}{}", intake.origin.scheme, intake.host, web::ONBOARD);
            let shown = OnboardPage {
                realm,
                fingerprint: &opened.fingerprint,
                url: &url,
            };
            Ok(page(200, web::onboard_page(&shown)))
        }
        web::ONBOARD_CRT => Ok(file(
            "application/x-x509-ca-cert",
            opened.certificate.clone().into(),
        )),
        web::ONBOARD_PROFILE => Ok(file(
            "application/x-apple-aspen-config",
            web::profile(&opened.certificate, &opened.fingerprint).into(),
        )),
        _ => Err(nothing),
    }
}

fn file(kind: &'static str, body: Bytes) -> Reply {
    let fields = [
        ("content-type", kind),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "no-store"),
    ];
    Reply {
        status: 200,
        fields: fields
            .map(|(name, value)| (name, Cow::Borrowed(value)))
            .into(),
        body,
        closes: false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn is_open_for_its_time_and_no_longer() {
        let (onboard, now) = (Onboard::default(), Instant::now());
        let until = now + Duration::from_secs(600);
        let open = || {
            onboard.open(Opened {
                until,
                certificate: Vec::new(),
                fingerprint: String::new(),
            });
        };
        assert!(onboard.now(now).is_none() && !onboard.close(now));
        open();
        assert!(onboard.now(until - Duration::from_millis(1)).is_some());
        assert!(onboard.now(until).is_none());
        assert!(onboard.now(now).is_none(), "what is over is gone");
        open();
        assert!(onboard.close(now) && onboard.now(now).is_none());
        open();
        assert!(!onboard.close(until), "it was over already");
    }
}

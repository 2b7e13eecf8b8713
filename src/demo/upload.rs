//! Counts and hashes what is sent, without keeping any of it.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Body, reply, text};

/// Between two pieces of the body.
const IDLE: Duration = Duration::from_secs(60);

/// Reads the body to its end.
pub async fn receive(mut body: Incoming) -> Response<Body> {
    let mut hash = Context::new(&SHA256);
    let mut bytes = 0_u64;
    loop {
        let Ok(frame) = tokio::time::timeout(IDLE, body.frame()).await else {
            return text(
                StatusCode::REQUEST_TIMEOUT,
                "The upload stopped half way.\n",
            );
        };
        match frame {
            None => break,
            Some(Err(_)) => return text(StatusCode::BAD_REQUEST, "The upload broke off.\n"),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    hash.update(data);
                    bytes += data.len() as u64;
                }
            }
        }
    }
    let sha256 = HEXLOWER.encode(hash.finish().as_ref());
    let json = format!("{{\"bytes\":{bytes},\"sha256\":\"{sha256}\"}}\n");
    reply(StatusCode::OK, "application/json", json)
}

//! One question to a service before people are sent to it: does it speak HTTP, in clear or over TLS, and what does it say to a
//! visitor who comes by our name? Nothing of it reaches a client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Trust, Upstream, dial};
use crate::base::loopback::{Scheme, Target};
use crate::net::Stream;

/// How long a service has for its first byte: one that compiles its page first takes longer, and is known as silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long for the rest.
const REST: Duration = Duration::from_millis(300);
/// More of an answer is not read.
const MOST: usize = 16 << 10;

/// What a service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// HTTP.
    Http {
        /// Over TLS.
        tls: bool,
        /// The status.
        status: u16,
        /// The beginning of the answer, head and body.
        text: String,
    },
    /// It took the connection and has said nothing yet.
    Silent,
    /// Nothing that could be a website: another protocol, or a connection that was closed.
    Other,
}

/// Asks what is at `target` for `/` as a visitor of `host`; an address without a scheme is asked in clear and then over TLS.
/// Takes 5 seconds at most.
pub async fn ask(target: &str, host: &str) -> Answer {
    let clear = once(target, host, PAGE).await;
    if target.contains("://") || target.starts_with("unix:") {
        return clear;
    }
    // A server for TLS either hangs up on a request in clear or says 400 to it.
    let may_be_tls = match &clear {
        Answer::Http { status, .. } => *status == 400,
        Answer::Other => true,
        Answer::Silent => false,
    };
    if may_be_tls
        && let secure @ Answer::Http { .. } = once(&format!("https://{target}"), host, PAGE).await
    {
        return secure;
    }
    clear
}

/// Asks for `/` as local mode does for a visitor of `host`: by the service's own name.
pub(super) async fn asked_in_local_mode(target: &str, host: &str) -> Answer {
    let own = own_origin(target).unwrap_or_default();
    let wanted = Wanted {
        called: own.split_once("://").map(|(_, called)| called),
        ..PAGE
    };
    once(target, host, wanted).await
}

/// Asks for something that a page of `origin` asks for; of a visitor of `host`, or by the service's own name, as local mode does.
pub(super) async fn asked_by(target: &str, host: &str, path: &str, origin: &str) -> Answer {
    let wanted = Wanted {
        path,
        accept: "*/*",
        called: None,
        origin: Some(origin),
    };
    once(target, host, wanted).await
}

/// The origin that the service at `target` knows itself by.
pub(super) fn own_origin(target: &str) -> Option<String> {
    Some(unjudged(target.parse().ok()?).origin())
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    path: &'a str,
    accept: &'a str,
    /// `Host`, where it is not the visitor's.
    called: Option<&'a str>,
    origin: Option<&'a str>,
}

const PAGE: Wanted<'_> = Wanted {
    path: "/",
    accept: "text/html, */*",
    called: None,
    origin: None,
};

/// Nothing of anybody's is sent: who answers does not matter.
fn unjudged(target: Target) -> Upstream {
    Upstream::new(target, (Trust::Any, &Arc::default()), true, &Arc::default())
}

async fn once(target: &str, host: &str, wanted: Wanted<'_>) -> Answer {
    let Ok(target) = target.parse::<Target>() else {
        return Answer::Other;
    };
    let tls = target.scheme == Scheme::Https;
    let upstream = unjudged(target);
    let Ok(mut stream) = dial::dial(&upstream, PATIENCE).await else {
        return Answer::Other;
    };
    let scheme = if tls { "https" } else { "http" };
    let Wanted {
        path,
        accept,
        called,
        origin,
    } = wanted;
    let called = called.unwrap_or(host);
    let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {called}\r\nAccept: {accept}\r\nUser-Agent: loopgate ({scheme})\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: {host}\r\n{origin}Connection: close\r\n\r\n"
    );
    match timeout(PATIENCE, exchange(&mut stream, request.as_bytes())).await {
        Err(_) => Answer::Silent,
        Ok(Err(_)) => Answer::Other,
        Ok(Ok(first)) => rest(stream, first, tls).await,
    }
}

/// Sends the question and reads the first bytes of the answer.
async fn exchange(stream: &mut Stream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut first = Vec::with_capacity(MOST);
    while first.len() < 13 && stream.read_buf(&mut first).await? > 0 {}
    Ok(first)
}

async fn rest(mut stream: Stream, mut text: Vec<u8>, tls: bool) -> Answer {
    let Some(status) = status(&text) else {
        return Answer::Other;
    };
    let _ = timeout(REST, async {
        while text.len() < MOST && matches!(stream.read_buf(&mut text).await, Ok(n) if n > 0) {}
    })
    .await;
    text.truncate(MOST);
    Answer::Http {
        tls,
        status,
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// `HTTP/1.1 200 OK`: 200.
fn status(text: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(text.get(..12)?).ok()?;
    let code = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    code.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a service that reads a request and then says `answer`, or nothing at all.
    async fn asked(answer: Option<&'static [u8]>) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let service = async {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 2048];
                let _ = socket.read(&mut buffer).await;
                match answer {
                    Some(answer) => drop(socket.write_all(answer).await),
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            answer = ask(&target, "app.lan:8443") => answer,
            () = service => unreachable!(),
        }
    }

    #[tokio::test]
    async fn a_website_is_known_by_its_first_line() {
        let Answer::Http { tls, status, text } =
            asked(Some(b"HTTP/1.1 403 Forbidden\r\n\r\nno such host")).await
        else {
            panic!("not HTTP");
        };
        assert_eq!((tls, status), (false, 403));
        assert!(text.ends_with("no such host"));
    }

    #[tokio::test]
    async fn what_is_no_website_is_not_taken_for_one() {
        for answer in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"",
            b"-ERR unknown command\r\n",
            b"HTTP/2 200 OK\r\n",
            b"HTTP/1.1 abc\r\n",
            b"HTTP/1.1 999 no\r\n",
        ] {
            assert_eq!(asked(Some(answer)).await, Answer::Other, "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_silent() {
        assert_eq!(asked(None).await, Answer::Silent);
    }
}

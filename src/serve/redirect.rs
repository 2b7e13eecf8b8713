//! Plain HTTP on a TLS port: a redirect to https for a host of ours, and nothing else.

use std::time::Duration;

use crate::base::host::Authority;
use crate::flow::Worker;
use crate::gate::Admitted;
use crate::http1::field::Name;
use crate::http1::head;
use crate::net::{Stream, Wire};

/// A request that needs no more than this to be redirected.
const HEAD: usize = 8 << 10;
const WAIT: Duration = Duration::from_secs(5);

/// Reads one head and answers it.
pub(super) async fn answer(admitted: Admitted, worker: &Worker) {
    let local = admitted.local().ip();
    let wire = Wire::new(Stream::Tcp(admitted.into_stream()));
    wire.read_by(WAIT);
    let mut seen = 0;
    let location = loop {
        let end = head::end(wire.input.borrow().data(), &mut seen);
        match end {
            Ok(Some(n)) => break location(&wire.input.borrow().data()[..n], worker, local),
            Ok(None) => {}
            Err(_) => break None,
        }
        if !matches!(wire.fill_by(HEAD).await, Ok(n) if n > 0) {
            return;
        }
    };
    let text = match location {
        Some(url) => format!(
            "HTTP/1.1 308 Permanent Redirect\r\nLocation: {url}\r\nCache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        None => {
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }
    };
    if wire.write(text.as_bytes(), WAIT).await.is_ok() {
        wire.linger(Duration::from_secs(1)).await;
    }
}

/// The same URL with https, when the host is one of ours.
fn location(bytes: &[u8], worker: &Worker, local: std::net::IpAddr) -> Option<String> {
    let mut fields = Vec::new();
    let request = head::request(bytes, &mut fields, 128).ok()?;
    let target =
        std::str::from_utf8(bytes.get(request.target.start as usize..request.target.end as usize)?)
            .ok()?;
    let mut hosts = fields
        .iter()
        .filter(|f| f.known == Name::Host)
        .map(|f| f.value(bytes));
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return None;
    };
    let host = std::str::from_utf8(host).ok()?;
    let authority = Authority::parse(host).ok()?;
    let plain = target.starts_with('/')
        && !target.starts_with("//")
        && target
            .bytes()
            .all(|c| matches!(c, b'!'..=b'~') && c != b'\\');
    (plain && worker.plan().site.table.knows(&authority.host, local))
        .then(|| format!("https://{host}{target}"))
}

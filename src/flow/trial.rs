//! A data thread without sockets, for fuzzing and tests; not part of the program. A stream's request becomes the head that its
//! service would get.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;

use super::h2::Stream;
use super::h2_head::lines;
use super::intake::Facts;
use super::judge::{judge, network};
use super::outbound::Outbound;
use super::state::{Conn, Shared, Worker};
use crate::auth::login::Csrf;
use crate::auth::session::{SessionSettings, Sessions};
use crate::auth::verify::{Settings, Verifier};
use crate::base::refusal::{Reason, Refusal};
use crate::http1::framing::Body;
use crate::limit::lockout::Lockout;
use crate::observe::{Format, Log, Sink};
use crate::plan::{Live, Plan};

/// What a data thread needs for this plan; logs nothing.
pub fn shared(plan: Plan) -> std::io::Result<Arc<Shared>> {
    let now = Instant::now();
    Ok(Arc::new(Shared {
        sessions: Sessions::new(SessionSettings::default(), now),
        lockout: Lockout::new(plan.lockout, now),
        passed: Default::default(),
        csrf: Csrf::new(now),
        onboard: Default::default(),
        shares: Default::default(),
        live: Live::new(plan),
        verifier: Verifier::new(Settings::default())?,
        dial_failed: Notify::new(),
        questions: Default::default(),
        log: Log::start(Sink::Off, Format::Text, false)?,
        metrics: Arc::default(),
        open: Arc::default(),
    }))
}

/// A connection over TLS from loopback to the plan's first listener, with this server name.
pub fn conn(worker: &Rc<Worker>, sni: Option<&str>) -> Conn {
    let here = worker.plan().addresses().next();
    let here = here.unwrap_or_else(|| ([127, 0, 0, 1], 443).into());
    Conn {
        known: Default::default(),
        is_surplus: false,
        counted: None,
        peer: ([127, 0, 0, 1], 50_000).into(),
        source: [127, 0, 0, 1].into(),
        local: ([127, 0, 0, 1], here.port()).into(),
        sni: sni.map(Into::into),
        tls: "TLSv1.3",
        certificate: None,
        listener: here,
        bell: worker.bell(),
        busy: Rc::default(),
    }
}

/// The head and the framing that the service would get for this request of an HTTP/2 stream; `ended`: no body follows.
/// A request that would have to wait for a password is refused.
pub fn h2_head(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    parts: &http::request::Parts,
    ended: bool,
) -> Result<(Vec<u8>, Body), Refusal> {
    let plan = worker.plan();
    let stream = Stream {
        worker,
        conn,
        plan: &plan,
        parts,
        lines: lines(&parts.headers),
    };
    let lines = || stream.lines.iter().copied();
    let intake = stream.intake(Facts::read(lines())?)?;
    network(conn, &plan, &intake)?;
    let (body, websocket) = (stream.framing(ended)?, stream.websocket());
    let mut record = conn.record(worker, "HTTP/2");
    let judged = {
        let judging = judge(
            worker,
            conn,
            &plan,
            &intake,
            lines(),
            websocket,
            &mut record,
        );
        match pin!(judging).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(judged) => judged?,
            Poll::Pending => return Err(Refusal::from(Reason::TooBusy)),
        }
    };
    let route = plan.routes.get(judged.permit.route());
    let head = Outbound {
        intake: &intake,
        permit: &judged.permit,
        route: route.ok_or(Refusal::from(Reason::NoRoute))?,
        id: record.id,
        body,
        upgrade: websocket.then_some(b"websocket"),
        spent: judged.spent,
    };
    let mut out = Vec::new();
    head.write(lines(), &mut out);
    Ok((out, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Machine;
    use crate::plan::{Kept, compile};

    const TEXT: &str = "
[[listener]]
address = \"127.0.0.1:0\"
networks = { allow = [\"loopback\"] }
[auth]
users_file = \"users\"
[[route]]
hosts = [\"app.lan\"]
upstream = \"unix:/run/app.sock\"
access = \"anyone\"
";

    #[test]
    fn a_stream_becomes_one_head() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("users"),
            "a:$5$alicesalt$2r0gqZaXuJIaknOSFxOWyiTHeyQGDC0/5PRv8A272a2\n",
        )
        .unwrap();
        let raw = crate::config::from_text("trial", TEXT).unwrap().raw;
        let kept = Kept::new(dir.path().join("state"));
        let (plan, _) =
            compile(&raw, dir.path(), &Machine::default(), &kept, None, None).expect("a plan");
        let worker = Worker::new(shared(plan).unwrap());
        let conn = Rc::new(conn(&worker, Some("app.lan")));
        let parts = |authority: &str| {
            let request = http::Request::builder()
                .method("POST")
                .uri(format!("https://{authority}/a?b"))
                .header("x", "y");
            request.body(()).unwrap().into_parts().0
        };
        let (head, body) = h2_head(&worker, &conn, &parts("app.lan"), false).unwrap();
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("POST /a?b HTTP/1.1\r\nHost: app.lan\r\nx: y\r\n"),
            "{head}"
        );
        assert!(
            head.ends_with("Transfer-Encoding: chunked\r\n\r\n"),
            "{head}"
        );
        assert_eq!(body, Body::Chunked);
        assert!(h2_head(&worker, &conn, &parts("other.lan"), true).is_err());
    }
}

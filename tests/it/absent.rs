//! A service that is not there: the page says what was dialled and what listens instead, to those who are logged in.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::*;

/// A gate in front of a port of 127.0.0.1 that nobody has, while [::1] has it.
struct Site {
    gate: Gate,
    port: u16,
    _nobody: socket2::Socket,
    _elsewhere: TcpListener,
}

fn site() -> Site {
    let (port, nobody, elsewhere) = (0..50)
        .find_map(|_| {
            let six = TcpListener::bind("[::1]:0").ok()?;
            let port = six.local_addr().ok()?.port();
            Some((port, hold(port).ok()?, six))
        })
        .expect("a port that is free on 127.0.0.1");
    let route = |path: &str, access: &str| {
        format!(
            "[[route]]\nhosts = [\"app.lan\"]\npath = \"{path}\"\nupstream = \"127.0.0.1:{port}\"\naccess = \"{access}\"\n"
        )
    };
    let tables = [route("/", "users"), route("/open", "anyone")].concat();
    Site {
        gate: Gate::open(&tables),
        port,
        _nobody: nobody,
        _elsewhere: elsewhere,
    }
}

#[tokio::test]
async fn the_page_says_what_was_dialled_to_those_who_are_logged_in() {
    let site = site();
    let (gate, port) = (&site.gate, site.port);
    let dialled = format!("Nothing answers on 127.0.0.1:{port}, but ");
    let instead = format!(" listens on [::1]:{port}.");
    let alice = format!("Authorization: {}\r\n", basic("alice", "open sesame"));
    let html = format!("{alice}Accept: text/html\r\n");
    let json = format!("{alice}Accept: application/json, text/plain\r\n");
    for (name, target, lines, told) in [
        ("a browser", "/", html.as_str(), true),
        ("a program", "/", alice.as_str(), true),
        ("a program that wants JSON", "/", json.as_str(), true),
        ("nobody", "/open", "", false),
        (
            "a browser of nobody",
            "/open",
            "Accept: text/html\r\n",
            false,
        ),
    ] {
        // A visitor waits only a moment for the hint: where the machine is busy, the next one hears it.
        let answer = soon("the page", async {
            loop {
                let answer = gate.h1().await.get(target, lines).await;
                assert_eq!(answer.status, 502, "{name}");
                if !told || answer.text().contains(&dialled) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let body = answer.text();
        let is_json = answer.all("content-type") == ["application/json"];
        assert_eq!(is_json, lines.contains("json"), "{name}: {answer:?}");
        if is_json {
            let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert!(
                told["error"].is_string() && told["hint"].is_string(),
                "{body}"
            );
            assert_eq!(
                answer.all("x-request-id"),
                [told["request_id"].as_str().unwrap_or_default()]
            );
        }
        assert_eq!(body.contains(&dialled), told, "{name}: {body}");
        assert_eq!(body.contains(&instead), told, "{name}: {body}");
    }
}

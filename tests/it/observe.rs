//! What the one who runs the gate sees of it: metrics and logs.

use crate::support::gate::route;
use crate::support::*;

/// A site with an open path, one for users, and one whose service is not there.
fn site(upstream: &Upstream) -> Gate {
    let dead = Upstream::ok();
    let nobody = dead.address;
    drop(dead);
    Gate::open(
        &[
            route("app.lan", "/", upstream, "\"anyone\""),
            route("app.lan", "/in", upstream, "\"users\""),
            format!(
                "[[route]]\nhosts = [\"app.lan\"]\npath = \"/dead\"\nupstream = \"{nobody}\"\naccess = \"anyone\"\n"
            ),
        ]
        .concat(),
    )
}

/// The sample with these labels, whatever their order; 0 where there is none.
fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let sample = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let lines = text.lines().filter(sample);
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test]
async fn every_request_is_counted_once_with_its_route_code_and_method() {
    let upstream = Upstream::ok();
    let gate = site(&upstream);
    let mut client = gate.h1().await;
    client.get("/", "").await;
    client.get("/secret?token=hunter2", "").await;
    client
        .ask("PURGE / HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    client.get("/dead", "").await;
    client.get("/in", "").await;
    client.get("/none", "Host: other.lan\r\n").await;
    let mut h2 = gate.h2().await;
    h2.get(1, "/").await;
    gate.log(7).await;
    let text = gate.metrics();
    let requests = "loopgate_requests_total";
    for (labels, want) in [
        (
            vec!["route=\"app.lan/\"", "code=\"200\"", "method=\"GET\""],
            3.0,
        ),
        (vec!["route=\"app.lan/\"", "method=\"other\""], 1.0),
        (vec!["route=\"app.lan/dead\"", "code=\"502\""], 1.0),
        (vec!["route=\"app.lan/in\"", "code=\"401\""], 1.0),
        (vec!["route=\"none\""], 1.0),
        (vec![], 7.0),
    ] {
        assert_eq!(value(&text, requests, &labels), want, "{labels:?}\n{text}");
    }
    let decisions = "loopgate_decisions_total";
    assert_eq!(value(&text, decisions, &["decision=\"allowed\""]), 4.0);
    assert_eq!(value(&text, decisions, &["upstream-refused"]), 1.0);
    assert_eq!(value(&text, decisions, &["credentials-missing"]), 1.0);
    assert_eq!(
        value(&text, "loopgate_upstream_errors_total", &["refused"]),
        1.0
    );
    assert_eq!(
        value(&text, "loopgate_request_duration_seconds_count", &[]),
        7.0
    );
    assert_eq!(value(&text, "loopgate_connections", &["127.0.0.1:0"]), 2.0);
    for secret in ["hunter2", "/secret", "PURGE", "127.0.0.1:4"] {
        assert!(!text.contains(secret), "{secret} is no label:\n{text}");
    }
    drop((client, h2));
    gate.deserted().await;
    until("the gauge to fall", || {
        value(&gate.metrics(), "loopgate_connections", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn attempts_to_log_in_are_counted_by_what_came_of_them() {
    let upstream = Upstream::ok();
    let gate = site(&upstream);
    let mut client = gate.h1().await;
    let with = |password: &str| format!("Authorization: {}\r\n", basic("alice", password));
    client.get("/in", &with("open sesame")).await;
    client.get("/in", &with("open sesame")).await;
    client.get("/in", &with("wrong")).await;
    client
        .get("/in", "Authorization: Bearer lgt_nonsense\r\n")
        .await;
    let text = gate.metrics();
    let attempts = "loopgate_auth_attempts_total";
    assert_eq!(value(&text, attempts, &["basic", "success"]), 2.0, "{text}");
    assert_eq!(value(&text, attempts, &["basic", "failure"]), 1.0);
    assert_eq!(value(&text, "loopgate_auth_cache_hits_total", &[]), 1.0);
    assert_eq!(value(&text, "loopgate_auth_cache_misses_total", &[]), 2.0);
    assert_eq!(value(&text, "loopgate_locked_clients", &[]), 0.0);
    assert!(
        value(
            &text,
            "loopgate_certificate_not_after_seconds",
            &["local-ca"]
        ) > 1.7e9
    );
    assert_eq!(
        value(&text, "loopgate_upstream_exposed", &["app.lan/in"]),
        0.0
    );
}

#[tokio::test]
async fn a_socket_that_is_closed_for_its_address_is_counted_as_no_request() {
    let upstream = Upstream::ok();
    let route = route("app.lan", "/", &upstream, "\"anyone\"");
    let gate = Gate::listening("networks = { allow = [\"10.0.0.0/8\"] }", &route);
    Client::tcp(gate.address).await.closed().await;
    gate.log(1).await;
    let text = gate.metrics();
    assert_eq!(
        value(&text, "loopgate_decisions_total", &["network-denied"]),
        1.0
    );
    assert_eq!(value(&text, "loopgate_requests_total", &[]), 0.0, "{text}");
}

#[tokio::test]
async fn a_tunnel_is_counted_while_it_is_open() {
    let upstream = Upstream::whole(|_, peer| {
        peer.say(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        peer.wait_for_end();
        After::Close
    });
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: app.lan\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.send(upgrade).await;
    let open = || value(&gate.metrics(), "loopgate_upgraded_streams", &[]);
    until("the tunnel to open", || open() == 1.0).await;
    drop(client);
    until("the tunnel to close", || open() == 0.0).await;
    let text = gate.metrics();
    assert_eq!(
        value(&text, "loopgate_requests_total", &["101"]),
        1.0,
        "{text}"
    );
    let durations = "loopgate_request_duration_seconds_count";
    assert_eq!(value(&text, durations, &[]), 0.0, "{text}");
}

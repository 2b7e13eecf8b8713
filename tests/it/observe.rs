//! What the one who runs the gate sees of it: metrics and logs.

use crate::support::gate::route;
use crate::support::*;

/// A site with an open path, one for users, and one whose service is not there.
fn site(upstream: &Upstream) -> Gate {
    let nobody = nobody();
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
    let to_services = value(&text, "loopgate_upstream_connections", &[]);
    assert_eq!(to_services, gate.held().1 as f64, "{text}");
    assert!(to_services >= 1.0, "the last one is kept");
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
async fn what_goes_around_the_gate_and_what_cannot_be_told_are_gauges_of_the_route() {
    let (one, other) = (Upstream::ok(), Upstream::ok());
    let routes = [
        route("app.lan", "/", &one, "\"anyone\""),
        route("app.lan", "/other", &other, "\"anyone\""),
    ];
    let gate = Gate::open(&routes.concat());
    let told = || {
        let text = gate.metrics();
        let gauge = |name: &str, path: &str| value(&text, name, &[&format!("\"app.lan{path}\"")]);
        let both = |name: &str| [gauge(name, "/"), gauge(name, "/other")];
        let names = [
            "loopgate_upstream_exposed",
            "loopgate_upstream_exposure_unknown",
        ];
        names.map(both)
    };
    assert_eq!(told(), [[0.0, 0.0], [0.0, 0.0]]);
    gate.service(0).note_unsure(Some("its loopback is routed"));
    assert_eq!(told(), [[0.0, 0.0], [1.0, 0.0]]);
    gate.service(1).note_exposed(true);
    assert_eq!(told(), [[0.0, 1.0], [1.0, 0.0]]);
    gate.service(0).note_unsure(None);
    gate.service(1).note_exposed(false);
    assert_eq!(told(), [[0.0, 0.0], [0.0, 0.0]]);
}

#[tokio::test]
async fn an_exposed_service_is_refused_or_served_as_its_route_says_and_the_file_is_warned_of() {
    for (line, code, warned) in [
        ("", 503, false),
        ("exposed_upstream = \"refuse\"\n", 503, false),
        ("exposed_upstream = \"warn\"\n", 200, true),
    ] {
        let upstream = Upstream::ok();
        let tables = route("app.lan", "/", &upstream, "\"anyone\"") + line;
        let gate = Gate::open(&tables);
        let is_warned = gate.warnings().contains("warning[exposed-upstream]");
        assert_eq!(is_warned, warned, "{line}");
        let mut client = gate.h1().await;
        assert_eq!(client.get("/", "").await.status, 200, "{line}");
        gate.service(0).note_exposed(true);
        assert_eq!(client.get("/", "").await.status, code, "{line}");
    }
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

/// Texts that would end a line, a string or a terminal's good manners, and whatever else fits into a field.
fn nasty(seed: &mut u64) -> Vec<u8> {
    let mut next = |n: u64| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % n
    };
    let pieces: [&[u8]; 12] = [
        b"\"",
        b"\\",
        b"\x1b[31m",
        b"\xff\xfe",
        b"\t",
        b"{\"a\":",
        b"\xe2\x80\xae",
        b"\\u0000",
        b"'",
        b"%00%0a",
        b"\xc3\xa9",
        b"</script>",
    ];
    let mut text = Vec::new();
    for _ in 0..=next(5) {
        match next(3) {
            0 => text.push(next(256) as u8),
            _ => text.extend_from_slice(pieces[next(pieces.len() as u64) as usize]),
        }
    }
    text
}

#[tokio::test]
async fn every_line_of_the_log_is_json_whatever_stands_in_a_field() {
    const FIELDS: [&str; 12] = [
        "User-Agent",
        "Host",
        "Cookie",
        "Authorization",
        "Referer",
        "Origin",
        "X-Forwarded-For",
        "Accept",
        "Loopgate-Token",
        "X-Request-Id",
        "Content-Type",
        "Sec-Fetch-Site",
    ];
    let upstream = Upstream::ok();
    let gate = site(&upstream);
    let (mut seed, mut sent) = (0x5eed_u64, 0);
    for round in 0..FIELDS.len() * 20 {
        let field = FIELDS[round % FIELDS.len()];
        let mut head = Vec::new();
        // The method, the target and the name of a field are texts of the client too.
        head.extend_from_slice(if round % 7 == 0 { b"G\"T /" } else { b"GET /" });
        if round % 5 == 0 {
            head.extend(nasty(&mut seed));
        }
        head.extend_from_slice(b" HTTP/1.1\r\n");
        if field != "Host" {
            head.extend_from_slice(b"Host: app.lan\r\n");
        }
        head.extend_from_slice(field.as_bytes());
        head.extend_from_slice(b": ");
        head.extend(nasty(&mut seed));
        head.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
        let mut client = gate.h1().await;
        if client.try_send(&head).await.is_ok() {
            client.closed().await;
            sent += 1;
        }
    }
    // The kit reads each line as JSON, and fails where one is none.
    let lines = gate.log(sent).await;
    assert_eq!(lines.len(), sent);
    for line in &lines {
        for key in "ts level event request_id peer client listener route host method path status duration_ms bytes_in \
                    bytes_out user auth decision reason rule tls user_agent".split_whitespace() {
            assert!(line.get(key).is_some(), "{key} is missing in {line}");
        }
        let at = line["ts"].as_str().unwrap();
        assert!(
            at.len() == 24 && at.ends_with('Z') && at.as_bytes()[10] == b'T',
            "{at}"
        );
    }
    assert!(lines.iter().any(|line| line["status"] == 200));
    assert!(lines.iter().any(|line| line["status"] == 400));
}

#[tokio::test]
async fn no_secret_is_logged() {
    let upstream = Upstream::ok();
    let gate = site(&upstream);
    let mut client = gate.h1().await;
    let lines = format!(
        "Authorization: {}\r\nCookie: sid=crumbs\r\nLoopgate-Token: tok_sesame\r\nReferer: https://app.lan/?key=hunter2\r\n",
        basic("alice", "open sesame")
    );
    client.get("/in?token=hunter2", &lines).await;
    client
        .get(
            "/in?token=hunter2",
            &format!("Authorization: {}\r\n", basic("alice", "wrong one")),
        )
        .await;
    gate.log(2).await;
    let text = std::fs::read_to_string(gate.path("access.log")).unwrap();
    for secret in [
        "sesame",
        "wrong one",
        "hunter2",
        "crumbs",
        "YWxpY2U6",
        "tok_",
    ] {
        assert!(!text.contains(secret), "{secret} stands in {text}");
    }
    assert!(
        text.contains("\"user\":\"alice\"") && text.contains("/in"),
        "{text}"
    );
}

/// Words that look like metrics of ours, without the endings that a histogram adds.
fn metrics_in(text: &str) -> std::collections::BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c));
    words
        .filter(|word| word.starts_with("loopgate_") || word.starts_with("process_"))
        .map(|word| {
            let bare = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| word.strip_suffix(end));
            bare.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_exist() {
    use loopgate::observe::metrics::FAMILIES;
    let read = |file: &str| {
        let path = format!("{}/config/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("a file")
    };
    for file in ["grafana/loopgate.json", "prometheus/alerts.yml"] {
        let used = metrics_in(&read(file));
        assert!(used.len() > 8, "{file} uses {used:?}");
        for name in used {
            let known = FAMILIES.iter().any(|family| family.name == name);
            assert!(known, "{file} uses {name}, which does not exist");
        }
    }
    let board: serde_json::Value =
        serde_json::from_str(&read("grafana/loopgate.json")).expect("JSON");
    assert!(
        board["panels"]
            .as_array()
            .is_some_and(|panels| panels.len() > 10)
    );
    assert!(metrics_in("rate(loopgate_nonsense_total[5m])").contains("loopgate_nonsense_total"));
}

#[tokio::test]
async fn a_request_that_its_client_gives_up_is_told_of_and_counted() {
    let upstream = Upstream::scripted(|_, _, peer| {
        peer.wait_for_end();
        After::Close
    });
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    h2.send(frames::get(1, "/reset")).await;
    upstream.wait("the first request", |list| list.len() == 1);
    h2.send(frames::frame(frames::RST_STREAM, 0, 1, 8u32.to_be_bytes()))
        .await;
    gate.log(1).await;
    h2.send(frames::get(3, "/left")).await;
    upstream.wait("the second request", |list| list.len() == 2);
    drop(h2);
    let mut client = gate.h1().await;
    client
        .send("GET /away HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    upstream.wait("the third request", |list| list.len() == 3);
    drop(client);
    let lines = gate.log(3).await;
    for (line, path) in lines.iter().zip(["/reset", "/left", "/away"]) {
        let found = (&line["path"], &line["status"], &line["cut"]);
        assert_eq!(found, (&path.into(), &0.into(), &true.into()), "{line}");
    }
    let text = gate.metrics();
    assert_eq!(
        value(&text, "loopgate_requests_total", &["code=\"none\""]),
        3.0,
        "{text}"
    );
}

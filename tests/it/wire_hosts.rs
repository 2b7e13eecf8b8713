//! Hosts: judged for every request by `Host` or `:authority`, in agreement with the TLS name, never inherited.

use crate::support::gate::route;
use crate::support::h2_client::H2Client;
use crate::support::table::{self, Row, Want};
use crate::support::*;
use Want::{No, Pass, Told};

/// Two named sites, and one for the names of this machine (`localhost`, `gate`, `127.0.0.1`).
fn gate(upstream: &Upstream) -> Gate {
    let any = "\"anyone\"";
    let general = format!(
        "[[route]]\nupstream = \"{}\"\naccess = {any}\n",
        upstream.address
    );
    Gate::open(
        &[
            route("app.lan", "/", upstream, any),
            route("api.lan", "/", upstream, any),
            general,
        ]
        .concat(),
    )
}

const APP: Option<&str> = Some("app.lan");

/// `Host` values, with the TLS name.
const HOSTS: &[(Option<&str>, &str, Want)] = &[
    (APP, "app.lan", Pass("GET /")),
    (APP, "APP.Lan", Pass("GET /")),
    (APP, "app.lan.", Pass("GET /")),
    (APP, "app.lan:8443", Pass("GET /")),
    (APP, "app.lan:1", Pass("GET /")),
    (APP, "app.lan:65535", Pass("GET /")),
    (None, "app.lan", Pass("GET /")),
    (Some("APP.LAN"), "app.lan", Pass("GET /")),
    (Some("localhost"), "localhost:8443", Pass("GET /")),
    (Some("gate"), "gate", Pass("GET /")),
    (Some("gate.local"), "GATE.local", Pass("GET /")),
    (None, "127.0.0.1", Pass("GET /")),
    (None, "127.0.0.1:8443", Pass("GET /")),
    (None, "[::ffff:127.0.0.1]", Pass("GET /")),
    (APP, "api.lan", Told(421)),
    (APP, "localhost", Told(421)),
    (APP, "127.0.0.1", Told(421)),
    (APP, "evil.lan", Told(421)),
    (Some("evil.lan"), "evil.lan", Told(421)),
    (Some("evil.lan"), "app.lan", Told(421)),
    (None, "evil.lan", Told(421)),
    (None, "evil.lan.", Told(421)),
    (APP, "sub.app.lan", Told(421)),
    (APP, "app.lan.evil.lan", Told(421)),
    (APP, "app", Told(421)),
    (APP, "xapp.lan", Told(421)),
    (APP, "app-lan", Told(421)),
    (APP, "app_lan", Told(421)),
    (None, "127.0.0.2", Told(421)),
    (None, "10.9.9.9", Told(421)),
    (None, "[::1]", Told(421)),
    (None, "[::ffff:10.9.9.9]", Told(421)),
    (APP, "", No(400)),
    (APP, ".", No(400)),
    (APP, "app.lan..", No(400)),
    (APP, ".app.lan", No(400)),
    (APP, "app..lan", No(400)),
    (APP, "app.lan:", No(400)),
    (APP, "app.lan:0", No(400)),
    (APP, "app.lan:65536", No(400)),
    (APP, "app.lan:+80", No(400)),
    (APP, "app.lan:-1", No(400)),
    (APP, "app.lan:x", No(400)),
    (APP, "app.lan: 80", No(400)),
    (APP, "app.lan:80:80", No(400)),
    (APP, "app.lan:000080", No(400)),
    (APP, "app.lan:080", No(400)),
    (APP, "app.lan:\u{ff18}", No(400)),
    (APP, "app.lan\x0b", No(400)),
    (APP, "app.lan\x0c", No(400)),
    (APP, "app.lan:80#", No(400)),
    (APP, "(app.lan)", No(400)),
    (APP, "xn--pp-via.lan", Told(421)),
    (APP, "app lan", No(400)),
    (APP, "app.lan evil.lan", No(400)),
    (APP, "app.lan\tevil.lan", No(400)),
    (APP, "app.lan,evil.lan", No(400)),
    (APP, "app.lan, app.lan", No(400)),
    (APP, "app.lan/", No(400)),
    (APP, "app.lan/x", No(400)),
    (APP, "app.lan?x", No(400)),
    (APP, "app.lan#x", No(400)),
    (APP, "app.lan\\x", No(400)),
    (APP, "https://app.lan", No(400)),
    (APP, "//app.lan", No(400)),
    (APP, "u@app.lan", No(400)),
    (APP, "u:p@app.lan", No(400)),
    (APP, "app.lan@evil.lan", No(400)),
    (APP, "app%2elan", No(400)),
    (APP, "app.lan%00", No(400)),
    (APP, "app.lan%0d%0a", No(400)),
    (APP, "\u{e4}pp.lan", No(400)),
    (APP, "app.lan\u{3002}", No(400)),
    (APP, "*", No(400)),
    (APP, "*.lan", No(400)),
    (APP, "[app.lan]", No(400)),
    (APP, "\"app.lan\"", No(400)),
    (APP, "app.lan;x", No(400)),
    (None, "127.1", No(400)),
    (None, "127.0.0.1.", Pass("GET /")),
    (None, "127.0.0.01", No(400)),
    (None, "0177.0.0.1", No(400)),
    (None, "0x7f.0.0.1", No(400)),
    (None, "0x7f000001", No(400)),
    (None, "2130706433", No(400)),
    (None, "127.0.0.1.1", No(400)),
    (None, "127.0.0.256", No(400)),
    (None, "::1", No(400)),
    (None, "[::1", No(400)),
    (None, "::1]", No(400)),
    (None, "[::1]x", No(400)),
    (None, "[::1]:", No(400)),
    (None, "[::1%25lo]", No(400)),
    (None, "[127.0.0.1]", No(400)),
    (None, "[]", No(400)),
];

/// Whole targets, with the `Host` beside them.
const TARGETS: &[(&str, &str, Want)] = &[
    ("https://app.lan/x?y", "app.lan", Pass("GET /x?y")),
    ("HTTPS://APP.LAN/x", "app.lan", Pass("GET /x")),
    ("http://app.lan/x", "app.lan", Pass("GET /x")),
    ("https://app.lan", "app.lan", Pass("GET /")),
    ("https://app.lan.:8443/", "App.Lan:8443", Pass("GET /")),
    ("//app.lan/x", "app.lan", Pass("GET //app.lan/x")),
    ("//evil.lan/x", "app.lan", Pass("GET //evil.lan/x")),
    (
        "/https://evil.lan/",
        "app.lan",
        Pass("GET /https://evil.lan/"),
    ),
    ("https://evil.lan/", "evil.lan", Told(421)),
    ("https://api.lan/", "api.lan", Told(421)),
    ("https://evil.lan/", "app.lan", No(400)),
    ("https://app.lan/", "evil.lan", No(400)),
    ("https://api.lan/", "app.lan", No(400)),
    ("https://app.lan:8443/", "app.lan", No(400)),
    ("https://app.lan/", "app.lan:8443", No(400)),
    ("https://app.lan:8443/", "app.lan:8444", No(400)),
    ("https://u@app.lan/", "app.lan", No(400)),
    ("https://u:p@app.lan/", "app.lan", No(400)),
    ("https://app.lan@evil.lan/", "app.lan", No(400)),
    ("https://app.lan:x@evil.lan/", "app.lan", No(400)),
    ("https://app.lan\\@evil.lan/", "app.lan", No(400)),
    ("https://app.lan\\.evil.lan/", "app.lan", No(400)),
    ("https:///x", "app.lan", No(400)),
    ("https://", "app.lan", No(400)),
    ("https:/app.lan/", "app.lan", No(400)),
    ("https:app.lan", "app.lan", No(400)),
    ("https://app.lan?x", "app.lan", No(400)),
    ("https://app.lan#x", "app.lan", No(400)),
    ("https://app.lan%2fx/", "app.lan", No(400)),
    ("ftp://app.lan/", "app.lan", No(400)),
    ("ws://app.lan/", "app.lan", No(400)),
    ("file:///etc/passwd", "app.lan", No(400)),
    ("app.lan:443", "app.lan:443", No(400)),
    ("app.lan", "app.lan", No(400)),
    ("@app.lan/", "app.lan", No(400)),
    (":80/", "app.lan", No(400)),
];

#[tokio::test]
async fn a_host_is_ours_in_one_spelling_or_it_is_refused() {
    let upstream = Upstream::ok();
    let row = |(sni, host, want): &(Option<&'static str>, &str, Want)| Row {
        sni: *sni,
        ..Row::new(
            format!("{host:?} for {sni:?}"),
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            want.clone(),
        )
    };
    table::run(&gate(&upstream), &upstream, HOSTS.iter().map(row).collect()).await;
}

#[tokio::test]
async fn an_absolute_target_agrees_with_its_host() {
    let upstream = Upstream::ok();
    let row = |(target, host, want): &(&str, &str, Want)| {
        Row::new(
            *target,
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            want.clone(),
        )
    };
    table::run(
        &gate(&upstream),
        &upstream,
        TARGETS.iter().map(row).collect(),
    )
    .await;
}

#[tokio::test]
async fn a_host_is_judged_anew_for_every_request_of_a_connection() {
    let upstream = Upstream::ok();
    let gate = gate(&upstream);
    let mut one = Client::tls(gate.address, None, "http/1.1").await;
    let mut two = H2::open(Client::tls(gate.address, None, "h2").await).await;
    for (i, (host, status)) in [
        ("app.lan", 200),
        ("evil.lan", 421),
        ("api.lan", 200),
        ("127.0.0.1", 200),
        ("10.1.1.1", 421),
        ("app.lan", 200),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(
            one.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await
                .status,
            *status,
            "{host}"
        );
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", host),
            (":path", "/"),
        ];
        let stream = 2 * i as u32 + 1;
        two.send(frames::frame(
            frames::HEADERS,
            frames::END_HEADERS | frames::END_STREAM,
            stream,
            frames::block(&fields),
        ))
        .await;
        assert_eq!(two.outcome(stream).await.status(), *status, "{host}");
    }
    assert_eq!(upstream.requests().len(), 8);
}

#[tokio::test]
async fn the_upstream_sees_the_host_as_it_came_or_its_own() {
    let upstream = Upstream::ok();
    let address = upstream.address;
    let own = format!(
        "[[route]]\nhosts = [\"app.lan\"]\nupstream = \"{address}\"\naccess = \"anyone\"\nhost_header = \"upstream\"\n"
    );
    for (tables, want) in [
        (
            route("app.lan", "/", &upstream, "\"anyone\""),
            "App.Lan:8443".to_owned(),
        ),
        (own, format!("localhost:{}", address.port())),
    ] {
        upstream.forget();
        let gate = Gate::open(&tables);
        gate.h1()
            .await
            .ask("GET https://app.lan:8443/ HTTP/1.1\r\nHost: App.Lan:8443\r\n\r\n")
            .await;
        assert_eq!(upstream.only().all("host"), [&*want]);
        assert_eq!(upstream.only().all("x-forwarded-host"), ["App.Lan:8443"]);
    }
}

/// What an application hears of names, and what it says of them: mapped in local mode where it is ours or its own, and as it is elsewhere.
#[tokio::test]
async fn local_mode_maps_names_both_ways_and_no_foreign_one() {
    let upstream = Upstream::whole(|request, peer| {
        let there = match request.target.as_str() {
            "/own" => format!("http://{}", request.all("host").concat()),
            _ => "https://elsewhere.example".to_owned(),
        };
        let domain = match request.target.as_str() {
            "/own" => "localhost",
            _ => "elsewhere.example",
        };
        peer.say(format!(
            "HTTP/1.1 201 Created\r\nLocation: {there}/a?b\r\nContent-Location: {there}/c\r\nRefresh: 5; url={there}/d\r\n\
             Set-Cookie: s=1; Domain={domain}; Path=/p\r\nContent-Length: 0\r\n\r\n"
        ));
        After::Keep
    });
    let port = upstream.address.port();
    for mode in ["keep", "upstream"] {
        let gate = Gate::open(&format!(
            "[[route]]\nhosts = [\"app.lan\"]\nupstream = \"127.0.0.1:{port}\"\naccess = \"anyone\"\nhost_header = \"{mode}\"\n"
        ));
        let is_local = mode == "upstream";
        let own = format!("http://localhost:{port}");
        let (inside, outside) = match is_local {
            true => (own.as_str(), "https://app.lan"),
            false => ("https://app.lan", "http://app.lan"),
        };
        for (target, origin) in [
            ("/own", "https://app.lan"),
            ("/foreign", "https://elsewhere.example"),
            ("/foreign", "https://app.lan.elsewhere.example"),
        ] {
            let is_own = target == "/own";
            let sent = [
                ("Origin", origin.to_owned()),
                ("Referer", format!("{origin}/x?y")),
                ("Destination", format!("{origin}/z")),
            ];
            let lines: String = sent.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            upstream.forget();
            let over_h1 = gate.h1().await.get(target, &lines).await;
            let mut client = H2Client::open(&gate).await;
            let mut request = http::Request::get(format!("https://app.lan{target}"));
            for (name, value) in &sent {
                request = request.header(*name, value);
            }
            let request = request.body(()).expect("a request");
            let over_h2 = client.send_request(request, true).await.answer().await;
            let seen = upstream.requests();
            assert_eq!(seen.len(), 2, "{mode} {target}");
            let heard = if is_own { inside } else { origin };
            // An application compares it with its own scheme, in both modes.
            let destination = match (is_own, is_local) {
                (true, false) => "http://app.lan",
                (true, true) | (false, _) => heard,
            };
            for request in &seen {
                assert_eq!(request.all("origin"), [heard], "{mode} {target}");
                assert_eq!(request.all("referer"), [format!("{heard}/x?y")], "{mode}");
                // What an application compares `Origin` with.
                let forwarded = match is_own && is_local {
                    true => format!("localhost:{port}"),
                    false => "app.lan".to_owned(),
                };
                assert_eq!(request.all("x-forwarded-host"), [forwarded], "{mode}");
                assert_eq!(request.all("destination"), [format!("{destination}/z")]);
            }
            let told = if is_own {
                outside
            } else {
                "https://elsewhere.example"
            };
            let cookie = match (is_own, is_local) {
                (true, true) => "s=1; Path=/p",
                (true, false) => "s=1; Domain=localhost; Path=/p",
                (false, _) => "s=1; Domain=elsewhere.example; Path=/p",
            };
            for (name, want) in [
                ("location", format!("{told}/a?b")),
                ("content-location", format!("{told}/c")),
                ("refresh", format!("5; url={told}/d")),
                ("set-cookie", cookie.to_owned()),
            ] {
                assert_eq!(over_h1.all(name), [want.as_str()], "{mode} {target}");
                assert_eq!(over_h2.headers()[name], want, "{mode} {target} HTTP/2");
            }
        }
    }
}

/// A page on the visitor's own machine may have the very address by which the gate calls the application.
#[tokio::test]
async fn in_local_mode_a_page_of_the_visitors_machine_stays_foreign() {
    let upstream = Upstream::ok();
    let port = upstream.address.port();
    let gate = Gate::open(&format!(
        "[[route]]\nhosts = [\"app.lan\"]\nupstream = \"{}\"\naccess = \"anyone\"\nhost_header = \"upstream\"\n",
        upstream.address
    ));
    let own = format!("http://localhost:{port}");
    let rows: [(String, Option<&str>, Option<&str>); 8] = [
        ("https://app.lan".into(), Some(&own), Some(&own)),
        ("HTTPS://App.Lan".into(), Some(&own), Some(&own)),
        (own.clone(), Some("null"), None),
        (format!("https://localhost:{port}"), Some("null"), None),
        (format!("http://127.0.0.1:{port}"), Some("null"), None),
        (format!("http://[::1]:{port}"), Some("null"), None),
        (
            "https://evil.lan".into(),
            Some("https://evil.lan"),
            Some("https://evil.lan"),
        ),
        (
            "http://localhost:1".into(),
            Some("http://localhost:1"),
            Some("http://localhost:1"),
        ),
    ];
    for (origin, want, from) in rows {
        let from: Vec<String> = from.iter().map(|from| format!("{from}/page?q")).collect();
        let referer = format!("{origin}/page?q");
        upstream.forget();
        let lines = format!("Origin: {origin}\r\nReferer: {referer}\r\n");
        assert_eq!(gate.h1().await.get("/", &lines).await.status, 200);
        let fields = [("origin", &*origin), ("referer", &*referer)];
        let two = gate.h2().await.ask(1, "POST", "/", &fields, b"a").await;
        assert_eq!(two.status(), 200);
        let requests = upstream.requests();
        assert_eq!(requests.len(), 2);
        for request in requests {
            assert_eq!(request.all("origin"), Vec::from_iter(want), "{origin}");
            assert_eq!(request.all("referer"), from, "{origin}");
        }
    }
}

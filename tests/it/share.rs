//! Links that log one visitor in: they open once, for what they are for, and end at once when they are revoked.

use std::time::Duration;

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

fn site(upstream: &Upstream) -> String {
    [
        gate::route("app.lan", "/", upstream, "\"users\""),
        gate::route("app.lan", "/named", upstream, "{ users = [\"alice\"] }"),
        gate::route("app.lan", "/closed", upstream, "\"nobody\""),
        gate::route("app.lan", "/open", upstream, "\"anyone\""),
        gate::route("other.lan", "/", upstream, "\"users\""),
    ]
    .concat()
}

fn post(secret: &str, lines: &str) -> String {
    format!(
        "POST /.loopgate/share/{secret} HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\n{lines}\r\n"
    )
}

/// Opens a link; the line with its cookie.
pub(crate) async fn opened(gate: &Gate, secret: &str) -> String {
    let answer = gate.h1().await.ask(post(secret, "")).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let cookie = answer.all("set-cookie").join("");
    format!(
        "Cookie: {}\r\n",
        cookie.split(';').next().unwrap_or_default()
    )
}

#[tokio::test]
async fn looking_at_a_link_costs_nothing_and_its_button_opens_once() {
    let upstream = Upstream::ok();
    let gate = Gate::open(&site(&upstream));
    let (id, secret) = gate.share(None, "/in/here", HOUR);
    for _ in 0..3 {
        let page = gate
            .h1()
            .await
            .get(&format!("/.loopgate/share/{secret}"), "")
            .await;
        assert_eq!(page.status, 200);
        assert_eq!(page.all("referrer-policy"), ["no-referrer"]);
        assert!(page.all("set-cookie").is_empty());
    }
    let answer = gate.h1().await.ask(post(&secret, "")).await;
    assert_eq!(
        (answer.status, answer.all("location")),
        (303, vec!["/in/here"])
    );
    let set = answer.all("set-cookie").join("");
    for part in ["__Host-", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=3"] {
        assert!(set.contains(part), "{part} {set}");
    }
    let again = gate.h1().await.ask(post(&secret, "")).await;
    assert_eq!(again.status, 401, "once");
    // No password would open it, so none is asked for.
    assert!(again.all("www-authenticate").is_empty() && again.all("set-cookie").is_empty());
    let cookie = format!(
        "Cookie: {}; own=1\r\n",
        set.split(';').next().unwrap_or_default()
    );
    assert_eq!(gate.h1().await.get("/in/here/x", &cookie).await.status, 200);
    let request = upstream.only();
    assert_eq!(request.all("x-loopgate-user"), [format!("share:{id}")]);
    assert_eq!(request.all("x-loopgate-groups").join(""), "");
    assert_eq!(request.all("cookie"), ["own=1"]);
    // The address is a secret.
    let lines = gate.log(6).await;
    assert!(
        lines.iter().all(|line| !line.to_string().contains(&secret)),
        "{lines:?}"
    );
    assert_eq!(lines[0]["path"], "/.loopgate/share/");
    assert_eq!(lines[5]["user"], format!("share:{id}"));
    assert_eq!(lines[5]["auth"], "share");
}

#[tokio::test]
async fn a_visitor_may_what_any_user_may_within_the_limits_and_no_more() {
    let upstream = Upstream::ok();
    let gate = Gate::open(&site(&upstream));
    let (_, everywhere) = gate.share(None, "/", HOUR);
    let (_, narrow) = gate.share(Some("app.lan"), "/a", HOUR);
    let (everywhere, narrow) = (
        opened(&gate, &everywhere).await,
        opened(&gate, &narrow).await,
    );
    for (cookie, host, path, want) in [
        (&everywhere, "app.lan", "/", 200),
        (&everywhere, "app.lan", "/named", 403),
        (&everywhere, "app.lan", "/closed", 403),
        (&everywhere, "app.lan", "/open", 200),
        (&everywhere, "other.lan", "/", 200),
        (&narrow, "app.lan", "/a", 200),
        (&narrow, "app.lan", "/a/b?c", 200),
        (&narrow, "app.lan", "/", 403),
        (&narrow, "app.lan", "/ab", 403),
        (&narrow, "app.lan", "/a/../b", 400),
        (&narrow, "app.lan", "/a%2f..%2fb", 400),
        (&narrow, "app.lan", "/named", 403),
        (&narrow, "app.lan", "/open", 200),
        (&narrow, "other.lan", "/a", 403),
    ] {
        let mut client = Client::tls(gate.address, Some(host), "http/1.1").await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n");
        assert_eq!(
            client.ask(request).await.status,
            want,
            "{cookie} {host} {path}"
        );
    }
    // What a `Destination` means only the application knows.
    let elsewhere = "Destination: https://app.lan/b\r\n";
    for (cookie, want) in [(&everywhere, 200), (&narrow, 403)] {
        let lines = format!("{cookie}{elsewhere}");
        assert_eq!(gate.h1().await.get("/a", &lines).await.status, want);
    }
    // The account page has the way out, and leads back to where he may go.
    let page = gate.h1().await.get("/.loopgate/", &narrow).await;
    assert_eq!(page.status, 200);
    for part in ["action=\"/.loopgate/logout\"", "share:", "href=\"/a\""] {
        assert!(page.text().contains(part), "{part} {}", page.text());
    }
    let login = gate.h1().await.get("/.loopgate/login", &narrow).await;
    assert_eq!(login.status, 200, "login is for users");
}

#[tokio::test]
async fn other_sites_cannot_press_the_button_and_who_is_logged_in_needs_it_not() {
    let upstream = Upstream::ok();
    let gate = Gate::open(&site(&upstream));
    let (_, secret) = gate.share(None, "/", HOUR);
    for lines in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: null\r\nSec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        let answer = gate.h1().await.ask(post(&secret, lines)).await;
        assert_eq!(answer.status, 403, "{lines}");
    }
    let alice = format!(
        "Authorization: {}\r\nAccept: text/html\r\n",
        basic("alice", "open sesame")
    );
    let answer = gate.h1().await.get("/", &alice).await;
    let cookie = answer.all("set-cookie").join("");
    let cookie = format!(
        "Cookie: {}\r\n",
        cookie.split(';').next().unwrap_or_default()
    );
    upstream.forget();
    let (_, docs) = gate.share(None, "/docs", HOUR);
    let page = format!("/.loopgate/share/{docs}");
    for answer in [
        gate.h1().await.ask(post(&docs, &cookie)).await,
        gate.h1().await.get(&page, &cookie).await,
    ] {
        assert_eq!(
            (answer.status, answer.all("location")),
            (303, vec!["/docs"])
        );
        assert!(answer.all("set-cookie").is_empty());
    }
    let browser = "Origin: null\r\nSec-Fetch-Site: same-origin\r\n";
    let answer = gate.h1().await.ask(post(&secret, browser)).await;
    assert_eq!(answer.status, 303, "it was not used up");
    assert_eq!(answer.all("set-cookie").len(), 1);
    // A session of the cookie is ambient: another site cannot use it.
    let cookie = format!(
        "Cookie: {}\r\n",
        answer.all("set-cookie")[0]
            .split(';')
            .next()
            .unwrap_or_default()
    );
    let foreign = format!(
        "POST / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\nOrigin: https://evil.example\r\n{cookie}\r\n"
    );
    assert_eq!(gate.h1().await.ask(foreign).await.status, 403);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_visitor_comes_back_by_his_own_link_and_opens_others() {
    let upstream = Upstream::ok();
    let lockout = "lockout = { failures = 5, window = \"5m\", ban = \"15m\" }\n";
    let networks = "networks = { allow = [\"loopback\"] }";
    let gate = Gate::with(lockout, networks, &site(&upstream));
    let (_, photos) = gate.share(None, "/photos", HOUR);
    let (_, docs) = gate.share(None, "/docs", HOUR);
    let cookie = opened(&gate, &photos).await;
    let page = |secret: &str| format!("/.loopgate/share/{secret}");
    // Tapped, or its button pressed, again and again: it leads there, and is no guess.
    for _ in 0..10 {
        for answer in [
            gate.h1().await.get(&page(&photos), &cookie).await,
            gate.h1().await.ask(post(&photos, &cookie)).await,
        ] {
            assert_eq!(
                (answer.status, answer.all("location")),
                (303, vec!["/photos"])
            );
        }
    }
    // Another one is opened by its button.
    let shown = gate.h1().await.get(&page(&docs), &cookie).await;
    assert!(shown.status == 200 && shown.text().contains("<form"));
    let answer = gate.h1().await.ask(post(&docs, &cookie)).await;
    assert_eq!(
        (answer.status, answer.all("location")),
        (303, vec!["/docs"])
    );
    let set = answer.all("set-cookie").join("");
    let second = format!("Cookie: {}\r\n", set.split(';').next().unwrap_or_default());
    assert_eq!(gate.h1().await.get("/docs", &second).await.status, 200);
    // The cookie of before is nobody's any more.
    assert_eq!(gate.h1().await.get("/photos", &cookie).await.status, 401);
    // And somebody else's links are no way in.
    let spent = gate.h1().await.ask(post(&photos, &second)).await;
    assert_eq!(spent.status, 401);
    let id = spent.all("x-request-id").join("");
    assert!(!id.is_empty() && spent.text().contains(&id));
}

#[tokio::test]
async fn a_link_that_is_revoked_is_over_at_once_and_so_is_what_runs_by_it() {
    let upstream = Upstream::whole(|_, peer| {
        peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        peer.wait_for_end();
        After::Close
    });
    let gate = Gate::open(&site(&upstream));
    let (id, secret) = gate.share(None, "/", HOUR);
    let (_, other) = gate.share(None, "/", HOUR);
    let (cookie, stays) = (opened(&gate, &secret).await, opened(&gate, &other).await);
    let mut streams = Vec::new();
    for cookie in [&cookie, &stays] {
        let mut client = gate.h1().await;
        client
            .send(format!("GET / HTTP/1.1\r\nHost: app.lan\r\n{cookie}\r\n"))
            .await;
        while !client.got.ends_with(b"1\r\nx\r\n") {
            assert!(client.more().await);
        }
        streams.push(client);
    }
    assert!(gate.unshare(&id));
    soon("the stream to end", streams[0].closed()).await;
    assert_eq!(gate.h1().await.get("/", &cookie).await.status, 401);
    let still = gate.h1().await.get("/.loopgate/logout", &stays).await;
    assert_eq!(still.status, 200, "{still:?}");
    let logout = format!(
        "POST /.loopgate/logout HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\n{stays}\r\n"
    );
    assert_eq!(gate.h1().await.ask(logout).await.status, 200);
    soon("what ran by it to end", streams[1].closed()).await;
    assert_eq!(gate.h1().await.get("/", &stays).await.status, 401, "left");
}

#[tokio::test]
async fn what_runs_ends_with_the_time_of_its_link() {
    let upstream = Upstream::whole(|_, peer| {
        peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        peer.wait_for_end();
        After::Close
    });
    let gate = Gate::open(&site(&upstream));
    let (_, secret) = gate.share(None, "/", Duration::from_secs(8));
    let cookie = opened(&gate, &secret).await;
    let mut client = gate.h1().await;
    let request = format!("GET / HTTP/1.1\r\nHost: app.lan\r\n{cookie}\r\n");
    client.send(request).await;
    client.at_least(1).await;
    soon("the end of the link", client.closed()).await;
    assert!(client.got.starts_with(b"HTTP/1.1 200"));
    assert_eq!(gate.h1().await.get("/", &cookie).await.status, 401);
}

#[tokio::test]
async fn links_that_are_guessed_lock_the_network_out() {
    let upstream = Upstream::ok();
    let lockout = "lockout = { failures = 5, window = \"5m\", ban = \"15m\" }\n";
    let gate = Gate::with(
        lockout,
        "networks = { allow = [\"loopback\"] }",
        &site(&upstream),
    );
    let (_, secret) = gate.share(None, "/", HOUR);
    for n in 0..5 {
        let wrong = format!("{}{n}A", "a".repeat(41));
        assert_eq!(
            gate.h1().await.ask(post(&wrong, "")).await.status,
            401,
            "{n}"
        );
    }
    assert_eq!(gate.h1().await.ask(post(&secret, "")).await.status, 429);
    for odd in ["", "abc", "../login", "a/b"] {
        let answer = gate.h1().await.ask(post(odd, "")).await;
        assert_ne!(answer.status, 200, "{odd}");
        assert!(answer.all("set-cookie").is_empty(), "{odd}");
    }
}

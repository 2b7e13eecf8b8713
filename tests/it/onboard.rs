//! The page that helps a device to trust the local authority: there for its time, for whom the networks let in, and nothing beside it.

use std::time::Duration;

use crate::support::*;

const PAGE: &str = "/.loopgate/onboard";
const CRT: &str = "/.loopgate/onboard/loopgate-ca.crt";
const PROFILE: &str = "/.loopgate/onboard/loopgate-ca.mobileconfig";
const LONG: Duration = Duration::from_secs(600);

fn site(upstream: &Upstream) -> String {
    gate::route("app.lan", "/", upstream, "\"users\"")
}

#[tokio::test]
async fn closed_it_is_a_page_that_does_not_exist() {
    let upstream = Upstream::ok();
    let gate = Gate::open(&site(&upstream));
    let same = gate.h1().await.get("/.loopgate/nothing", "").await;
    for target in [
        PAGE,
        CRT,
        PROFILE,
        "/.loopgate/onboard/",
        "/.loopgate/%6fnboard",
    ] {
        let answer = gate.h1().await.get(target, "").await;
        assert_eq!(answer.status, 404, "{target}");
        assert_eq!(answer.body.len(), same.body.len(), "{target}");
    }
    let answer = gate
        .h1()
        .await
        .ask(format!(
            "POST {PAGE} HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    assert_eq!(answer.status, 404);
    // A moment is over at once.
    gate.onboard(Duration::ZERO);
    assert_eq!(gate.h1().await.get(PAGE, "").await.status, 404);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn open_it_shows_the_certificate_and_opens_nothing_else() {
    let upstream = Upstream::ok();
    let gate = Gate::open(&site(&upstream));
    let der = gate.onboard(LONG);
    let page = gate.h1().await.get(PAGE, "").await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert_eq!(page.status, 200);
    assert!(text.contains("https://app.lan/.loopgate/onboard"), "{text}");
    let certificate = gate.h1().await.get(CRT, "").await;
    assert_eq!((certificate.status, &certificate.body), (200, &der));
    assert_eq!(
        certificate.all("content-type"),
        ["application/x-x509-ca-cert"]
    );
    let profile = gate.h1().await.get(PROFILE, "").await;
    let data = data_encoding::BASE64.encode(&der);
    assert!(String::from_utf8_lossy(&profile.body).contains(&data));
    for (method, target, want) in [
        ("POST", PAGE, 405),
        ("DELETE", CRT, 405),
        ("GET", "/.loopgate/onboard/other", 404),
        ("GET", "/.loopgate/onboarded", 404),
        ("GET", "/", 401),
        ("GET", "/.loopgate/onboard/../../secret", 404),
        ("GET", "/.loopgate/", 303),
    ] {
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            gate.h1().await.ask(request).await.status,
            want,
            "{method} {target}"
        );
    }
    let foreign = format!("GET {PAGE} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(gate.h1().await.ask(foreign).await.status, 421);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn the_networks_are_judged_all_the_same() {
    let upstream = Upstream::ok();
    let elsewhere = "networks = { allow = [\"192.0.2.0/24\"] }";
    let gate = Gate::listening(elsewhere, &site(&upstream));
    gate.onboard(LONG);
    let shaken = Client::try_tls(gate.address, Some("app.lan"), "http/1.1").await;
    assert!(shaken.is_err());
    let proxied = "networks = { allow = [\"192.0.2.0/24\"] }\ntrusted_proxies = [\"127.0.0.1\"]";
    let gate = Gate::listening(proxied, &site(&upstream));
    gate.onboard(LONG);
    for (client, want) in [("192.0.2.7", 200), ("198.51.100.7", 403)] {
        let line = format!("X-Forwarded-For: {client}\r\n");
        assert_eq!(
            gate.h1().await.get(PAGE, &line).await.status,
            want,
            "{client}"
        );
    }
}

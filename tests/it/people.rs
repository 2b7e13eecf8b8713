//! People at the gate: what a login gives, what becomes of credentials, and what a guesser learns.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loopgate::auth::token::Token;
use loopgate::auth::token_file;

use crate::support::gate::{USERS, route};
use crate::support::message::Answer;
use crate::support::*;

fn authorization(user: &str, password: &str) -> String {
    format!("Authorization: {}\r\n", basic(user, password))
}

/// The value that follows `from` up to the next quote or semicolon.
fn cut(text: &str, from: &str) -> String {
    let rest = text
        .split_once(from)
        .unwrap_or_else(|| panic!("no {from} in {text}"))
        .1;
    rest.split(['"', ';']).next().unwrap_or_default().to_owned()
}

/// Logs in by the form; the session cookie as `name=value`, or the answer that refused.
pub(crate) async fn form_login(gate: &Gate, user: &str, password: &str) -> Result<String, Answer> {
    let mut client = gate.h1().await;
    let page = client
        .get("/.loopgate/login?to=/", "Accept: text/html\r\n")
        .await;
    let csrf = cut(&page.text(), "name=\"csrf\" value=\"");
    let cookie = page.all("set-cookie")[0]
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let body = format!(
        "csrf={csrf}&to=%2F&user={user}&password={}",
        password.replace(' ', "+")
    );
    let answer = client
        .ask(format!(
            "POST /.loopgate/login HTTP/1.1\r\nHost: app.lan\r\nOrigin: https://app.lan\r\nCookie: {cookie}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    if answer.status != 303 {
        return Err(answer);
    }
    let name = gate.cookie();
    let set = answer
        .all("set-cookie")
        .into_iter()
        .find(|c| c.starts_with(&format!("{name}=")));
    Ok(set
        .and_then(|c| c.split(';').next())
        .expect("a session")
        .to_owned())
}

async fn session(gate: &Gate, user: &str, password: &str) -> String {
    form_login(gate, user, password)
        .await
        .unwrap_or_else(|a| panic!("{a:?}"))
}

/// Asks over a new connection.
async fn status(gate: &Gate, lines: &str) -> u16 {
    gate.h1().await.get("/", lines).await.status
}

fn users_only(upstream: &Upstream) -> Gate {
    Gate::open(&route("app.lan", "/", upstream, "\"users\""))
}

#[tokio::test]
async fn beside_a_session_a_credential_tells_nothing_about_the_passwords_of_others() {
    let upstream = Upstream::ok();
    let gate = users_only(&upstream);
    assert_eq!(
        status(&gate, &authorization("bob", "brick wall")).await,
        200
    );
    let cookie = session(&gate, "alice", "open sesame").await;
    upstream.forget();
    // Whether it is remembered, wrong, or right and not remembered: what the application sees is the same.
    for (user, password) in [
        ("bob", "brick wall"),
        ("bob", "wrong"),
        ("carol", "ocean wave"),
        ("carol", "x"),
    ] {
        let lines = format!("Cookie: {cookie}\r\n{}", authorization(user, password));
        assert_eq!(status(&gate, &lines).await, 200);
    }
    for request in upstream.requests() {
        assert!(request.all("authorization").is_empty(), "{request:?}");
        assert_eq!(request.all("x-loopgate-user"), ["alice"]);
    }
}

#[tokio::test]
async fn beside_a_session_the_application_may_have_passwords_of_its_own_but_not_try_ours() {
    let upstream = Upstream::ok();
    let gate = users_only(&upstream);
    let cookie = session(&gate, "alice", "open sesame").await;
    let mut client = gate.h1().await;
    let mut passes = async |user: &str, password: &str| {
        upstream.forget();
        let lines = format!("Cookie: {cookie}\r\n{}", authorization(user, password));
        assert_eq!(client.get("/", &lines).await.status, 200);
        !upstream.requests()[0].all("authorization").is_empty()
    };
    assert!(passes("appuser", "app secret").await, "nobody of ours");
    assert!(passes("alice", "app secret").await, "the application's own");
    assert!(!passes("alice", "open sesame").await, "ours");
    let mut guessed = 0;
    for n in 0..50 {
        guessed += usize::from(passes("alice", &format!("guess {n}")).await);
    }
    assert!(guessed < 10, "{guessed} guesses told that they were wrong");
    assert!(passes("alice", "app secret").await, "it still is");
    assert!(!passes("alice", "open sesame").await);
}

#[tokio::test]
async fn no_cookie_of_a_gate_reaches_the_application_or_is_set_by_it() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: app=1\r\nSet-Cookie: __Host-loopgate-8443=evil; Secure; Path=/\r\n\
         Set-Cookie: =__Host-loopgate-8443=evil\r\nSet-Cookie: __Host-loopgate-0.login=evil; Path=/\r\nContent-Length: 2\r\n\r\nok",
    );
    let gate = users_only(&upstream);
    let cookie = session(&gate, "alice", "open sesame").await;
    let name = gate.cookie();
    let lines =
        format!("Cookie: a=1; {cookie}; {name}.login=abc; __Host-loopgate-9999=other; b=2\r\n");
    let answer = gate.h1().await.get("/", &lines).await;
    assert_eq!(answer.all("set-cookie"), ["app=1"]);
    assert_eq!(upstream.requests()[0].all("cookie"), ["a=1; b=2"]);
    let fields = [
        ("cookie", "a=1"),
        ("cookie", &*cookie),
        ("cookie", &*format!("{name}.login=x")),
    ];
    upstream.forget();
    assert_eq!(
        gate.h2()
            .await
            .ask(1, "GET", "/", &fields, b"")
            .await
            .status(),
        200
    );
    assert_eq!(upstream.requests()[0].all("cookie"), ["a=1"]);
}

/// Behind published ports two gates listen on one port and have one host name.
#[tokio::test]
async fn two_gates_with_one_port_have_two_cookies_over_restarts() {
    let upstream = Upstream::ok();
    let (mut one, two) = (users_only(&upstream), users_only(&upstream));
    let a = session(&one, "alice", "open sesame").await;
    let b = session(&two, "alice", "open sesame").await;
    let jar = format!("Cookie: {a}; {b}; app=1\r\n");
    for gate in [&one, &two] {
        upstream.forget();
        assert_eq!(gate.h1().await.get("/", &jar).await.status, 200);
        assert_eq!(upstream.only().all("cookie"), ["app=1"]);
    }
    let (before, other) = (one.cookie(), two.cookie());
    assert_ne!(before, other);
    one.restart();
    assert_eq!(one.cookie(), before);
}

#[tokio::test]
async fn where_a_user_belongs_guesses_are_bounded_and_do_not_end_what_is_his() {
    let upstream = Upstream::ok();
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    let gate = Gate::with("", "networks = { allow = [\"loopback\"] }", &tables);
    let right = authorization("alice", "open sesame");
    let mut proven = gate.h1().await;
    assert_eq!(proven.get("/", &right).await.status, 200);
    let cookie = session(&gate, "alice", "open sesame").await;
    let mut guesser = gate.h1().await;
    let mut listened = 0;
    for n in 0..90 {
        let answer = guesser
            .get("/", &authorization("alice", &format!("guess {n}")))
            .await;
        listened += usize::from(answer.status == 401);
    }
    assert!(listened <= 6, "{listened} guesses were listened to");
    assert_eq!(
        status(&gate, &right).await,
        200,
        "she is not locked out by them"
    );
    for n in 90..130 {
        guesser
            .get("/", &authorization("alice", &format!("guess {n}")))
            .await;
    }
    assert_eq!(
        status(&gate, &right).await,
        429,
        "nobody can tell any more whether it is right"
    );
    assert_eq!(
        proven.get("/", &right).await.status,
        200,
        "where she has proven it she goes on"
    );
    assert_eq!(
        status(&gate, &format!("Cookie: {cookie}\r\n")).await,
        200,
        "and with her session"
    );
    assert_eq!(
        status(&gate, &authorization("bob", "brick wall")).await,
        200,
        "others are not concerned"
    );
}

#[tokio::test]
async fn guesses_count_one_by_one_however_they_come_and_outlive_a_reload() {
    let upstream = Upstream::ok();
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    let auth = "lockout = { failures = 5, window = \"5m\", ban = \"15m\" }\n";
    let gate = |listener: &str| {
        Gate::with(
            auth,
            &format!("networks = {{ allow = [\"loopback\"] }}\n{listener}"),
            &tables,
        )
    };
    // Fifty in one piece over HTTP/1.1.
    let first = gate("");
    let mut client = first.h1().await;
    let all: String = (0..50)
        .map(|n| {
            format!(
                "GET / HTTP/1.1\r\nHost: app.lan\r\n{}\r\n",
                authorization("alice", &format!("guess {n}"))
            )
        })
        .collect();
    client.send(all).await;
    let mut listened = 0;
    for _ in 0..50 {
        listened += usize::from(client.answer().await.status == 401);
    }
    assert_eq!(listened, 5, "pipelined");
    // Fifty streams at once.
    let second = gate("");
    let mut h2 = second.h2().await;
    for n in 0..50u32 {
        let value = basic("alice", &format!("guess {n}"));
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            ("authorization", &*value),
        ];
        let flags = frames::END_HEADERS | frames::END_STREAM;
        h2.send(frames::frame(
            frames::HEADERS,
            flags,
            2 * n + 1,
            frames::block(&fields),
        ))
        .await;
    }
    let mut listened = 0;
    for _ in 0..50 {
        let head = h2.next_of(frames::HEADERS).await.expect("an answer");
        listened += usize::from(frames::status(&head.payload) == 401);
    }
    assert_eq!(listened, 5, "in parallel");
    // Requests without credentials do not count, and a reload forgets nothing.
    let third = gate("");
    for _ in 0..20 {
        assert_eq!(status(&third, "").await, 401);
    }
    for n in 0..5 {
        assert_eq!(
            status(&third, &authorization("bob", &format!("guess {n}"))).await,
            401
        );
    }
    assert_eq!(
        status(&third, &authorization("alice", "open sesame")).await,
        429
    );
    third.retable(&tables);
    assert_eq!(
        status(&third, &authorization("alice", "open sesame")).await,
        429
    );
    assert_eq!(
        status(&third, "").await,
        401,
        "whoever presents nothing is told to log in"
    );
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_a_connection_knows_ends_with_the_session_and_with_the_password() {
    let upstream = Upstream::ok();
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    let gate = Gate::open(&tables);
    let cookie = format!(
        "Cookie: {}\r\n",
        session(&gate, "alice", "open sesame").await
    );
    let right = authorization("bob", "brick wall");
    let (mut one, mut two) = (gate.h1().await, gate.h1().await);
    for _ in 0..3 {
        assert_eq!(one.get("/", &cookie).await.status, 200);
        assert_eq!(two.get("/", &right).await.status, 200);
        assert_eq!(
            two.get("/", "").await.status,
            401,
            "a connection has no user"
        );
        assert_eq!(
            two.get("/", &authorization("bob", "brick walls"))
                .await
                .status,
            401
        );
    }
    let out = format!(
        "POST /.loopgate/logout HTTP/1.1\r\nHost: app.lan\r\n{cookie}Content-Length: 0\r\n\r\n"
    );
    assert_eq!(gate.h1().await.ask(out).await.status, 200);
    assert_eq!(
        one.get("/", &cookie).await.status,
        401,
        "logged out over another connection"
    );
    assert_eq!(two.get("/", &right).await.status, 200);
    let without: String = USERS
        .lines()
        .filter(|l| !l.starts_with("bob:"))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(gate.path("users.htpasswd"), without).expect("a users file");
    gate.retable(&tables);
    assert_eq!(two.get("/", &right).await.status, 401, "he is gone");
}

#[tokio::test]
async fn who_is_removed_is_out_though_a_rule_and_a_group_still_name_him() {
    let upstream = Upstream::ok();
    let tables = [
        route(
            "app.lan",
            "/",
            &upstream,
            "{ users = [\"bob\", \"alice\"] }",
        ),
        "[[group]]\nname = \"ops\"\nusers = [\"bob\"]\n".to_owned(),
    ]
    .concat();
    let gate = Gate::open(&tables);
    let (bob, alice) = (
        authorization("bob", "brick wall"),
        authorization("alice", "open sesame"),
    );
    let mut open = gate.h1().await;
    assert_eq!(open.get("/", &bob).await.status, 200);
    let without: String = USERS
        .lines()
        .filter(|l| !l.starts_with("bob:"))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(gate.path("users.htpasswd"), without).expect("a users file");
    gate.retable(&tables);
    assert_eq!(open.get("/", &bob).await.status, 401, "he is gone");
    assert_eq!(gate.h1().await.get("/", &bob).await.status, 401);
    assert_eq!(gate.h1().await.get("/", &alice).await.status, 200);
}

#[tokio::test]
async fn doubtful_credentials_are_refused_and_reach_nobody() {
    let upstream = Upstream::ok();
    let gate = users_only(&upstream);
    let giant = authorization("alice", &"x".repeat(5000));
    let long = authorization("alice", &"x".repeat(1100));
    let name = authorization(&"a".repeat(129), "x");
    let twice = authorization("alice", "open sesame").repeat(2);
    for (lines, want) in [
        ("Authorization:\r\n", 401),
        ("Authorization: \r\n", 401),
        ("Authorization: Basic\r\n", 401),
        ("Authorization: Basic \r\n", 401),
        ("Authorization: Basic YWxpY2U=\r\n", 401),
        ("Authorization: Basic YWxpY2U6\r\n", 401),
        ("Authorization: Basic OnNlc2FtZQ==\r\n", 401),
        ("Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWUA\r\n", 401),
        ("Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWUK\r\n", 401),
        ("Authorization: Basic YWxpY2UA\r\n", 401),
        ("Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU\r\n", 401),
        ("Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU= x\r\n", 401),
        (
            "Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=, Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n",
            401,
        ),
        ("Authorization: Basic /////w==\r\n", 401),
        ("Authorization: Bearer\r\n", 401),
        ("Authorization: Bearer a b\r\n", 401),
        ("Authorization: Bearer lgt_abcdefgh_x\r\n", 401),
        ("Loopgate-Token: lgt_abcdefgh_x\r\n", 401),
        ("Loopgate-Token: \r\n", 401),
        ("Loopgate-Token: a\r\nLoopgate-Token: a\r\n", 400),
        ("Authorization: Basic\0YWxpY2U6\r\n", 400),
        ("Authorization: Basic YWxpY2U6\x01\r\n", 400),
        ("Authorization: Basic YWxpY2U6\x7f\r\n", 400),
        ("Authorization : Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n", 400),
        ("Authorization: Basic\r\n YWxpY2U6b3BlbiBzZXNhbWU=\r\n", 400),
        (&*giant, 401),
        (&*long, 401),
        (&*name, 401),
        (&*twice, 400),
    ] {
        assert_eq!(status(&gate, lines).await, want, "{}", lines.escape_debug());
    }
    let huge = authorization("alice", &"x".repeat(100_000));
    assert_eq!(status(&gate, &huge).await, 431);
    assert!(upstream.conversations().is_empty());
    assert_eq!(
        status(&gate, &authorization("alice", "open sesame")).await,
        200
    );
}

#[tokio::test]
async fn beside_a_token_in_its_own_field_authorization_is_the_applications() {
    let upstream = Upstream::ok();
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tokens.toml");
    let (token, text) = Token::new("ci", 0, None);
    token_file::add(&file, token).expect("a token");
    let auth = format!("tokens_file = \"{}\"\n", file.display());
    let gate = Gate::with(&auth, "networks = { allow = [\"loopback\"] }", &tables);
    let good = format!("Loopgate-Token: {}\r\n", text.expose());
    let bad = format!("Loopgate-Token: {}a\r\n", text.expose());
    let bearer = format!("Authorization: Bearer {}\r\n", text.expose());
    for (token, lines, status, passes) in [
        (&good, authorization("appuser", "app secret"), 200, true),
        (
            &good,
            "Authorization: Bearer of.the.app\r\n".to_owned(),
            200,
            true,
        ),
        (&good, "Authorization: Basic !\r\n".to_owned(), 200, true),
        // A name of ours is enough, whatever the password: nobody learns more.
        (&good, authorization("alice", "app secret"), 200, false),
        (&good, authorization("alice", "open sesame"), 200, false),
        (&good, bearer, 200, false),
        (&bad, authorization("appuser", "app secret"), 401, false),
        (&bad, authorization("alice", "open sesame"), 401, false),
    ] {
        upstream.forget();
        let lines = format!("{token}{lines}");
        assert_eq!(self::status(&gate, &lines).await, status, "{lines}");
        let requests = upstream.requests();
        assert_eq!(requests.len(), usize::from(status == 200));
        for request in &requests {
            assert_eq!(!request.all("authorization").is_empty(), passes, "{lines}");
            assert!(request.all("loopgate-token").is_empty());
            assert_eq!(request.all("x-loopgate-user"), ["token:ci"]);
        }
    }
    // None of it was a guess: with five failures the sixth is locked out.
    for n in 0..50 {
        let lines = format!("{good}{}", authorization("alice", &format!("guess {n}")));
        assert_eq!(self::status(&gate, &lines).await, 200);
    }
    assert_eq!(
        self::status(&gate, &authorization("alice", "open sesame")).await,
        200
    );
}

#[tokio::test]
async fn a_good_token_in_the_wrong_place_is_logged_by_its_name() {
    let upstream = Upstream::ok();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tokens.toml");
    let (mut token, text) = Token::new("ci", 0, None);
    token.paths = vec!["/api".into()];
    token.methods = vec!["GET".into()];
    token_file::add(&file, token).expect("a token");
    let auth = format!("tokens_file = \"{}\"\n", file.display());
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    let gate = Gate::with(&auth, "networks = { allow = [\"loopback\"] }", &tables);
    let good = format!("Loopgate-Token: {}\r\n", text.expose());
    let mut client = gate.h1().await;
    assert_eq!(client.get("/api", &good).await.status, 200);
    assert_eq!(client.get("/x", &good).await.status, 403);
    let post = format!("POST /api HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\n{good}\r\n");
    assert_eq!(client.ask(post).await.status, 403);
    let wrong = format!(
        "Loopgate-Token: {}\r\n",
        "lgt_".to_owned() + &"a".repeat(60)
    );
    assert_eq!(client.get("/api", &wrong).await.status, 401);
    let log = gate.log(4).await;
    for (line, user) in log.iter().zip(["token:ci", "token:ci", "token:ci", "-"]) {
        let said = line["user"].as_str().unwrap_or("-");
        let by = line["auth"].as_str().unwrap_or("-");
        assert_eq!(said, user, "{line}");
        assert_eq!(by, if user == "-" { "-" } else { "token" }, "{line}");
    }
}

#[tokio::test]
async fn whoever_is_refused_by_a_page_of_ours_gets_the_id_of_the_request() {
    let upstream = Upstream::ok();
    let gate = Gate::with(
        "lockout = { failures = 5, window = \"5m\", ban = \"15m\" }\n",
        "networks = { allow = [\"loopback\"] }",
        &route("app.lan", "/", &upstream, "\"users\""),
    );
    let mut ids = Vec::new();
    for n in 0..7 {
        let answer = form_login(&gate, "alice", &format!("wrong{n}")).await;
        let answer = answer.expect_err("a wrong password");
        assert_eq!(answer.status, if n < 5 { 401 } else { 429 });
        let id = answer.all("x-request-id").join("");
        assert!(!id.is_empty() && answer.text().contains(&id), "{answer:?}");
        ids.push(id);
    }
    // Two requests each.
    let log = gate.log(14).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(log[2 * n + 1]["request_id"], id.as_str());
    }
    for path in ["/.loopgate/login", "/.loopgate/none", "/x"] {
        let answer = gate.h1().await.get(path, "Accept: text/html\r\n").await;
        assert_eq!(answer.all("x-request-id").len(), 1, "{path}");
    }
}

const SWITCH: &str = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Switches to what it is asked for and echoes, or begins an answer that goes on in silence.
fn lasting() -> Upstream {
    Upstream::whole(|request, peer| {
        if !request.all("upgrade").is_empty() {
            peer.say("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
            return After::Echo;
        }
        if request.target != "/stream" {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            return After::Close;
        }
        peer.say(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\nhalf",
        );
        peer.wait_for_end();
        After::Close
    })
}

/// What is open by these lines: a tunnel, and an answer over each version that is silent.
async fn opened(gate: &Gate, lines: &str) -> (Client, Client, H2) {
    let mut tunnel = gate.h1().await;
    let answer = tunnel.get("/", &format!("{lines}{SWITCH}")).await;
    assert_eq!(answer.status, 101);
    let mut one = gate.h1().await;
    one.send(format!(
        "GET /stream HTTP/1.1\r\nHost: app.lan\r\n{lines}\r\n"
    ))
    .await;
    one.at_least(40).await;
    let mut two = gate.h2().await;
    let (name, value) = lines.trim_end().split_once(": ").expect("one field");
    let name = name.to_ascii_lowercase();
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "app.lan"),
        (":path", "/stream"),
        (&*name, value),
    ];
    let flags = frames::END_HEADERS | frames::END_STREAM;
    two.send(frames::frame(
        frames::HEADERS,
        flags,
        1,
        frames::block(&fields),
    ))
    .await;
    let head = two.next_of(frames::HEADERS).await.expect("an answer");
    assert_eq!(frames::status(&head.payload), 200);
    (tunnel, one, two)
}

/// Waits until all of it has been cut, and says how long that took.
async fn all_cut(open: (Client, Client, H2)) -> Duration {
    let begun = Instant::now();
    let (mut tunnel, mut one, mut two) = open;
    tunnel.closed().await;
    one.closed().await;
    two.next_of(frames::RST_STREAM).await.expect("a reset");
    begun.elapsed()
}

#[tokio::test]
async fn a_stream_ends_with_the_life_of_its_session() {
    let upstream = lasting();
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    for session in [
        "session = { lifetime = \"6s\", idle = \"1h\" }\n",
        "session = { lifetime = \"1h\", idle = \"6s\" }\n",
    ] {
        let gate = Gate::with(session, "networks = { allow = [\"loopback\"] }", &tables);
        let cookie = format!(
            "Cookie: {}\r\n",
            self::session(&gate, "alice", "open sesame").await
        );
        let mut other = gate.h1().await;
        let right = format!("{}{SWITCH}", authorization("bob", "brick wall"));
        assert_eq!(other.get("/", &right).await.status, 101);
        let open = opened(&gate, &cookie).await;
        let took = all_cut(open).await;
        assert!(took < Duration::from_secs(20), "{session}: {took:?}");
        assert_eq!(status(&gate, &cookie).await, 401, "{session}");
        other.send("still here").await;
        other.at_least(10).await;
    }
}

#[tokio::test]
async fn bytes_that_pass_are_use_of_a_session_and_looks_are_not() {
    let upstream = lasting();
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    let session = "session = { lifetime = \"1h\", idle = \"10s\" }\n";
    let mut gate = Gate::with(session, "networks = { allow = [\"loopback\"] }", &tables);
    let busy = format!(
        "Cookie: {}\r\n",
        self::session(&gate, "alice", "open sesame").await
    );
    let silent = format!(
        "Cookie: {}\r\n",
        self::session(&gate, "bob", "brick wall").await
    );
    let mut tunnel = gate.h1().await;
    assert_eq!(
        tunnel.get("/", &format!("{busy}{SWITCH}")).await.status,
        101
    );
    let mut quiet = gate.h1().await;
    assert_eq!(
        quiet.get("/", &format!("{silent}{SWITCH}")).await.status,
        101
    );
    let begun = Instant::now();
    let mut sent = 0;
    let mut is_over = false;
    // Longer than `idle` for the one, and until the other has been seen to end.
    while begun.elapsed() < Duration::from_secs(14) || !is_over {
        assert!(begun.elapsed() < DEADLINE * 2, "nothing has passed there");
        tunnel.send("x").await;
        sent += 1;
        tunnel.at_least(sent).await;
        // Whenever a plan is put in force all are looked at.
        let looked = gate.reload("nonsense = 1\n").await;
        assert!(looked.is_err());
        let end = tokio::time::timeout(Duration::from_millis(500), quiet.closed());
        match is_over {
            true => tokio::time::sleep(Duration::from_millis(200)).await,
            false => is_over = end.await.is_ok(),
        }
    }
    assert_eq!(status(&gate, &silent).await, 401);
    tunnel.send("x").await;
    tunnel.at_least(sent + 1).await;
    assert_ne!(status(&gate, &busy).await, 401, "it was used all the time");
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let upstream = lasting();
    let tables = route("app.lan", "/", &upstream, "\"users\"");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tokens.toml");
    let auth = format!("tokens_file = \"{}\"\n", file.display());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a date")
            .as_secs()
    };
    let ends = now() + 8;
    let (short, text) = Token::new("short", 0, Some(ends as i64));
    let (long, other) = Token::new("long", 0, Some(ends as i64 + 3600));
    token_file::add(&file, short).expect("a token");
    token_file::add(&file, long).expect("another");
    let gate = Gate::with(&auth, "networks = { allow = [\"loopback\"] }", &tables);
    let short = format!("Loopgate-Token: {}\r\n", text.expose());
    let long = format!("Authorization: Bearer {}\r\n", other.expose());
    let open = opened(&gate, &short).await;
    let mut lasts = gate.h1().await;
    assert_eq!(lasts.get("/", &format!("{long}{SWITCH}")).await.status, 101);
    all_cut(open).await;
    assert!(now() >= ends, "not before its time");
    assert!(now() < ends + 15, "soon after it");
    assert_eq!(status(&gate, &short).await, 401);
    lasts.send("still here").await;
    lasts.at_least(10).await;
    // Narrowed to other paths it is worth no more than a request with it would be now.
    let text = std::fs::read_to_string(&file).expect("the tokens");
    let at = text.find("name = \"long\"").expect("the token");
    let narrow = format!("{}paths = [\"/api\"]\n{}", &text[..at], &text[at..]);
    std::fs::write(&file, narrow).expect("the tokens");
    gate.retable(&tables);
    lasts.closed().await;
}

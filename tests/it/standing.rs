//! What runs when the file, the people or the services change: who may no longer is cut, and nobody else. Every case is tried with a
//! request that waits for its answer, an answer that goes on, an upload and a tunnel, over HTTP/1.1 and HTTP/2.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use h2::RecvStream;
use loopgate::auth::token::Token;
use loopgate::auth::token_file;

use crate::connections::websocket_answer;
use crate::limits::full;
use crate::people::form_login;
use crate::share::opened;
use crate::support::gate::USERS;
use crate::support::h2_client::{Exchange, H2Client};
use crate::support::h2_upstream::H2Upstream;
use crate::support::*;

const SWITCH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Opened once, for everybody.
#[derive(Clone, Default)]
struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    fn open(&self) {
        *self.0.0.lock().expect("not poisoned") = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let lock = self.0.0.lock().expect("not poisoned");
        let wait = self.0.1.wait_timeout_while(lock, DEADLINE, |open| !*open);
        drop(wait.expect("not poisoned"));
    }
}

/// A service that goes on with what it has begun once it is told to.
struct Service {
    upstream: Upstream,
    begun: Signal,
    go: Latch,
}

impl Service {
    fn new() -> Self {
        let (begun, go) = (Signal::default(), Latch::default());
        let (begins, goes) = (begun.clone(), go.clone());
        let upstream = Upstream::scripted(move |at, request, peer| {
            let what = request.target.rsplit('/').next().unwrap_or_default();
            if at == At::Whole {
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                return After::Keep;
            }
            match what {
                "chat" => {
                    peer.say(websocket_answer(request) + "\r\n");
                    begins.set();
                    After::Echo
                }
                "events" => {
                    peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 8\r\n\r\nhalf");
                    begins.set();
                    goes.wait();
                    peer.say("half");
                    After::Close
                }
                "wait" => {
                    begins.set();
                    goes.wait();
                    After::Body
                }
                "upload" => {
                    begins.set();
                    After::Body
                }
                _ => After::Body,
            }
        });
        Self {
            upstream,
            begun,
            go,
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.go.open();
    }
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Wait,
    Events,
    Upload,
    Chat,
}

const KINDS: [Kind; 4] = [Kind::Wait, Kind::Events, Kind::Upload, Kind::Chat];

/// How it is carried.
enum Carried {
    H1(Client),
    H2(Exchange, Option<RecvStream>),
}

struct Stream {
    kind: Kind,
    carried: Carried,
}

impl Stream {
    /// Begins one under this path; the service has it.
    async fn begin(
        gate: &Gate,
        service: &Service,
        kind: Kind,
        is_h2: bool,
        path: &str,
        line: &str,
    ) -> Self {
        let (method, last, more) = match kind {
            Kind::Wait => ("GET", "wait", ""),
            Kind::Events => ("GET", "events", ""),
            Kind::Upload => ("PUT", "upload", "Content-Length: 8\r\n"),
            Kind::Chat => ("GET", "chat", SWITCH),
        };
        let mut carried = if is_h2 {
            let (name, value) = line.trim_end().split_once(": ").expect("one field");
            let method = if kind == Kind::Chat {
                "CONNECT"
            } else {
                method
            };
            let mut request = http::Request::builder()
                .method(method)
                .uri(format!("https://app.lan{path}{last}"))
                .header(name, value);
            if kind == Kind::Chat {
                request = request
                    .header("sec-websocket-version", "13")
                    .extension(h2::ext::Protocol::from_static("websocket"));
            }
            let ended = matches!(kind, Kind::Wait | Kind::Events);
            let mut client = H2Client::open(gate).await;
            let mut exchange = client.send_request(request.body(()).unwrap(), ended).await;
            if kind == Kind::Upload {
                exchange.send("half", false).await;
            }
            Carried::H2(exchange, None)
        } else {
            let mut client = gate.h1().await;
            let head =
                format!("{method} {path}{last} HTTP/1.1\r\nHost: app.lan\r\n{line}{more}\r\n");
            client.send(head).await;
            if kind == Kind::Upload {
                client.send("half").await;
            }
            Carried::H1(client)
        };
        let begun = service.begun.clone();
        let wait = tokio::task::spawn_blocking(move || begun.wait());
        wait.await.expect("the service to be asked");
        match (&mut carried, kind) {
            (_, Kind::Wait | Kind::Upload) => {}
            (Carried::H1(client), Kind::Events) => client.at_least(40).await,
            (Carried::H1(client), Kind::Chat) => {
                assert_eq!(client.answer().await.status, 101);
            }
            (Carried::H2(exchange, body), Kind::Events | Kind::Chat) => {
                let answer = exchange.answer().await;
                assert_eq!(answer.status(), 200);
                *body = Some(answer.into_body());
            }
        }
        Self { kind, carried }
    }

    /// One of each kind, over each version.
    async fn all(gate: &Gate, service: &Service, path: &str, line: &str) -> Vec<Self> {
        let mut all = Vec::new();
        for kind in KINDS {
            for is_h2 in [false, true] {
                all.push(Self::begin(gate, service, kind, is_h2, path, line).await);
            }
        }
        all
    }

    /// Waits until it is over, though its service does not end it: nothing of what is still to come arrives.
    async fn ends(mut self) -> bool {
        match (&mut self.carried, self.kind) {
            (Carried::H1(client), _) => {
                client.closed().await;
                !client.got.ends_with(b"ok") && !client.got.ends_with(b"halfhalf")
            }
            (Carried::H2(exchange, None), _) => {
                let answer = exchange.try_answer().await;
                answer.map_or(true, |answer| answer.status() != 200)
            }
            (Carried::H2(_, Some(body)), _) => rest_of(body).await != b"halfhalf",
        }
    }

    /// Whether it comes to its right end once its service goes on.
    async fn finishes(mut self) -> bool {
        match (&mut self.carried, self.kind) {
            (Carried::H1(client), Kind::Chat) => {
                let sent = client.try_send("ping").await.is_ok();
                while sent && client.got.len() < 4 && client.more().await {}
                client.got == b"ping"
            }
            (Carried::H1(client), Kind::Wait | Kind::Upload | Kind::Events) => {
                if self.kind == Kind::Upload {
                    drop(client.try_send("half").await);
                }
                let answer = client.try_answer("GET").await;
                answer.is_ok_and(|a| a.body == b"ok" || a.body == b"halfhalf")
            }
            (Carried::H2(exchange, Some(body)), Kind::Chat) => {
                exchange.body.reserve_capacity(4);
                let sent = exchange.body.send_data("ping".into(), false).is_ok();
                sent && matches!(soon("an echo", body.data()).await, Some(Ok(data)) if data == "ping")
            }
            (Carried::H2(_, Some(body)), _) => rest_of(body).await == b"halfhalf",
            (Carried::H2(exchange, None), kind) => {
                if kind == Kind::Upload {
                    exchange.body.reserve_capacity(4);
                    drop(exchange.body.send_data("half".into(), true));
                }
                match exchange.try_answer().await {
                    Ok(mut answer) if answer.status() == 200 => {
                        rest_of(answer.body_mut()).await == b"ok"
                    }
                    Ok(_) | Err(_) => false,
                }
            }
        }
    }
}

async fn rest_of(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Ok(data)) = soon("a piece", body.data()).await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    all
}

/// What a file says.
struct File {
    address: SocketAddr,
    allow: &'static str,
    staff: &'static str,
    drain: &'static str,
    tls: &'static str,
    users: String,
    routes: String,
}

impl File {
    fn new() -> Self {
        Self {
            address: free("127.0.0.1"),
            allow: "loopback",
            staff: "\"alice\", \"bob\"",
            drain: "30s",
            tls: "local-ca",
            users: USERS.to_owned(),
            routes: String::new(),
        }
    }

    fn text(&self) -> String {
        format!(
            "[server]\nworkers = 1\ndrain = \"{}\"\n[auth]\nusers_file = \"users.htpasswd\"\ntokens_file = \"tokens.toml\"\n\
             lockout = {{ failures = 250, window = \"5m\", ban = \"15m\" }}\n[[group]]\nname = \"staff\"\nusers = [{}]\n\
             [[listener]]\naddress = \"{}\"\nnetworks = {{ allow = [\"{}\"] }}\ntls = {{ from = \"{}\" }}\n{}",
            self.drain, self.staff, self.address, self.allow, self.tls, self.routes
        )
    }

    fn gate(&self) -> Gate {
        let mut gate = Gate::prepared(&self.text(), &[("tokens.toml", b"")]);
        gate.machine.names.push("app.lan".into());
        gate
    }

    /// Puts it in force, and waits until every stream has been judged by it: they are on the thread that answers.
    async fn take(&self, gate: &mut Gate) {
        std::fs::write(gate.path("users.htpasswd"), &self.users).expect("a users file");
        gate.reload(&self.text())
            .await
            .unwrap_or_else(|why| panic!("{why}"));
        if self.allow == "loopback" && self.tls != "none" {
            judged(gate).await;
        }
    }
}

async fn judged(gate: &Gate) {
    for _ in 0..2 {
        let mut client = gate.h1().await;
        client
            .ask("GET /x HTTP/1.1\r\nHost: nobody.lan\r\n\r\n")
            .await;
    }
}

/// A route as `host/path`, which has a host of its own unless that is `*`.
fn route(place: &str, service: &Service, access: &str) -> String {
    let (host, path) = place.split_once('/').expect("a path");
    let hosts = match host {
        "*" => String::new(),
        host => format!("hosts = [\"{host}\"]\n"),
    };
    let address = service.upstream.address;
    format!("[[route]]\n{hosts}path = \"/{path}\"\nupstream = \"{address}\"\naccess = {access}\n")
}

fn alice() -> String {
    format!("Authorization: {}\r\n", basic("alice", "open sesame"))
}

#[tokio::test]
async fn who_may_no_longer_is_cut_and_nobody_else() {
    let users = "\"users\"";
    let table: [(&str, &str, &str, fn(&mut File), bool); 21] = [
        ("nothing", users, users, |_| {}, true),
        (
            "she is removed",
            users,
            users,
            |f| f.users = users_without("alice"),
            false,
        ),
        (
            "somebody else is removed",
            users,
            users,
            |f| f.users = users_without("bob"),
            true,
        ),
        (
            "her password",
            users,
            users,
            |f| f.users = f.users.replace("alicesalt$2", "alicesalt$3"),
            false,
        ),
        (
            "another password",
            users,
            users,
            |f| f.users = f.users.replace("bobsalt$/", "bobsalt$."),
            true,
        ),
        (
            "her group",
            "{ groups = [\"staff\"] }",
            "{ groups = [\"staff\"] }",
            |f| f.staff = "\"bob\"",
            false,
        ),
        (
            "of the group another one",
            "{ groups = [\"staff\"] }",
            "{ groups = [\"staff\"] }",
            |f| f.staff = "\"alice\"",
            true,
        ),
        (
            "her group where nobody asks",
            users,
            users,
            |f| f.staff = "\"bob\"",
            true,
        ),
        ("nobody may", users, "\"nobody\"", |_| {}, false),
        ("others may", users, "{ users = [\"bob\"] }", |_| {}, false),
        ("she may", users, "{ users = [\"alice\"] }", |_| {}, true),
        ("anyone may", users, "\"anyone\"", |_| {}, true),
        (
            "anyone may, and she is removed",
            users,
            "\"anyone\"",
            |f| f.users = users_without("alice"),
            true,
        ),
        ("a login is asked for", "\"anyone\"", users, |_| {}, false),
        (
            "the right network was enough",
            "{ users = [\"bob\"], networks = [\"127.0.0.0/8\"], require = \"any\" }",
            "{ users = [\"bob\"], networks = [\"10.0.0.0/8\"], require = \"any\" }",
            |_| {},
            false,
        ),
        (
            "networks of the route",
            users,
            "{ networks = [\"10.0.0.0/8\"] }",
            |_| {},
            false,
        ),
        (
            "her network",
            users,
            "{ networks = [\"127.0.0.0/8\"] }",
            |_| {},
            true,
        ),
        ("methods", users, "{ methods = [\"POST\"] }", |_| {}, false),
        (
            "her methods",
            users,
            "{ methods = [\"GET\", \"PUT\"] }",
            |_| {},
            true,
        ),
        (
            "networks of the listener",
            users,
            users,
            |f| f.allow = "10.0.0.0/8",
            false,
        ),
        (
            "the host",
            users,
            users,
            |f| f.routes = f.routes.replace("app.lan", "other.lan"),
            false,
        ),
    ];
    let (mut gate, mut all_wrong) = (None, Vec::new());
    let first = File::new();
    for (name, access, then, change, stays) in table {
        let service = Service::new();
        let mut file = File::new();
        file.address = first.address;
        file.routes = route("app.lan/", &service, access);
        let gate = gate.get_or_insert_with(|| file.gate());
        file.take(gate).await;
        let line = match access {
            "\"anyone\"" => "Accept: */*\r\n".to_owned(),
            _ => alice(),
        };
        let all = Stream::all(gate, &service, "/", &line).await;
        file.routes = route("app.lan/", &service, then);
        change(&mut file);
        file.take(gate).await;
        all_wrong.extend(wrong(all, &service, stays, name).await);
    }
    assert!(all_wrong.is_empty(), "{all_wrong:#?}");
}

/// Those that are cut though they stay, or the other way round.
async fn wrong(all: Vec<Stream>, service: &Service, stay: bool, name: &str) -> Vec<String> {
    if stay {
        service.go.open();
    }
    let mut wrong = Vec::new();
    for (i, stream) in all.into_iter().enumerate() {
        let kind = stream.kind;
        let is_right = match stay {
            true => tokio::time::timeout(DEADLINE, stream.finishes()).await,
            // Well before the end of the drain, which would cut it in any case.
            false => tokio::time::timeout(DEADLINE / 2, stream.ends()).await,
        };
        if is_right != Ok(true) {
            wrong.push(format!("{name}: {kind:?} over HTTP/{}", 1 + i % 2));
        }
    }
    wrong
}

#[tokio::test]
async fn what_runs_may_finish_where_its_route_leads_elsewhere_now() {
    // What app.lan/in/ is led by, before, then, and perhaps after that: each at blue, green or red.
    let table: [(&str, &[&[&str]], bool); 15] = [
        (
            "another service",
            &[&["app.lan/ blue"], &["app.lan/ green"]],
            true,
        ),
        (
            "two in turn",
            &[&["app.lan/ blue"], &["app.lan/ green"], &["app.lan/ red"]],
            true,
        ),
        (
            "and back",
            &[&["app.lan/ blue"], &["app.lan/ green"], &["app.lan/ blue"]],
            true,
        ),
        (
            "they change places",
            &[
                &["app.lan/ blue", "b.lan/ green"],
                &["app.lan/ green", "b.lan/ blue"],
            ],
            true,
        ),
        (
            "another route has it",
            &[&["app.lan/ blue"], &["app.lan/ green", "b.lan/ blue"]],
            true,
        ),
        (
            "another route keeps it",
            &[
                &["app.lan/ blue", "b.lan/ blue"],
                &["app.lan/ green", "b.lan/ blue"],
            ],
            true,
        ),
        (
            "a narrower route",
            &[&["app.lan/ blue"], &["app.lan/ blue", "app.lan/in green"]],
            true,
        ),
        (
            "a wider route",
            &[&["app.lan/in blue"], &["app.lan/ green"]],
            true,
        ),
        (
            "a host of its own",
            &[&["*/ blue"], &["app.lan/ green", "*/ blue"]],
            true,
        ),
        (
            "no host of its own",
            &[&["app.lan/ blue"], &["*/ green"]],
            true,
        ),
        (
            "removed",
            &[&["app.lan/in blue", "app.lan/ green"], &["app.lan/ green"]],
            false,
        ),
        (
            "removed where the wider one moves",
            &[&["app.lan/in blue", "app.lan/ green"], &["app.lan/ red"]],
            false,
        ),
        (
            "removed for good",
            &[
                &["app.lan/in blue", "app.lan/ green"],
                &["app.lan/in red", "app.lan/ green"],
                &["app.lan/ green"],
            ],
            false,
        ),
        (
            "its host removed",
            &[&["app.lan/ blue", "*/ green"], &["*/ green"]],
            false,
        ),
        (
            "removed beside a new one",
            &[
                &["app.lan/in blue", "app.lan/ green"],
                &["app.lan/ green", "app.lan/out red"],
            ],
            false,
        ),
    ];
    let (mut gate, mut all_wrong) = (None, Vec::new());
    let first = File::new();
    for (name, steps, stays) in table {
        let services = [Service::new(), Service::new(), Service::new()];
        let mut file = File::new();
        file.address = first.address;
        let routes = |step: &[&str]| -> String {
            let one = |text: &&str| {
                let (place, color) = text.split_once(' ').expect("a service");
                let at = ["blue", "green", "red"].iter().position(|c| *c == color);
                let access = if place.starts_with("b.") {
                    "\"nobody\""
                } else {
                    "\"users\""
                };
                route(place, &services[at.expect("a color")], access)
            };
            step.iter().map(one).collect()
        };
        file.routes = routes(steps[0]);
        let gate = gate.get_or_insert_with(|| file.gate());
        file.take(gate).await;
        let all = Stream::all(gate, &services[0], "/in/", &alice()).await;
        for step in &steps[1..] {
            file.routes = routes(step);
            file.take(gate).await;
        }
        all_wrong.extend(wrong(all, &services[0], stays, name).await);
    }
    assert!(all_wrong.is_empty(), "{all_wrong:#?}");
}

#[tokio::test]
async fn reloads_give_no_more_time_to_finish() {
    let (blue, green) = (Service::new(), Service::new());
    let mut file = File::new();
    file.drain = "1s";
    file.routes = route("app.lan/", &blue, "\"users\"") + &route("b.lan/", &green, "\"users\"");
    let mut gate = file.gate();
    let all = Stream::all(&gate, &blue, "/", &alice()).await;
    file.routes = route("app.lan/", &green, "\"users\"") + &route("b.lan/", &blue, "\"users\"");
    let begun = Instant::now();
    let cut = async {
        for stream in all {
            assert!(stream.ends().await);
        }
        begun.elapsed()
    };
    let reloads = async {
        loop {
            file.take(&mut gate).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let took = tokio::select! { took = cut => took, () = reloads => unreachable!() };
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn whoever_let_in_is_withdrawn_ends_at_a_former_service_too() {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut gate = None;
    let first = File::new();
    for basis in ["password", "session", "token", "link"] {
        for is_withdrawn in [false, true] {
            let (blue, green) = (Service::new(), Service::new());
            let mut file = File::new();
            file.address = first.address;
            file.routes = route("app.lan/", &blue, "\"users\"");
            let gate = gate.get_or_insert_with(|| file.gate());
            let (token, text) = Token::new("ci", 0, None);
            token_file::add(&gate.path("tokens.toml"), token).expect("a token");
            file.take(gate).await;
            let (id, secret) = gate.share(None, "/", HOUR);
            let line = match basis {
                "password" => alice(),
                "session" => {
                    let cookie = form_login(gate, "alice", "open sesame").await;
                    format!("Cookie: {}\r\n", cookie.expect("a session"))
                }
                "token" => format!("Loopgate-Token: {}\r\n", text.expose()),
                _ => opened(gate, &secret).await,
            };
            // A cookie is for those who come from this site, which these say.
            let all = Stream::all(gate, &blue, "/", &line).await;
            file.routes = route("app.lan/", &green, "\"anyone\"");
            file.take(gate).await;
            if is_withdrawn {
                match basis {
                    "password" => file.users = file.users.replace("alicesalt$2", "alicesalt$3"),
                    "session" => {
                        let logout = format!(
                            "POST /.loopgate/logout HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\n{line}\r\n"
                        );
                        gate.h1().await.ask(logout).await;
                    }
                    "link" => assert!(gate.unshare(&id)),
                    _ => {}
                }
            }
            if is_withdrawn || basis != "token" {
                token_file::revoke(&gate.path("tokens.toml"), "ci").expect("a token");
            }
            file.take(gate).await;
            let wrong = wrong(all, &blue, !is_withdrawn, basis).await;
            assert!(wrong.is_empty(), "{is_withdrawn} {wrong:?}");
            if basis == "token" && !is_withdrawn {
                token_file::revoke(&gate.path("tokens.toml"), "ci").expect("a token");
            }
        }
    }
}

#[tokio::test]
async fn what_waits_for_a_connection_is_not_sent_once_it_may_not_run() {
    for is_withdrawn in [false, true] {
        let (full, fillers) = full();
        let service = full.local_addr().unwrap().as_socket().unwrap();
        let mut file = File::new();
        file.routes = format!(
            "[limits]\nconnect = \"30s\"\n[[route]]\nhosts = [\"app.lan\"]\nupstream = \"{service}\"\naccess = \"users\"\n"
        );
        let mut gate = file.gate();
        let (mut one, mut two) = (gate.h1().await, H2Client::open(&gate).await);
        one.send(format!(
            "GET /1 HTTP/1.1\r\nHost: app.lan\r\n{}\r\n",
            alice()
        ))
        .await;
        let request = |method: &str, uri: &str| {
            let right = basic("alice", "open sesame");
            let request = http::Request::builder().method(method).uri(uri);
            request.header("authorization", right)
        };
        let get = request("GET", "https://app.lan/2").body(()).unwrap();
        let mut get = two.send_request(get, true).await;
        let tunnel = request("CONNECT", "https://app.lan/3")
            .header("sec-websocket-version", "13")
            .extension(h2::ext::Protocol::from_static("websocket"));
        let mut tunnel = two.send_request(tunnel.body(()).unwrap(), false).await;
        until("all three to dial", || gate.held().1 == 3).await;
        if is_withdrawn {
            file.users = users_without("alice");
        }
        file.take(&mut gate).await;
        // Now it accepts, and says who came with what.
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let back = std::net::TcpListener::from(full);
        std::thread::spawn(move || {
            for tcp in back.incoming().flatten() {
                let tell = tell.clone();
                std::thread::spawn(move || {
                    let mut got = [0; 4096];
                    while let Ok(n @ 1..) = std::io::Read::read(&mut &tcp, &mut got) {
                        tell.send(String::from_utf8_lossy(&got[..n]).into_owned())
                            .ok();
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        drop(std::io::Write::write_all(&mut &tcp, answer));
                    }
                });
            }
        });
        drop(fillers);
        let ends = (
            one.try_answer("GET").await.map_or(0, |a| a.status),
            get.answer().await.status().as_u16(),
            tunnel.answer().await.status().as_u16(),
        );
        if is_withdrawn {
            assert_eq!(ends, (0, 403, 403));
            assert!(told.try_recv().is_err(), "it was sent");
        } else {
            assert_eq!(ends, (200, 200, 502), "no WebSocket is spoken there");
            assert!(soon("a request", told.recv()).await.is_some());
        }
    }
}

#[tokio::test]
async fn connections_to_a_service_end_with_its_last_route() {
    let (goes, stays) = (H2Upstream::start(), H2Upstream::start());
    let last = Service::new();
    let mut file = File::new();
    file.drain = "1s";
    let keep = stays.route().replace("app.lan", "b.lan");
    file.routes = goes.route() + &keep;
    let mut gate = file.gate();
    let ask = async |gate: &Gate, host: &str| {
        let mut client = Client::tls(gate.address, Some(host), "http/1.1").await;
        let answer = client
            .ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        assert_eq!(answer.status, 200);
    };
    ask(&gate, "app.lan").await;
    ask(&gate, "b.lan").await;
    assert_eq!(gate.held().1, 2);
    file.routes = route("app.lan/", &last, "\"anyone\"") + &keep;
    file.take(&mut gate).await;
    until("the connection to be closed", || gate.held().1 == 1).await;
    ask(&gate, "b.lan").await;
    assert_eq!(
        (gate.held().1, stays.connections()),
        (1, 1),
        "the other one is used"
    );
}

#[tokio::test]
async fn in_clear_nothing_goes_on_where_tls_is_spoken_now() {
    let service = Service::new();
    let mut file = File::new();
    file.routes = route("app.lan/", &service, "\"anyone\"");
    file.tls = "none";
    let mut gate = file.gate();
    let mut idle = Client::tcp(file.address).await;
    assert_eq!(idle.get("/", "").await.status, 200);
    let mut running = Client::tcp(file.address).await;
    assert_eq!(running.get("/chat", SWITCH).await.status, 101);
    // Another reload does no harm.
    file.take(&mut gate).await;
    assert_eq!(idle.get("/", "").await.status, 200);
    file.tls = "local-ca";
    file.take(&mut gate).await;
    idle.closed().await;
    running.closed().await;
    // The other way round what is encrypted goes on.
    let mut safe = gate.h1().await;
    assert_eq!(safe.get("/chat", SWITCH).await.status, 101);
    file.tls = "none";
    file.take(&mut gate).await;
    safe.send("ping").await;
    safe.at_least(4).await;
}

fn users_without(name: &str) -> String {
    let all = USERS.split_inclusive('\n');
    all.filter(|line| line.split(':').next() != Some(name))
        .collect()
}

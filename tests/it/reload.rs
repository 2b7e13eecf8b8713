//! Another file while the gate runs: listeners that come and go, all or nothing, and nobody who is welcome notices.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loopgate::auth::token::Token;
use loopgate::auth::token_file;

use crate::support::client::End;
use crate::support::gate::{USERS, route};
use crate::support::h2_client::{Exchange, H2Client, rest};
use crate::support::*;

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A whole file: these addresses, and what else is said about the listener, the log and the logins.
struct File<'a> {
    addresses: &'a [SocketAddr],
    listener: &'a str,
    log: &'a str,
    auth: &'a str,
    access: &'a str,
}

impl<'a> File<'a> {
    fn at(addresses: &'a [SocketAddr]) -> Self {
        Self {
            addresses,
            listener: "",
            log: "access = \"access.log\"\nformat = \"json\"",
            auth: "lockout = { failures = 250, window = \"5m\", ban = \"15m\" }",
            access: "\"anyone\"",
        }
    }

    fn text(&self, upstream: &Upstream) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(|a| format!("\"{a}\"")).collect();
        let (listener, log, auth) = (self.listener, self.log, self.auth);
        format!(
            "[server]\nworkers = 2\ndrain = \"30s\"\n[log]\n{log}\n[auth]\nusers_file = \"users.htpasswd\"\n{auth}\n\
             [[listener]]\naddress = [{}]\nnetworks = {{ allow = [\"loopback\"] }}\n{listener}\n{}",
            addresses.join(", "),
            route("app.lan", "/", upstream, self.access),
        )
    }
}

async fn ask(address: SocketAddr) -> u16 {
    let mut client = Client::tls(address, Some("app.lan"), "http/1.1").await;
    client.get("/", "").await.status
}

/// As [`ask`], while a socket of the same port may still be closing: a handshake with that one is reset, which
/// `docs/security.md` says.
async fn ask_again(address: SocketAddr) -> u16 {
    let answered = async {
        loop {
            if let Ok(mut client) = Client::try_tls(address, Some("app.lan"), "http/1.1").await {
                return client.get("/", "").await.status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the socket that stays", answered).await
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

#[tokio::test]
async fn addresses_come_and_go() {
    let upstream = Upstream::ok();
    let (first, second) = (free("127.0.0.1"), free("127.0.0.1"));
    let mut gate = Gate::written(&File::at(&[first]).text(&upstream));
    assert!(is_refused(second));

    gate.reload(&File::at(&[first, second]).text(&upstream))
        .await
        .unwrap();
    assert_eq!(gate.addresses(), [first, second]);
    assert_eq!((ask(first).await, ask(second).await), (200, 200));

    gate.reload(&File::at(&[second]).text(&upstream))
        .await
        .unwrap();
    until("the first address to close", || is_refused(first)).await;
    assert_eq!(ask(second).await, 200);

    // And back: nothing of it is left behind.
    gate.reload(&File::at(&[first]).text(&upstream))
        .await
        .unwrap();
    until("the second address to close", || is_refused(second)).await;
    assert_eq!(ask(first).await, 200);
}

/// HTTP/2 asks by a PING whether the client has heard that the connection ends. Who does not answer it has heard it after ten seconds.
#[tokio::test]
async fn whoever_does_not_answer_begins_nothing_by_a_removed_address() {
    let upstream = Upstream::ok();
    let (first, second) = (free("127.0.0.1"), free("127.0.0.1"));
    let mut gate = Gate::written(&File::at(&[first, second]).text(&upstream));
    let client = Client::tls(first, Some("app.lan"), "h2").await;
    let mut h2 = H2::open(client).await;
    h2.answers_pings = false;
    assert_eq!(h2.get(1, "/").await.status(), 200);
    gate.reload(&File::at(&[second]).text(&upstream))
        .await
        .unwrap();
    let begun = Instant::now();
    let told = soon("a refusal", async {
        for stream in (3..).step_by(2) {
            match h2.get(stream, "/").await {
                Outcome::Answer(200, _) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => return other,
            }
        }
        unreachable!("streams without end")
    });
    assert_eq!(told.await.status(), 503, "as long as it drains");
    assert!(begun.elapsed() > Duration::from_secs(9), "he had time");
}

#[tokio::test]
async fn an_address_in_use_changes_nothing() {
    let upstream = Upstream::ok();
    let (first, second) = (free("127.0.0.1"), free("127.0.0.1"));
    let mut gate = Gate::written(&File::at(&[first]).text(&upstream));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|at| (taken, at)).unwrap();
    let mut other = File::at(&[]);
    let addresses = [second, taken.1];
    (other.addresses, other.access) = (&addresses, "\"nobody\"");

    // The upstream's own address is as good as any that somebody else has.
    let error = gate.reload(&other.text(&upstream)).await.unwrap_err();
    assert!(
        error.contains("cannot listen") || error.contains("in use"),
        "{error}"
    );
    assert_eq!(gate.addresses(), [first]);
    assert_eq!(ask(first).await, 200);
    assert!(is_refused(second), "not even the one that was free is open");
}

#[tokio::test]
async fn narrower_and_wider_on_the_same_port() {
    let go = Signal::default();
    let told = go.clone();
    let upstream = Upstream::whole(move |request, peer| {
        if request.target == "/slow" {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            told.wait();
            peer.say("half");
        } else {
            peer.say(WHOLE);
        }
        After::Keep
    });
    let narrow = free("127.0.0.1");
    let wide = SocketAddr::from(([0, 0, 0, 0], narrow.port()));
    let other = SocketAddr::from(([127, 0, 0, 2], narrow.port()));
    let mut gate = Gate::written(&File::at(&[wide]).text(&upstream));
    assert_eq!((ask(narrow).await, ask(other).await), (200, 200));

    // The address that both have goes on; what runs there does not end, and may ask again on the same connection.
    let mut running = Client::tls(narrow, Some("app.lan"), "http/1.1").await;
    running
        .send("GET /slow HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    running.at_least(40).await;
    gate.reload(&File::at(&[narrow]).text(&upstream))
        .await
        .unwrap();
    until("the other address to close", || is_refused(other)).await;
    assert_eq!(ask_again(narrow).await, 200);
    go.set();
    assert_eq!(running.answer().await.body, b"halfhalf");
    assert_eq!(running.get("/", "").await.status, 200);

    gate.reload(&File::at(&[wide]).text(&upstream))
        .await
        .unwrap();
    until("the other address to open", || !is_refused(other)).await;
    assert_eq!(
        (ask_again(narrow).await, ask_again(other).await),
        (200, 200)
    );
}

#[tokio::test]
async fn what_runs_by_a_removed_address_finishes_and_nothing_new_begins() {
    let Held {
        upstream,
        go,
        begun,
    } = Held::new();
    let (first, second) = (free("127.0.0.1"), free("127.0.0.1"));
    let mut gate = Gate::written(&File::at(&[first]).text(&upstream));
    let mut running = Client::tls(first, Some("app.lan"), "http/1.1").await;
    let mut idle = Client::tls(first, Some("app.lan"), "http/1.1").await;
    assert_eq!(idle.get("/", "").await.status, 200);
    running
        .send("GET /slow HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    tokio::task::spawn_blocking(move || begun.wait())
        .await
        .unwrap();

    gate.reload(&File::at(&[second]).text(&upstream))
        .await
        .unwrap();
    assert_eq!(idle.closed().await, End::Clean);
    until("the first address to close", || is_refused(first)).await;
    go.set();
    let answer = running.answer().await;
    assert_eq!(
        (answer.status, answer.all("connection")),
        (200, vec!["close"])
    );
    assert_eq!(running.closed().await, End::Clean);
    assert_eq!(ask(second).await, 200);
}

/// A service that answers `/slow` once it is told to, and says when it has been asked.
struct Held {
    upstream: Upstream,
    go: Signal,
    begun: Signal,
}

impl Held {
    fn new() -> Self {
        let (go, begun) = (Signal::default(), Signal::default());
        let (told, begins) = (go.clone(), begun.clone());
        let upstream = Upstream::whole(move |request, peer| {
            if request.target == "/slow" {
                begins.set();
                told.wait();
            }
            peer.say(WHOLE);
            After::Keep
        });
        Self {
            upstream,
            go,
            begun,
        }
    }
}

/// A request of alice's for `/slow` that its service has begun with.
enum Slow {
    H1(Client),
    H2(Exchange),
}

impl Slow {
    async fn begin(gate: &Gate, is_h2: bool, service: &Held) -> Self {
        let alice = basic("alice", "open sesame");
        let running = if is_h2 {
            let mut client = H2Client::open(gate).await;
            let request = http::Request::get("https://app.lan/slow").header("authorization", alice);
            let exchange = client.send_request(request.body(()).unwrap(), true).await;
            Self::H2(exchange)
        } else {
            let mut client = Client::tls(gate.address, Some("app.lan"), "http/1.1").await;
            let text =
                format!("GET /slow HTTP/1.1\r\nHost: app.lan\r\nAuthorization: {alice}\r\n\r\n");
            client.send(&text).await;
            Self::H1(client)
        };
        let begun = service.begun.clone();
        let wait = tokio::task::spawn_blocking(move || begun.wait());
        wait.await.unwrap();
        running
    }

    /// Its answer is the whole one.
    async fn is_whole(&mut self) -> bool {
        let (status, body) = match self {
            Self::H1(client) => {
                let answer = client.answer().await;
                (answer.status, answer.body)
            }
            Self::H2(exchange) => {
                let mut answer = exchange.answer().await;
                let body = rest(answer.body_mut()).await.0;
                (answer.status().as_u16(), body)
            }
        };
        (status, &*body) == (200, &b"ok"[..])
    }

    /// It ends without the service's answer.
    async fn is_cut(&mut self) -> bool {
        match self {
            Self::H1(client) => client.closed().await == End::Cut,
            Self::H2(exchange) => exchange.answer().await.status() == 403,
        }
    }
}

fn green() -> Upstream {
    Upstream::whole(|_, peer| {
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngreen");
        After::Keep
    })
}

#[tokio::test]
async fn what_a_service_answers_is_finished_when_its_route_leads_to_another_one() {
    let green = green();
    let other = Upstream::ok();
    let addresses = [free("127.0.0.1")];
    let file = File::at(&addresses);
    let mut closed = File::at(&addresses);
    closed.access = "\"nobody\"";
    let mut gate = Gate::written(&file.text(&green));
    for is_h2 in [false, true] {
        // Nothing new is led there, and what runs is finished: after another reload too, and where the new place is a narrower one.
        let narrow = file.text(&other) + &route("app.lan", "/slow", &green, "\"anyone\"");
        let switched = file.text(&green);
        for (new, again) in [
            (&switched, None),
            (&switched, Some(file.text(&other))),
            (&narrow, None),
        ] {
            let blue = Held::new();
            gate.reload(&file.text(&blue.upstream)).await.unwrap();
            let mut running = Slow::begin(&gate, is_h2, &blue).await;
            gate.reload(new).await.unwrap();
            let mut client = Client::tls(addresses[0], Some("app.lan"), "http/1.1").await;
            assert_eq!(client.get("/slow", "").await.body, b"green");
            if let Some(again) = again {
                gate.reload(&again).await.unwrap();
                assert_eq!(client.get("/slow", "").await.body, b"ok");
            }
            blue.go.set();
            assert!(running.is_whole().await, "{is_h2} {new}");
        }

        // A route that refuses it cuts it at once.
        let blue = Held::new();
        gate.reload(&file.text(&blue.upstream)).await.unwrap();
        let mut running = Slow::begin(&gate, is_h2, &blue).await;
        gate.reload(&closed.text(&green)).await.unwrap();
        assert!(running.is_cut().await, "{is_h2}: nobody may");
        blue.go.set();
    }
}

#[tokio::test]
async fn what_runs_at_a_service_that_was_replaced_ends_with_what_let_it_in() {
    let green = green();
    let addresses = [free("127.0.0.1")];
    let mut file = File::at(&addresses);
    let open = file.text(&green);
    file.access = "\"users\"";
    let mut gate = Gate::written(&open);
    gate.machine.names.push("app.lan".into());
    let everybody = std::fs::read_to_string(gate.path("users.htpasswd")).unwrap();
    let others: String = everybody
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("alice:"))
        .collect();
    for is_h2 in [false, true] {
        // The new route asks nobody who he is. Somebody who is removed later is out all the same.
        for is_removed in [false, true] {
            let blue = Held::new();
            gate.reload(&file.text(&blue.upstream)).await.unwrap();
            let mut running = Slow::begin(&gate, is_h2, &blue).await;
            gate.reload(&open).await.unwrap();
            if is_removed {
                std::fs::write(gate.path("users.htpasswd"), &others).unwrap();
            }
            gate.reload(&open).await.unwrap();
            if is_removed {
                assert!(running.is_cut().await, "{is_h2}: who is removed");
            }
            blue.go.set();
            assert!(is_removed || running.is_whole().await, "{is_h2}: who stays");
            std::fs::write(gate.path("users.htpasswd"), &everybody).unwrap();
        }

        // The route is removed, and a wider one led elsewhere before: by path, and by host.
        let unnamed = open.replace("hosts = [\"app.lan\"]\n", "");
        for (wide, path) in [(&open, "/slow"), (&unnamed, "/")] {
            let blue = Held::new();
            let narrow = route("app.lan", path, &blue.upstream, "\"users\"");
            gate.reload(&(wide.clone() + &narrow)).await.unwrap();
            let mut running = Slow::begin(&gate, is_h2, &blue).await;
            gate.reload(wide).await.unwrap();
            assert!(running.is_cut().await, "{is_h2}: {path} is removed");
            blue.go.set();
        }

        // The service can be reached around the gate, which is found out while it finishes.
        let blue = Held::new();
        gate.reload(&file.text(&blue.upstream)).await.unwrap();
        let mut running = Slow::begin(&gate, is_h2, &blue).await;
        let service = gate.service(0);
        gate.reload(&open).await.unwrap();
        service.note_exposed(true);
        gate.reload(&open).await.unwrap();
        assert!(running.is_cut().await, "{is_h2}: it is exposed");
        blue.go.set();
    }
}

#[tokio::test]
async fn a_listener_is_open_only_where_it_may_be() {
    let upstream = Upstream::ok();
    let address = free("127.0.0.1");
    let addresses = [address];
    let mut file = File::at(&addresses);
    file.listener = "only_on = [\"192.168.77.0/24\", \"fd77::/64\"]";
    let text = file.text(&upstream);

    // Elsewhere it runs and waits.
    let mut gate = Gate::written(&text);
    assert!(gate.addresses().is_empty() && is_refused(address));
    for (at, open) in [
        ("192.168.77.5", true),
        ("10.0.0.5", false),
        ("fd77::5", true),
        ("127.0.0.1", false),
    ] {
        gate.machine.addresses = vec![at.parse().unwrap()];
        gate.reload(&text).await.unwrap();
        if open {
            assert_eq!(ask(address).await, 200, "{at}");
        } else {
            until("the listener to close", || is_refused(address)).await;
        }
    }
}

#[tokio::test]
async fn leaving_the_place_cuts_what_runs() {
    let upstream = Upstream::whole(|_, peer| {
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        peer.wait_for_end();
        After::Close
    });
    let addresses = [free("127.0.0.1")];
    let mut file = File::at(&addresses);
    file.listener = "only_on = [\"192.168.77.0/24\"]";
    let text = file.text(&upstream);
    let mut gate = Gate::written(&text);
    gate.machine.addresses = vec!["192.168.77.5".parse().unwrap()];
    gate.reload(&text).await.unwrap();
    let mut running = Client::tls(addresses[0], Some("app.lan"), "http/1.1").await;
    running
        .send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    running.at_least(40).await;
    gate.machine.addresses = vec!["10.0.0.5".parse().unwrap()];
    gate.reload(&text).await.unwrap();
    assert_eq!(running.closed().await, End::Cut);
}

#[tokio::test]
async fn a_listener_and_the_admin_address_do_not_exchange_ports_in_one_reload() {
    let upstream = Upstream::ok();
    let [one, two] = [free("127.0.0.1"), free("127.0.0.1")];
    let text = |listener, admin: SocketAddr| {
        let file = File::at(&[listener]).text(&upstream);
        format!("{file}\n[admin]\naddress = \"{admin}\"\n")
    };
    let mut gate = Gate::written(&text(one, two));
    let third = free("127.0.0.1");
    for (listener, admin) in [(two, one), (two, third), (third, one)] {
        let why = gate.reload(&text(listener, admin)).await.unwrap_err();
        assert!(why.contains("this gate itself"), "{why}");
        assert_eq!(gate.addresses(), [one]);
        assert!(
            std::net::TcpStream::connect(third).is_err(),
            "nothing is left"
        );
        let mut client = Client::tls(one, Some("app.lan"), "http/1.1").await;
        assert_eq!(client.get("/", "").await.status, 200);
    }
    // In two steps it goes.
    for (listener, admin) in [(third, two), (third, one), (two, one)] {
        gate.reload(&text(listener, admin)).await.unwrap();
        assert_eq!(gate.addresses(), [listener]);
    }
    let mut client = Client::tls(two, Some("app.lan"), "http/1.1").await;
    assert_eq!(client.get("/", "").await.status, 200);
    // Somebody else's is told apart, with his process.
    let mut other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reload::somebody_else_who_listens", "--ignored"])
        .env(LISTEN, third.to_string())
        .spawn()
        .unwrap();
    until("the other program", || {
        std::net::TcpStream::connect(third).is_ok()
    })
    .await;
    let why = gate.reload(&text(third, one)).await.unwrap_err();
    let admin = gate.reload(&text(two, third)).await.unwrap_err();
    other.kill().unwrap();
    other.wait().unwrap();
    // The same program as this one, by the name that the kernel has for it.
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let named = format!("another program: {} (pid {})", name.trim_end(), other.id());
    let is_told = |why: &str| why.replace('\n', " ").contains(&named);
    assert!(is_told(&why), "{why}");
    assert!(is_told(&admin), "{admin}");
}

#[tokio::test]
async fn an_address_that_is_just_being_closed_is_waited_for() {
    let upstream = Upstream::ok();
    let [one, two, three] = [(); 3].map(|()| free("127.0.0.1"));
    let text = |listener, admin: Option<SocketAddr>| {
        let admin = admin.map(|admin| format!("\n[admin]\naddress = \"{admin}\"\n"));
        File::at(&[listener]).text(&upstream) + &admin.unwrap_or_default()
    };
    let mut gate = Gate::written(&text(one, None));
    // The threads that close are kept from their work.
    let is_over = Arc::new(AtomicBool::new(false));
    let busy = [(); 4].map(|()| {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {})
    });
    let mut refused = Vec::new();
    let steps = [
        (two, None),
        (two, Some(one)),
        (two, None),
        (one, None),
        (three, Some(two)),
        (one, Some(two)),
        (one, Some(three)),
        (one, None),
    ];
    for (listener, admin) in (0..25).flat_map(|_| steps) {
        if let Err(why) = gate.reload(&text(listener, admin)).await {
            refused.push(why);
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in busy {
        thread.join().unwrap();
    }
    assert!(
        refused.is_empty(),
        "{} refused: {}",
        refused.len(),
        refused[0]
    );
    assert_eq!(ask_again(one).await, 200);
}

/// Where [`somebody_else_who_listens`] does.
const LISTEN: &str = "LISTEN_AT";

#[test]
#[ignore = "a program of its own, begun and ended by the test above"]
fn somebody_else_who_listens() {
    let Ok(at) = std::env::var(LISTEN) else {
        return;
    };
    let _held = TcpListener::bind(at).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test]
async fn log_lockout_and_sessions_are_taken_too() {
    let upstream = Upstream::ok();
    let addresses = [free("127.0.0.1")];
    let mut file = File::at(&addresses);
    file.access = "\"users\"";
    let mut gate = Gate::written(&file.text(&upstream));
    let mut client = Client::tls(addresses[0], Some("app.lan"), "http/1.1").await;
    let right = format!("Authorization: {}\r\n", basic("alice", "open sesame"));
    let wrong = format!("Authorization: {}\r\n", basic("bob", "wrong"));
    let answer = client
        .get("/", &format!("{right}Sec-Fetch-Mode: navigate\r\n"))
        .await;
    let cookie = answer.all("set-cookie")[0]
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let cookie = format!("Cookie: {cookie}\r\n");
    assert_eq!(client.get("/", &cookie).await.status, 200);
    gate.log(2).await;

    file.log = "access = \"other.log\"\nformat = \"text\"";
    file.auth = "lockout = { failures = 1, window = \"5m\", ban = \"15m\" }\nsession = { lifetime = \"1ms\", idle = \"1ms\" }";
    gate.reload(&file.text(&upstream)).await.unwrap();
    // Until the writer looks, lines go on into the file before.
    gate.log(2).await;
    assert_eq!(
        client.get("/", &cookie).await.status,
        401,
        "the session is too old now"
    );
    assert_eq!(client.get("/", &wrong).await.status, 401);
    assert_eq!(
        client.get("/", &wrong).await.status,
        429,
        "one failure is enough now"
    );
    until("three lines in the other file", || lines(&gate) == 3).await;

    file.log = "access = \"no/such/directory.log\"";
    let error = gate.reload(&file.text(&upstream)).await.unwrap_err();
    assert!(error.contains("cannot open the access log"), "{error}");
    client.get("/", &wrong).await;
    until("a fourth one", || lines(&gate) == 4).await;
}

fn lines(gate: &Gate) -> usize {
    let text = std::fs::read_to_string(gate.path("other.log")).unwrap_or_default();
    assert!(!text.contains('{'), "it is text now: {text}");
    text.lines().count()
}

/// Clients that ask by new connections and by old ones while the addresses change under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_because_of_a_reload() {
    let upstream = Upstream::ok();
    let (stays, extra) = (free("127.0.0.1"), free("127.0.0.1"));
    let mut gate = Gate::written(&File::at(&[stays]).text(&upstream));
    let (over, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let ask_all = |fresh: bool| {
        let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut client = Client::tls(stays, Some("app.lan"), "http/1.1").await;
            while !over.load(Ordering::Relaxed) {
                if fresh {
                    client = Client::tls(stays, Some("app.lan"), "http/1.1").await;
                }
                assert_eq!(client.get("/", "").await.status, 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let clients: Vec<_> = [true, true, false, false].map(ask_all).into();
    for round in 0..50 {
        let both = [stays, extra];
        let addresses = if round % 2 == 0 {
            &both[..]
        } else {
            &both[..1]
        };
        let before = asked.load(Ordering::Relaxed);
        gate.reload(&File::at(addresses).text(&upstream))
            .await
            .unwrap();
        until("requests between two reloads", || {
            asked.load(Ordering::Relaxed) > before + 2
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request fails");
    }
}

/// The head of a file with one address, a route for users, and whatever else.
fn people_file(address: SocketAddr, upstream: &Upstream, more: &str) -> String {
    let addresses = [address];
    let mut file = File::at(&addresses);
    file.access = "{ users = [\"alice\", \"bob\", \"token:ci\", \"token:deploy\"] }";
    file.auth = "tokens_file = \"tokens.toml\"\nlockout = { failures = 250, window = \"5m\", ban = \"15m\" }";
    format!("{}{more}", file.text(upstream))
}

fn users(gate: &Gate, lines: impl Iterator<Item = String>) {
    let text: String = lines.map(|line| line + "\n").collect();
    std::fs::write(gate.path("users.htpasswd"), text).expect("a users file");
}

/// A gate with two tokens beside its users, and their texts.
fn with_tokens(address: SocketAddr, upstream: &Upstream) -> (Gate, [String; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let texts = ["ci", "deploy"].map(|name| {
        let (token, text) = Token::new(name, 0, None);
        token_file::add(&dir.path().join("tokens.toml"), token).unwrap();
        format!("Loopgate-Token: {}\r\n", text.expose())
    });
    let file = std::fs::read(dir.path().join("tokens.toml")).unwrap();
    let gate = Gate::prepared(
        &people_file(address, upstream, ""),
        &[("tokens.toml", &file)],
    );
    (gate, texts)
}

/// The mistakes that keep a file from being taken: none of them keeps anybody in.
const BROKEN: [&str; 4] = [
    "[[route]\nthis is no TOML",
    "nonsense = 1\n",
    "[[route]]\nhosts = [\"x.lan\"]\nupstream = \"192.0.2.1:80\"\n",
    "[[test]]\nfrom = \"127.0.0.1\"\nuser = \"bob\"\nrequest = \"GET https://app.lan/\"\nexpect = \"allowed\"\n",
];

#[tokio::test]
async fn what_is_withdrawn_does_not_wait_for_a_file_without_mistakes() {
    let right =
        |user: &str, password: &str| format!("Authorization: {}\r\n", basic(user, password));
    let (alice, bob) = (right("alice", "open sesame"), right("bob", "brick wall"));
    for broken in BROKEN {
        let upstream = Upstream::whole(|request, peer| {
            if !request.all("upgrade").is_empty() {
                peer.say("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
                return After::Echo;
            }
            peer.say(WHOLE);
            After::Keep
        });
        let address = free("127.0.0.1");
        let (mut gate, [ci, deploy]) = with_tokens(address, &upstream);
        let open = async || Client::tls(address, Some("app.lan"), "http/1.1").await;
        let (mut one, mut two) = (open().await, open().await);
        for lines in [&alice, &bob, &ci, &deploy] {
            assert_eq!(one.get("/", lines).await.status, 200, "{lines}");
        }
        let switch = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        let mut tunnel = open().await;
        assert_eq!(tunnel.get("/", &format!("{bob}{switch}")).await.status, 101);
        let mut other = open().await;
        assert_eq!(
            other.get("/", &format!("{deploy}{switch}")).await.status,
            101
        );

        // Bob goes, carol comes, and one of two tokens is revoked.
        users(
            &gate,
            USERS
                .lines()
                .filter(|l| !l.starts_with("bob:"))
                .map(str::to_owned),
        );
        token_file::revoke(&gate.path("tokens.toml"), "ci").unwrap();
        let text = people_file(address, &upstream, broken);
        gate.reload(&text).await.unwrap_err();
        tunnel.closed().await;
        for (lines, status) in [(&alice, 200), (&bob, 401), (&ci, 401), (&deploy, 200)] {
            assert_eq!(two.get("/", lines).await.status, status, "{lines} {broken}");
        }
        other.send("still here").await;
        other.at_least(10).await;
        let host = two.ask("GET / HTTP/1.1\r\nHost: x.lan\r\n\r\n").await;
        assert_eq!(host.status, 421, "nothing else of the file is taken");

        // A broken line may be anybody's: that file counts as it was, the other one does not.
        users(&gate, ["alice:plain".to_owned()].into_iter());
        token_file::revoke(&gate.path("tokens.toml"), "deploy").unwrap();
        let why = gate.reload(&text).await.unwrap_err();
        assert!(
            !why.contains("there is no user"),
            "who is missing in a file that cannot be read: {why}"
        );
        other.closed().await;
        let mut three = open().await;
        for (lines, status) in [(&alice, 200), (&bob, 401), (&deploy, 401)] {
            assert_eq!(
                three.get("/", lines).await.status,
                status,
                "{lines} {broken}"
            );
        }
        // And a file that is gone locks nobody out.
        std::fs::remove_file(gate.path("users.htpasswd")).unwrap();
        gate.reload(&text).await.unwrap_err();
        assert_eq!(three.get("/", &alice).await.status, 200);
        // Another password.
        users(
            &gate,
            USERS.lines().map(|l| match l.split_once(':') {
                Some(("alice", _)) => l.replace("alicesalt$2", "alicesalt$3"),
                _ => l.to_owned(),
            }),
        );
        // The test in the file holds again when bob is back.
        drop(gate.reload(&text).await);
        assert_eq!(three.get("/", &alice).await.status, 401);
        assert_eq!(
            three.get("/", &bob).await.status,
            200,
            "whoever is in the file again is in"
        );
        users(&gate, USERS.lines().map(str::to_owned));
        gate.reload(&people_file(address, &upstream, ""))
            .await
            .unwrap();
        assert_eq!(three.get("/", &alice).await.status, 200);
    }
}

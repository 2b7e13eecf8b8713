//! The gate as the program has it behind the TLS handshake, in this thread, on a pair of sockets, with a clock that jumps to the
//! next deadline whenever nobody has anything to do: an input is over in no time, however long it makes somebody wait.

use std::cell::OnceCell;
use std::os::unix::net::UnixListener as Socket;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use loopgate::flow::{Worker, trial};
use loopgate::net::{Machine, Stream};
use loopgate::plan::{Kept, compile};
use loopgate::serve::trial as serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::service::{self, Conversation, Script};

/// `app.lan` passes on what it gets, `own.lan` gives the service its own host, `rules.lan` has rules by path.
const TEXT: &str = r#"
[[listener]]
address = "127.0.0.1:8443"
networks = { allow = ["loopback"] }
tls = { from = "local-ca" }
[log]
access = "off"
[auth]
users_file = "users"
[[route]]
hosts = ["app.lan", "other.lan"]
upstream = "unix:SOCKET"
access = "anyone"
[[route]]
hosts = ["own.lan"]
upstream = "unix:SOCKET"
access = "anyone"
host_header = "upstream"
[[route]]
hosts = ["rules.lan"]
upstream = "unix:SOCKET"
access = "anyone"
[[route]]
hosts = ["rules.lan"]
path = "/admin"
upstream = "unix:SOCKET"
access = "nobody"
"#;

/// A user whose name nobody guesses: a password that is to be hashed would take real time.
const USERS: &str = "kX0vJq3ZtR8w:$5$alicesalt$2r0gqZaXuJIaknOSFxOWyiTHeyQGDC0/5PRv8A272a2\n";

pub struct World {
    pub worker: Rc<Worker>,
    runtime: LocalRuntime,
    socket: Socket,
}

thread_local! {
    static WORLD: OnceCell<Rc<World>> = const { OnceCell::new() };
}

/// The plan and the service's socket, made once.
pub fn world() -> Rc<World> {
    WORLD.with(|cell| Rc::clone(cell.get_or_init(|| Rc::new(begin()))))
}

fn begin() -> World {
    let dir = std::env::temp_dir().join(format!("loopgate-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let private = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    };
    private(&dir, 0o700).expect("its mode");
    let (users, path) = (dir.join("users"), dir.join("app.sock"));
    std::fs::write(&users, USERS).expect("a users file");
    private(&users, 0o600).expect("its mode");
    let _ = std::fs::remove_file(&path);
    let socket = Socket::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("its mode");
    let text = TEXT.replace("SOCKET", &path.display().to_string());
    let raw = match loopgate::config::from_text("fuzz", &text) {
        Ok(loaded) => loaded.raw,
        Err(report) => panic!("{}", report.render(false, 120)),
    };
    let kept = Kept::new(dir.join("state"));
    let machine = Machine {
        names: vec!["localhost".into()],
        addresses: vec![[127, 0, 0, 1].into()],
        ..Machine::default()
    };
    let (plan, _) = compile(&raw, &dir, &machine, &kept, None, None).expect("a plan");
    // The authority is in memory by now.
    let _ = std::fs::remove_dir_all(dir.join("state"));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .expect("a runtime");
    World {
        worker: Worker::new(trial::shared(plan).expect("threads")),
        runtime,
        socket,
    }
}

impl World {
    /// The name of the session cookie.
    pub fn cookie(&self) -> String {
        self.worker.shared.live.current().cookie.as_str().to_owned()
    }
}

/// What came of the bytes of one client.
#[derive(Debug)]
pub struct Outcome {
    pub conversations: Vec<Conversation>,
    /// What the client got.
    pub answers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// Sends `pieces` one after the other, each when the gate has done all that it can with those before it.
pub fn converse(
    protocol: Protocol,
    sni: Option<&str>,
    pieces: &[&[u8]],
    script: Script,
) -> Outcome {
    let world = world();
    let (seen, answers) = world.runtime.block_on(async {
        let (seen, service) = service::open(&world.socket, script);
        let (mut client, server) = UnixStream::pair().expect("two sockets");
        let worker = &world.worker;
        let conn = trial::conn(worker, sni);
        let stream = Stream::Unix(server);
        let serving = match protocol {
            Protocol::Http1 => {
                tokio::task::spawn_local(serve::http1(conn, stream, Rc::clone(worker)))
            }
            Protocol::Http2 => {
                tokio::task::spawn_local(serve::http2(conn, stream, Rc::clone(worker)))
            }
        };
        let mut answers = Vec::new();
        for piece in pieces {
            // A gate that has hung up is no mistake.
            let _ = client.write_all(piece).await;
            if pieces.len() > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // The gate ends every connection on which nothing comes any more.
        let _ = client.read_to_end(&mut answers).await;
        drop(client);
        serving.await.expect("a gate that does not panic");
        // Whatever still waits comes to its deadline, and what idles is closed: the next input begins anew.
        tokio::time::sleep(LATER).await;
        worker.sweep();
        tokio::time::sleep(Duration::from_millis(1)).await;
        service.abort();
        (seen, answers)
    });
    let conversations = seen.take();
    Outcome {
        conversations,
        answers,
    }
}

/// Longer than every deadline of the configuration.
const LATER: Duration = Duration::from_secs(3600);

/// Cuts `input` into pieces of `n` bytes; `b'0'` and 0 stand for all at once. At most 64 pieces.
pub fn cut(n: u8, input: &[u8]) -> Vec<&[u8]> {
    let n = match n {
        0 | b'0' => input.len(),
        n => usize::from(n).max(input.len().div_ceil(64)),
    };
    input.chunks(n.max(1)).collect()
}

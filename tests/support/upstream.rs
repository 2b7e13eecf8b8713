//! A service on 127.0.0.1 that records every byte, reads it with the oracle, and answers by script.

use std::io::{Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::DEADLINE;
use super::message::{Read, Request, head_of_request, request};

/// A place of 127.0.0.1 where nobody listens and nobody can: a port that was only free a moment ago may be given to another test.
pub fn hold(port: u16) -> std::io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    Ok(socket)
}

/// An address that refuses every connection, as long as this process lives.
pub fn nobody() -> SocketAddr {
    static HELD: OnceLock<socket2::Socket> = OnceLock::new();
    let held = HELD.get_or_init(|| hold(0).expect("a socket"));
    let bound = held.local_addr().expect("an address");
    bound.as_socket().expect("an address of the internet")
}

/// An address of loopback that nobody uses; below the ports that clients are given, who could be there before us.
pub fn free(host: &str) -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let begin = std::process::id() as usize * 61;
    (0..10_000)
        .map(|_| 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000)
        .filter_map(|port| TcpListener::bind((host, u16::try_from(port).ok()?)).ok())
        .find_map(|found| found.local_addr().ok())
        .expect("a free port")
}

/// What follows an answer.
pub enum After {
    /// The connection reads on.
    Keep,
    /// It ends.
    Close,
    /// It ends with a reset.
    Reset,
    /// It is a tunnel from now on: bytes come back as they are.
    Echo,
    /// (At a head:) the body is read and the whole request handed in.
    Body,
}

/// When a script is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// The head of a request is there.
    Head,
    /// All of it is.
    Whole,
}

type Script = dyn Fn(At, &Request, &mut Peer<'_>) -> After + Send + Sync;

/// One connection, from a script's view.
pub struct Peer<'a> {
    pub stream: &'a TcpStream,
    /// Which connection of this upstream it is, from 0.
    pub number: usize,
    /// Requests that it carried before this one.
    pub before: usize,
    /// What came behind the head already.
    pub rest: Vec<u8>,
}

impl Peer<'_> {
    /// Writes at once; a gate that has gone is no mistake of the script.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads `n` bytes behind the head and throws them away; says how many came.
    pub fn swallow(&mut self, n: usize) -> usize {
        let (mut came, mut junk) = (self.rest.len(), vec![0; 64 << 10]);
        while came < n {
            match self.stream.read(&mut junk) {
                Ok(0) | Err(_) => return came,
                Ok(more) => came += more,
            }
        }
        came
    }

    /// Waits until the gate has ended this connection; what it still sends is thrown away.
    pub fn wait_for_end(&mut self) {
        let mut junk = [0; 16 << 10];
        while matches!(self.stream.read(&mut junk), Ok(n) if n > 0) {}
    }
}

/// What one connection has carried.
#[derive(Clone, Default)]
pub struct Conversation {
    pub requests: Vec<Request>,
    /// Bytes of a request that is not whole.
    pub unfinished: Vec<u8>,
    /// What the oracle could not read in one way only.
    pub bad: Option<String>,
    pub closed: bool,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let requests: Vec<String> = self.requests.iter().map(Request::shown).collect();
        let (unfinished, bad, closed) = (self.unfinished.len(), &self.bad, self.closed);
        write!(
            f,
            "({requests:?}, {unfinished} bytes more, {bad:?}, closed: {closed})"
        )
    }
}

#[derive(Default)]
struct Seen {
    list: Mutex<Vec<Conversation>>,
    changed: Condvar,
    over: AtomicBool,
}

/// The recording upstream.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

impl Upstream {
    /// Gives the same bytes for every request.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::whole(move |_, peer| {
            peer.say(&bytes);
            After::Keep
        })
    }

    /// `200` with the body `ok`.
    pub fn ok() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    /// Asks the script once a request is there whole.
    pub fn whole(
        script: impl Fn(&Request, &mut Peer<'_>) -> After + Send + Sync + 'static,
    ) -> Self {
        Self::scripted(move |at, request, peer| match at {
            At::Head => After::Body,
            At::Whole => script(request, peer),
        })
    }

    /// Asks the script at the head and at the end of every request.
    pub fn scripted(
        script: impl Fn(At, &Request, &mut Peer<'_>) -> After + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, script): (Arc<Seen>, Arc<Script>) = (Arc::default(), Arc::new(script));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, script) = (Arc::clone(&shared), Arc::clone(&script));
                thread::spawn(move || converse(&stream, &shared, &*script));
            }
        });
        Self { address, seen }
    }

    /// Forgets what was carried; connections that are open stay.
    pub fn forget(&self) {
        for conversation in &mut *self.lock() {
            conversation.requests.clear();
            conversation.bad = None;
        }
    }

    /// Everything so far, one entry a connection.
    pub fn conversations(&self) -> Vec<Conversation> {
        self.lock().clone()
    }

    /// All whole requests, connection by connection.
    pub fn requests(&self) -> Vec<Request> {
        self.lock()
            .iter()
            .flat_map(|c| c.requests.clone())
            .collect()
    }

    /// The one request that came.
    pub fn only(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "one request, not {requests:?}");
        requests.remove(0)
    }

    /// What the oracle has against the bytes that came.
    pub fn complaints(&self) -> Vec<String> {
        self.lock().iter().filter_map(|c| c.bad.clone()).collect()
    }

    /// Waits until `fact` holds of the conversations.
    pub fn wait(&self, what: &str, fact: impl Fn(&[Conversation]) -> bool) {
        let (mut list, start) = (self.lock(), Instant::now());
        while !fact(&list) {
            assert!(
                start.elapsed() < DEADLINE,
                "the upstream waited in vain for {what}: {list:?}"
            );
            list = self
                .seen
                .changed
                .wait_timeout(list, Duration::from_millis(50))
                .expect("not poisoned")
                .0;
        }
    }

    /// Waits until no connection holds half a request any more.
    pub fn settle(&self) {
        self.wait("unfinished requests to be dropped", |list| {
            list.iter().all(|c| c.closed || c.unfinished.is_empty())
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Conversation>> {
        self.seen.list.lock().expect("not poisoned")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn converse(stream: &TcpStream, seen: &Seen, script: &Script) {
    let number = {
        let mut list = seen.list.lock().expect("not poisoned");
        list.push(Conversation::default());
        list.len() - 1
    };
    let tell = |change: &dyn Fn(&mut Conversation)| {
        change(&mut seen.list.lock().expect("not poisoned")[number]);
        seen.changed.notify_all();
    };
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let (mut before, mut head_asked) = (0, false);
    let mut peer_stream = stream;
    loop {
        let mut peer = Peer {
            stream,
            number,
            before,
            rest: Vec::new(),
        };
        let after = match request(&bytes) {
            Read::Bad(why) => {
                tell(&|c| c.bad = Some(why.clone()));
                After::Close
            }
            Read::Whole(request, used) => {
                bytes.drain(..used);
                tell(&|c| {
                    c.requests.push(request.clone());
                    c.unfinished = bytes.clone();
                });
                let first = if std::mem::take(&mut head_asked) {
                    After::Body
                } else {
                    script(At::Head, &request, &mut peer)
                };
                before += 1;
                match first {
                    After::Body => script(At::Whole, &request, &mut peer),
                    other => other,
                }
            }
            Read::More => {
                let head = if head_asked {
                    Read::More
                } else {
                    head_of_request(&bytes)
                };
                match head {
                    Read::Whole(request, used) => {
                        head_asked = true;
                        peer.rest = bytes[used..].to_vec();
                        let after = script(At::Head, &request, &mut peer);
                        if matches!(after, After::Echo) {
                            bytes.drain(..used);
                        }
                        after
                    }
                    Read::More | Read::Bad(_) => match peer_stream.read(&mut buffer) {
                        Ok(0) | Err(_) => After::Close,
                        Ok(n) => {
                            bytes.extend_from_slice(&buffer[..n]);
                            tell(&|c| c.unfinished = bytes.clone());
                            continue;
                        }
                    },
                }
            }
        };
        match after {
            After::Keep | After::Body => {}
            After::Close => break,
            After::Reset => {
                let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                break;
            }
            After::Echo => {
                let _ = peer_stream.write_all(&std::mem::take(&mut bytes));
                while let Ok(n @ 1..) = peer_stream.read(&mut buffer) {
                    let _ = peer_stream.write_all(&buffer[..n]);
                }
                break;
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    tell(&|c| c.closed = true);
}

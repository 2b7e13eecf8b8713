//! What a request costs in memory of our own: allocations on the path of a credential that is known already. Everything in this
//! process is counted, so client and service here use fixed memory. In a program of its own, because the allocator is.

#[path = "support/mod.rs"]
#[allow(unused_imports, reason = "a kit offers more than each test takes")]
mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use support::{Gate, basic};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests of a round.
const REQUESTS: usize = 500;
/// Allocations that a request may need: its record, which travels to the log, and its future, so that an idle connection is small.
const MOST: f64 = 2.0;
/// What the rest of the gate does by the clock may add on a machine that takes seconds for a round: far less than one for each request.
const BESIDE: f64 = 0.4;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Answers every read as if it were one request.
fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut input = [0; 4096];
            while stream.read(&mut input).is_ok_and(|n| n > 0) {
                stream.write_all(ANSWER).unwrap();
            }
        }
    });
    address
}

/// Sends one request and reads its answer.
fn ask(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).unwrap();
    let (mut input, mut n) = ([0; 4096], 0);
    while !input[..n].ends_with(b"\r\n\r\nhello") {
        let more = stream.read(&mut input[n..]).unwrap();
        assert!(more > 0, "{}", String::from_utf8_lossy(&input[..n]));
        n += more;
    }
    assert!(input.starts_with(b"HTTP/1.1 200 "));
}

fn measured(access: &str, credential: &str) -> f64 {
    let gate = Gate::written(&format!(
        "[server]\nworkers = 1\n[log]\naccess = \"off\"\n[auth]\nusers_file = \"users.htpasswd\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ from = \"none\" }}\nnetworks = {{ allow = [\"loopback\"] }}\n\
         [[route]]\nhosts = [\"app.lan\"]\nupstream = \"{}\"\naccess = {access}\n",
        service()
    ));
    let request = format!(
        "GET /some/path?query=1 HTTP/1.1\r\nHost: app.lan\r\nUser-Agent: test\r\nAccept: */*\r\n{credential}\r\n"
    );
    let mut stream = TcpStream::connect(gate.address).unwrap();
    for _ in 0..100 {
        ask(&mut stream, request.as_bytes());
    }
    // What others do meanwhile is not in every round; what a request needs is.
    let round = || {
        let region = Region::new(ALLOCATOR);
        for _ in 0..REQUESTS {
            ask(&mut stream, request.as_bytes());
        }
        let change = region.change();
        (change.allocations + change.reallocations) as f64 / REQUESTS as f64
    };
    std::iter::repeat_with(round)
        .take(5)
        .fold(f64::MAX, f64::min)
}

#[test]
fn a_request_allocates_nearly_nothing() {
    let credential = format!("Authorization: {}\r\n", basic("alice", "open sesame"));
    for (access, credential) in [("\"anyone\"", ""), ("\"users\"", &*credential)] {
        let each = measured(access, credential);
        assert!(
            each <= MOST + BESIDE,
            "{access}: {each:.2} allocations a request, at most {MOST}"
        );
    }
}

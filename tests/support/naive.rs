//! A proxy that copies bytes and understands nothing: what the oracle says about it shows that the oracle bites.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::Upstream;

/// Listens on loopback, in clear, and copies both ways.
pub fn open(upstream: &Upstream) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (address, target) = (listener.local_addr().expect("an address"), upstream.address);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(up) = TcpStream::connect(target) else {
                return;
            };
            for (mut from, mut to) in [(&client, &up), (&up, &client)]
                .map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
            {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

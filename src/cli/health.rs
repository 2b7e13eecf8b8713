//! `loopgate health`: whether the running gate can serve, for health checks of containers. By the control socket, else by the
//! admin address of the file.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Failure;
use super::args::{ConfigFile, WhichGate};
use super::control::{failure, gates, one};
use super::output::Output;
use super::serve::env;
use crate::app::control::{Verb, ask};
use crate::base::loopback::{LoopbackAddr, Target};
use crate::config;

/// For the whole answer: services are given two seconds to take a connection.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn health(output: &Output, file: &ConfigFile, alive: bool) -> Result<(), Failure> {
    let which = WhichGate {
        config: file.config.clone(),
        pid: None,
        all: false,
    };
    let said = match gates(&which) {
        Ok(gates) => {
            let gate = one(&gates, "status")?;
            if alive {
                "alive\n".to_owned()
            } else {
                let done = ask(&gate.path, &Verb::Ready, PATIENCE).map_err(failure)?;
                done["text"].as_str().unwrap_or_default().to_owned()
            }
        }
        // A gate without a place for its socket (a read-only root) may have an admin address.
        Err(missing) => {
            let Some(address) = admin(file) else {
                return Err(missing);
            };
            let path = if alive { "/healthz" } else { "/readyz" };
            let (status, body) = get(&address, path)
                .map_err(|e| Failure::failed(format!("no answer from {address}: {e}")))?;
            if status != 200 {
                return Err(Failure::failed(body));
            }
            body
        }
    };
    if !output.quiet {
        output.print(&said).map_err(Failure::failed)?;
    }
    Ok(())
}

fn admin(file: &ConfigFile) -> Option<LoopbackAddr> {
    let path = config::find(file.config.as_deref(), &env).ok()?;
    let loaded = config::load(&path, std::env::vars()).ok()?;
    let target: Target = loaded.raw.admin?.address.parse().ok()?;
    Some(target.address)
}

/// One request of HTTP/1.1; the answer is ours and ends with the connection.
fn get(address: &LoopbackAddr, path: &str) -> io::Result<(u16, String)> {
    trait Duplex: Read + Write {}
    impl<T: Read + Write> Duplex for T {}
    let mut stream: Box<dyn Duplex> = match address.unix() {
        Some(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
        None => {
            let mut last = Err(io::ErrorKind::AddrNotAvailable.into());
            for socket in address.sockets() {
                last = TcpStream::connect_timeout(&socket, PATIENCE);
                if last.is_ok() {
                    break;
                }
            }
            let stream = last?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "that is no answer of a gate");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status = status
        .and_then(|code| code.parse().ok())
        .ok_or_else(strange)?;
    Ok((status, body.to_owned()))
}

//! The service behind the gate: records every byte of every connection and answers each request that the strict reader finds whole.

use std::cell::RefCell;
use std::os::unix::net::UnixListener as Socket;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::strict::{self, Not, Request};

/// What came over one connection.
#[derive(Debug, Default)]
pub struct Conversation {
    /// Requests that were there whole.
    pub requests: Vec<Request>,
    /// What stands behind them.
    pub rest: Vec<u8>,
    /// What the strict reader has against the rest.
    pub bad: Option<&'static str>,
}

pub type Seen = Rc<RefCell<Vec<Conversation>>>;

/// What is said for each request.
#[derive(Clone, Debug)]
pub enum Script {
    /// `200` with the body `ok`.
    Ok,
    /// These bytes, and then the connection ends.
    Once(Rc<[u8]>),
}

impl Script {
    fn say(&self, request: &Request) -> Vec<u8> {
        match self {
            Self::Ok if request.method == b"HEAD" => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_vec()
            }
            Self::Ok => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            Self::Once(text) => text.to_vec(),
        }
    }
}

/// Serves until the task is aborted.
pub fn open(socket: &Socket, script: Script) -> (Seen, JoinHandle<()>) {
    let seen = Seen::default();
    let socket = socket.try_clone().expect("a socket");
    let listener = UnixListener::from_std(socket).expect("a listener");
    let shared = Rc::clone(&seen);
    let task = tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(converse(stream, Rc::clone(&shared), script.clone()));
        }
    });
    (seen, task)
}

async fn converse(mut stream: UnixStream, seen: Seen, script: Script) {
    let number = seen.borrow().len();
    seen.borrow_mut().push(Conversation::default());
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let (mut say, mut said) = (Vec::new(), false);
        {
            let all = &mut seen.borrow_mut()[number];
            all.rest.extend_from_slice(&buffer[..n]);
            loop {
                match strict::request(&all.rest) {
                    Ok((request, n)) => {
                        all.rest.drain(..n);
                        say.extend(script.say(&request));
                        all.requests.push(request);
                        said = true;
                    }
                    Err(Not::Yet) => break,
                    Err(Not::Ever(why)) => {
                        all.bad = Some(why);
                        return;
                    }
                }
            }
        }
        if said && (stream.write_all(&say).await.is_err() || matches!(script, Script::Once(_))) {
            return;
        }
    }
}

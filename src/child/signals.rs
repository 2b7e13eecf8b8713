//! The signals that reach us and are meant for the child.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// One that the child's group gets too.
    Meant(Signal),
    /// A process below us has ended or stopped.
    Child,
    /// We were stopped, and go on.
    Continued,
}

impl Came {
    /// Whether it asks for the end. HUP and QUIT mean what the child takes them for: many load their configuration anew.
    pub fn asks_to_end(self) -> bool {
        let ends = [Signal::TERM, Signal::INT];
        matches!(self, Self::Meant(signal) if ends.contains(&signal))
    }
}

/// They wait here until they are read. Those of one kind that come at once may be seen as one, as ever with signals.
#[derive(Debug)]
pub struct Signals {
    came: Receiver<Came>,
    _readers: JoinSet<()>,
}

impl Signals {
    /// From now on they end nothing by themselves.
    pub fn listen() -> io::Result<Self> {
        let (to, came) = channel(16);
        let mut readers = JoinSet::new();
        for (kind, what) in [
            (SignalKind::terminate(), Came::Meant(Signal::TERM)),
            (SignalKind::interrupt(), Came::Meant(Signal::INT)),
            (SignalKind::hangup(), Came::Meant(Signal::HUP)),
            (SignalKind::quit(), Came::Meant(Signal::QUIT)),
            (SignalKind::user_defined1(), Came::Meant(Signal::USR1)),
            (SignalKind::user_defined2(), Came::Meant(Signal::USR2)),
            (SignalKind::window_change(), Came::Meant(Signal::WINCH)),
            (SignalKind::child(), Came::Child),
            (SignalKind::from_raw(Signal::CONT.as_raw()), Came::Continued),
        ] {
            let (mut stream, to) = (signal(kind)?, to.clone());
            readers.spawn(async move {
                while stream.recv().await.is_some() && to.send(what).await.is_ok() {}
            });
        }
        Ok(Self {
            came,
            _readers: readers,
        })
    }

    /// The next one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Came {
        match self.came.recv().await {
            Some(came) => came,
            None => std::future::pending().await,
        }
    }
}

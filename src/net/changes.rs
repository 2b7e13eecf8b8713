//! Waits until addresses, links or routes of this machine change. On Linux the kernel tells (rtnetlink); elsewhere, and
//! where that is refused (some sandboxes), the interfaces are read every two seconds and compared.

use std::time::Duration;

use super::interfaces::{self, Interfaces};

/// How long a burst of notices is gathered into one: a network change is a dozen of them within milliseconds.
const SETTLE: Duration = Duration::from_millis(150);
/// How often the interfaces are compared where the kernel does not tell.
const POLL: Duration = Duration::from_secs(2);

/// Tells when it is time to read the [`Interfaces`] again. Made inside a tokio runtime.
#[derive(Debug)]
pub struct Changes {
    #[cfg(target_os = "linux")]
    notices: Option<kernel::Notices>,
    last: Option<Interfaces>,
}

impl Changes {
    /// Begins to watch; changes from here on are not missed.
    pub fn watch() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            notices: kernel::Notices::open().ok(),
            last: interfaces::read().ok(),
        }
    }

    /// Returns the interfaces as they are after they really changed. Cancel safe: a change that was dropped halfway is
    /// reported by the next call, because it compares with what was last returned.
    pub async fn next(&mut self) -> Interfaces {
        loop {
            self.pause().await;
            let Ok(now) = interfaces::read() else {
                continue;
            };
            if self.last.as_ref() != Some(&now) {
                self.last = Some(now.clone());
                return now;
            }
        }
    }

    #[cfg(target_os = "linux")]
    async fn pause(&mut self) {
        let Some(notices) = &mut self.notices else {
            return tokio::time::sleep(POLL).await;
        };
        if notices.wait().await.is_err() {
            self.notices = None;
            return;
        }
        tokio::time::sleep(SETTLE).await;
        // What came meanwhile is covered by the read that follows.
        if !notices.drain() {
            self.notices = None;
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn pause(&mut self) {
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::os::unix::net::UnixDatagram as Registered;

    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    use tokio::net::UnixDatagram;

    /// RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE (linux/rtnetlink.h).
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

    /// A socket on which the kernel announces changes. Their content is not read: the interfaces are read anew.
    /// It is a netlink socket in the type for datagram sockets, of which only readiness and `recv` are used: tokio's own
    /// type for any descriptor cannot be made without `unsafe`.
    #[derive(Debug)]
    pub(super) struct Notices(UnixDatagram);

    impl Notices {
        pub(super) fn open() -> io::Result<Self> {
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self(UnixDatagram::from_std(Registered::from(socket))?))
        }

        /// Waits for a notice and leaves it in the socket, so that dropping this loses nothing.
        pub(super) async fn wait(&mut self) -> io::Result<()> {
            self.0.readable().await
        }

        /// Takes out what waits, at most a thousand notices; whether the socket still works.
        pub(super) fn drain(&mut self) -> bool {
            for _ in 0..1000 {
                match self.0.try_recv(&mut [0_u8; 1]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    // ENOBUFS: the kernel dropped notices because there were too many; the socket lives on.
                    Err(error) => {
                        return rustix::io::Errno::from_io_error(&error)
                            == Some(rustix::io::Errno::NOBUFS);
                    }
                }
            }
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_nothing_while_nothing_changes() {
        let mut changes = Changes::watch();
        // Somebody else may change something on this machine meanwhile, but not all the time.
        for _ in 0..30 {
            if tokio::time::timeout(Duration::from_millis(300), changes.next())
                .await
                .is_err()
            {
                return;
            }
        }
        panic!("it never fell silent");
    }
}

//! The second proof, which shares nothing with the first: dial the port on every address of this machine but loopback. It also
//! finds what has no listening socket here, as a container's published port. A firewall on the way in from outside is not met.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::net::interfaces::Interfaces;

/// How long one dial may take. An address of this machine answers in microseconds, or a firewall swallows the packet.
const PATIENCE: Duration = Duration::from_millis(300);
/// At most so many addresses are dialled; of a host with more it is said that it cannot be told.
const MOST: usize = 64;
/// And so many at a time.
const AT_ONCE: usize = 16;

/// What to dial for a port: every address of this machine that is not loopback, save where the gate itself would answer.
pub fn targets(port: u16, interfaces: &Interfaces, ours: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_ours = |ip: IpAddr| {
        ours.iter().any(|own| {
            own.port() == port
                && (own.ip() == ip || own.ip().is_unspecified() && own.is_ipv4() == ip.is_ipv4())
        })
    };
    interfaces
        .list
        .iter()
        .flat_map(|interface| {
            interface
                .addresses
                .iter()
                .map(move |net| (net.addr(), interface.index))
        })
        .filter(|(ip, _)| !ip.is_loopback() && !is_ours(*ip))
        .take(MOST)
        .map(|(ip, index)| match ip {
            IpAddr::V6(six) if six.is_unicast_link_local() => {
                SocketAddrV6::new(six, port, 0, index).into()
            }
            ip => SocketAddr::new(ip, port),
        })
        .collect()
}

/// How many addresses of this machine are beyond what is dialled.
pub fn not_dialled(interfaces: &Interfaces) -> usize {
    let addresses = interfaces.list.iter().flat_map(|i| &i.addresses);
    let all = addresses.filter(|net| !net.addr().is_loopback()).count();
    all.saturating_sub(MOST)
}

/// Those that accept a connection. It is closed at once, and nothing is sent.
pub async fn dial(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut answered = Vec::new();
    let mut dials = JoinSet::new();
    for address in addresses {
        if dials.len() >= AT_ONCE {
            answered.extend(dials.join_next().await.and_then(Result::ok).flatten());
        }
        dials.spawn(dial_one(*address));
    }
    while let Some(one) = dials.join_next().await {
        answered.extend(one.ok().flatten());
    }
    answered.sort();
    answered
}

async fn dial_one(address: SocketAddr) -> Option<SocketAddr> {
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address))
        .await
        .ok()?
        .ok()?;
    // A dial to a free port can meet itself (TCP simultaneous open): that is nobody's socket.
    let met_itself = stream.local_addr().ok()? == stream.peer_addr().ok()?;
    (!met_itself).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::super::reach::tests::machine;
    use super::*;

    #[test]
    fn every_address_but_loopback_and_our_own_is_dialled() {
        let home = machine(&[
            "lo 127.0.0.1/8 ::1/128",
            "eth0 192.168.1.5/24 fe80::5/64",
            "docker0 172.17.0.1/16",
        ]);
        let list = |ours: &[&str]| -> Vec<String> {
            let ours: Vec<SocketAddr> = ours.iter().map(|text| text.parse().unwrap()).collect();
            targets(3000, &home, &ours)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            list(&[]),
            ["192.168.1.5:3000", "[fe80::5%2]:3000", "172.17.0.1:3000"]
        );
        assert_eq!(list(&["0.0.0.0:8443"]).len(), 3);
        assert_eq!(
            list(&["192.168.1.5:3000"]),
            ["[fe80::5%2]:3000", "172.17.0.1:3000"]
        );
        assert_eq!(list(&["0.0.0.0:3000"]), ["[fe80::5%2]:3000"]);
        assert_eq!(
            list(&["[::]:3000"]),
            ["192.168.1.5:3000", "172.17.0.1:3000"]
        );
    }

    #[test]
    fn addresses_beyond_what_is_dialled_are_counted() {
        let many: Vec<String> = (0..70).map(|n| format!("10.0.0.{n}/24")).collect();
        let many = machine(&["lo 127.0.0.1/8", &format!("eth0 {}", many.join(" "))]);
        assert_eq!((targets(1, &many, &[]).len(), not_dialled(&many)), (64, 6));
        assert_eq!(
            not_dialled(&machine(&["lo 127.0.0.1/8", "eth0 10.0.0.1/8"])),
            0
        );
    }

    #[tokio::test]
    async fn an_open_port_answers_and_a_closed_one_does_not() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // Taken, so that nobody else listens there, and not listening.
        let shut =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        shut.bind(&any.into()).unwrap();
        let shut_at = shut.local_addr().unwrap().as_socket().unwrap();
        let open_at = open.local_addr().unwrap();
        assert_eq!(dial(&[open_at, shut_at]).await, [open_at]);
    }
}

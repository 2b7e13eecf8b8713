//! `/proc/net/{tcp,tcp6,udp,udp6,unix}` as socket tables: the fallback where netlink is refused, and pure to parse.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::socket_table::{MOST, Protocol, Socket};

/// Reads both families of one protocol. A machine without IPv6 has no second file; one without the first cannot be judged.
pub(super) fn read(protocol: Protocol) -> io::Result<Vec<Socket>> {
    let word = protocol.word();
    let mut sockets = parse(&fs::read_to_string(format!("/proc/net/{word}"))?, protocol);
    match fs::read_to_string(format!("/proc/net/{word}6")) {
        Ok(text) => sockets.extend(parse(&text, protocol)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if sockets.len() > MOST {
        return Err(io::Error::other("more sockets than can be judged"));
    }
    Ok(sockets)
}

/// The listening (TCP) or unconnected (UDP) sockets of one of the tables.
pub fn parse(text: &str, protocol: Protocol) -> Vec<Socket> {
    let listening = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut f = line.split_ascii_whitespace();
            let local = f.nth(1)?;
            (f.nth(1)? == listening).then_some(())?;
            let uid = f.nth(3)?.parse().ok()?;
            let inode = f.nth(1)?.parse().ok()?;
            let (host, port) = local.split_once(':')?;
            Some(Socket {
                protocol,
                address: SocketAddr::new(address(host)?, u16::from_str_radix(port, 16).ok()?),
                only_v6: None,
                device: 0,
                uid,
                is_transparent: false,
                inode,
            })
        })
        .collect()
}

/// The kernel prints an address as native-endian 32-bit numbers of its bytes in memory.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(
            u32::from_str_radix(hex.get(at..at + 8)?, 16)
                .ok()?
                .to_ne_bytes(),
        )
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (i, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(i * 8)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The inode of the listening Unix socket that was bound to this path, by the text of `/proc/net/unix`.
pub fn unix_inode(text: &str, path: &Path) -> Option<u64> {
    // Num RefCount Protocol Flags Type St Inode Path; 0x10000 is __SO_ACCEPTCON.
    text.lines().skip(1).find_map(|line| {
        let f: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = u32::from_str_radix(f.get(3)?, 16).ok()?;
        let is_it = flags & 0x1_0000 != 0 && Path::new(&f.get(7..)?.join(" ")) == path;
        is_it.then(|| f[6].parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31337 1 ffff8f 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 ffff8f 100 0 0 10 0
   2: 0501A8C0:01BB 0701A8C0:D3C2 01 00000000:00000000 02:000A7B49 00000000    33        0 999 2 ffff8f 20 4 30 10 -1
   3: 0100007F
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41 1 ffff 100 0 0 10 0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 42 1 ffff 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 43 1 ffff 100 0 0 10 0
";
    const UDP: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  512: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000   108        0 77 2 ffff 0
  513: 0501A8C0:C001 08080808:0035 01 00000000:00000000 00:00000000 00000000   108        0 78 2 ffff 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_read_and_connections_are_not() {
        let list = |text, protocol| -> Vec<String> {
            parse(text, protocol)
                .iter()
                .map(|s| format!("{} {} {}", s.address, s.uid, s.inode))
                .collect()
        };
        assert_eq!(
            list(TCP, Protocol::Tcp),
            ["127.0.0.1:3000 1000 31337", "0.0.0.0:22 0 1234"]
        );
        assert_eq!(
            list(TCP6, Protocol::Tcp),
            [
                "[::]:3000 1000 41",
                "[::1]:8080 1000 42",
                "[::ffff:127.0.0.1]:8081 1000 43"
            ]
        );
        assert_eq!(list(UDP, Protocol::Udp), ["0.0.0.0:5353 108 77"]);
        assert!(parse("", Protocol::Tcp).is_empty());
    }

    #[test]
    fn a_unix_socket_is_found_by_its_path() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff8881: 00000002 00000000 00010000 0001 01 20010 /run/app.sock\n\
            ffff8882: 00000003 00000000 00000000 0001 03 20011 /run/other.sock\n\
            ffff8883: 00000002 00000000 00010000 0001 01 20012 /run/with space.sock\n\
            ffff8884: 00000002 00000000 00010000 0001 01 20013\n";
        for (path, want) in [
            ("/run/app.sock", Some(20010)),
            ("/run/with space.sock", Some(20012)),
            ("/run/other.sock", None),
            ("/run/none.sock", None),
        ] {
            assert_eq!(unix_inode(text, Path::new(path)), want, "{path}");
        }
    }
}

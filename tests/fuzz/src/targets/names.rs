//! Paths, hosts and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use loopgate::base::cidr::{NetSet, Network};
use loopgate::base::fold;
use loopgate::base::host::{Authority, Host};
use loopgate::base::loopback::Target;
use loopgate::base::path::{Path, percent_decode};

/// Decodes each `%XX` once, leaving broken ones alone.
fn decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let [first, after @ ..] = rest {
        let pair = after
            .get(..2)
            .filter(|p| *first == b'%' && p.iter().all(u8::is_ascii_hexdigit));
        match pair.and_then(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// What a lenient server makes of a path: parameters cut, backslashes turned, segments resolved.
fn resolved(path: &[u8]) -> Vec<Vec<u8>> {
    let path: Vec<u8> = path
        .iter()
        .map(|c| if *c == b'\\' { b'/' } else { *c })
        .collect();
    let mut out: Vec<Vec<u8>> = Vec::new();
    for segment in path.split(|c| *c == b'/') {
        match segment.split(|c| *c == b';').next().unwrap_or_default() {
            b"" | b"." => {}
            b".." => drop(out.pop()),
            name => out.push(name.to_vec()),
        }
    }
    out
}

pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = percent_decode(text);
    let Ok(path) = Path::parse(text) else { return };
    assert!(text.bytes().all(|c| c.is_ascii_graphic() && c != b'#') && text.starts_with('/'));
    assert_eq!(*path.decoded, decoded(data), "decoded once");
    assert!(path.is_under("/"));
    if path.doubt.is_some() {
        assert!(path.again().is_none());
        return;
    }
    // Without doubt: however often somebody decodes it and however he resolves it, no segment vanishes, and it is under a prefix
    // or not by its segments alone.
    let mut now = data.to_vec();
    for round in 0..6 {
        now = decoded(&now);
        let plain: Vec<&[u8]> = now
            .split(|c| *c == b'/')
            .filter(|s| !s.is_empty())
            .collect();
        assert_eq!(resolved(&now), plain, "round {round}");
        assert!(
            !now.iter().any(|c| *c < b' ' || *c == 0x7f),
            "round {round}"
        );
        let slashes = data.iter().filter(|c| **c == b'/').count();
        assert_eq!(
            now.iter().filter(|c| **c == b'/').count(),
            slashes,
            "round {round}"
        );
    }
    let first = path.decoded[1..]
        .split(|c| *c == b'/')
        .next()
        .unwrap_or_default();
    assert_eq!(path.is_under("/admin"), first == b"admin");
    // What a server without case finds behind any number of dots and spaces is among the readings.
    let mut readings = fold::readings(&path.decoded).unwrap_or_default();
    if readings.is_empty() {
        readings.push(fold::folded(&String::from_utf8_lossy(&path.decoded)));
    }
    let loose = first.to_ascii_lowercase();
    let end = loose.iter().rposition(|c| !b". ".contains(c));
    if end.is_some_and(|end| loose[..=end] == *b"admin") && path.decoded.len() == first.len() + 1 {
        assert!(
            readings.iter().any(|r| fold::covers("/admin", r)),
            "{readings:?}"
        );
    }
    let mut again = path.again();
    for _ in 0..8 {
        let Some(path) = again else { return };
        again = path.again();
    }
    assert!(again.is_none(), "a path that can be decoded for ever");
}

pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(authority) = Authority::parse(text) else {
        return;
    };
    assert!(text.bytes().all(|c| c.is_ascii_graphic()));
    assert!(!text.contains(['/', '?', '#', '@', '%', ',', '\\', '"']));
    assert_ne!(authority.port, Some(0));
    let shown = authority.host.to_string();
    let written = match authority.port {
        Some(port) => format!("{shown}:{port}"),
        None => shown.clone(),
    };
    assert_eq!(
        Authority::parse(&written).as_ref(),
        Ok(&authority),
        "what is shown means the same"
    );
    assert_eq!(
        Authority::parse(&text.to_ascii_uppercase()).as_ref(),
        Ok(&authority),
        "case means nothing"
    );
    match &authority.host {
        Host::Name(name) => {
            assert!(name.bytes().all(|c| !c.is_ascii_uppercase()));
            assert!(
                name.parse::<IpAddr>().is_err(),
                "an address that is taken for a name"
            );
            let last = name.rsplit('.').next().unwrap_or_default();
            assert!(
                !last.bytes().all(|c| c.is_ascii_digit()),
                "a number that some resolver takes for an address"
            );
        }
        Host::Ip(ip) => assert_eq!(ip.to_canonical(), *ip, "an address with two spellings"),
    }
}

pub fn network(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut nets = Vec::new();
    for line in text.lines() {
        if let Ok(target) = line.parse::<Target>() {
            for socket in target.address.sockets() {
                assert!(
                    socket.ip().to_canonical().is_loopback(),
                    "{line} leads to {socket}"
                );
                assert_ne!(socket.port(), 0, "{line}");
            }
            assert!(target.address.unix().is_some() || target.address.sockets().next().is_some());
            let again: Target = target
                .to_string()
                .parse()
                .expect("what is shown can be read");
            assert_eq!(again, target, "{line}");
        }
        match line.parse::<Network>() {
            Ok(Network::Net(net)) => nets.push(net),
            Ok(Network::Loopback | Network::Private | Network::ThisLan) => {}
            Err(error) => {
                if let Some(repair) = error.repair() {
                    assert!(
                        repair.parse::<Network>().is_ok(),
                        "the repair {repair} of {line}"
                    );
                }
                let _ = error.to_string();
            }
        }
    }
    // The set answers as its networks do, one by one.
    let set = NetSet::new(&nets);
    let mut asked: Vec<IpAddr> = vec![
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::BROADCAST.into(),
        Ipv6Addr::LOCALHOST.into(),
    ];
    for net in &nets {
        let (low, high) = (net.network(), net.broadcast());
        asked.extend([low, high]);
        for (ip, up) in [(low, false), (high, true)] {
            match ip {
                IpAddr::V4(ip) => {
                    let n = u32::from(ip);
                    asked.extend(
                        if up {
                            n.checked_add(1)
                        } else {
                            n.checked_sub(1)
                        }
                        .map(|n| IpAddr::from(Ipv4Addr::from(n))),
                    );
                }
                IpAddr::V6(ip) => {
                    let n = u128::from(ip);
                    asked.extend(
                        if up {
                            n.checked_add(1)
                        } else {
                            n.checked_sub(1)
                        }
                        .map(|n| IpAddr::from(Ipv6Addr::from(n))),
                    );
                }
            }
        }
    }
    for ip in asked {
        let ip = ip.to_canonical();
        assert_eq!(
            set.contains(ip),
            nets.iter().any(|net| net.contains(&ip)),
            "{ip} in {nets:?}"
        );
        if let IpAddr::V4(four) = ip {
            assert_eq!(
                set.contains(four.to_ipv6_mapped().into()),
                set.contains(ip),
                "{ip}, mapped"
            );
        }
    }
}

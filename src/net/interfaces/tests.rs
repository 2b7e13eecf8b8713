//! Tables of addresses and routes, as machines have them.

use super::*;

const HEAD: &str =
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";

/// One machine of the table: name, addresses and kind of each link, its routes, and what must follow.
struct Machine {
    name: &'static str,
    links: &'static [(&'static str, &'static [&'static str], Kind)],
    route: &'static str,
    ipv6_route: &'static str,
    lan: &'static [&'static str],
    gateways: &'static [&'static str],
}

const LO: (&str, &[&str], Kind) = ("lo", &["127.0.0.1/8", "::1/128"], Kind::Loopback);

const MACHINES: [Machine; 10] = [
    Machine {
        name: "a laptop on wifi with IPv6 from the router",
        links: &[
            LO,
            (
                "wlp2s0",
                &[
                    "192.168.178.34/24",
                    "2003:e1:9f00:1200:5c1:aa:7:1/64",
                    "fe80::9b1:2:3:4/64",
                ],
                Kind::Ordinary,
            ),
        ],
        route: "wlp2s0 00000000 01B2A8C0 0003 0 0 600 00000000 0 0 0\nwlp2s0 00B2A8C0 00000000 0001 0 0 600 00FFFFFF 0 0 0\n",
        ipv6_route: "200300e19f0012000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000258 00000001 00000000 00000001   wlp2s0\n\
            fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000001   wlp2s0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe80000000000000e2286dfffe010203 00000258 00000002 00000000 00000003   wlp2s0\n\
            00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001       lo\n\
            ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000005 00000000 00000001   wlp2s0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
        lan: &["192.168.178.0/24", "2003:e1:9f00:1200::/64", "fe80::/64"],
        gateways: &["192.168.178.1", "fe80::e228:6dff:fe01:203"],
    },
    Machine {
        name: "docker beside ethernet: neither its bridge nor the link-local network that it shares",
        links: &[
            LO,
            ("enp3s0", &["10.0.0.7/24", "fe80::1:1/64"], Kind::Ordinary),
            ("docker0", &["172.17.0.1/16", "fe80::42:1/64"], Kind::Bridge),
            ("veth1a2b", &["fe80::aa:1/64"], Kind::Container),
        ],
        route: "enp3s0 00000000 0100000A 0003 0 0 100 00000000 0 0 0\nenp3s0 0000000A 00000000 0001 0 0 100 00FFFFFF 0 0 0\ndocker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n",
        ipv6_route: "",
        lan: &["10.0.0.0/24"],
        gateways: &["10.0.0.1"],
    },
    Machine {
        name: "wireguard took the default route: no LAN is left",
        links: &[
            LO,
            ("eth0", &["192.168.1.5/24"], Kind::Ordinary),
            ("wg0", &["10.66.0.2/32"], Kind::Tunnel),
        ],
        route: "wg0 00000000 00000000 0001 0 0 0 00000000 0 0 0\neth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
        ipv6_route: "",
        lan: &[],
        gateways: &[],
    },
    Machine {
        name: "a tunnel with a wide subnet and a second default route",
        links: &[
            ("eth0", &["192.168.1.5/24"], Kind::Ordinary),
            ("tun0", &["10.8.0.2/24"], Kind::Tunnel),
        ],
        route: "tun0 00000000 0100080A 0003 0 0 50 00000000 0 0 0\neth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0\n",
        ipv6_route: "",
        lan: &["192.168.1.0/24"],
        gateways: &["10.8.0.1", "192.168.1.1"],
    },
    Machine {
        name: "no default route",
        links: &[LO, ("eth0", &["192.168.1.5/24"], Kind::Ordinary)],
        route: "eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
        ipv6_route: "",
        lan: &[],
        gateways: &[],
    },
    Machine {
        name: "cable and wifi in the same network, and one in another",
        links: &[
            ("eth0", &["192.168.1.5/24"], Kind::Ordinary),
            ("wlan0", &["192.168.1.77/24"], Kind::Ordinary),
            ("eth1", &["10.5.0.9/16"], Kind::Ordinary),
        ],
        route: "eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0\nwlan0 00000000 0101A8C0 0003 0 0 600 00000000 0 0 0\n",
        ipv6_route: "",
        lan: &["192.168.1.0/24"],
        gateways: &["192.168.1.1"],
    },
    Machine {
        name: "IPv6 only, its address from DHCPv6 and the subnet from the router",
        links: &[(
            "eth0",
            &["2001:db8:5:6::1234/128", "fe80::77/64"],
            Kind::Ordinary,
        )],
        route: "",
        ipv6_route: "20010db8000500060000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000064 00000001 00000000 00000001     eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000064 00000002 00000000 00000003     eth0\n\
            20010db8000500060000000000001234 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001     eth0\n",
        lan: &["fe80::/64", "2001:db8:5:6::/64"],
        gateways: &["fe80::1"],
    },
    Machine {
        name: "a cloud host with a /32 has no neighbours",
        links: &[("eth0", &["203.0.113.9/32"], Kind::Ordinary)],
        route: "eth0 00000000 010010AC 0003 0 0 0 00000000 0 0 0\n",
        ipv6_route: "",
        lan: &[],
        gateways: &["172.16.0.1"],
    },
    Machine {
        name: "a default route that rejects, and one that is down",
        links: &[("eth0", &["10.1.0.9/16"], Kind::Ordinary)],
        route: "* 00000000 00000000 0200 0 0 0 00000000 0 0 0\neth0 00000000 0100010A 0002 0 0 0 00000000 0 0 0\n",
        ipv6_route: "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
        lan: &[],
        gateways: &[],
    },
    Machine {
        name: "a mask that lost its digits is not a LAN",
        links: &[("eth0", &["192.168.1.5/0"], Kind::Ordinary)],
        route: "eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n",
        ipv6_route: "",
        lan: &[],
        gateways: &["192.168.1.1"],
    },
];

fn interfaces(machine: &Machine) -> Interfaces {
    let list = (1..)
        .zip(machine.links)
        .map(|(index, (name, addresses, kind))| Interface {
            name: (*name).to_owned(),
            index,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            on_link: Vec::new(),
            kind: *kind,
            has_default_route: false,
            is_up: true,
        })
        .collect();
    let four = parse_route(&format!("{HEAD}\n{}", machine.route));
    assemble(list, &four, &parse_ipv6_route(machine.ipv6_route))
}

#[test]
fn this_lan_is_the_subnets_behind_default_routes_and_nothing_else() {
    for machine in &MACHINES {
        let got = interfaces(machine);
        let lan: Vec<String> = got.this_lan().iter().map(ToString::to_string).collect();
        assert_eq!(lan, machine.lan, "{}", machine.name);
        let gateways: Vec<String> = got.gateways.iter().map(ToString::to_string).collect();
        assert_eq!(gateways, machine.gateways, "{}", machine.name);
    }
}

#[test]
fn our_end_of_a_bridge_is_known_unless_the_bridge_is_our_way_out() {
    let ends = |docker: &Interfaces| -> Vec<String> {
        docker.bridge_ends().map(|ip| ip.to_string()).collect()
    };
    let mut docker = interfaces(&MACHINES[1]);
    assert_eq!(ends(&docker), ["172.17.0.1", "fe80::42:1"]);
    for interface in &mut docker.list {
        interface.has_default_route = true;
    }
    assert!(ends(&docker).is_empty());
}

#[test]
fn kinds_by_what_the_kernel_says_and_by_name_where_it_is_silent() {
    let ether = |f: fn(&mut Facts)| {
        let mut facts = Facts {
            hardware: Some(1),
            ..Facts::default()
        };
        f(&mut facts);
        facts
    };
    for (name, facts, want) in [
        ("eth0", ether(|_| {}), Kind::Ordinary),
        (
            "wlp2s0",
            ether(|f| f.device_type = Some("wlan".into())),
            Kind::Ordinary,
        ),
        (
            "eth0.20",
            ether(|f| f.device_type = Some("vlan".into())),
            Kind::Ordinary,
        ),
        ("office", ether(|f| f.is_bridge = true), Kind::Bridge),
        ("br-5e1f", ether(|_| {}), Kind::Bridge),
        ("vpn", ether(|f| f.is_tun = true), Kind::Tunnel),
        (
            "home",
            Facts {
                hardware: Some(65534),
                ..Facts::default()
            },
            Kind::Tunnel,
        ),
        ("veth12", ether(|_| {}), Kind::Container),
        ("p1", ether(|f| f.has_master = true), Kind::Container),
        (
            "lo",
            Facts {
                hardware: Some(772),
                ..Facts::default()
            },
            Kind::Loopback,
        ),
        (
            "wwan0",
            ether(|f| f.device_type = Some("wwan".into())),
            Kind::Other,
        ),
        ("eth0", Facts::default(), Kind::Ordinary),
        ("wlan0", Facts::default(), Kind::Ordinary),
        ("wg0", Facts::default(), Kind::Tunnel),
        ("mystery", Facts::default(), Kind::Other),
    ] {
        assert_eq!(kind(name, &facts), want, "{name} {facts:?}");
    }
}

#[test]
fn half_a_line_is_no_route() {
    assert!(parse_route("").is_empty());
    assert!(parse_route(&format!("{HEAD}\neth0 00000000\neth0 x y z\n")).is_empty());
    assert_eq!(parse_ipv6_route("0000 00 zz\n\n"), Routes6::default());
}

#[test]
fn this_machine_can_be_read() {
    let here = read().unwrap();
    assert!(here.list.iter().any(|i| i.kind == Kind::Loopback));
    assert!(here.addresses().contains(&"127.0.0.1".parse().unwrap()));
}

//! Programs by their words.

use super::*;

fn recognised(line: &str) -> Option<(&'static str, Way, Vec<u16>)> {
    let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let name = arguments[0]
        .rsplit('/')
        .next()
        .unwrap()
        .trim_end_matches(':')
        .to_owned();
    recognise(&Process {
        pid: 1,
        name,
        arguments,
        container: None,
        is_cut: false,
    })
    .map(|f| (f.what, f.way, f.ports(&Hosts::default())))
}

#[test]
fn forwarders_are_told_by_name_and_arguments_and_others_are_not() {
    for (line, want) in [
        ("ngrok http 3000", Some(("ngrok", Way::Tunnel, vec![3000]))),
        (
            "/usr/bin/cloudflared tunnel --url http://localhost:3000",
            Some(("cloudflared", Way::Tunnel, vec![3000])),
        ),
        (
            "ssh -N -R 80:localhost:3000 host.example",
            Some(("ssh -R", Way::Tunnel, vec![3000])),
        ),
        (
            "ssh -NR 80:127.0.0.1:3000 host.example",
            Some(("ssh -R", Way::Tunnel, vec![3000])),
        ),
        (
            "ssh -R8080:localhost:80 -R 9090:localhost:90 h",
            Some(("ssh -R", Way::Tunnel, vec![80, 90])),
        ),
        (
            "ssh -L 3000:db:5432 host.example",
            Some(("ssh -L", Way::Listener, vec![])),
        ),
        (
            "socat TCP-LISTEN:9000,fork TCP:127.0.0.1:3000",
            Some(("socat", Way::Listener, vec![3000])),
        ),
        (
            "bore local 3000 --to bore.example",
            Some(("bore", Way::Tunnel, vec![3000])),
        ),
        (
            "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0",
            Some(("docker-proxy", Way::Listener, vec![])),
        ),
        (
            "tailscaled --state=/var/lib/x",
            Some(("tailscale", Way::Tunnel, vec![])),
        ),
        (
            "node /usr/bin/lt --port 3000",
            Some(("localtunnel", Way::Tunnel, vec![3000])),
        ),
        (
            "sshd: alice@pts/0",
            Some(("ssh -R of a visitor", Way::Listener, vec![])),
        ),
        (
            "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
            None,
        ),
        (
            "python3 -m websockify 9000 localhost:3000",
            Some(("websockify", Way::Listener, vec![3000])),
        ),
        (
            "/usr/bin/python3.11 -u /usr/bin/websockify 9000 localhost:3000",
            Some(("websockify", Way::Listener, vec![3000])),
        ),
        (
            "kubectl port-forward --address 0.0.0.0 pod/x :3000",
            Some(("kubectl port-forward", Way::Listener, vec![])),
        ),
        (
            "ssh -g -L 9000:localhost:3000 bastion",
            Some(("ssh -L", Way::Listener, vec![])),
        ),
        (
            "cloudflared access tcp --hostname x.example --url localhost:3000",
            Some(("cloudflared", Way::Tunnel, vec![])),
        ),
        (
            "socat TCP:192.168.77.2:9001,forever,interval=1,fork TCP:127.0.0.1:3000",
            Some(("socat", Way::Tunnel, vec![3000])),
        ),
        (
            "socat TCP:127.0.0.1:3000 OPENSSL:far.example:443,verify=0",
            Some(("socat", Way::Tunnel, vec![3000])),
        ),
        (
            "socat TCP:127.0.0.1:4000 TCP:127.0.0.1:3000",
            Some(("socat", Way::Listener, vec![3000, 4000])),
        ),
        (
            "ncat 192.168.77.2 9001 --sh-exec ncat 127.0.0.1 3000",
            Some(("port forwarder", Way::Tunnel, vec![3000])),
        ),
        (
            "nc.openbsd 127.0.0.1 3000",
            Some(("port forwarder", Way::Listener, vec![3000])),
        ),
        (
            "nc.traditional -l -p 9000 -e nc.traditional 127.0.0.1 3000",
            Some(("port forwarder", Way::Listener, vec![3000, 9000])),
        ),
        (
            "busybox nc 127.0.0.1 3000",
            Some(("port forwarder", Way::Listener, vec![3000])),
        ),
        ("busybox sh -c nc", None),
        (
            "/usr/bin/tcpsvd 0.0.0.0 9000 nc 127.0.0.1 3000",
            Some(("port forwarder", Way::Listener, vec![3000, 9000])),
        ),
        (
            "socat-1.8 TCP-LISTEN:9000 TCP:127.0.0.1:3000",
            Some(("socat", Way::Listener, vec![3000])),
        ),
        (
            "socat1 TCP-LISTEN:9000 TCP:127.0.0.1:+3000",
            Some(("socat", Way::Listener, vec![3000])),
        ),
        (
            "chisel client https://far.example 8000:localhost:3000",
            Some(("chisel", Way::Listener, vec![])),
        ),
        (
            "chisel client https://far.example R:8000:localhost:3000",
            Some(("chisel", Way::Tunnel, vec![3000])),
        ),
        (
            "wstunnel client -L tcp://9000:localhost:3000 wss://far.example",
            Some(("wstunnel", Way::Listener, vec![])),
        ),
        ("python3 -m http.server 3000", None),
        ("python3 app.py websockify", None),
        ("node server.js 3000", None),
        ("ssh host.example", None),
        ("ssh host.example --RAW", None),
        ("bash -R", None),
        ("kubectl get pods", None),
        ("vim localhost:3000", None),
    ] {
        assert_eq!(recognised(line), want, "{line}");
    }
}

#[test]
fn the_self_of_a_path_is_the_forwarders() {
    let its = |path: &str| of_its_own(Place::Path(path.into()), 77);
    let path = |path: &str| Place::Path(path.into());
    assert_eq!(its("/proc/self/root/a.sock"), path("/proc/77/root/a.sock"));
    assert_eq!(its("/proc/thread-self/cwd/a"), path("/proc/77/cwd/a"));
    assert_eq!(its("/proc/selfish/a"), path("/proc/selfish/a"));
    assert_eq!(its("/run/a.sock"), path("/run/a.sock"));
}

#[test]
fn a_path_is_what_the_file_system_has() {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    fs::create_dir(real.join("sub")).unwrap();
    std::os::unix::fs::symlink("sub", real.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(real.join("sub/a.sock")).unwrap();
    fs::write(real.join("log"), "").unwrap();
    let found = |path: &str| resolved(Place::Path(path.into()), Ok(&real));
    let about = fs::metadata(real.join("sub/a.sock")).unwrap();
    let node = Place::Node(about.dev(), about.ino());
    let want = vec![node.clone(), Place::Path(real.join("sub/a.sock"))];
    for path in ["sub/a.sock", "./sub/../link/a.sock", "link/a.sock"] {
        assert_eq!(found(path), want, "{path}");
    }
    assert_eq!(found("log"), []);
    assert_eq!(found("none"), [Place::Path(real.join("none"))]);
    assert_eq!(found("@name"), [Place::Path("@name".into())]);
    // Of a process with a root of its own, whose folder is our own here.
    let its = PathBuf::from("/proc/self");
    let far = |path: &Path| resolved(Place::Path(path.into()), Err(&its));
    assert_eq!(far(&real.join("sub/a.sock")), [node]);
    assert_eq!(far(&real.join("log")), []);
    assert_eq!(far(&real.join("none")), []);
    assert_eq!(far(Path::new("Cargo.toml")), []);
}

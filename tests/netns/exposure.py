#!/usr/bin/env python3
"""Compares verdicts with what other machines can really reach, in network namespaces of its own (root, iproute2, nftables).

    home 192.168.77.2 ──┐
                        ├── gate: upstream on port 3000, the verdict is asked here
    café 10.77.0.2 ─────┤
                        └── bridge 172.30.0.1 ── container 172.30.0.2

Each cell of the table (bind address × forward × firewall, over both families) starts a service, sets up the forward and the
firewall, asks for the verdict, and dials every address of the gate from the three others. An answer counts as a way around when it
comes from the service that the upstream reaches, or from a socket on the upstream's port.

usage: exposure.py VERDICT_PROGRAM     (cargo build --example verdict; target/debug/examples/verdict)
"""
import itertools, os, subprocess, sys, time

PORT = 3000
N = f"lg{os.getpid()}"
GATE, HOME, CAFE, BOX = (f"{N}{x}" for x in ("gate", "home", "cafe", "box"))
SIX = {"home": "fd77:1::", "cafe": "fd77:2::", "box": "fd77:3::"}
ADDRESSES = ["192.168.77.1", "10.77.0.1", "172.30.0.1"] + [net + "1" for net in SIX.values()]

SERVER = """
import socket, sys, threading
token, binds = sys.argv[1], sys.argv[2:]
def serve(s):
    while True:
        c, _ = s.accept()
        try: c.sendall(token.encode())
        finally: c.close()
for b in binds:
    host, flags = (b.split(',') + [''])[:2]
    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if 'r' in flags: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if ':' in host: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 'o' in flags)
    if 'l' in flags: s.setsockopt(socket.SOL_SOCKET, 25, b'lo')
    s.bind((host, int(PORT))); s.listen(16)
    threading.Thread(target=serve, args=(s,), daemon=True).start()
print('ready', flush=True)
threading.Event().wait()
"""
CLIENT = """
import socket, sys, threading
def dial(a):
    try:
        with socket.create_connection((a, int(PORT)), timeout=PATIENCE) as c:
            c.settimeout(PATIENCE); sys.stdout.write(a + ' ' + (c.recv(64).decode() or '-') + '\\n')
    except OSError: pass
ts = [threading.Thread(target=dial, args=(a,)) for a in sys.argv[1:]]
[t.start() for t in ts]; [t.join() for t in ts]
"""

# What the service binds; two processes where the second one is named.
BINDS = {
    "127.0.0.1": ["127.0.0.1"],
    "::1": ["::1"],
    "127.0.0.1 and ::1": ["127.0.0.1", "::1,o"],
    "0.0.0.0": ["0.0.0.0"],
    "[::] dual": ["::"],
    "[::] v6only": ["::,o"],
    "lan address": ["192.168.77.1"],
    "bridge address": ["172.30.0.1"],
    "lan IPv6 address": ["fd77:1::1"],
    "0.0.0.0 on lo": ["0.0.0.0,l"],
    "127.0.0.1, other process 0.0.0.0": ["127.0.0.1,r", "|", "0.0.0.0,r"],
    "nothing": [],
}
NAT = "table inet lgnat {{ chain p {{ type nat hook prerouting priority dstnat;\n{p}\n}}\nchain o {{ type nat hook output priority -100;\n{o}\n}}\nchain q {{ type nat hook postrouting priority srcnat;\n{q}\n}}\n}}\n"
BOX_RULE = f"fib daddr type local {{not_lo}} tcp dport {PORT} dnat ip to 172.30.0.2:{PORT}"
FORWARDS = {
    "none": None,
    "DNAT to 127.0.0.1": (NAT.format(p=f"ip daddr 192.168.77.1 tcp dport {PORT} dnat ip to 127.0.0.1:{PORT}", o="", q=""), False),
    "DNAT to 127.0.0.1, route_localnet": (NAT.format(p=f"ip daddr 192.168.77.1 tcp dport {PORT} dnat ip to 127.0.0.1:{PORT}", o="", q=""), True),
    "published (docker)": (NAT.format(p=BOX_RULE.format(not_lo=""), o=BOX_RULE.format(not_lo="ip daddr != 127.0.0.0/8"), q="oifname \"br0\" ip saddr 127.0.0.0/8 masquerade"), False),
    "published with loopback (kube)": (NAT.format(p=BOX_RULE.format(not_lo=""), o=BOX_RULE.format(not_lo=""), q="oifname \"br0\" ip saddr 127.0.0.0/8 masquerade"), True),
    "DNAT to a container, from outside": (NAT.format(p=BOX_RULE.format(not_lo=""), o="", q=""), False),
    "published on 127.0.0.1": (NAT.format(p="", o=f"ip daddr 127.0.0.1 tcp dport {PORT} dnat ip to 172.30.0.2:{PORT}", q="oifname \"br0\" ip saddr 127.0.0.0/8 masquerade"), True),
}
FIREWALLS = {
    "none": "",
    "input drop": f"table inet lgfw {{ chain i {{ type filter hook input priority 0;\niifname != \"lo\" tcp dport {PORT} drop\n}}\n}}\n",
}


# How long a dial waits for an answer, in seconds.
patience = 0.4


def run(*words, ns=None, text=None, check=True):
    words = (["ip", "netns", "exec", ns] if ns else []) + list(words)
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def start(ns, token, binds):
    code = SERVER.replace("int(PORT)", str(PORT))
    child = subprocess.Popen(["ip", "netns", "exec", ns, sys.executable, "-c", code, token, *binds], stdout=subprocess.PIPE, text=True)
    if child.stdout.readline() != "ready\n":
        raise SystemExit(f"{token} did not start on {binds}")
    return child


def stop(child):
    child.kill()
    child.wait()


def dial(ns, *addresses):
    code = CLIENT.replace("int(PORT)", str(PORT)).replace("PATIENCE", str(patience))
    lines = run(sys.executable, "-c", code, *addresses, ns=ns).split("\n")
    return dict(line.split(" ", 1) for line in lines if line)


def build():
    for ns in (GATE, HOME, CAFE, BOX):
        run("ip", "netns", "add", ns)
        run("ip", "link", "set", "lo", "up", ns=ns)
    for ns, side, four, six in ((HOME, "eth0", "192.168.77", "home"), (CAFE, "wlan0", "10.77.0", "cafe"), (BOX, "vethbox", "172.30.0", "box")):
        run("ip", "link", "add", side, "netns", GATE, "type", "veth", "peer", "name", "eth0", "netns", ns)
        run("ip", "link", "set", "eth0", "up", ns=ns)
        run("ip", "link", "set", side, "up", ns=GATE)
        if ns == BOX:
            run("ip", "link", "add", "br0", "type", "bridge", ns=GATE)
            run("ip", "link", "set", "br0", "up", ns=GATE)
            run("ip", "link", "set", side, "master", "br0", ns=GATE)
            side = "br0"
        run("ip", "addr", "add", f"{four}.1/24", "dev", side, ns=GATE)
        run("ip", "addr", "add", f"{SIX[six]}1/64", "dev", side, "nodad", ns=GATE)
        run("ip", "addr", "add", f"{four}.2/24", "dev", "eth0", ns=ns)
        run("ip", "addr", "add", f"{SIX[six]}2/64", "dev", "eth0", "nodad", ns=ns)
        run("ip", "route", "add", "default", "via", f"{four}.1", ns=ns)
        run("ip", "-6", "route", "add", "default", "via", f"{SIX[six]}1", ns=ns)
    run("ip", "route", "add", "default", "via", "192.168.77.2", ns=GATE)
    for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        run("sh", "-c", f"echo 1 > /proc/sys/net/{path}", ns=GATE)


def cell(program, bind, forward, firewall):
    rules, routed = FORWARDS[forward] or ("", False)
    run("nft", "-f", "-", text="flush ruleset\n" + rules + FIREWALLS[firewall], ns=GATE)
    run("sh", "-c", f"echo {int(routed)} > /proc/sys/net/ipv4/conf/all/route_localnet", ns=GATE)
    children, groups = [], [list(g) for k, g in itertools.groupby(BINDS[bind], lambda b: b == "|") if not k]
    try:
        for token, group in zip(("service", "beside"), groups):
            children.append(start(GATE, token, group))
        upstream = "[::1]" if bind in ("::1", "[::] v6only", "lan IPv6 address") else "127.0.0.1"
        word, said = run(program, f"{upstream}:{PORT}", ns=GATE).rstrip("\n").split("\t", 1)
        own = set(dial(GATE, upstream.strip("[]")).values())
        seen = {(where, address): token for where, ns in (("home", HOME), ("café", CAFE), ("container", BOX)) for address, token in dial(ns, *ADDRESSES).items()}
    finally:
        for child in children:
            stop(child)
    around = sorted(place for place, token in seen.items() if token in own | {"service", "beside"})
    is_open_bind = bind not in ("127.0.0.1", "::1", "127.0.0.1 and ::1", "0.0.0.0 on lo", "nothing")
    if around:
        right = word in ("exposed", "cannot-tell")
    elif word == "exposed":
        # A socket bound too widely, hidden by a firewall or by a translation before it: the rule is about the binding, for what hides
        # it is one command away from gone.
        # Or the kernel hands the port to another service: whose it is cannot be told from here, and in doubt it is exposed.
        right = is_open_bind and (firewall != "none" or rules != "") or bool(seen)
    else:
        # Doubt needs its reason.
        right = word != "cannot-tell" or routed
    return right, word, around, said


def looked_at(program, *places):
    """A cell; one that is wrong is looked at again with time: on a busy machine a dial may have missed an answer."""
    global patience
    found = cell(program, *places)
    if not found[0]:
        patience = 5
        found = cell(program, *places)
        patience = 0.4
    return found


def main(program):
    wrong, count, tally = 0, 0, {}
    build()
    box = start(BOX, "container", ["0.0.0.0"])
    time.sleep(0.5)
    try:
        for bind, forward, firewall in itertools.product(BINDS, FORWARDS, FIREWALLS):
            right, word, around, said = looked_at(program, bind, forward, firewall)
            count += 1
            wrong += not right
            reach = ", ".join(sorted({where for where, _ in around})) or "nobody"
            tally[(word, bool(around))] = tally.get((word, bool(around)), 0) + 1
            print(f"{'ok   ' if right else 'WRONG'} {bind:34} {forward:34} {firewall:11} {word:14} reached by {reach}", flush=True)
            if not right:
                print(f"      {said}\n      {around}")
    finally:
        stop(box)
        for ns in (GATE, HOME, CAFE, BOX):
            run("ip", "netns", "del", ns, check=False)
    for (word, reached), n in sorted(tally.items()):
        print(f"{n:4} {word}, {'reached' if reached else 'not reached'}")
    print(f"{count} cells, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))

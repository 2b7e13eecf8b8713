#!/usr/bin/env python3
"""Starts about a hundred sockets of real programs in a network namespace of its own and compares `loopgate audit --json` with
`ss -tulpnH` row by row: protocol, address, port, device, how many, and whose. Then the table as a person sees it, and the exit code.

usage: audit.py LOOPGATE     (root; iproute2, nginx, node, socat)
"""
import collections, json, os, pty, re, shutil, signal, subprocess, sys, tempfile, time

NS = f"lga{os.getpid()}"
LAN, LAN6 = "192.168.77.1", "fd77::1"
children, work, failed, passed = [], tempfile.mkdtemp(prefix="audit"), 0, 0

# Sockets in numbers, as small services open them: arguments are PROTOCOL,ADDRESS,PORT[,FLAGS]. r reuseport, o only IPv6, l held to lo.
MANY = """
import socket, sys, time
held = []
for text in sys.argv[1:]:
    kind, address, port, *flags = text.split(',')
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
    if 'r' in flags: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 'o' in flags)
    if 'l' in flags: s.setsockopt(socket.SOL_SOCKET, 25, b'lo')
    s.bind((address, int(port)))
    if kind == 'tcp': s.listen(8)
    held.append(s)
print('ready', flush=True)
time.sleep(600)
"""
NODE = """
const net = require('net'), dgram = require('dgram');
let left = 5;
const done = () => { if (--left === 0) console.log('ready'); };
net.createServer().listen(7001, done);
net.createServer().listen(7002, '127.0.0.1', done);
net.createServer().listen({ port: 7003, host: '::', ipv6Only: true }, done);
dgram.createSocket('udp4').bind(7004, '127.0.0.1', done);
dgram.createSocket('udp6').bind(7005, '::1', done);
setTimeout(() => {}, 600000);
"""
NGINX = """
daemon off; worker_processes 2; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{}}
http {{
  access_log off;
  server {{ listen 7101; listen [::]:7101 ipv6only=on; listen 127.0.0.1:7102; listen [::1]:7102; return 204; }}
  server {{ listen 127.0.0.1:7103 reuseport; listen {lan}:7104; listen 127.0.0.9:7105; return 204; }}
}}
"""


def inside(*words, **more):
    return subprocess.run(["ip", "netns", "exec", NS, *words], capture_output=True, text=True, **more)


def start(*words, ready=False):
    child = subprocess.Popen(["ip", "netns", "exec", NS, *words], stdout=subprocess.PIPE if ready else subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True, start_new_session=True)
    children.append(child)
    if ready and child.stdout.readline() != "ready\n":
        raise SystemExit(f"{words[0]} did not start")
    return child


def stop(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def check(name, good, more=""):
    global failed, passed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok   ' if good else 'FAIL '} {name}{'' if good else f': {more}'}", flush=True)


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise SystemExit("a program did not start in time")
        time.sleep(0.05)


def ss():
    """Rows of ss: (protocol, address, port) -> list of (device, set of pids)."""
    rows = collections.defaultdict(list)
    for line in inside("ss", "-tulpnH").stdout.splitlines():
        words = line.split()
        address, port = words[4].rsplit(":", 1)
        address, _, device = address.strip("[]").partition("%")
        # `*` is what ss calls a socket of both families.
        address = {"*": "::"}.get(address, address.split("]")[0])
        rows[words[0], address, int(port)].append((device, {int(n) for n in re.findall(r"pid=(\d+)", line)}))
    return rows


def audit(*more):
    done = inside(GATE, "audit", "--json", *more)
    told = json.loads(done.stdout)
    rows = collections.defaultdict(list)
    for row in told["sockets"]:
        address, port = row["address"].rsplit(":", 1)
        rows[row["protocol"], address.strip("[]"), int(port)].append(row)
    return rows, told, done.returncode


def compare():
    """Both until they agree: a program that has just been started may open its sockets between the two."""
    for _ in range(20):
        ours, told, code = audit()
        theirs = ss()
        wrong = []
        for key in sorted(set(ours) | set(theirs)):
            mine, there = ours.get(key, []), theirs.get(key, [])
            if sum(row["sockets"] for row in mine) != len(there):
                wrong.append((key, "number", [row["sockets"] for row in mine], there))
                continue
            pids = {pid for row in mine for pid in row["pids"]}
            if any(not holders & pids for _, holders in there) or not pids <= set().union(*(h for _, h in there)):
                wrong.append((key, "holders", pids, there))
            if any((device == "lo") and not any(row["exposure"] == "this-machine" for row in mine) for device, _ in there):
                wrong.append((key, "device", mine, there))
            # Who can reach it, by the address alone: what ss shows decides it.
            loop = key[1].startswith("127.") or key[1] in ("::1", "::ffff:127.0.0.1") or all(device == "lo" for device, _ in there)
            if any((row["exposure"] == "this-machine") != loop for row in mine):
                wrong.append((key, "exposure", [row["exposure"] for row in mine], there))
        if not wrong:
            break
        time.sleep(0.2)
    sockets = sum(len(rows) for rows in theirs.values())
    for line in wrong:
        print("     ", *line)
    check(f"{sockets} sockets in {len(theirs)} places: audit and ss agree in every row", not wrong, f"{len(wrong)} rows differ")
    check("at least a hundred", sockets >= 100, str(sockets))
    check("something unguarded is open: exit 4", code == 4, str(code))
    holders = collections.Counter(row["process"] for rows in ours.values() for row in rows)
    check("python, nginx, node and socat are among them", {"python3", "nginx", "node", "socat"} <= set(holders), str(holders))
    check("a Unix socket is none", not any("unix" in json.dumps(row) for row in told["sockets"]))
    row = ours["tcp", "0.0.0.0", 7000][0]
    check("http.server has its repair", row["standing"] == "unguarded" and "--bind 127.0.0.1" in row["advice"], str(row))
    row = ours["tcp", "::", 7001][0]
    check("node without a host too", "127.0.0.1" in row["advice"] and row["standing"] == "unguarded", str(row))
    row = ours["tcp", "0.0.0.0", 7300][0]
    check("two processes at one place are both named", len(row["pids"]) == 2 and row["sockets"] == 2, str(row))
    row = ours["udp", "0.0.0.0", 7401][0]
    check("udp as well", row["standing"] == "unguarded", str(row))


def table():
    text = inside(GATE, "audit").stdout
    widest = max(text.splitlines(), key=len)
    check("the table fits in 80 columns", len(widest) <= 80, widest)
    check("into a pipe no colours", "\x1b" not in text)

    def terminal(**more):
        got = b""
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm", **more)
            os.execvp("ip", ["ip", "netns", "exec", NS, GATE, "audit"])
        while True:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            got += data
        os.waitpid(pid, 0)
        return got.decode()

    check("on a terminal colours", "\x1b[" in terminal())
    check("not with NO_COLOR", "\x1b[" not in terminal(NO_COLOR="1"))


def gate():
    """The gate's own listeners, and nothing open but them."""
    path = f"{work}/loopgate.toml"

    def write(port, more=""):
        with open(path, "w") as file:
            file.write(f'[log]\naccess = "off"\n[[listener]]\naddress = "0.0.0.0:{port}"\nnetworks = {{ allow = ["192.168.77.0/24", "loopback"] }}\n')
            file.write(f'[[listener]]\naddress = "{LAN}:7501"\nnetworks = {{ allow = ["10.0.0.0/8"] }}\n{more}\n[[route]]\nupstream = "127.0.0.1:7002"\naccess = "anyone"\n')

    write(7500, 'only_on = ["10.99.0.0/16"]')
    os.mkdir(f"{work}/state", 0o700)
    os.environ["STATE_DIRECTORY"] = f"{work}/state"
    served = start(GATE, "serve", "-c", path)
    until(lambda: any(key[2] == 7500 for key in ss()))
    rows, told, code = audit("-c", path)
    row = rows["tcp", "0.0.0.0", 7500][0]
    check("the gate's listener is marked, with what it lets in", row["standing"] == "gate" and "192.168.77.0/24" in row["advice"], str(row))
    check("a listener that only_on closes is not shown as open", not any(key[2] == 7501 for key in rows), str(list(rows)))
    check("only guarded sockets are open: exit 0", code == 0, f"{code} {[r for r in told['sockets'] if r['standing'] == 'unguarded']}")
    text = inside(GATE, "audit", "-c", path).stdout
    check("the table says so", re.search(r"^# tcp 0\.0\.0\.0:7500 .*loopgate", text, re.M) and "Nothing is open without a guard" in text, text)
    stranger = start(sys.executable, "-c", MANY, f"tcp,{LAN},7501", ready=True)
    rows, _, code = audit("-c", path)
    row = rows["tcp", LAN, 7501][0]
    check("a stranger at the closed listener's address is no gate", row["standing"] == "unguarded" and code == 4, f"{code} {row}")
    stop(stranger)
    stop(served)


def main():
    subprocess.run(["ip", "netns", "add", NS], check=True)
    for words in ("link set lo up", "link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up", f"addr add {LAN}/24 dev eth0", f"addr add {LAN6}/64 dev eth0 nodad"):
        if (done := inside("ip", *words.split())).returncode:
            raise SystemExit(done.stderr)
    many = []
    for n, address in enumerate(["127.0.0.1", "127.0.0.2", "127.9.9.9", "::1", "0.0.0.0", LAN, LAN6, "::ffff:127.0.0.1"]):
        for port in range(3):
            many += [f"{kind},{address},{7600 + 10 * n + port},{'o' if address in ('::1', LAN6) else ''}" for kind in ("tcp", "udp")]
    many += [f"{kind},0.0.0.0,{port},l" for kind, port in (("tcp", 7710), ("udp", 7711))] + ["tcp,::,7712,o", "tcp,::,7713", "udp,::,7714,o", "udp,::,7715"]
    many += [f"tcp,127.0.0.1,{port}" for port in range(7720, 7740)]
    start(sys.executable, "-c", MANY, *many, ready=True)
    for _ in range(2):
        start(sys.executable, "-c", MANY, "tcp,0.0.0.0,7300,r", "tcp,127.0.0.1,7301,r", "udp,127.0.0.1,7302,r", ready=True)
    start(sys.executable, "-m", "http.server", "7000", "--directory", work, "--bind", "0.0.0.0")
    start(sys.executable, "-m", "http.server", "7010", "--directory", work, "--bind", "127.0.0.2")
    start(sys.executable, "-m", "http.server", "7011", "--directory", work, "--bind", "::")
    start("node", "-e", NODE, ready=True)
    with open(f"{work}/nginx.conf", "w") as file:
        file.write(NGINX.format(work=work, lan=LAN))
    start("nginx", "-p", work, "-c", f"{work}/nginx.conf", "-e", f"{work}/nginx.log")
    for words in ("TCP-LISTEN:7400,fork", "UDP-RECVFROM:7401,fork", "TCP6-LISTEN:7402,ipv6only=1,fork", "TCP-LISTEN:7403,bind=127.0.0.1,fork", "UDP6-RECVFROM:7404,bind=[::1],fork", f"UNIX-LISTEN:{work}/unix.sock,fork"):
        start("socat", words, "/dev/null")
    until(lambda: {7000, 7010, 7011, 7001, 7101, 7105, 7400, 7401, 7402, 7403, 7404} <= {key[2] for key in ss()})
    compare()
    table()
    for child in children:
        stop(child)
    # What the gate serves, and nothing that is open.
    start(sys.executable, "-c", MANY, "tcp,127.0.0.1,7002", "udp,127.0.0.1,7003", ready=True)
    gate()


if __name__ == "__main__":
    GATE = os.path.abspath(sys.argv[1])
    try:
        main()
    finally:
        for child in children:
            stop(child)
        subprocess.run(["ip", "netns", "del", NS])
        shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)

#!/usr/bin/env python3
"""loopgate beside nginx and HAProxy on one machine: CPU time a request, in interleaved rounds.

    tests/bench/run.sh                             # installs and builds what is missing, then three rounds of everything
    tests/bench/run.py --only w1,w2 --rounds 5     # once the tools are there
    tests/bench/run.py --gate target/release/loopgate --json rounds.jsonl

All traffic stays on 127.0.0.1, every load is bounded in time, every process is started here and ended here by its id.
docs/performance.md says what each workload is and how to read the table."""
import argparse, base64, json, os, random, re, shutil, socket, ssl, statistics, subprocess, sys, tempfile, time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
USER, PASSWORD = "bench", "correct horse battery staple"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
NETWORKS = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"]
NETWORKS += [f"198.18.{8 * i}.0/21" for i in range(15)] + ["127.0.0.0/8"]          # loopback last
MANY_NETWORKS = [f"10.{i // 256}.{i % 256}.0/24" for i in range(10000)] + ["127.0.0.0/8"]
DOWN, UP = 256, 128                                                                # MiB
TICK = os.sysconf("SC_CLK_TCK")


def out(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def family(pid):
    """The process and all below it."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as f:
                children.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
        except OSError:
            pass
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu(pids):
    """Seconds, to the nanosecond: the clock of each process (clock_getcpuclockid(3)), its ended threads included."""
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime(~pid << 3 | 2)
        except OSError:
            pass
    return total


def resident_kib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as f:
            total += int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
    return total


def machine_busy():
    with open("/proc/stat") as f:
        fields = list(map(int, f.readline().split()[1:9]))
    return (sum(fields) - fields[3] - fields[4]) / TICK


class Peer:
    """One proxy with one configuration."""

    def __init__(self, kind, work, upstream, variant="", gate=""):
        self.kind, self.variant, self.gate, self.upstream = kind, variant, gate, upstream
        self.name = kind + (f" ({variant})" if variant else "")
        self.port, self.dir = free_port(), tempfile.mkdtemp(dir=work)
        os.chmod(self.dir, 0o755)
        self.log = open(os.path.join(self.dir, "output"), "wb")
        command = getattr(self, kind)(work)
        self.process = subprocess.Popen(command, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True, env=dict(os.environ, STATE_DIRECTORY=self.dir))
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.3).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        self.log.flush()
        sys.exit(f"{self.name} did not start:\n{open(self.log.name, errors='replace').read()[-2000:]}")

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def nginx(self, work):
        auth = allow = more = ""
        if "auth" in self.variant:
            auth = f'auth_basic "x"; auth_basic_user_file {self.write("users", f"{USER}:{bcrypt()}")};'
        if self.variant == "10,000 networks":
            more = "geo $inside { default 0; " + " ".join(f"{n} 1;" for n in MANY_NETWORKS) + " }"
            allow = "if ($inside = 0) { return 403; }"
        else:
            allow = " ".join(f"allow {n};" for n in NETWORKS) + " deny all;"
        tls = f"ssl_certificate {work}/cert.pem; ssl_certificate_key {work}/key.pem; ssl_protocols TLSv1.3;"
        listen = f"listen 127.0.0.1:{self.port} ssl http2"
        if self.variant == "1,000 hosts":
            more = "server_names_hash_max_size 16384; " + "".join(
                f"server {{ {listen}; server_name h{i}.example; return 404; }} " for i in range(1000))
        temporary = " ".join(f"{k}_temp_path {self.dir}/{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return ["nginx", "-p", self.dir, "-c", self.write("nginx.conf", f"""
worker_processes 2; worker_cpu_affinity auto; worker_rlimit_nofile 20000; daemon off; pid nginx.pid; error_log stderr crit; user root;
events {{ worker_connections 8192; multi_accept on; use epoll; }}
http {{
  {temporary} access_log off; server_tokens off; tcp_nodelay on; keepalive_timeout 600s; keepalive_requests 1000000000;
  http2_max_concurrent_streams 256; {tls} ssl_session_cache shared:S:10m; ssl_buffer_size 16k; client_max_body_size 0;
  proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_buffer_size 16k; proxy_buffers 8 32k; proxy_busy_buffers_size 64k;
  client_body_buffer_size 128k; http2_body_preread_size 1m; http2_recv_buffer_size 1m;
  upstream up {{ server 127.0.0.1:{self.upstream}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }}
  map $http_upgrade $connection_up {{ default upgrade; '' ''; }}
  {more}
  server {{ {listen} reuseport backlog=4096; server_name localhost; {allow} {auth}
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_set_header Connection $connection_up; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto https; proxy_read_timeout 600s; }}
  }}
}}""")]

    def haproxy(self, work):
        inside = self.write("networks", "\n".join(NETWORKS) + "\n")
        users = auth = ""
        if "auth" in self.variant:
            users = f"userlist u\n  user {USER} password {bcrypt()}"
            auth = "  http-request auth realm x unless { http_auth(u) }"
        return ["haproxy", "-W", "-db", "-f", self.write("haproxy.cfg", f"""global
  nbthread 2
  maxconn 9000
  ssl-default-bind-options ssl-min-ver TLSv1.3
  tune.ssl.cachesize 20000
  tune.h2.initial-window-size 1048576
  tune.h2.max-concurrent-streams 256
{users}
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{self.port} ssl crt {work}/both.pem alpn h2,http/1.1 backlog 4096
  tcp-request connection reject unless {{ src -f {inside} }}
{auth}
  http-request set-header X-Forwarded-Proto https
  default_backend b
backend b
  server s 127.0.0.1:{self.upstream} pool-max-conn 512 maxconn 2000
""")]

    def loopgate(self, work):
        auth, access = "", "anyone"
        if "auth" in self.variant:
            stored = argon2id(self.gate) if "argon2id" in self.variant else bcrypt()
            auth, access = f'[auth]\nusers_file = "{self.write("users", f"{USER}:{stored}", 0o600)}"', "users"
        networks = MANY_NETWORKS if self.variant == "10,000 networks" else NETWORKS
        log = os.path.join(self.dir, "access") if self.variant == "JSON log" else "off"
        hosts = 1000 if self.variant == "1,000 hosts" else 0
        more = "".join(f'[[route]]\nhosts = ["h{i}.example"]\nupstream = "127.0.0.1:{self.upstream}"\naccess = "nobody"\n'
                       for i in range(hosts))
        return [self.gate, "serve", "-c", self.write("loopgate.toml", f"""
[server]
workers = 2
[limits]
connections = 20000
connections_per_client = 20000
[log]
access = "{log}"
format = "json"
[[listener]]
address = "127.0.0.1:{self.port}"
networks = {{ allow = {json.dumps(networks)} }}
tls = {{ chain = "{work}/cert.pem", key = "{work}/key.pem" }}
{auth}
[[route]]
upstream = "127.0.0.1:{self.upstream}"
access = "{access}"
{more}""")]

    def stop(self):
        pids = family(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in pids:                      # ours: found below the process that was started here
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            self.process.wait(5)


def client(work):
    """All peers use the same cipher, the one that browsers ask for first."""
    with open(f"{work}/client.cnf", "w") as f:
        f.write("openssl_conf = d\n[d]\nssl_conf = s\n[s]\nsystem_default = x\n[x]\nCiphersuites = TLS_AES_128_GCM_SHA256\n")
    CLIENT.update(os.environ, OPENSSL_CONF=f"{work}/client.cnf")


def bcrypt(kept=[]):
    if not kept:
        kept.append(out("htpasswd", "-nbBC", "10", USER, PASSWORD).strip().split(":", 1)[1])
    return kept[0]


def argon2id(gate):
    return out(gate, "hash-password", input=PASSWORD + "\n").strip()


def headers(peer):
    return ["-H", f"authorization: {BASIC}"] if "auth" in peer.variant else []


def wrk(peer, connections, seconds, *more):
    text = subprocess.run(["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "20s", *headers(peer), *more,
                           f"https://localhost:{peer.port}/1k"], capture_output=True, text=True, env=CLIENT).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    return {"n": int(re.search(r"(\d+) requests in", text)[1]), "bad": int(bad[1]) if bad else 0,
            "p99_us": float(p99[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[p99[2]]}


def h2load(peer, seconds):
    text = out("h2load", "-t1", "-c16", "-m16", "-D", str(seconds), *headers(peer), f"https://127.0.0.1:{peer.port}/1k", env=CLIENT)
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    return {"n": int(found[1]), "bad": int(found[2]) + int(found[3])}


def curl(peer, version, body, work):
    more = ["-X", "POST", "-H", "Expect:", "-T", f"{work}/upload"] if body else []
    path = "sink" if body else f"mib/{DOWN}"
    code, down, up = out("curl", "-sk", f"--http{version}", "-o", "/dev/null", "--max-time", "90", "-w", "%{http_code} %{size_download} %{size_upload}",
                         *more, f"https://localhost:{peer.port}/{path}", env=CLIENT).split()
    size, want = (int(up), UP) if body else (int(down), DOWN)
    return {"n": size / 2**30, "bad": int(code != "200" or size != want << 20)}


def ping_pong(peer, seconds, tools):
    text = out(tools, "websocket", str(peer.port), "32", str(seconds), *([BASIC] if "auth" in peer.variant else []))
    found = json.loads(text.splitlines()[-1])
    return {"n": found["messages"], "bad": found["errors"], "p99_us": found["p99_us"]}


def idle(peer, count):
    """KiB of resident memory for each idle connection that has served one request, and MiB before the first."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def one():
        stream = context.wrap_socket(socket.create_connection(("127.0.0.1", peer.port), 10), server_hostname="localhost")
        stream.sendall(f"GET /1k HTTP/1.1\r\nHost: localhost:{peer.port}\r\n\r\n".encode())
        got = b""
        while len(got.partition(b"\r\n\r\n")[2]) < 1024:
            more = stream.recv(65536)
            if not more:
                raise OSError("closed")
            got += more
        return stream

    at_start = resident_kib(family(peer.process.pid))
    for _ in range(50):
        one().close()
    time.sleep(0.5)
    before = resident_kib(family(peer.process.pid))
    held = [one() for _ in range(count)]
    time.sleep(1)
    after = resident_kib(family(peer.process.pid))
    for stream in held:
        stream.close()
    return {"n": 1, "bad": 0, "value": (after - before) / count, "start_mib": at_start / 1024}


def certificate(work):
    out("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{work}/key.pem", "-out", f"{work}/cert.pem")
    with open(f"{work}/both.pem", "w") as both:
        both.write(open(f"{work}/cert.pem").read() + open(f"{work}/key.pem").read())
    os.chmod(f"{work}/key.pem", 0o600)


# name: title, unit, factor from CPU seconds, peers as (kind, variant)
PLAIN = [("nginx", ""), ("haproxy", ""), ("loopgate", "")]
AUTH = [("nginx", "auth"), ("haproxy", "auth"), ("loopgate", "auth")]
OURS = [("loopgate", ""), ("loopgate", "auth argon2id"), ("nginx", "auth")]
WORK = {
    "w1": ("W1 HTTP/1.1, 64 connections, 1 KiB", "µs", 1e6, PLAIN + [("loopgate", "JSON log")], lambda p, a: wrk(p, 64, a.seconds)),
    "w2": ("W2 HTTP/2, 16 × 16 streams, 1 KiB", "µs", 1e6, PLAIN + [("loopgate", "JSON log")], lambda p, a: h2load(p, a.seconds)),
    "w3": ("W3 new TLS connection a request", "µs", 1e6, PLAIN, lambda p, a: wrk(p, 16, a.seconds, "-H", "Connection: close")),
    "w4d1": ("W4 download, HTTP/1.1", "s/GiB", 1, PLAIN, lambda p, a: curl(p, "1.1", False, a.work)),
    "w4d2": ("W4 download, HTTP/2", "s/GiB", 1, PLAIN, lambda p, a: curl(p, "2", False, a.work)),
    "w4u1": ("W4 upload, HTTP/1.1", "s/GiB", 1, PLAIN, lambda p, a: curl(p, "1.1", True, a.work)),
    "w4u2": ("W4 upload, HTTP/2", "s/GiB", 1, PLAIN, lambda p, a: curl(p, "2", True, a.work)),
    "w5": ("W5 idle TLS connection", "KiB", 0, PLAIN, lambda p, a: idle(p, a.idle)),
    "w6": ("W6 as W1, password as bcrypt-10", "µs", 1e6, AUTH, lambda p, a: wrk(p, 64, a.seconds)),
    "w6argon": ("W6 as W1, no login, argon2id, and nginx with bcrypt-10", "µs", 1e6, OURS, lambda p, a: wrk(p, 64, a.seconds)),
    "w6cold": ("W6 first second of a new password, 64 connections", "answers", 0, AUTH, lambda p, a: first_second(p, a)),
    "w7": ("W7 WebSocket ping-pong, 32 connections", "µs", 1e6, PLAIN, lambda p, a: ping_pong(p, a.seconds, a.tools)),
    "w8": ("W8 as W1, 512 connections", "µs", 1e6, PLAIN, lambda p, a: wrk(p, 512, a.seconds)),
    "w8n": ("W8 as W1, 10,000 networks", "µs", 1e6, [("nginx", "10,000 networks"), ("loopgate", "10,000 networks")], lambda p, a: wrk(p, 64, a.seconds)),
    "w8h": ("W8 as W1, 1,000 hosts", "µs", 1e6, [("nginx", "1,000 hosts"), ("loopgate", "1,000 hosts")], lambda p, a: wrk(p, 64, a.seconds)),
}


def first_second(peer, a):
    """A process that has never seen the password; answers that were right within one second."""
    fresh = Peer(peer.kind, a.work, a.upstream, peer.variant, a.gate)
    try:
        found = wrk(fresh, 64, 1)
    finally:
        fresh.stop()
    return {"n": 1, "bad": found["bad"], "value": found["n"]}


def measure(peer, run, factor, a, upstream_pid):
    mine, theirs = family(peer.process.pid), [upstream_pid]
    before = machine_busy(), cpu(mine), cpu(theirs), sum(os.times()[2:4]), time.time()
    found = run(peer, a)
    after = machine_busy(), cpu(mine), cpu(theirs), sum(os.times()[2:4]), time.time()
    used = after[1] - before[1]
    others = after[0] - before[0] - used - (after[2] - before[2]) - (after[3] - before[3])
    found["others"] = max(0.0, others) / ((after[4] - before[4]) * os.cpu_count())
    found.setdefault("value", used * factor / found["n"] if found["n"] else None)
    return found


def logins(title, rows):
    """A line for each: what a login costs, beside none."""
    for kind, variant in OURS:
        mine = [r for r in rows if (r["kind"], r["variant"]) == (kind, variant)]
        if not mine:
            continue
        print(f"| {title}: {kind} {variant or 'no login'} | µs | {statistics.median(r['value'] for r in mine):,.2f} "
              f"| {statistics.median(r['n'] for r in mine):,.0f} answers a round | others {max(r['others'] for r in mine):.0%} |")


def table(rows):
    """Markdown: the median of all rounds, and the median of the ratios to nginx of the same round (worst round behind it)."""
    print("\n| work | unit | " + " | ".join(["nginx", "HAProxy", "loopgate", "loopgate, JSON log", "loopgate : nginx (worst round)", "others' CPU"]) + " |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (title, unit, _, peers, _) in WORK.items():
        mine = [r for r in rows if r["work"] == name and r["value"] is not None]
        if not mine:
            continue
        if peers is OURS:
            logins(title, mine)
            continue

        def cell(kind, logged=False):
            values = [r["value"] for r in mine if r["kind"] == kind and (r["variant"] == "JSON log") == logged]
            return f"{statistics.median(values):,.2f}" if values else "–"

        ratios = []
        for r in mine:
            base = [n["value"] for n in mine if n["kind"] == "nginx" and n["round"] == r["round"]]
            if r["kind"] == "loopgate" and r["variant"] != "JSON log" and base and base[0]:
                ratios.append(r["value"] / base[0])
        ratio = f"**{statistics.median(ratios):.2f}** ({max(ratios):.2f})" if ratios else "–"
        others = max(r["others"] for r in mine)
        print(f"| {title} | {unit} | {cell('nginx')} | {cell('haproxy')} | {cell('loopgate')} | {cell('loopgate', True)} | {ratio} | {others:.0%} |")
    starts = {}
    for r in rows:
        if "start_mib" in r:
            starts.setdefault(r["kind"], []).append(r["start_mib"])
    if starts:
        print("\nResident at start, MiB: " + ", ".join(f"{k} {statistics.median(v):.1f}" for k, v in starts.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", default=os.path.join(TOP, "target/release/loopgate"))
    parser.add_argument("--tools", default=os.path.join(TOP, "target/release/examples/bench_tools"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--idle", type=int, default=1000, help="connections of W5")
    parser.add_argument("--only", default=",".join(WORK), help="workloads, by comma")
    parser.add_argument("--json", help="where each measurement goes, a line each")
    a = parser.parse_args()
    a.gate, a.tools = os.path.realpath(a.gate), os.path.realpath(a.tools)
    missing = [t for t in ("nginx", "haproxy", "wrk", "h2load", "curl", "htpasswd", "openssl", a.gate, a.tools) if not shutil.which(t)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; tests/bench/run.sh installs and builds what is needed")
    a.work = tempfile.mkdtemp(prefix="loopgate-bench-")
    os.chmod(a.work, 0o755)
    certificate(a.work)
    with open(f"{a.work}/upload", "wb") as f:
        f.truncate(UP << 20)
    client(a.work)
    a.upstream = free_port()
    service = subprocess.Popen([a.tools, "upstream", str(a.upstream)], stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    peers, rows = {}, []
    log = open(a.json, "a") if a.json else None
    try:
        for turn in range(1, a.rounds + 1):
            for name in a.only.split(","):
                title, unit, factor, kinds, run = WORK[name]
                for kind, variant in random.sample(kinds, len(kinds)):
                    if (kind, variant) not in peers:
                        peers[kind, variant] = Peer(kind, a.work, a.upstream, variant, a.gate)
                        if name != "w6cold":
                            wrk(peers[kind, variant], 8, 1)
                    if name == "w5":
                        fresh = Peer(kind, a.work, a.upstream, variant, a.gate)
                        found = measure(fresh, run, factor, a, service.pid)
                        fresh.stop()
                    else:
                        found = measure(peers[kind, variant], run, factor, a, service.pid)
                    row = dict(found, round=turn, work=name, kind=kind, variant=variant)
                    rows.append(row)
                    if log:
                        log.write(json.dumps(row) + "\n")
                    value = "no answer" if row["value"] is None else f"{row['value']:,.2f} {unit}"
                    print(f"{turn}/{a.rounds} {title:52} {peers[kind, variant].name:28} {value:>16}  bad {row['bad']}  others {row['others']:.0%}", flush=True)
    finally:
        for peer in peers.values():
            peer.stop()
        service.terminate()
        shutil.rmtree(a.work, ignore_errors=True)
        table(rows)
    wrong = sum(r["bad"] for r in rows if r["kind"] == "loopgate")
    sys.exit(f"{wrong} answers of loopgate were wrong" if wrong else 0)


CLIENT = {}
if __name__ == "__main__":
    main()

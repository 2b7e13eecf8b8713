#!/usr/bin/env python3
"""How long requests take while others are a nuisance, for nginx, HAProxy and loopgate in turns.

    tests/bench/latency.py [--rounds 3] [--seconds 3] [--rate 2000]     # once tests/bench/run.sh has installed the tools

16 kept connections ask for 1 KiB at a fixed rate, which leaves the machine idle for most of the time; the figure is the 99th hundredth of
what they wait. Beside them: nothing; 50 clients that send a byte of a head a second and 20 that read a large answer at 8 KiB a second; a
download at 20 MiB a second; a login flood of 20 wrong passwords a second, which the proxies hash with bcrypt (cost 10)."""
import argparse, base64, itertools, os, socket, ssl, statistics, subprocess, sys, tempfile, threading, time
import run

PEERS = ["nginx", "haproxy", "loopgate"]


def p99(peer, a, more=()):
    log = os.path.join(a.work, "latency")
    if os.path.exists(log):
        os.remove(log)
    text = run.out("h2load", "--h1", "-t1", "-c16", f"--rps={a.rate // 16}", "-D", str(a.seconds + 1), "--log-file", log, *more,
                   f"https://127.0.0.1:{peer.port}/1k", env=run.CLIENT)
    rows = [line.split("\t") for line in open(log)]
    # The first second is for the handshakes.
    begun = min(int(row[0]) for row in rows) + 1_000_000
    waits = sorted(int(row[2]) for row in rows if row[1] == "200" and int(row[0]) >= begun)
    if len(waits) < a.rate * a.seconds * 0.8:
        sys.exit(f"{peer.name}: only {len(waits)} answers\n{text}")
    return waits[len(waits) * 99 // 100] / 1000


class Nuisance:
    """Something in the background, ended when left."""

    def __init__(self, peer, work):
        self.peer, self.work, self.over, self.threads, self.processes = peer, work, threading.Event(), [], []

    def __enter__(self):
        self.begin()
        time.sleep(0.5)

    def __exit__(self, *_):
        self.over.set()
        for process in self.processes:
            process.terminate()
            process.wait()
        for thread in self.threads:
            thread.join()

    def begin(self):
        pass

    def run(self, target):
        self.threads.append(threading.Thread(target=target))
        self.threads[-1].start()

    # One for all, without the system's authorities: to read those takes longer than a hash.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connect(self, address="127.0.0.1"):
        return self.context.wrap_socket(socket.create_connection(("127.0.0.1", self.peer.port), 10, (address, 0)), server_hostname="localhost")


class Nothing(Nuisance):
    name = "nothing"


class Slow(Nuisance):
    name = "70 slow clients"

    def begin(self):
        heads, reads = [self.connect() for _ in range(50)], [self.connect() for _ in range(20)]
        for stream in heads:
            stream.sendall(b"GET /1k HTTP/1.1\r\nHost: localhost\r\nX: ")
        for stream in reads:
            stream.sendall(b"GET /mib/64 HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def drip():
            while not self.over.wait(1):
                for stream in heads:
                    try:
                        stream.sendall(b"x")
                    except OSError:
                        pass
                for stream in reads:
                    try:
                        stream.recv(8192)
                    except OSError:
                        pass
            for stream in heads + reads:
                stream.close()
        self.run(drip)


class Download(Nuisance):
    name = "a download, 20 MiB/s"

    def begin(self):
        url = f"https://127.0.0.1:{self.peer.port}/mib/1024"
        self.processes.append(subprocess.Popen(["curl", "-sk", "--http1.1", "--limit-rate", "20M", "-o", "/dev/null", "--max-time", "60", url]))


class Flood(Nuisance):
    name = "20 wrong logins a second"
    tries = itertools.count()

    def begin(self):
        self.answers = []
        # Each from an address of its own, or it would be locked out and nothing hashed any more; for a name that is nobody's, which costs
        # the same, or that name would be.
        def guess(number):
            while not self.over.wait(0.2):
                tries = next(self.tries)
                wrong = base64.b64encode(f"nobody{number}-{tries}:wrong".encode()).decode()
                try:
                    with self.connect(f"127.1.{tries // 250}.{tries % 250 + 1}") as stream:
                        stream.settimeout(5)
                        stream.sendall(f"GET /1k HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {wrong}\r\n\r\n".encode())
                        self.answers.append(stream.recv(65536)[9:12])
                except OSError:
                    self.answers.append(b"")
        for number in range(4):
            self.run(lambda number=number: guess(number))

    def __exit__(self, *rest):
        super().__exit__(*rest)
        if set(self.answers) != {b"401"}:
            sys.exit(f"the flood was not what it should be: {set(self.answers)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", default=os.path.join(run.TOP, "target/release/loopgate"))
    parser.add_argument("--tools", default=os.path.join(run.TOP, "target/release/examples/bench_tools"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=2000)
    a = parser.parse_args()
    a.work = tempfile.mkdtemp(prefix="latency-")
    os.chmod(a.work, 0o755)
    run.certificate(a.work)
    run.client(a.work)
    upstream_port = run.free_port()
    upstream = subprocess.Popen([a.tools, "upstream", str(upstream_port)], stdin=subprocess.DEVNULL)
    peers = []
    try:
        time.sleep(0.3)
        found = {}
        for nuisance in (Nothing, Slow, Download, Flood):
            # Who hashes at every request cannot be asked 2000 times a second: beside the flood only loopgate's visitors log in.
            kinds = PEERS if nuisance is not Flood else ["loopgate"]
            for kind in kinds:
                variant = "auth" if nuisance is Flood else ""
                peer = run.Peer(kind, a.work, upstream_port, variant, a.gate)
                peers.append(peer)
                more = run.headers(peer)
                p99(peer, argparse.Namespace(**{**vars(a), "seconds": 1}), more)
                for _ in range(a.rounds):
                    alone = p99(peer, a, more)
                    with nuisance(peer, a.work):
                        found.setdefault((nuisance.name, kind), []).append((alone, p99(peer, a, more)))
                    print(".", end="", file=sys.stderr, flush=True)
                peer.stop()
        print(file=sys.stderr)
    finally:
        for peer in peers:
            peer.stop()
        upstream.terminate()
    print("| beside | proxy | p99 alone, ms | p99 beside it, ms | ratio (worst) |\n| --- | --- | ---: | ---: | ---: |")
    for (nuisance, kind), pairs in found.items():
        alone, beside = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        ratios = sorted(b / a for a, b in pairs)
        print(f"| {nuisance} | {kind} | {alone:.2f} | {beside:.2f} | {statistics.median(ratios):.2f} ({ratios[-1]:.2f}) |")


if __name__ == "__main__":
    main()

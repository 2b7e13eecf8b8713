#!/usr/bin/env python3
"""From the start of the process to the first answer, and what a reload costs those who are served meanwhile, by number of routes.

    tests/bench/startup.py [--gate target/release/loopgate] [--tools target/release/examples/bench_tools]

Certificates are there already. Each start is a new process, a new TLS connection and one request; a reload is a HUP, while one
connection asks without pause."""
import argparse, os, shutil, signal, socket, ssl, statistics, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import run

CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE


def config(work, port, upstream, routes):
    path = os.path.join(work, "loopgate.toml")
    more = "".join(f'[[route]]\nhosts = ["h{i}.example"]\nupstream = "127.0.0.1:{upstream}"\naccess = "nobody"\n' for i in range(routes - 1))
    with open(path, "w") as f:
        f.write(f'[log]\naccess = "off"\n[[listener]]\naddress = "127.0.0.1:{port}"\n'
                f'tls = {{ chain = "{work}/cert.pem", key = "{work}/key.pem" }}\nnetworks = {{ allow = ["loopback"] }}\n'
                f'[[route]]\nhosts = ["localhost"]\nupstream = "127.0.0.1:{upstream}"\naccess = "anyone"\n{more}')
    return path


def connect(port, limit=30):
    end = time.monotonic() + limit
    while True:
        try:
            plain = socket.create_connection(("127.0.0.1", port), 5)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return CONTEXT.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.0005)


def ask(stream, port):
    stream.sendall(f"GET /1k HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    got = b""
    while len(got.partition(b"\r\n\r\n")[2]) < 1024:
        more = stream.recv(4096)
        if not more:
            sys.exit("the connection ended")
        got += more
    if not got.startswith(b"HTTP/1.1 200"):
        sys.exit(got.decode(errors="replace"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", default=os.path.join(run.TOP, "target/release/loopgate"))
    parser.add_argument("--tools", default=os.path.join(run.TOP, "target/release/examples/bench_tools"))
    parser.add_argument("--starts", type=int, default=11)
    a = parser.parse_args()
    a.gate, a.tools = os.path.realpath(a.gate), os.path.realpath(a.tools)
    missing = [t for t in (a.gate, a.tools, "openssl") if not shutil.which(t)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    work = tempfile.mkdtemp(prefix="loopgate-start-")
    run.certificate(work)
    os.chmod(f"{work}/key.pem", 0o600)
    upstream = run.free_port()
    service = subprocess.Popen([a.tools, "upstream", str(upstream)], stdin=subprocess.DEVNULL)
    env = {**os.environ, "STATE_DIRECTORY": work}
    try:
        time.sleep(0.3)
        print("| routes | start to first answer, ms: median (worst) | a reload, ms | longest answer meanwhile, ms (without a reload) |\n| ---: | ---: | ---: | ---: |")
        for routes in (1, 100, 10_000):
            port = run.free_port()
            command = [a.gate, "serve", "-c", config(work, port, upstream, routes)]
            took = []
            for _ in range(a.starts):
                begun = time.perf_counter()
                gate = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
                stream = connect(port)
                ask(stream, port)
                took.append((time.perf_counter() - begun) * 1e3)
                stream.close()
                gate.terminate()
                gate.communicate(timeout=30)
            gate = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
            stream, reloaded = connect(port), threading.Event()

            def events():
                for line in gate.stderr:
                    if "config_reloaded" in line or "config_rejected" in line:
                        reloaded.set()

            threading.Thread(target=events, daemon=True).start()

            def longest(until, limit=20):
                worst, end = 0, time.monotonic() + limit
                while not until() and time.monotonic() < end:
                    begun = time.perf_counter()
                    ask(stream, port)
                    worst = max(worst, time.perf_counter() - begun)
                return worst * 1e3

            quiet, reloads, stalls = [], [], []
            for _ in range(5):
                end = time.monotonic() + 0.3
                quiet.append(longest(lambda: time.monotonic() > end))
                # The plan has to differ, or there is nothing to do.
                with open(command[-1], "a") as f:
                    f.write("# again\n")
                reloaded.clear()
                begun = time.perf_counter()
                gate.send_signal(signal.SIGHUP)
                stalls.append(longest(reloaded.is_set))
                reloads.append((time.perf_counter() - begun) * 1e3)
                time.sleep(1)
            gate.terminate()
            gate.wait(30)
            print(f"| {routes:,} | {statistics.median(took):.1f} ({max(took):.1f}) | {statistics.median(reloads):.0f} | "
                  f"{statistics.median(stalls):.1f} ({statistics.median(quiet):.1f}) |", flush=True)
    finally:
        service.terminate()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

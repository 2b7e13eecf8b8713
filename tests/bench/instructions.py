#!/usr/bin/env python3
"""Instructions of the gate's own code for one request, counted by callgrind: the same however busy the machine is.

    tests/bench/instructions.py [--gate target/release/loopgate] [--top 15]

The gate runs under valgrind with one data thread, is asked N and then 2N times, and the difference is divided by N. The kernel's
part is not seen; calls into it are counted by `strace -c` (docs/performance.md)."""
import argparse, collections, os, re, shutil, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import run

N = 3000
KINDS = {"HTTP/1.1": ("", ["--h1", "-c4"]), "HTTP/1.1 with a password": ("auth", ["--h1", "-c4"]), "HTTP/1.1, JSON log": ("JSON log", ["--h1", "-c4"]),
         "HTTP/2": ("", ["-c4", "-m16"]), "HTTP/2 with a password": ("auth", ["-c4", "-m16"])}


class Counted(run.Peer):
    """A gate under callgrind."""

    def loopgate(self, work):
        config = super().loopgate(work)[-1]
        text = open(config).read().replace("workers = 2", "workers = 1")
        open(config, "w").write(text)
        self.counts = os.path.join(self.dir, "callgrind")
        return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.counts}", self.gate, "serve", "-c", config]


def counted(a, variant, load, requests):
    """Instructions by function, of all threads, start and end included."""
    peer = Counted("loopgate", a.work, a.upstream, variant, a.gate)
    url = f"https://127.0.0.1:{peer.port}/1k"
    subprocess.run(["curl", "-sk", "-o", "/dev/null", *run.headers(peer), url], check=True)
    text = run.out("h2load", "-t1", *load, "-n", str(requests), *run.headers(peer), url)
    if f" {requests} succeeded" not in text:
        sys.exit(f"not every request succeeded:\n{text}")
    peer.process.terminate()
    peer.process.wait(60)
    found = collections.Counter()
    for line in run.out("callgrind_annotate", "--inclusive=no", "--threshold=100", "--auto=no", peer.counts).splitlines():
        match = re.match(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(\S+?):(.*?)(?: \[|$)", line)
        # The random generator measures the clock's jitter once at the start, for as long as it likes.
        if match and "jitterentropy" not in line:
            found[match[3]] += int(match[1].replace(",", ""))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", default=os.path.join(run.TOP, "target/release/loopgate"))
    parser.add_argument("--tools", default=os.path.join(run.TOP, "target/release/examples/bench_tools"))
    parser.add_argument("--only", help="a part of the names of what to count")
    parser.add_argument("--top", type=int, default=0, help="also list so many functions")
    a = parser.parse_args()
    a.gate, a.tools = os.path.realpath(a.gate), os.path.realpath(a.tools)
    missing = [t for t in ("valgrind", "h2load", "curl", "htpasswd", a.gate, a.tools) if not shutil.which(t)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    a.work = tempfile.mkdtemp(prefix="loopgate-count-")
    run.certificate(a.work)
    a.upstream = run.free_port()
    service = subprocess.Popen([a.tools, "upstream", str(a.upstream)], stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    try:
        for name, (variant, load) in KINDS.items():
            if a.only and a.only not in name:
                continue
            once, twice = counted(a, variant, load, N), counted(a, variant, load, 2 * N)
            each = {f: (twice[f] - once[f]) / N for f in twice}
            print(f"{name:28} {sum(each.values()):10,.0f} instructions a request", flush=True)
            for function, n in sorted(each.items(), key=lambda e: -e[1])[:a.top]:
                print(f"    {n:8,.0f}  {function[:110]}")
    finally:
        service.terminate()
        shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What somebody at a browser waits for: a page of Vite's dev server in Chromium over HTTP/2, and 1 GiB both ways over HTTP/1.1 and HTTP/2,
through nginx, Caddy and loopgate in interleaved rounds. tests/bench/page.sh installs and builds what is needed.

    tests/bench/page.sh                            # five rounds of everything
    tests/bench/page.sh --only page --rounds 3     # or --only gib

docs/performance.md says how to read the tables. The browser trusts the certificate by its own store; nothing is ignored."""
import argparse, json, os, random, shutil, socket, statistics, subprocess, sys, tempfile, time
import run
from run import NETWORKS, PASSWORD, TOP, USER, free_port, family, out

HOST = "page.home.arpa"
MODULES, PICTURES = 24, 6
TITLES = {"direct": "without a gate (http)", "nginx": "nginx", "caddy": "Caddy", "loopgate": "loopgate", "loopgate users": "loopgate, logged in"}


class Peer(run.Peer):
    def caddy(self, work):
        # Debian's nginx-light and Caddy as an expert would write them: the same networks, the same certificate, HTTP/2, keep-alive.
        return ["caddy", "run", "--adapter", "caddyfile", "--config", self.write("Caddyfile", f"""{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2
    }}
}}
https://{HOST}:{self.port}, https://localhost:{self.port} {{
    bind 127.0.0.1
    tls {work}/cert.pem {work}/key.pem {{
        protocols tls1.3
        curves x25519
    }}
    @outside not remote_ip {" ".join(NETWORKS)}
    abort @outside
    reverse_proxy 127.0.0.1:{self.upstream} {{
        transport http {{
            keepalive_idle_conns_per_host 256
        }}
    }}
}}
""")]


def certificate(work):
    out("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7", "-subj", f"/CN={HOST}",
        "-addext", f"subjectAltName=DNS:{HOST},DNS:localhost", "-keyout", f"{work}/key.pem", "-out", f"{work}/cert.pem")
    os.chmod(f"{work}/key.pem", 0o600)
    home = f"{work}/home"
    # One of the two places is read, by version of the browser.
    for store in (f"{home}/.pki/nssdb", f"{home}/.local/share/pki/nssdb"):
        os.makedirs(store)
        out("certutil", "-d", f"sql:{store}", "-N", "--empty-password")
        out("certutil", "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "bench", "-i", f"{work}/cert.pem")
    os.environ.update(HOME=home, XDG_DATA_HOME=f"{home}/.local/share", XDG_CONFIG_HOME=f"{home}/.config")


def vite(work):
    """A page of some forty parts: modules of 1 to 12 KiB that import each other, one of 340 KiB, styles, pictures of 20 to 120 KiB."""
    site, apps = f"{work}/site", os.path.join(TOP, "tests/browser/apps/node_modules")
    os.makedirs(f"{site}/public")
    chance = random.Random(6)

    def write(name, text):
        with open(f"{site}/{name}", "wb" if isinstance(text, bytes) else "w") as f:
            f.write(text)

    for n in range(1, MODULES + 1):
        below = [k for k in (2 * n, 2 * n + 1) if k <= MODULES]
        lines = [f'import {{ word as word{k} }} from "./module{k}.js";' for k in below]
        lines += [f'export const text{i} = "{chance.getrandbits(320):x}";' for i in range(chance.randint(10, 110))]
        lines.append("export const word = " + " + ".join(["1"] + [f"word{k}" for k in below]) + ";")
        write(f"module{n}.js", "\n".join(lines))
    for n in range(PICTURES):
        svg = "".join(f'<circle cx="{chance.randint(0, 99)}" cy="{chance.randint(0, 99)}" r="{n}"/>' for _ in range(600 * (n + 1)))
        write(f"public/picture{n}.svg", f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 99 99">{svg}</svg>')
    shutil.copy(f"{apps}/@xterm/xterm/lib/xterm.mjs", f"{site}/large.mjs")
    shutil.copy(f"{apps}/@xterm/xterm/css/xterm.css", f"{site}/style.css")
    write("index.html", '<!doctype html><title>page</title><link rel="icon" href="data:,">'
          + "".join(f'<img src="/picture{n}.svg" width="99" height="99" alt="">' for n in range(PICTURES))
          + '<h1 id="word"></h1><script type="module" src="/main.js"></script>')
    write("main.js", 'import "./style.css";\nimport { Terminal } from "./large.mjs";\nimport { word } from "./module1.js";\n'
          'document.querySelector("#word").textContent = `${word} ${typeof Terminal}`;\n')
    port = free_port()
    write("vite.config.mjs", f'export default {{ server: {{ allowedHosts: ["{HOST}"], watch: null }} }};')
    process = subprocess.Popen(["node", f"{apps}/vite/bin/vite.js", site, "--host", "127.0.0.1", "--port", str(port), "--strictPort"], cwd=site,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.3).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    sys.exit("Vite did not start")


def cookie(peer):
    """A session of the bench's user, as the browser would have it after the login page."""
    head = out("curl", "-sk", "-o", "/dev/null", "-D", "-", "-H", "Accept: text/html", "-u", f"{USER}:{PASSWORD}", f"https://localhost:{peer.port}/")
    name, value = next(line.split(": ", 1)[1].split(";")[0] for line in head.splitlines() if line.lower().startswith("set-cookie: __host-")).split("=", 1)
    return {"name": name, "value": value, "url": f"https://{HOST}:{peer.port}", "secure": True}


def page(a):
    service, upstream = vite(a.work)
    peers = []
    try:
        peers = [Peer("nginx", a.work, upstream), Peer("caddy", a.work, upstream), Peer("loopgate", a.work, upstream, "", a.gate),
                 Peer("loopgate", a.work, upstream, "auth argon2id", a.gate)]
        stage = [{"name": "direct", "url": f"http://127.0.0.1:{upstream}/", "pids": [], "protocol": "http/1.1"}]
        for peer in peers:
            logged_in = "auth" in peer.variant
            stage.append({"name": peer.kind + (" users" if logged_in else ""), "url": f"https://{HOST}:{peer.port}/", "pids": family(peer.process.pid),
                          "protocol": "h2", "cookies": [cookie(peer)] if logged_in else []})
        wanted = {"rounds": a.rounds, "loads": a.loads, "host": HOST, "parts": MODULES + PICTURES, "word": f"{MODULES} function", "peers": stage}
        text = subprocess.run(["node", os.path.join(TOP, "tests/bench/page.mjs")], input=json.dumps(wanted), stdout=subprocess.PIPE, text=True,
                              check=True).stdout
    finally:
        for peer in peers:
            peer.stop()
        service.terminate()
        service.wait(10)
    return [json.loads(line) for line in text.splitlines()]


def page_table(rows):
    parts = {r["parts"] for r in rows}
    print(f"\nParts of the page, and KiB of them: {sorted(parts)}, {sorted({r['kib'] for r in rows})}\n")
    print("| through | first visit, ms: median (worst) | to nginx (worst round) | CPU of the gate, ms | again, ms: median (worst) | to nginx (worst round) | CPU of the gate, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    nginx = {r["round"]: r for r in rows if r["name"] == "nginx"}
    for name, title in TITLES.items():
        mine = [r for r in rows if r["name"] == name]
        if not mine:
            continue
        cells = []
        for kind in ("first", "again"):
            times = [t for r in mine for t in r[kind]]
            ratios = [statistics.median(r[kind]) / statistics.median(nginx[r["round"]][kind]) for r in mine if r["round"] in nginx]
            used = statistics.median(r[f"{kind}_cpu_ms"] for r in mine)
            cells += [f"{statistics.median(times):.0f} ({max(times):.0f})", f"{statistics.median(ratios):.2f} ({max(ratios):.2f})" if ratios else "–",
                      "–" if name == "direct" else f"{used:.1f}"]
        print(f"| {title} | " + " | ".join(cells) + " |")


def gib(a):
    upstream = free_port()
    service = subprocess.Popen([a.tools, "upstream", str(upstream)], stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    peers, rows = [], []
    with open(f"{a.work}/upload", "wb") as f:
        f.truncate(1 << 30)
    try:
        peers = [Peer("nginx", a.work, upstream), Peer("caddy", a.work, upstream), Peer("loopgate", a.work, upstream, "", a.gate)]
        for turn in range(1, a.rounds + 1):
            for way in ("down", "up"):
                for version in ("1.1", "2"):
                    for peer in random.sample(peers, len(peers)):
                        pids = family(peer.process.pid)
                        more = ["-H", "Expect:", "-X", "POST", "-T", f"{a.work}/upload"] if way == "up" else []
                        path = "sink" if way == "up" else "mib/1024"
                        before, began = run.cpu(pids), time.perf_counter()
                        said = out("curl", "-sk", f"--http{version}", "-o", "/dev/null", "--max-time", "60", "-w", "%{http_version} %{http_code} %{size_download} %{size_upload}",
                                   *more, f"https://localhost:{peer.port}/{path}", env=run.CLIENT).split()
                        took, used = time.perf_counter() - began, run.cpu(pids) - before
                        if said[:2] != [version, "200"] or int(said[3 if way == "up" else 2]) != 1 << 30:
                            sys.exit(f"{peer.name} {way} {version}: {said}")
                        rows.append({"round": turn, "way": way, "version": version, "name": peer.kind, "s": took, "cpu_s": used})
                        print(json.dumps(rows[-1]), flush=True)
    finally:
        for peer in peers:
            peer.stop()
        service.terminate()
        service.wait(10)
    return rows


def gib_table(rows):
    names = ("nginx", "caddy", "loopgate")
    print("\n| 1 GiB | " + " | ".join(f"{TITLES[n]}, s: median (worst)" for n in names) + " | " + " | ".join(f"{TITLES[n]}, CPU s" for n in names) + " |")
    print("| --- |" + " ---: |" * 6)
    for way, version in (("down", "1.1"), ("down", "2"), ("up", "1.1"), ("up", "2")):
        mine = [[r for r in rows if (r["way"], r["version"], r["name"]) == (way, version, n)] for n in names]
        cells = [f"{statistics.median(r['s'] for r in m):.2f} ({max(r['s'] for r in m):.2f})" for m in mine]
        cells += [f"{statistics.median(r['cpu_s'] for r in m):.2f} ({max(r['cpu_s'] for r in m):.2f})" for m in mine]
        print(f"| {'download' if way == 'down' else 'upload'}, HTTP/{version} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", required=True)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", type=int, default=5, help="visits a round")
    parser.add_argument("--only", choices=("page", "gib"))
    a = parser.parse_args()
    a.gate, a.tools = os.path.realpath(a.gate), os.path.realpath(a.tools)
    a.work = tempfile.mkdtemp(prefix="loopgate-page-")
    os.chmod(a.work, 0o755)
    try:
        certificate(a.work)
        # All peers use the cipher that browsers ask for first.
        with open(f"{a.work}/client.cnf", "w") as f:
            f.write("openssl_conf = d\n[d]\nssl_conf = s\n[s]\nsystem_default = x\n[x]\nCiphersuites = TLS_AES_128_GCM_SHA256\n")
        run.CLIENT.update(os.environ, OPENSSL_CONF=f"{a.work}/client.cnf")
        tables = []
        if a.only != "gib":
            tables.append((page_table, page(a)))
        if a.only != "page":
            tables.append((gib_table, gib(a)))
        versions = [subprocess.run(c, capture_output=True, text=True) for c in (["nginx", "-v"], [a.gate, "--version"], ["node", "--version"], ["chromium", "--version"])]
        print("\n" + ", ".join((v.stdout or v.stderr).strip().split("\n")[0] for v in versions) + f", Caddy {out('caddy', 'version').strip()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
        for table, rows in tables:
            table(rows)
    finally:
        shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    main()

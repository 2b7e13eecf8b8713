#!/usr/bin/env bash
# SIGTERM while 200 slow requests run over HTTP/1.1 and 200 over HTTP/2: each gets its whole answer, nobody new comes in, and the gate
# ends when the last one has it. And a signal in the first moment is heard.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3
    binary
    export GATE
fi
limited 200 "$0" "$@"
cd "$WORK" || exit 1

# Answers when the file `go` is there, in two halves.
cat >service.py <<'PY'
import asyncio, os, sys
running = 0
async def serve(reader, writer):
    global running
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            running += 1
            open("running", "w").write(str(running))
            while not os.path.exists("go"): await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nslow ")
            await writer.drain()
            await asyncio.sleep(1)
            writer.write(b"but!\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError): pass
    finally: writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
PY
service=$(free_port)
start service python3 service.py "$service"
until_written service.out '(ready)' >/dev/null
cat >gate.toml <<TOML
[server]
workers = 2
drain = "30s"
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[limits]
connections_per_client = 1000
handshake = "60s"
[log]
access = "access.log"
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$service"
access = "anyone"
TOML
serving gate gate.toml
gate=$PID
# `many NAME OPTION`: 200 at once; their answers in NAME.out.
many() { start "$1" curl -sk "$2" --max-time 200 -Z --parallel-immediate --parallel-max 200 --resolve "app.lan:$PORT:127.0.0.1" "https://app.lan:$PORT/[1-200]"; }
many h1 --http1.1; one=$PID
many h2 --http2; two=$PID
all_run() { [ "$(cat running 2>/dev/null)" = 400 ]; }
until_true 40 all_run
same "400 requests run" 0 $?
kill -TERM "$gate"
closed() { ! bash -c "</dev/tcp/127.0.0.1/$PORT" 2>/dev/null; }
until_true 10 closed
same "nobody new comes in" 0 $?
touch go
begun=$SECONDS
wait "$one"
same "HTTP/1.1: every client is content" 0 $?
wait "$two"
same "HTTP/2: every client is content" 0 $?
# Their halves are mixed in one file.
words() { grep -o "$1" "$2" | wc -l; }
for name in h1 h2; do
    same "$name: every answer is whole" "200 200" "$(words 'slow ' $name.out) $(words 'but!' $name.out)"
done
wait "$gate"
same "the gate ends with 0" 0 $?
at_most "and as soon as the last one has its answer, seconds" 20 $((SECONDS - begun))
same "the log has them all, and none was cut" "400 0" "$(grep -c ' 200 ' access.log) $(grep -c ' cut' access.log)"

echo "== a signal in the moment after it has said that it serves"
cat >first.py <<'PY'
import collections, signal, subprocess, sys, time
gate, seen = sys.argv[1], collections.Counter()
for turn in range(20):
    process = subprocess.Popen([gate, "serve", "-c", "gate.toml"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    next(line for line in process.stderr if b"serving" in line)
    if turn % 2:
        process.send_signal(signal.SIGHUP)
        next((line for line in process.stderr if b"config_reloaded" in line), None)
    begun = time.monotonic()
    process.terminate()
    seen["TERM" if turn % 2 == 0 else "HUP, TERM", process.wait(90), "late" if time.monotonic() - begun > 15 else "at once"] += 1
    process.stderr.close()
for what, n in sorted(seen.items()): print(*what, n)
PY
sed -i 's/^drain = .*/drain = "20s"/' gate.toml
same "TERM ends it as ever, HUP is a reload" "HUP, TERM 0 at once 10;TERM 0 at once 10" "$(python3 first.py "$GATE" | paste -sd';')"
exit 0

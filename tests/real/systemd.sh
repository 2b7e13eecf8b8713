#!/usr/bin/env bash
# What a service manager is told and hands over, with a small one of our own; the unit files with systemd's own tools.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 systemd-analyze:systemd
    binary
    export GATE
fi
limited 180 "$0" "$@"
MANAGER=$ROOT/tests/real/manager.py

mkdir "$WORK/www" && echo hello >"$WORK/www/index.html"
UPSTREAM=$(free_port)
start service python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" "$UPSTREAM"
until_true 10 curl -s -o /dev/null "http://127.0.0.1:$UPSTREAM/"

PORT=$(free_port)
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:$PORT"
networks = { allow = ["loopback"] }
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
TOML
page() { curl -sk --max-time 20 --resolve "app.lan:$PORT:127.0.0.1" "https://app.lan:$PORT/"; }
told() { grep -cE -- "$1" "$WORK/told" 2>/dev/null; }
at_least() { [ "$(told "$1")" -ge "$2" ]; }
# `managed NAME WATCHDOG ADDRESS…`: as in manager.py; MANAGED is its id, and what is written into ORDERS is told to it.
managed() {
    local name=$1 watchdog=$2
    shift 2
    # What another one of this name has said is no word of this one.
    rm -f "$WORK/told" "$WORK/orders" "$WORK/$name.out" "$WORK/$name.err"
    mkfifo "$WORK/orders"
    python3 "$MANAGER" "$WORK/told" "$watchdog" "$@" -- "$GATE" serve -c "$WORK/gate.toml" \
        <"$WORK/orders" >"$WORK/$name.out" 2>"$WORK/$name.err" &
    MANAGED=$!
    started+=("$MANAGED")
    exec {ORDERS}>"$WORK/orders"
}
child() { pgrep -P "$MANAGED" | head -1; }
over() { exec {ORDERS}>&-; kill "$MANAGED" 2>/dev/null; wait "$MANAGED"; }

managed one 2000000
until_true 20 at_least 'READY=1\\nSTATUS=serving 127' 1
same "it says that it is ready, and where" 0 $?
until_true 20 at_least '^.WATCHDOG=1.$' 3
same "and that it is alive, again and again" 0 $?
"$GATE" reload -c "$WORK/gate.toml" >/dev/null
until_true 10 at_least 'READY=1' 2
has "a reload is told with its time" 'RELOADING=1.nMONOTONIC_USEC=[0-9]+' "$(grep -o 'RELOADING.*' "$WORK/told")"
micros=$(sed -nE "s/.*MONOTONIC_USEC=([0-9]+).*/\1/p" "$WORK/told" | head -1)
now=$(sed -nE 's/^([0-9]+)\.([0-9]+) .*/\1\20000/p' /proc/uptime)
same "which is that of this machine" yes "$([ "$micros" -le "$((now + 20000))" ] && [ "$micros" -gt $((now - 60000000)) ] && echo yes || echo "$micros, not $now")"
cp "$WORK/gate.toml" "$WORK/good.toml"
echo 'acces = 1' >>"$WORK/gate.toml"
"$GATE" reload -c "$WORK/gate.toml" >/dev/null 2>&1
until_true 10 at_least 'READY=1.nSTATUS=the last reload was rejected' 1
same "a rejected one is said, and it is ready all the same" 0 $?
cp "$WORK/good.toml" "$WORK/gate.toml"
pid=$(child)
kill -STOP "$pid"
# What it had sent before is written down first.
before=none
until [ "$before" = "$(told WATCHDOG=1)" ]; do before=$(told WATCHDOG=1); sleep 1; done
sleep 2.5
same "a gate that hangs gives no sign of life" "$before" "$(told WATCHDOG=1)"
kill -CONT "$pid"
until_true 20 at_least '^.WATCHDOG=1.$' $((before + 1))
same "and one that goes on does" 0 $?
over
same "the end is told" 1 "$(told 'STOPPING=1')"

managed two 0 "127.0.0.1:$PORT"
until_true 20 at_least READY=1 1
same "a socket that is handed over is served" hello "$(page)"
same "without a watchdog there is no sign of life" 0 "$(told WATCHDOG)"
# Asked all the while; a port that is closed for a moment refuses.
python3 - "$PORT" "$WORK/stop" >"$WORK/asked" 2>&1 <<'PY' &
import os, socket, ssl, sys, threading, time
port, stop = int(sys.argv[1]), sys.argv[2]
context = ssl._create_unverified_context()
good, failed, end = [], [], time.monotonic() + 60
def ask():
    while not os.path.exists(stop) and time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain, server_hostname="app.lan") as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nHost: app.lan\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: tls.recv(65536), b""))
            is_good = answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"hello\n")
            (good if is_good else failed).append(answer[:60])
            print("asked", flush=True)
        except OSError as error:
            failed.append(error)
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(good), "good", len(failed), "failed", failed[:3])
PY
ASKING=$!
started+=("$ASKING")
more() { [ "$(grep -c asked "$WORK/asked")" -ge "$1" ]; }
for n in 2 3 4; do
    until_true 30 more $((n * 10))
    echo again >&"$ORDERS"
    until_true 30 at_least READY=1 "$n"
done
until_true 30 more 50
touch "$WORK/stop"
wait "$ASKING"
has "three restarts while it is asked: nobody is refused" '^[1-9][0-9]+ good 0 failed' "$(tail -1 "$WORK/asked")"
over

# `refused NAME PATTERN ADDRESS…`
refused() {
    local name=$1 pattern=$2
    shift 2
    managed refused 0 "$@"
    until_true 20 grep -q . "$WORK/refused.err"
    exec {ORDERS}>&-
    wait "$MANAGED"
    same "$name" 5 $?
    logged "$name: and it says why" "$pattern" "$WORK/refused.err"
}
OTHER=$(free_port)
refused "a socket that no listener names" "no listener of the configuration has that address; write .address = \"127.0.0.1:$OTHER\"" "127.0.0.1:$PORT" "127.0.0.1:$OTHER"
refused "a socket for datagrams" 'not a listening TCP socket \(number 1' "127.0.0.1:$PORT" "udp!127.0.0.1:$OTHER"
refused "a socket that does not listen" 'it does not listen' "deaf!127.0.0.1:$PORT"
refused "a socket for both families" 'BindIPv6Only=ipv6-only' "both![::]:$OTHER"

# The unit files, with our program where they look for it.
mkdir "$WORK/units"
for unit in service socket; do
    sed "s#/usr/bin/loopgate#$GATE#" "$ROOT/config/systemd/loopgate.$unit" >"$WORK/units/loopgate.$unit"
done
same "systemd accepts the units" "" "$(systemd-analyze verify --man=no "$WORK/units/loopgate.service" "$WORK/units/loopgate.socket" 2>&1)"
rating=$(systemd-analyze security --offline=yes --no-pager "$WORK/units/loopgate.service" 2>/dev/null | sed -nE 's/.*exposure level[^:]*: ([0-9]+)\.([0-9]).*/\1\2/p')
at_most "what is left open, in tenths" 19 "${rating:-100}"

# A secret by its name.
mkdir "$WORK/credentials" && echo from-the-manager >"$WORK/credentials/upstream-secret"
sed 's/^access.*/&\nupstream_secret = { credential = "upstream-secret" }/' "$WORK/good.toml" >"$WORK/secret.toml"
CREDENTIALS_DIRECTORY=$WORK/credentials "$GATE" check -c "$WORK/secret.toml" >"$WORK/check.out" 2>&1
same "a credential is a secret" 0 $?
lacks "which is not shown" from-the-manager "$(cat "$WORK/check.out")"
out=$("$GATE" check -c "$WORK/secret.toml" 2>&1)
same "without its directory there is none" 3 $?
has "which is said" 'CREDENTIALS_DIRECTORY. is not set' "$out"

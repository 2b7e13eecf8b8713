#!/usr/bin/env bash
# A new process takes the place of a running gate, twenty times under load: nobody is refused and no request fails. One that cannot
# start, or dies on the way, leaves the old one as it was.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
here=$ROOT/tests/real
python=$ROOT/target/python-h2/bin/python

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq ss:iproute2 setpriv:util-linux strace:strace
    python_packages "$ROOT/target/python-h2" h2==4.3.0 websockets==17.4
    binary
    export GATE
fi
limited 240 "$0" "$@"
cd "$WORK" || exit 1

service=$(free_port) sockets=$(free_port) port=$(free_port) admin=$(free_port)
start service python3 "$here/service.py" "$service"
start sockets "$python" "$here/sockets.py" serve "$sockets"
for p in "$service" "$sockets"; do until_true 20 bash -c "</dev/tcp/127.0.0.1/$p"; done
printf 'alice:%s\n' "$(echo 'open sesame' | "$GATE" hash-password)" >users
chmod 600 users

# `config WORKERS ADDRESSES`
config() {
    cat >gate.toml <<TOML
[server]
workers = $1
drain = "5s"
[[listener]]
address = [$2]
networks = { allow = ["loopback"] }
[auth]
users_file = "users"
lockout = { failures = 3, window = "5m", ban = "15m" }
[log]
access = "access.log"
[admin]
address = "127.0.0.1:$admin"
[[route]]
hosts = ["app.lan", "localhost"]
upstream = "127.0.0.1:$service"
access = "anyone"
[[route]]
hosts = ["app.lan", "localhost"]
path = "/chat"
upstream = "127.0.0.1:$sockets"
access = "anyone"
[[route]]
hosts = ["app.lan", "localhost"]
path = "/private"
upstream = "127.0.0.1:$service"
TOML
}
config 2 "\"127.0.0.1:$port\""
ask() { curl -sk --max-time 20 --resolve "app.lan:$port:127.0.0.1" "$@"; }
page() { ask "https://app.lan:$port/"; }
# `guess N`: a wrong password from a client of its own.
guess() { ask --interface "127.0.1.$1" -u "u$1:wrong" -o /dev/null -w '%{http_code}\n' "https://app.lan:$port/private"; }
running_gate() { "$GATE" status -c gate.toml --json | jq -r '.[].pid'; }
events() { cat gate*.err | grep -cE "$1"; }

serving gate0 gate.toml
old=$PID
same "it serves" hello "$(page)"

echo "== what leaves the old one as it was"
# `refused NAME CODE PATTERN`: a take-over that fails with this exit code and word.
refused() {
    "$GATE" serve -c gate.toml --take-over >refused.out 2>refused.err
    same "$1: exit code" "$2" $?
    has "$1: says why" "$3" "$(tr '\n' ' ' <refused.err)"
    same "$1: the old one serves" "hello $old" "$(page) $(running_gate)"
}
cp gate.toml good.toml
echo 'acces = 1' >>gate.toml
refused "a mistake in the file" 3 'acces'
taken=$(free_port)
start taken python3 -m http.server --bind 127.0.0.1 "$taken"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$taken"
config 2 "\"127.0.0.1:$port\", \"127.0.0.1:$taken\""
refused "a further address that is in use" 5 "127.0.0.1:$taken is in use"
cp good.toml gate.toml
open=$(free_port)
start open python3 -m http.server --bind 0.0.0.0 "$open"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$open"
cat >>gate.toml <<TOML
[[route]]
hosts = ["app.lan"]
path = "/open"
upstream = "127.0.0.1:$open"
TOML
refused "a service that can be reached around the gate" 4 'around|expose'
cp good.toml gate.toml
STATE_DIRECTORY=$WORK/elsewhere "$GATE" serve -c gate.toml --take-over 2>refused.err
same "with another state directory there is nothing to take over" 1 $?
has "and it says so" 'nothing to take over' "$(tr '\n' ' ' <refused.err)"

control=$STATE_DIRECTORY/control/$old.sock
guess 1 >/dev/null
until_true 10 test -e "$STATE_DIRECTORY/lockouts-$port"
for where in offer ready given; do
    before=$(events hand_over_failed)
    has "one that dies ($where) got the sockets" '^3 sockets' "$(python3 "$here/hand_over.py" die "$control" "$where")"
    told() { [ "$(events hand_over_failed)" -gt "$before" ]; }
    until_true 10 told
    same "it is told" 0 $?
    same "and the old one serves" "hello $old" "$(page) $(running_gate)"
done
for how in block end; do
    for where in offer given; do
        before=$(events hand_over_failed) mended=$(events "listener_mended.*(127.0.0.1:$port|the admin address)")
        python3 "$here/hand_over.py" die "$control" "$where" "$how" >/dev/null
        until_true 10 told
        has_mended() { [ "$(events "listener_mended.*(127.0.0.1:$port|the admin address)")" -ge $((mended + 2)) ]; }
        until_true 10 has_mended
        same "one that dies ($where) and did something to the sockets first ($how): that is said" 0 $?
        # New connections, which come to either thread.
        same "and everybody is served" "24 200" "$(for _ in $(seq 24); do curl -sk --max-time 5 -o /dev/null -w '%{http_code}\n' --resolve "app.lan:$port:127.0.0.1" "https://app.lan:$port/"; done | sort | uniq -c | awk '{ print $1, $2 }' | paste -sd,)"
        same "the admin address and the control socket too" "alive $old" "$(curl -s --max-time 5 "http://127.0.0.1:$admin/healthz") $(running_gate)"
    done
done
touch now
guess 1 >/dev/null
newer() { [ "$STATE_DIRECTORY/lockouts-$port" -nt now ]; }
until_true 10 newer
same "and goes on writing its lockouts" 0 $?
if [ "$(id -u)" -eq 0 ]; then
    # As if somebody had opened the folder: the socket itself asks who it is.
    chmod 755 "$WORK" "$STATE_DIRECTORY" "$STATE_DIRECTORY/control" && chmod 666 "$control"
    cp "$here/hand_over.py" "$WORK/"
    # One that other users can start.
    plain=$(PATH=/usr/bin:/usr/local/bin command -v python3)
    got=$(setpriv --reuid 65534 --regid 65534 --clear-groups "${plain:-python3}" "$WORK/hand_over.py" die "$control" offer 2>&1 | tail -1)
    has "another user gets nothing" 'closed|Connection reset|Broken pipe' "$got"
    chmod 600 "$control" && chmod 700 "$STATE_DIRECTORY" "$STATE_DIRECTORY/control"
fi

echo "== one that falls silent, one that dies"
# `within SECONDS COMMAND`: its exit code, 124 when it took longer.
within() { timeout "$1" "${@:2}" >/dev/null 2>&1; echo $?; }
before=$(events hand_over_failed)
start silent python3 "$here/hand_over.py" silent "$control"
until_written silent.out '(given)' >/dev/null
same "status and reload are answered beside a silent one, and three hundred that never asked" "0 0" "$(within 5 "$GATE" status -c gate.toml) $(within 8 "$GATE" reload -c gate.toml)"
same "while its time still ran" "$before" "$(events hand_over_failed)"
until_true 20 told
same "it is told when that is over, and the old one serves" "0 hello $old" "$? $(page) $(running_gate)"
same "and opens links again" 0 "$(within 5 "$GATE" share -c gate.toml --host app.lan)"
# `other NAME`: a gate of its own, and its control socket.
other() {
    printf '[[listener]]\naddress = "127.0.0.1:0"\nnetworks = { allow = ["loopback"] }\n[[route]]\nhosts = ["app.lan"]\nupstream = "127.0.0.1:%s"\naccess = "anyone"\n' "$service" >"$1.toml"
    serving "$1" "$1.toml"
    theirs=$PID
}
other ends
start mute python3 "$here/hand_over.py" silent "$STATE_DIRECTORY/control/$theirs.sock"
until_written mute.out '(given)' >/dev/null
kill -TERM "$theirs"
until_true 5 bash -c "! kill -0 $theirs"
same "TERM is followed at once beside a silent one" 0 $?
wait "$theirs"
same "and ends well" 0 $?
until_true 10 grep -q late mute.out
same "what the silent one says then fails" "late: BrokenPipeError" "$(tail -1 mute.out)"
other dies
more_port=$(free_port)
sed -i "s/\"127.0.0.1:0\"/[\"127.0.0.1:0\", \"127.0.0.1:$more_port\"]/" dies.toml
# Held up when it has bound what is new: the last step but one.
start heir strace -f -qq -o heir.trace -e trace=listen -e inject=listen:delay_exit=8000000 "$GATE" serve -c dies.toml --take-over
until_true 30 bash -c "</dev/tcp/127.0.0.1/$more_port"
kill -KILL "$theirs"
wait "$theirs" 2>/dev/null
wait "$PID"
same "when the old one dies meanwhile, the new one ends" 1 $?
has "and says that nobody serves" 'nobody serves now.*without `--take-over`' "$(tr '\n' ' ' <heir.err)"

echo "== lockouts go with it, a WebSocket stays with the old one"
# Two of three failures, not yet on the disk; one more on a connection of the old process while it drains.
guess 2 >/dev/null; guess 2 >/dev/null
guess 3 >/dev/null; guess 3 >/dev/null; guess 3 >/dev/null
cat >late.py <<'PY'
import base64, os, socket, ssl, sys, time
port = int(sys.argv[1])
plain = socket.create_connection(("127.0.0.1", port), 20, ("127.0.1.2", 0))
tls = ssl._create_unverified_context().wrap_socket(plain, server_hostname="app.lan")
def ask(path, *lines):
    tls.sendall("\r\n".join([f"GET {path} HTTP/1.1", f"Host: app.lan:{port}", *lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"): head += tls.recv(1)
    length = int(next(l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:")).split(b":")[1])
    while length: length -= len(tls.recv(length))
    return head
ask("/")
print("open", flush=True)
while not os.path.exists(sys.argv[2]): time.sleep(0.005)
head = ask("/private", "Authorization: Basic " + base64.b64encode(b"u2:wrong").decode())
print(head.split()[1].decode(), "close" if b"connection: close" in head.lower() else "kept", flush=True)
PY
cat >talk.py <<'PY'
import asyncio, ssl, sys, time, websockets
async def talk(port):
    trust = ssl._create_unverified_context()
    async with websockets.connect(f"wss://app.lan:{port}/chat", ssl=trust, host="127.0.0.1", port=port, compression=None, proxy=None) as s:
        begun = time.monotonic()
        print("open", flush=True)
        try:
            while True:
                await s.send("x"); assert await s.recv() == "x"
                print("echo", flush=True)
                await asyncio.sleep(0.1)
        except websockets.ConnectionClosed:
            print("closed", flush=True)
asyncio.run(talk(int(sys.argv[1])))
PY
start late python3 late.py "$port" "$WORK/go"
start talk "$python" talk.py "$port"
until_written talk.out '(echo)' >/dev/null
until_written late.out '(open)' >/dev/null
start gate1 "$GATE" serve -c gate.toml --take-over
new=$PID
# The old one drains from here on: what is kept open may ask once more.
until_written gate0.err '(handed_over)' >/dev/null && touch "$WORK/go"
handed=$(grep -c echo talk.out)
until_written gate1.err '(serving)' >/dev/null
same "the new one serves, and is the one that is asked" "hello $new" "$(page) $(running_gate)"
logged "the old one says to whom" "handed_over.*pid=$new" gate0.err
logged "the new one from whom" "took_over.*pid=$old" gate1.err
same "health and the admin address are the new one's" "0 $new" "$("$GATE" health -c gate.toml >/dev/null; echo $?) $(ss -ltnpH "sport = :$admin" | grep -oE 'pid=[0-9]+' | head -1 | cut -d= -f2)"
same "who was locked out is" 429 "$(guess 3)"
same "a request on an old connection is answered, and the last one" "401 close" "$(tail -1 late.out)"
more() { [ "$(grep -c echo talk.out)" -gt $((handed + 10)) ]; }
until_true 4 more
same "a WebSocket goes on in the old process" 0 $?
gone() { ! kill -0 "$old"; }
until_true 20 gone
wait "$old"
same "until its time to drain is over: the old one has ended well" 0 $?
until_true 10 grep -q closed talk.out
same "and the WebSocket with it" 0 $?
same "a failure that the old one saw at its end counts with those before" 429 "$(guess 2)"
same "one keeps the lockouts, the new one" "$new" "$(tr -d '\n' <"$STATE_DIRECTORY/lockouts-$port.lock")"
same "nobody complained about it" 0 "$(events lockouts_unwritten)"

echo "== twenty under load"
current=$new
start load "$python" "$here/hand_over.py" load "$port" "$WORK/stop"
load=$PID
asked() { tail -1 load.out; }
further() { [ "$(asked)" -ge "$1" ]; }
until_true 20 further 50
taken=0
for n in $(seq 1 20); do
    # Another number of threads now and then: every queue is served.
    config $((n % 3 + 1)) "\"127.0.0.1:$port\""
    start "gate-$n" "$GATE" serve -c gate.toml --take-over
    next=$PID
    until_written "gate-$n.err" '(serving)' >/dev/null || break
    [ "$(running_gate)" = "$next" ] && taken=$((taken + 1))
    current=$next
    until_true 20 further $(($(asked) + 40))
done
same "twenty hand-overs" 20 $taken
touch stop
wait "$load"
tail -1 load.out | jq -c .
same "nothing went wrong for anybody" '0' "$(tail -1 load.out | jq -c .wrong)"
told=$(tail -1 load.out | jq -c '[.done["told to leave"] > 10, .done["h2 told to leave"] > 10, .done["new connection"] > 50]')
same "kept connections and HTTP/2 were told to leave" '[true,true,true]' "$told"
alone() { [ "$(find "$STATE_DIRECTORY/control" -name '*.sock' | wc -l)" -eq 1 ]; }
until_true 15 alone
same "one control socket is left" 0 $?
few() { local pid n=0; for pid in "${started[@]}"; do [ "$(readlink "/proc/$pid/exe")" = "$(realpath "$GATE")" ] && n=$((n + 1)); done; [ "$n" -eq 1 ]; }
until_true 20 few
same "and one process" 0 $?
same "no panic" 0 "$(cat gate*.err | grep -c panic)"
kill -TERM "$current"
wait "$current"
same "which ends with 0" 0 $?

echo "== a Unix socket for probes, a port of the kernel's choice"
sed -i "s/127.0.0.1:$admin/unix:admin.sock/; s/\"127.0.0.1:$port\"/\"127.0.0.1:0\"/; s#unix:admin.sock#unix:$WORK/admin.sock#" gate.toml
start notified python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); print("bound", flush=True)
while True:
    print(s.recv(4096), flush=True)' "$WORK/notify"
until_written notified.out '(bound)' >/dev/null
export NOTIFY_SOCKET=$WORK/notify WATCHDOG_USEC=1000000
# As systemd does: the id is that of the process which it has started.
start first sh -c 'WATCHDOG_PID=$$ exec "$@"' sh "$GATE" serve -c gate.toml
first=$PID
port=$(until_written first.err 'serving.*addresses"?[=:]"?[^ ]*:([0-9]+)')
export WATCHDOG_PID=$first
env -u NOTIFY_SOCKET "$GATE" serve -c gate.toml --take-over >managed.out 2>managed.err
same "one that systemd would not take for the service gets nothing" 1 $?
has "and is told what to do" 'systemctl restart' "$(tr '\n' ' ' <managed.err)"
start second "$GATE" serve -c gate.toml --take-over
second=$PID
until_written second.err '(serving)' >/dev/null
until_true 20 bash -c "! kill -0 $first"
same "the port stays" hello "$(page)"
has "and so does the Unix socket" alive "$(curl -s --unix-socket admin.sock http://localhost/healthz)"
until_true 10 grep -q MAINPID notified.out
same "a service manager hears who goes on, and of no end" "MAINPID=$second 0" "$(grep -o 'MAINPID=[0-9]*' notified.out) $(grep -c STOPPING notified.out)"
alive() { [ "$(grep -c 'WATCHDOG=1' notified.out)" -ge "$1" ]; }
until_true 10 alive $(($(grep -c 'WATCHDOG=1' notified.out) + 3))
same "and it gives the signs of life from then on, though WATCHDOG_PID names the one before" 0 $?
kill -TERM "$second"
wait "$second"
same "its file goes with the last one" no "$([ -e admin.sock ] && echo yes || echo no)"
exit 0

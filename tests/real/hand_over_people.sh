#!/usr/bin/env bash
# Who is logged in stays so when a new process takes over, a link that was used stays used, and what ends at one of the two ends at
# the other while the old one drains.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq
    binary
    export GATE
fi
limited 240 "$0" "$@"
cd "$WORK" || exit 1

# Connections that are open before the hand-over and ask once more afterwards. Each line of the plan: SOURCE METHOD PATH [FIELD…]
cat >kept.py <<'PY'
import os, socket, ssl, sys, time
port, plan, go = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def ask(tls, method, path, fields):
    lines = [f"{method} {path} HTTP/1.1", f"Host: app.lan:{port}", *fields, "", ""]
    tls.sendall("\r\n".join(lines).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        got = tls.recv(1)
        if not got: return "closed"
        head += got
    text = head.decode()
    length = [l for l in text.lower().split("\r\n") if l.startswith("content-length:")]
    left = int(length[0].split(":")[1]) if length else 0
    while left: left -= len(tls.recv(left))
    return text
asks = [line.rstrip("\n").split("|") for line in open(plan)]
open_ones = []
for source, *_ in asks:
    plain = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
    tls = ssl._create_unverified_context().wrap_socket(plain, server_hostname="app.lan")
    ask(tls, "GET", "/open", [])
    open_ones.append(tls)
print("open", flush=True)
while not os.path.exists(go): time.sleep(0.005)
for tls, (_, method, path, *fields) in zip(open_ones, asks):
    text = ask(tls, method, path, fields)
    wanted = [l for l in text.split("\r\n") if l.lower().startswith(("http/", "set-cookie:", "location:", "connection:"))]
    print("|".join(wanted or [text]), flush=True)
print("done", flush=True)
PY

service=$(free_port) port=$(free_port)
start service python3 "$ROOT/tests/real/service.py" "$service"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$service"
hash=$(echo 'open sesame' | "$GATE" hash-password)
for user in alice bob carol dave; do echo "$user:$hash"; done >users
chmod 600 users
cat >gate.toml <<TOML
[server]
workers = 2
drain = "60s"
[[listener]]
address = "127.0.0.1:$port"
networks = { allow = ["loopback"] }
[auth]
users_file = "users"
lockout = { failures = 3, window = "5m", ban = "15m" }
[log]
access = "access.log"
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$service"
[[route]]
hosts = ["app.lan"]
path = "/open"
upstream = "127.0.0.1:$service"
access = "anyone"
TOML
site=https://app.lan:$port
ask() { curl -sk --max-time 60 --resolve "app.lan:$port:127.0.0.1" "$@"; }
code() { ask -o /dev/null -w '%{http_code}' "$@"; }
# `cookie NAME`: logs in by Basic and keeps the session alone.
cookie() { ask -u "$1:open sesame" -H "Accept: text/html" -D - -o /dev/null "$site/" | sed -nE 's/^set-cookie: ([^;]*);.*/\1/Ip' | tr -d '\r'; }
link() { "$GATE" share -c gate.toml --json | jq -r '.. | .urls? // empty | .[0]' | grep -m1 app.lan; }
# The cookie of a visitor.
opens() { ask -X POST -H "Content-Length: 0" -D - -o /dev/null "$1" | sed -nE 's/^set-cookie: ([^;]*);.*/\1/Ip' | tr -d '\r'; }
logout() { code -X POST -H "Origin: $site" -H "Content-Length: 0" -H "Cookie: $1" "$site/.loopgate/logout"; }
who() { ask -H "Cookie: $1" "$site/who"; }
# `streams NAME COOKIE`: a stream that goes on; `runs NAME`: whether it does.
streams() { start "$1" curl -skN --max-time 200 --resolve "app.lan:$port:127.0.0.1" -H "Cookie: $2" "$site/stream"; STREAM=$PID; until_true 20 grep -q . "$1.out"; }
longer() { [ "$(wc -l <"$1.out")" -gt "$2" ]; }
runs() { until_true 5 longer "$1" "$(wc -l <"$1.out")"; }

serving gate0 gate.toml
old=$PID
alice=$(cookie alice) bob=$(cookie bob) carol=$(cookie carol)
same "three are logged in" "alice bob carol" "$(for c in "$alice" "$bob" "$carol"; do who "$c"; done | xargs)"
used=$(link) later=$(link) revoked=$(link)
visitor=$(opens "$used") other=$(opens "$revoked")
has "a visitor is in by a link" '^share:' "$(who "$visitor")"
same "which opens once" 401 "$(code -X POST -H 'Content-Length: 0' "$used")"
# Locked out before it: a network, and a user by another one.
for _ in 1 2 3; do code --interface 127.0.1.9 -u dave:wrong "$site/" >/dev/null; done
same "who guesses is locked out" 429 "$(code --interface 127.0.1.9 -u dave:wrong "$site/")"
streams alice "$alice" && a=$STREAM
streams carol "$carol" && c=$STREAM
streams visitor "$other" && v=$STREAM
# One that nothing ends keeps the old one for as long as it is looked at.
start open curl -skN --max-time 200 --resolve "app.lan:$port:127.0.0.1" "$site/open/stream"
open=$PID
until_true 20 grep -q . open.out
basic() { printf %s "$1" | base64; }
cat >plan <<PLAN
127.0.0.1|POST|/.loopgate/logout|Content-Length: 0|Origin: $site|Cookie: $bob
127.0.0.1|GET|/|Accept: text/html|Authorization: Basic $(basic 'alice:open sesame')
127.0.0.1|POST|${later#"$site"}|Content-Length: 0
127.0.1.7|GET|/|Authorization: Basic $(basic 'alice:wrong')
PLAN
start kept python3 kept.py "$port" plan go
until_written kept.out '(open)' >/dev/null

echo "== they stay logged in"
start gate1 "$GATE" serve -c gate.toml --take-over
new=$PID
until_written gate0.err '(handed_over)' >/dev/null && touch go
until_written gate1.err '(serving)' >/dev/null
logged "it says how many came along" 'took_over.*pid=[0-9]+ sessions=3 links=3' gate1.err
until_written kept.out '(done)' >/dev/null
same "nobody logs in again" "alice carol" "$(for c in "$alice" "$carol"; do who "$c"; done | xargs)"
has "nor does the visitor" '^share:' "$(who "$visitor")"
same "a link that was used stays used" 401 "$(code -X POST -H 'Content-Length: 0' "$used")"
same "a session that nobody has is none" 401 "$(code -H "Cookie: ${alice%?????}AAAAA" "$site/")"

echo "== what the old one still answers"
line() { sed -n "$(($1 + 1))p" kept.out; }
has "a logout on an old connection" '^HTTP/1.1 200' "$(line 1)"
same "is one everywhere" 401 "$(code -H "Cookie: $bob" "$site/")"
has "a login on an old connection" '^HTTP/1.1 200.*set-cookie' "$(line 2)"
again=$(line 2 | sed -nE 's/.*set-cookie: ([^;]*);.*/\1/Ip')
until_true 5 test "$(who "$again")" = alice
same "is one everywhere" alice "$(who "$again")"
has "a link on an old connection is not opened there, but shown again" "^HTTP/1.1 303.*[lL]ocation: ${later#"$site"}" "$(line 3)"
lacks "without a cookie" 'set-cookie' "$(line 3)"
same "and opens at the new one" 303 "$(code -X POST -H 'Content-Length: 0' "$later")"
same "once" 401 "$(code -X POST -H 'Content-Length: 0' "$later")"

echo "== what ends at the new one"
for stream in alice carol visitor; do
    runs $stream
    same "the stream of $stream goes on in the old one" 0 $?
done
is_over() { ! kill -0 "$1" 2>/dev/null; }
same "a logout" 200 "$(logout "$alice")"
until_true 5 is_over "$a"
same "ends what runs by it in the old one" 0 $?
runs carol
same "and nothing else" 0 $?
"$GATE" share revoke -c gate.toml "$(who "$other" | cut -d: -f2)" >/dev/null
same "a link that is revoked" 0 $?
until_true 5 is_over "$v"
same "likewise" 0 $?
runs carol
same "and nothing else" 0 $?
"$GATE" user remove carol -c gate.toml >/dev/null
same "a user who is removed" 0 $?
until_true 5 is_over "$c"
same "likewise" 0 $?
same "unlocked" 0 "$("$GATE" unlock --user dave --client 127.0.1.9 -c gate.toml >/dev/null; echo $?)"
same "the old one still drains" 0 "$(kill -0 "$old"; echo $?)"
kill "$open"
until_true 30 is_over "$old"
wait "$old"
same "and has ended well" 0 $?
same "what was unlocked stays so, whatever the old one counted last" 401 "$(code --interface 127.0.1.9 -u dave:wrong "$site/")"
for _ in 1 2; do code --interface 127.0.1.7 -u alice:wrong "$site/" >/dev/null; done
same "and what it counted last counts" 429 "$(code --interface 127.0.1.7 -u alice:wrong "$site/")"
same "what has ended does not come back" "401 401 401" "$(code -H "Cookie: $bob" "$site/") $(code -H "Cookie: $alice" "$site/") $(code -H "Cookie: $carol" "$site/")"
same "what has not goes on" alice "$(who "$again")"

echo "== two take-overs in a row"
eve=$(cookie alice)
streams eve "$eve" && e=$STREAM
start open2 curl -skN --max-time 200 --resolve "app.lan:$port:127.0.0.1" "$site/open/stream"
open2=$PID
until_true 20 grep -q . open2.out
first=$new
start gate3 "$GATE" serve -c gate.toml --take-over
until_written gate3.err '(serving)' >/dev/null
second=$PID
runs eve
same "the first one drains" 0 $?
start gate4 "$GATE" serve -c gate.toml --take-over
until_written gate4.err '(serving)' >/dev/null
new=$PID
until_true 10 is_over "$second"
same "the second one has ended at once" 0 $?
until_true 5 is_over "$e"
same "and what ran by a session in the first one, whom nobody tells any more" 0 $?
logged "which says so" 'hand_over_lost.*sessions=' gate1.err
runs open2
same "what runs by none goes on" 0 $?
same "nobody logs in again" "alice alice" "$(for c in "$again" "$eve"; do who "$c"; done | xargs)"
lacks "and the newest one has lost nothing" 'hand_over_lost' "$(cat gate3.err gate4.err)"
kill "$open2"
until_true 30 is_over "$first"

echo "== once more, and a drain without an heir"
start gate2 "$GATE" serve -c gate.toml --take-over
until_written gate2.err '(serving)' >/dev/null
last=$PID
until_true 30 is_over "$new"
same "a session goes from one to the next" alice "$(who "$again")"
bob=$(cookie bob)
streams bob "$bob" && b=$STREAM
streams still "$again"
kill -TERM "$last"
draining() { "$GATE" status -c gate.toml --json | grep -q draining; }
until_true 10 draining
"$GATE" user remove bob -c gate.toml >/dev/null 2>removed.err
until_true 5 is_over "$b"
same "who is removed during a drain is out" 0 $?
runs still
same "and nobody else" 0 $?
written=0
for secret in "$alice" "$again" "$visitor" "${used##*/}"; do
    [ "${#secret}" -gt 40 ] || bad "no secret: $secret"
    grep -rqF -- "${secret#*=}" "$STATE_DIRECTORY" access.log gate*.err && written=1
done
same "no secret is written down" 0 $written
same "no panic" 0 "$(cat gate*.err | grep -c panic)"
exit 0

#!/usr/bin/env bash
# What the owner of a running gate sees: the control socket, with the built program.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl jq:jq python3:python3-minimal
    binary
    export GATE
fi
limited 150 "$0" "$@"

# A service, and a file for it.
mkdir "$WORK/www" && echo hello >"$WORK/www/index.html"
UPSTREAM=$(free_port)
start service python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" "$UPSTREAM"
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
[log]
access = "access.log"
TOML

echo "== the control socket"
out=$("$GATE" status 2>&1)
same "status without a gate fails" 1 $?
has "and says that none is running" 'no gate of yours is running' "$out"
serving gate "$WORK/gate.toml"
first=$PID
out=$("$GATE" status --json)
same "status finds the gate" "$first" "$(jq '.[0].pid' <<<"$out")"
same "and its file" "$WORK/gate.toml" "$(jq -r '.[0].config' <<<"$out")"
same "and its port" "127.0.0.1:$PORT" "$(jq -r '.[0].addresses[0]' <<<"$out")"
sock=$(find "$STATE_DIRECTORY/control" -name '*.sock')
same "the socket is the owner's alone" "600 700" "$(stat -c %a "$sock") $(stat -c %a "$STATE_DIRECTORY/control")"
if [ "$(id -u)" -eq 0 ]; then
    chmod 711 "$WORK" "$STATE_DIRECTORY"
    out=$(setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c "
import socket; s = socket.socket(socket.AF_UNIX); s.connect('$sock')" 2>&1)
    has "another user cannot open it" 'PermissionError' "$out"
    # Even where the modes are wrong, the one who asks is looked at.
    chmod 711 "$STATE_DIRECTORY/control"; chmod 666 "$sock"
    out=$(setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c "
import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect('$sock')
try:
    s.send(b'{\"v\":1,\"do\":\"status\"}\n'); print('got', s.recv(100))
except OSError: print('got', b'')" 2>&1)
    same "and is told nothing if it could" "got b''" "$out"
    chmod 600 "$sock"; chmod 700 "$STATE_DIRECTORY/control"
fi

echo "== reload"
out=$("$GATE" reload 2>&1)
same "a file without a mistake is accepted" 0 $?
has "and it says so" "accepted by $first" "$out"
cp "$WORK/gate.toml" "$WORK/good.toml"
sed -i 's/access = "anyone"/acces = "anyone"/' "$WORK/gate.toml"
out=$("$GATE" reload -c "$WORK/gate.toml" 2>&1)
same "a mistake is exit 3" 3 $?
has "with file, line and column" 'gate.toml:7:1' "$out"
has "and what to write" 'access' "$out"
out=$("$GATE" reload --json)
same "the same for programs" "3 7 1" "$? $(jq -r '.[0].problems[0] | "\(.line) \(.column)"' <<<"$out")"
same "status remembers it" "false 7" "$("$GATE" status --json | jq -r '.[0].reload | "\(.accepted) \(.problems[0].line)"')"
same "and the gate serves on" hello "$(curl -sk --resolve "app.lan:$PORT:127.0.0.1" "https://app.lan:$PORT/")"
cp "$WORK/good.toml" "$WORK/gate.toml"
"$GATE" reload >/dev/null
same "repaired" "0 true" "$? $("$GATE" status --json | jq '.[0].reload.accepted')"

echo "== several gates"
cp "$WORK/good.toml" "$WORK/other.toml"
serving second "$WORK/other.toml"
out=$("$GATE" reload 2>&1)
same "which one has to be said" 2 $?
has "and is shown" "--pid $PID" "$out"
out=$("$GATE" reload -c "$WORK/other.toml" 2>&1)
same "by its file" "accepted by $PID" "$out"
same "or all" 2 "$("$GATE" reload --all | grep -c accepted)"
kill -9 "$PID" && wait "$PID" 2>/dev/null
same "one that was killed is not listed" "[$first]" "$("$GATE" status --json | jq -c 'map(.pid)')"
serving third "$WORK/other.toml"
same "and what it left is taken away" 2 "$(find "$STATE_DIRECTORY/control" -type s | wc -l)"
kill "$PID" && wait "$PID" 2>/dev/null
same "the end of a gate takes its socket away" 1 "$(find "$STATE_DIRECTORY/control" -type s | wc -l)"
kill "$first" && wait "$first" 2>/dev/null

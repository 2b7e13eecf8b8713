#!/usr/bin/env bash
# Many at once: `many.sh [IDLE] [ACTIVE] [SECONDS]`, 10000, 2000 and 20 when nothing is said. The memory of the gate and every failure
# are told. Take a release build (`LOOPGATE_BIN`) for figures. Needs descriptors: one and a half for each connection
# and 600 for the gate.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

IDLE=${1:-10000} ACTIVE=${2:-2000} SPAN=${3:-20}
if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3
    binary
    export GATE
fi
limited $((SPAN + 500)) "$0" "$@"

ALL=$((IDLE + ACTIVE))
NEEDED=$((ALL + ALL / 2 + 600))
# Root may raise the limit; others have what they have.
ulimit -Hn "$NEEDED" 2>/dev/null
[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge "$NEEDED" ] || {
    bad "enough descriptors" "$NEEDED are needed, $(ulimit -Hn) are the limit"
    exit 1
}
ulimit -n "$(ulimit -Hn)"

UPSTREAM=$(free_port)
start service python3 "$ROOT/tests/endurance/many.py" serve "$UPSTREAM"
until_true 10 curl -s -o /dev/null "http://127.0.0.1:$UPSTREAM/"
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
[limits]
connections = $ALL
connections_per_client = $((ALL / 4))
idle = "1h"
[log]
access = "off"
TOML
serving gate "$WORK/gate.toml"
lacks "the limit of descriptors fits" descriptors_short "$(cat "$WORK/gate.err")"
before=$(rss "$PID")
figures=$(python3 "$ROOT/tests/endurance/many.py" client "$PORT" "$IDLE" "$ACTIVE" "$SPAN" 4 2>&1)
has "every one of them was served" "^$((IDLE / 4 * 4)) idle $((ACTIVE / 4 * 4)) active [0-9]+ requests .* 0 failed" "$figures"
echo "      $(tr '\n' ' ' <<<"$figures")"
echo "      memory: $((before / 1024)) MiB before, $(($(peak "$PID") / 1024)) MiB at most, $((($(peak "$PID") - before) / ALL)) KiB a connection"
has "one more is told so" '^one more: HTTP/1.1 503 retry-after: [0-9]+, when others have left: HTTP/1.1 200' "$figures"
same "and nothing else was said" "" "$(grep -cE 'panic|accept_failed|error' "$WORK/gate.err" | grep -v '^0$')"

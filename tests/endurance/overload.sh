#!/usr/bin/env bash
# Too much for a service: `overload.sh [CROWD] [ACTIVE]`, 500 and 2000 when nothing is said. A stopped service whose queue of connections
# is full: how soon each of CROWD is told, and how soon all is well when it goes on. Then ACTIVE at once at one that takes half a
# second for an answer. Take a release build (`LOOPGATE_BIN`) for figures. Needs descriptors: twice ACTIVE and 600.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

CROWD=${1:-500} ACTIVE=${2:-2000}
if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq
    binary
    export GATE
fi
limited 240 "$0" "$@"

NEEDED=$((2 * (ACTIVE > CROWD ? ACTIVE : CROWD) + 600))
# Root may raise the limit; others have what they have.
ulimit -Hn "$NEEDED" 2>/dev/null
[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge "$NEEDED" ] || {
    bad "enough descriptors" "$NEEDED are needed, $(ulimit -Hn) are the limit"
    exit 1
}
ulimit -n "$(ulimit -Hn)"

overload=$ROOT/tests/endurance/overload.py
# `gate_to NAME`: a service and a gate in front of it.
gate_to() {
    UPSTREAM=$(free_port)
    start "service-$1" python3 "$overload" serve "$UPSTREAM"
    SERVICE=$PID
    until_true 10 curl -s -o /dev/null "http://127.0.0.1:$UPSTREAM/"
    cat >"$WORK/$1.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
[limits]
connections_per_client = 10000
[log]
access = "$WORK/$1.log"
format = "json"
TOML
    serving "$1" "$WORK/$1.toml"
}
# `last NAME STATUS`: how long the last one of them took.
last() { sed -nE "s/^$1:.*\\b[0-9]+ x $2 median [0-9]+ last ([0-9]+).*/\\1/p" <<<"$figures"; }

gate_to crowd
figures=$(python3 "$overload" crowd "$PORT" "$UPSTREAM" "$SERVICE" "$CROWD" 2>&1)
sed 's/^/      /' <<<"$figures"
has "while it is stopped a few wait, everybody else is told to come again" "^stopped: $((CROWD - 8)) x 503 .*, 8 x 504 " "$figures"
at_most "within two seconds or so (ms)" 4000 "$(last stopped 503)"
has "now it is known" "^stopped still: $((CROWD - 8)) x 503 .*, 8 x 504 " "$figures"
at_most "and told at once (ms)" 2000 "$(last 'stopped still' 503)"
has "when it goes on, the first one is served" "^first: 1 x 200 " "$figures"
at_most "at once, and half a second for the answer (ms)" 2000 "$(last first 200)"
has "and so is everybody" "^back: $CROWD x 200 median [0-9]+ last [0-9]+$" "$figures"
has "those who wait while it is stopped are served when it goes on" "^back after three seconds: 8 x 200 .*, $((CROWD - 8)) x 503 " "$figures"
at_most "soon, and half a second for the answer (ms)" 6000 "$(last 'back after three seconds' 200)"
has "all is well" "^all: $CROWD x 200 median [0-9]+ last [0-9]+$" "$figures"
told=$(jq -r 'select(.status == 503) | "\(.reason) \(.rule)"' "$WORK/crowd.log" | sort | uniq -c)
has "the log says why" '^ *[0-9]+ too-busy the service accepts no more connections at the moment$' "$told"
same "and nothing else" 1 "$(wc -l <<<"$told")"

gate_to busy
figures=$(python3 "$overload" busy "$PORT" "$ACTIVE" 3 2>&1)
sed 's/^/      /' <<<"$figures"
same "many at once at a slow service: all are served" 3 "$(grep -cE "^round [0-9]: $ACTIVE x 200 median [0-9]+ last [0-9]+$" <<<"$figures")"
same "and nothing else was said" "" "$(grep -hE 'panic|accept_failed|error' "$WORK"/*.err)"

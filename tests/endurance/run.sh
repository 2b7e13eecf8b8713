#!/usr/bin/env bash
# Everything at once, by hand: `tests/endurance/run.sh [SECONDS]`, ten minutes without a number, 3600 for an hour. HTTP/1.1, HTTP/2,
# WebSockets, uploads, logins; every ten seconds the configuration is another one and the service starts anew. Memory and descriptors of
# the gate are written to a CSV every second ($CSV, when that is set) and drawn ($PICTURE, an SVG), and must not grow once it is warm.
# A short one is part of tests/real/run.sh.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
here=$ROOT/tests/endurance real=$ROOT/tests/real
python=$ROOT/target/python/bin/python
seconds=${1:-600}

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl h2load:nghttp2-client python3:python3 jq:jq
    python_packages "$ROOT/target/python" grpcio==1.85.3 websockets==17.4
    binary
    export GATE
fi
limited $((seconds + 180)) "$0" "$@"
cd "$WORK" || exit 1
CSV=${CSV:-$WORK/samples.csv}

service=$(free_port) sockets=$(free_port)
start sockets "$python" "$real/sockets.py" serve "$sockets"
printf 'rowing boat upstream' | "$GATE" hash-password >hash.txt || exit 1
(umask 077 && echo "alice:$(cat hash.txt)" >users.htpasswd)
# `config N`: what a reload changes, and what it leaves.
config() {
    cat >next.toml <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[limits]
body_idle = "10s"
idle = "10s"
answer = "$((60 + $1 % 2))s"
[log]
access = "access.log"
[auth]
users_file = "users.htpasswd"
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$service"
access = "anyone"
[[route]]
hosts = ["app.lan"]
path = "/private"
upstream = "127.0.0.1:$service"
[[route]]
hosts = ["app.lan"]
path = "/chat"
upstream = "127.0.0.1:$sockets"
access = "anyone"
TOML
    # Another route comes and goes.
    [ $(($1 % 2)) -eq 0 ] || printf '[[route]]\nhosts = ["app.lan"]\npath = "/more"\nupstream = "127.0.0.1:%s"\n' "$service" >>next.toml
    mv next.toml gate.toml
}
config 0
serving gate gate.toml
gate=$PID
"$GATE" -q ca export -o ca.pem || exit 1

descriptors() { ls "/proc/$gate/fd" | wc -l; }
base=$(descriptors)

# The service, which is ended and started anew now and then.
serve() { start service python3 "$real/service.py" "$service"; service_pid=$PID; }
serve
start load "$python" "$here/load.py" "$PORT" "$WORK/ca.pem" alice "rowing boat upstream" "$seconds"
load=$PID

echo "second,rss_kib,descriptors" >"$CSV"
begun=$SECONDS restart=$((SECONDS + 10)) reload=$((SECONDS + 5)) reloads=0 rejected=0
while kill -0 "$load" 2>/dev/null; do
    echo "$((SECONDS - begun)),$(rss "$gate"),$(descriptors)" >>"$CSV"
    if [ $SECONDS -ge $restart ]; then
        restart=$((SECONDS + 10))
        kill "$service_pid" 2>/dev/null
        wait "$service_pid" 2>/dev/null
        serve
    fi
    if [ $SECONDS -ge $reload ]; then
        reload=$((SECONDS + 10)) reloads=$((reloads + 1))
        config $reloads
        "$GATE" reload -c gate.toml >reload.out 2>&1 || { rejected=$((rejected + 1)); cat reload.out; }
    fi
    sleep 1
done
wait "$load"
same "the load ran to its end" 0 $?
jq . <load.out
same "every reload was taken, of $reloads" 0 $rejected
same "nothing but what a restart of the service explains went wrong" '{}' "$(jq -c .wrong <load.out)"

[ -z "${PICTURE:-}" ] || python3 "$here/curve.py" "$CSV" "$PICTURE" || exit 1

# `typical FROM TO COLUMN`: the median of a part of the samples, in percent of all.
typical() {
    tail -n +2 "$CSV" | awk -F, -v from="$1" -v to="$2" -v column="$3" \
        '{ all[NR] = $column } END { for (i = int(NR * from / 100) + 1; i <= NR * to / 100; i++) print all[i] }' |
        sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
echo "memory in KiB: $(typical 30 45 2) when warm, $(typical 85 100 2) at the end"
echo "descriptors: $(typical 30 45 3) when warm, $(typical 85 100 3) at the end"
at_most "memory grew by KiB after it was warm" 4096 $(($(typical 85 100 2) - $(typical 30 45 2)))
at_most "descriptors grew after it was warm" 15 $(($(typical 85 100 3) - $(typical 30 45 3)))
# Everybody has left: nothing of them stays. Connections to a service are kept for a minute, which a short run does not wait for.
if [ "$seconds" -ge 60 ]; then patience=90 most=$((base + 4)); else patience=15 most=$((base + 40)); fi
few() { [ "$(descriptors)" -le "$most" ]; }
until_true $patience few
at_most "descriptors when all have left, of $base before they came" "$most" "$(descriptors)"
same "no panic" 0 "$(grep -c panic gate.err)"
kill -TERM "$gate"
wait "$gate"
same "the gate ends with 0" 0 $?
exit 0

#!/usr/bin/env bash
# A service that is bound right, wrong and right again while the gate runs, and what a neighbour gets meanwhile.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
source "$(dirname "${BASH_SOURCE[0]}")/pair.sh"
pair 170 openssl:openssl

chmod 711 "$WORK"
mkdir "$WORK/site"
echo "a page" >"$WORK/site/index.html"
# `python [--bind ADDRESS]`: the server of the tutorial. Sets PID.
python() {
    start python ip netns exec "$tag-gate" python3 -u -m http.server 3000 --directory "$WORK/site" "$@"
    until_true 10 at gate curl -s -o /dev/null http://127.0.0.1:3000/ || { bad "python does not start" "$(cat "$WORK/python.err")"; exit 1; }
}
# `within NAME SECONDS WANTED`: says how long it took.
within() {
    local begun=${EPOCHREALTIME/./}
    if until_true "$2" is "$3"; then
        ok "$1 ($(((${EPOCHREALTIME/./} - begun) / 1000)) ms)"
    else
        bad "$1" "it is $(code)"
    fi
}
last_event() { grep exposure_changed "$WORK/serve.err" | tail -1; }
# `tells NAME PATTERN` of the last event, `measures NAME WANTED` of the gauge: both may come a moment after the answer.
matches() { grep -qE -- "$1" <<<"$(last_event)"; }
tells() { until_true 5 matches "$2"; has "$1" "$2" "$(last_event)"; }
is_gauge() { [ "$(gauge upstream_exposed)" = "$1" ]; }
measures() { until_true 5 is_gauge "$2"; same "$1" "$2" "$(gauge upstream_exposed)"; }

# ---- bound to everyone: refused at the start
file
python
same "the service itself is open to the neighbour" "a page" "$(at neighbour curl -sS -m 5 http://192.168.77.1:3000/)"
for command in "serve -c $WORK/loopgate.toml" "expose 3000"; do
    # shellcheck disable=SC2086
    at gate timeout 20 "$GATE" $command >"$WORK/refused.out" 2>&1
    same "${command%% *}: exit 4" 4 $?
    has "${command%% *}: names the process and its number" "python3 \\(pid $PID\\)" "$(cat "$WORK/refused.out")"
    has "${command%% *}: names who can reach it" '192\.168\.77\.0/24' "$(cat "$WORK/refused.out")"
    has "${command%% *}: names the repair" 'python3 -m http\.server 3000 --bind 127\.0\.0\.1' "$(cat "$WORK/refused.out")"
done
stop "$PID"

# ---- bound to loopback: served
python --bind 127.0.0.1
right=$PID
serve
within "bound to 127.0.0.1 it is served" 10 200
same "with its page" "a page" "$(cat "$WORK/answer")"
same "the neighbour has no other way" 000 "$(at neighbour curl -s -m 5 -o /dev/null -w '%{http_code}' http://192.168.77.1:3000/)"

# ---- rebound while the gate runs
for round in 1 2; do
    stop "$right"
    python
    wrong=$PID
    within "round $round: bound to everyone the route closes in less than 10 s" 10 503
    tells "round $round: the event says so" "exposed=true .*python3 \\(pid $wrong\\).*--bind 127\\.0\\.0\\.1"
    measures "round $round: and the metric" 1
    id=$(at neighbour curl -sSk -m 5 -o /dev/null -D - https://192.168.77.1:8443/ | tr -d '\r' | sed -n 's/^x-request-id: //Ip')
    has "round $round: explain --id says it, of then and of now" 'exposure .*upstream-exposed: the client sees 503' "$(at gate "$GATE" explain --id "$id" -c "$WORK/loopgate.toml" 2>&1 | tr -s ' \n' ' ')"
    lacks "round $round: the visitor is not told which program it is" 'python|3000' "$(cat "$WORK/answer")"
    stop "$wrong"
    python --bind 127.0.0.1
    right=$PID
    within "round $round: bound right it heals in less than 10 s" 10 200
    tells "round $round: the event says so" 'info exposure_changed .*exposed=false'
    measures "round $round: and the metric" 0
done

# ---- a forwarder beside it
start forwarder ip netns exec "$tag-gate" socat TCP-LISTEN:4000,fork,reuseaddr TCP:127.0.0.1:3000
forwarder=$PID
within "a forwarder to everyone closes the route in less than 10 s" 11 503
tells "the event names it" "exposed=true .*socat \\(pid $forwarder\\)"
stop "$forwarder"
within "without it the route heals in less than 10 s" 11 200

# ---- told to go on
file 'exposed_upstream = "warn"'
at gate "$GATE" reload -c "$WORK/loopgate.toml" >"$WORK/reload.out" 2>&1 || bad "the reload" "$(cat "$WORK/reload.out")"
stop "$right"
python
warned() { grep -q 'exposed=true' <<<"$(last_event)"; }
if until_true 11 warned; then ok 'exposed_upstream = "warn" says it'; else bad 'exposed_upstream = "warn" says it' "$(last_event)"; fi
same "and serves" 200 "$(code)"
stop "$PID"
stop "$serve"

# ---- what cannot be told is said
at gate sh -c 'echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet'
python --bind 127.0.0.1
right=$PID
file
serve
if until_true 11 told 'exposure_unknown upstream=127\.0\.0\.1:3000 .*route_localnet'; then ok "route_localnet: cannot tell, and says it"; else bad "route_localnet: cannot tell, and says it" "$(log)"; fi
has "and that it cannot see it at the start" 'exposure_unseen .*route_localnet' "$(log)"
same "what cannot be told is served" 200 "$(code)"
same "and the metric says it" 1 "$(gauge upstream_exposure_unknown)"
at gate sh -c 'echo 0 >/proc/sys/net/ipv4/conf/eth0/route_localnet'
stop "$right"
stop "$serve"

# ---- a Unix socket
mkdir -m 755 "$WORK/run"
start unix ip netns exec "$tag-gate" socat "UNIX-LISTEN:$WORK/run/app.sock,fork,mode=666" 'SYSTEM:printf "HTTP/1.1 200 OK\r\nContent-Length\: 0\r\n\r\n"'
until_true 5 test -S "$WORK/run/app.sock"
file
sed -i "s#^upstream = .*#upstream = \"unix:$WORK/run/app.sock\"#" "$WORK/loopgate.toml"
serve
if until_true 11 told 'warn upstream_socket .*app\.sock.*every user of this machine may connect to it \(mode 0666\)'; then
    ok "a socket that everyone may write is reported"
else
    bad "a socket that everyone may write is reported" "$(log)"
fi
chmod 600 "$WORK/run/app.sock"
if until_true 11 told 'info upstream_socket .*open to its owner'; then ok "and when it is not any more"; else bad "and when it is not any more" "$(log)"; fi
same "each is said once" 2 "$(grep -c upstream_socket "$WORK/serve.err")"
exit 0

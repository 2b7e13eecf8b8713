# shellcheck shell=bash
# Two machines on one wire, a service on port 3000 of the one and the gate before it on 8443. Sourced after `support/checks.sh`.
#
#   gate  eth0 192.168.77.1/24 ── veth ── neighbour 192.168.77.2

here=$ROOT/tests/netns
tag=lgp$$
spaces=(gate neighbour)

# `pair SECONDS COMMAND:PACKAGE…`: installs, runs the rest of the script under a limit of time, and wires the two.
pair() {
    local seconds=$1 space
    shift
    if [ -z "${LIMITED:-}" ]; then
        packages ip:iproute2 ss:iproute2 curl:curl python3:python3 socat:socat "$@"
        binary
        export GATE
        [ "$(id -u)" -eq 0 ] || { echo "network namespaces need root" >&2; exit 1; }
    fi
    limited "$seconds" "$0"
    for space in "${spaces[@]}"; do ip netns add "$tag-$space" && at "$space" ip link set lo up || exit 1; done
    at gate ip link add eth0 type veth peer name eth0 netns "$tag-neighbour" || exit 1
    for space in "${spaces[@]}"; do at "$space" ip link set eth0 up; done
    at gate ip addr add 192.168.77.1/24 dev eth0
    at neighbour ip addr add 192.168.77.2/24 dev eth0
}
tidy() { local s; for s in "${spaces[@]}"; do ip netns del "$tag-$s" 2>/dev/null; done; rm -rf "/etc/netns/$tag-gate"; }
at() { local s=$1; shift; ip netns exec "$tag-$s" "$@"; }
stop() { kill "$1"; wait "$1" 2>/dev/null; }

# `file [ROUTE KEYS]`: the configuration, replaced whole.
file() {
    cat >"$WORK/new.toml" <<TOML
[[listener]]
address = "0.0.0.0:8443"
networks = { allow = ["192.168.77.0/24", "loopback"] }
[[route]]
upstream = "127.0.0.1:3000"
access = "anyone"
${1:-}
[admin]
address = "127.0.0.1:9095"
TOML
    mv "$WORK/new.toml" "$WORK/loopgate.toml"
}
# Starts the gate; sets `serve`.
serve() {
    : >"$WORK/serve.err"
    start serve ip netns exec "$tag-gate" "$GATE" serve -c "$WORK/loopgate.toml"
    serve=$PID
    until_true 20 told ' serving ' || { log; exit 1; }
}
log() { cat "$WORK/serve.err"; }
told() { grep -qE "$1" "$WORK/serve.err"; }
# What the neighbour gets of the gate: the page, or only its code with the page in $WORK/answer.
page() { at neighbour curl -sSk -m 5 "https://192.168.77.1:8443/${1:-}" 2>/dev/null; }
code() { at neighbour curl -sSk -m 5 -o "$WORK/answer" -w '%{http_code}' https://192.168.77.1:8443/ 2>/dev/null; }
is() { [ "$(code)" = "$1" ]; }
# `gauge NAME`: of the one route.
gauge() { at gate curl -sS -m 5 http://127.0.0.1:9095/metrics | sed -n "s/^loopgate_$1{.*} //p"; }

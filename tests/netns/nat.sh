#!/usr/bin/env bash
# An allowlist behind NAT: the gate in a container whose port the host publishes, and on a host behind its own container bridge.
#
#   visitor 203.0.113.7 ─┐
#                        ├─ host 203.0.113.1, 198.51.100.1 ── br0 172.30.0.1 ── box 172.30.0.2
#   stranger 198.51.100.9┘
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
here=$ROOT/tests/netns

if [ -z "${LIMITED:-}" ]; then
    packages ip:iproute2 nft:nftables curl:curl openssl:openssl python3:python3 socat:socat
    binary
    export GATE
    [ "$(id -u)" -eq 0 ] || { echo "network namespaces need root" >&2; exit 1; }
fi
limited 110 "$0" "$@"

tag=lgn$$
spaces=(host box visitor stranger)
tidy() { local s; for s in "${spaces[@]}"; do ip netns del "$tag-$s" 2>/dev/null; done; }
at() { local s=$1; shift; ip netns exec "$tag-$s" "$@"; }
for space in "${spaces[@]}"; do ip netns add "$tag-$space" && at "$space" ip link set lo up || exit 1; done
# `wire SPACE DEVICE`
wire() {
    at host ip link add "$2" type veth peer name eth0 netns "$tag-$1" || exit 1
    at host ip link set "$2" up
    at "$1" ip link set eth0 up
}
at host ip link add br0 type bridge
at host ip link set br0 up
wire box tap0
at host ip link set tap0 master br0
at host ip addr add 172.30.0.1/24 dev br0
at box ip addr add 172.30.0.2/24 dev eth0
at box ip route add default via 172.30.0.1
wire visitor net0
at host ip addr add 203.0.113.1/24 dev net0
at visitor ip addr add 203.0.113.7/24 dev eth0
at visitor ip route add default via 203.0.113.1
wire stranger net1
at host ip addr add 198.51.100.1/24 dev net1
at stranger ip addr add 198.51.100.9/24 dev eth0
at stranger ip route add default via 198.51.100.1
at host sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'

# As container engines publish a port: translated on the way in, and where source addresses are not kept also the visitor's.
# `publish [masquerade]`
publish() {
    at host nft -f - <<NFT
flush ruleset
table ip published {
    chain in { type nat hook prerouting priority dstnat; fib daddr type local tcp dport 8443 dnat to 172.30.0.2:8443; }
    chain out { type nat hook postrouting priority srcnat; ${1:+oifname br0 tcp dport 8443 $1;} }
}
NFT
}
knock() { local space=$1; shift; at "$space" python3 "$here/knock.py" "$@" 2>&1 | tail -1; }
# `code SPACE HOST PORT`: through the port of the host, asking for the name that the gate has for itself.
code() { at "$1" curl -sS -k -m 5 -o /dev/null -w '%{http_code}' --connect-to "::$2:$3" "${4:-https://172.30.0.2:8443/}" 2>/dev/null; }
events() { grep -c behind_nat "$WORK/$1.err"; }
counted() { at "$1" curl -sS -m 5 http://127.0.0.1:9095/metrics | sed -n 's/^loopgate_behind_nat_total //p'; }

# `file NAME [LISTENER KEYS]`
file() {
    cat >"$WORK/new.toml" <<TOML
[admin]
address = "127.0.0.1:9095"
[[listener]]
address = ["0.0.0.0:8443"]
networks = { allow = ["172.30.0.0/24", "203.0.113.0/24", "loopback"] }
${2:-}
[[route]]
upstream = "127.0.0.1:3000"
access = "anyone"
TOML
    mv "$WORK/new.toml" "$WORK/$1.toml"
}
for space in box host; do
    start "upstream-$space" ip netns exec "$tag-$space" python3 -u "$here/service.py"
    until_true 10 at "$space" curl -sf -o /dev/null http://127.0.0.1:3000/ || { echo "the upstream does not start" >&2; exit 1; }
done

# ---- in a container
file box
start box ip netns exec "$tag-box" "$GATE" serve -c "$WORK/box.toml"
until_true 20 grep -q ' serving ' "$WORK/box.err" || { cat "$WORK/box.err"; exit 1; }
publish
same "published with source addresses: who is allowed is served" 200 "$(code visitor 203.0.113.1 8443)"
same "and who is not is closed" "closed without bytes" "$(knock stranger 198.51.100.1 8443 198.51.100.9 hello)"
same "that is no NAT" "0 0" "$(events box) $(counted box)"

publish masquerade
for space in visitor:203.0.113.1:203.0.113.7 stranger:198.51.100.1:198.51.100.9; do
    IFS=: read -r space to from <<<"$space"
    for what in hello silent; do
        same "masqueraded, $space, $what: closed, although the address that the gate sees is in allow" \
            "closed without bytes" "$(knock "$space" "$to" 8443 "$from" $what)"
    done
done
same "each one counts" 4 "$(counted box)"
is_told() { [ "$(events "$1")" -ge 1 ]; }
until_true 10 is_told box
same "one event for all of them" 1 "$(events box)"
logged "which names listener and peer" 'behind_nat listener=172\.30\.0\.2:8443 peer=172\.30\.0\.1 ' "$WORK/box.err"
logged "and says what to do" 'repair=.*trusted_proxies.*allow_gateway = true' "$WORK/box.err"
has "explain says the same" 'gateway' "$(at box "$GATE" explain -c "$WORK/box.toml" --from 172.30.0.1 https://172.30.0.2:8443/ 2>&1)"

file box 'allow_gateway = true'
if at box "$GATE" reload -c "$WORK/box.toml" >"$WORK/reload.out" 2>&1; then ok "allow_gateway by reload"; else bad "allow_gateway by reload" "$(cat "$WORK/reload.out")"; fi
same "then the visitor is served" 200 "$(code visitor 203.0.113.1 8443)"
same "and so is everybody else who comes by that way" 200 "$(code stranger 198.51.100.1 8443)"
publish
same "whom the gate can see is still judged by the address" "closed without bytes" "$(knock stranger 198.51.100.1 8443 198.51.100.9 hello)"
same "nothing more was counted" 4 "$(counted box)"

# ---- on the host: what a userland proxy dials from has the bridge's address
at host nft flush ruleset
start proxy ip netns exec "$tag-host" socat TCP-LISTEN:9443,fork,reuseaddr TCP:172.30.0.1:8443,bind=172.30.0.1
file host
start host ip netns exec "$tag-host" "$GATE" serve -c "$WORK/host.toml"
until_true 20 grep -q ' serving ' "$WORK/host.err" || { cat "$WORK/host.err"; exit 1; }
same "the container itself is who it is" 200 "$(code box 172.30.0.1 8443 https://172.30.0.1:8443/)"
same "a proxy on the bridge's address stands for the stranger: closed" "closed without bytes" "$(knock stranger 198.51.100.1 9443 198.51.100.9 hello)"
until_true 10 is_told host
same "with one event" 1 "$(events host)"
logged "of the bridge's address" 'behind_nat .*peer=172\.30\.0\.1 .*container bridge' "$WORK/host.err"
file host 'allow_gateway = true'
at host "$GATE" reload -c "$WORK/host.toml" >"$WORK/reload.out" 2>&1 || bad "the reload" "$(cat "$WORK/reload.out")"
same "with allow_gateway it is served" 200 "$(code stranger 198.51.100.1 9443 https://172.30.0.1:8443/)"
exit 0

#!/usr/bin/env bash
# What `loopgate firewall` prints does what it says: loaded with nft, dialled from outside. Plain servers stand on the gate's and the
# upstream's ports, so that nothing but the rules keeps anybody out.
#
#   inside 192.168.77.2, .66 (denied), fd77::2 ── lan ─ gate ─ wan ── outside 10.99.0.2, fd99::2
#                                                        └ br0 10.55.0.1 ── box 10.55.0.2 (port 80)
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages ip:iproute2 nft:nftables openssl:openssl python3:python3 socat:socat
    binary
    export GATE
    [ "$(id -u)" -eq 0 ] || { echo "network namespaces need root" >&2; exit 1; }
fi
limited 110 "$0" "$@"

tag=lgf$$
spaces=(gate inside outside box)
tidy() { local s; for s in "${spaces[@]}"; do ip netns del "$tag-$s" 2>/dev/null; done; }
at() { local s=$1; shift; ip netns exec "$tag-$s" "$@"; }
for space in "${spaces[@]}"; do ip netns add "$tag-$space" && at "$space" ip link set lo up || exit 1; done
wire() {
    at gate ip link add "$2" type veth peer name eth0 netns "$tag-$1" || exit 1
    at gate ip link set "$2" up
    at "$1" ip link set eth0 up
}
wire inside lan
at gate ip addr add 192.168.77.1/24 dev lan
at gate ip addr add fd77::1/64 dev lan nodad
for a in 192.168.77.2/24 192.168.77.66/24; do at inside ip addr add "$a" dev eth0; done
at inside ip addr add fd77::2/64 dev eth0 nodad
at inside ip route add default via 192.168.77.1
wire outside wan
at gate ip addr add 10.99.0.1/24 dev wan
at gate ip addr add fd99::1/64 dev wan nodad
at outside ip addr add 10.99.0.2/24 dev eth0
at outside ip addr add fd99::2/64 dev eth0 nodad
at gate ip link add br0 type bridge
at gate ip link set br0 up
wire box tap0
at gate ip link set tap0 master br0
at gate ip addr add 10.55.0.1/24 dev br0
at box ip addr add 10.55.0.2/24 dev eth0
at box ip route add default via 10.55.0.1
at outside ip route add default via 10.99.0.1
at gate sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'

for port in 8443 3000 2222; do
    start "server-$port" ip netns exec "$tag-gate" socat "TCP6-LISTEN:$port,ipv6only=0,fork,reuseaddr" /dev/null
done
start box ip netns exec "$tag-box" socat TCP-LISTEN:80,fork,reuseaddr /dev/null
# `dial SPACE FROM HOST PORT`: open, refused, or dropped.
dial() { at "$1" python3 -c '
import socket, sys
try: socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=0.7, source_address=(sys.argv[1], 0)); print("open")
except ConnectionRefusedError: print("refused")
except TimeoutError: print("dropped")
except OSError as error: print(error)' "${@:2}"; }
is() { [ "$(dial "${@:2}")" = "$1" ]; }
for port in 8443 3000 2222; do until_true 5 is open gate 127.0.0.1 127.0.0.1 "$port" || { echo "no server on $port" >&2; exit 1; }; done
until_true 5 is open box 127.0.0.1 127.0.0.1 80 || exit 1

cat >"$WORK/loopgate.toml" <<'TOML'
[[listener]]
address = ["0.0.0.0:8443", "[::]:8443"]
networks = { allow = ["192.168.77.0/24", "fd77::/64", "loopback"], deny = ["192.168.77.66"] }
[[route]]
upstream = "127.0.0.1:3000"
access = "anyone"
TOML
at gate "$GATE" firewall -c "$WORK/loopgate.toml" >"$WORK/rules.nft" 2>"$WORK/firewall.err"
same "firewall prints" 0 $?
same "and applies nothing" "" "$(at gate nft list ruleset)"
has "it says what it cannot do about containers" '^# Containers: a published port' "$(cat "$WORK/rules.nft")"
if at gate nft -c -f "$WORK/rules.nft" 2>"$WORK/nft.err"; then ok "nft -c accepts it"; else bad "nft -c accepts it" "$(cat "$WORK/nft.err")"; fi

# Name, space, from, to, port, and what is found with the rules; without them everything is open.
table=(
    "an allowed network, the gate|inside|192.168.77.2|192.168.77.1|8443|open"
    "at the gate's other address|inside|192.168.77.2|10.99.0.1|8443|open"
    "a denied address in it|inside|192.168.77.66|192.168.77.1|8443|dropped"
    "another network|outside|10.99.0.2|10.99.0.1|8443|dropped"
    "another network, at the inner address|outside|10.99.0.2|192.168.77.1|8443|dropped"
    "a container|box|10.55.0.2|10.55.0.1|8443|dropped"
    "an allowed network over IPv6|inside|fd77::2|fd77::1|8443|open"
    "another network over IPv6|outside|fd99::2|fd99::1|8443|dropped"
    "this machine|gate|127.0.0.1|127.0.0.1|8443|open"
    "the upstream from an allowed network|inside|192.168.77.2|192.168.77.1|3000|dropped"
    "the upstream over IPv6|inside|fd77::2|fd77::1|3000|dropped"
    "the upstream from another network|outside|10.99.0.2|10.99.0.1|3000|dropped"
    "the upstream from a container|box|10.55.0.2|10.55.0.1|3000|dropped"
    "the upstream from this machine|gate|127.0.0.1|127.0.0.1|3000|open"
    "the upstream from this machine, at its other address|gate|192.168.77.1|192.168.77.1|3000|open"
    "a port that is in no plan|outside|10.99.0.2|10.99.0.1|2222|open"
)
# `all NAME [WANTED]`: every row of the table, as it says or as is wanted of all.
all() {
    local row what space from to port want
    for row in "${table[@]}"; do
        IFS='|' read -r what space from to port want <<<"$row"
        same "$1: $what" "${2:-$want}" "$(dial "$space" "$from" "$to" "$port")"
    done
}
all "without rules" open
at gate nft -f "$WORK/rules.nft" || bad "they are loaded"
all "with them"
at gate nft -f "$WORK/rules.nft" || bad "they are loaded a second time"
same "loaded twice they are there once" 1 "$(at gate nft list ruleset | grep -c 'table inet loopgate')"

# ---- published ports of containers
at gate nft -f - <<'NFT'
table ip published {
    chain in {
        type nat hook prerouting priority dstnat;
        fib daddr type local tcp dport 3000 dnat to 10.55.0.2:80
        fib daddr type local tcp dport 4000 dnat to 10.55.0.2:80
    }
}
NFT
same "a published port of the upstream's number is caught" dropped "$(dial outside 10.99.0.2 10.99.0.1 3000)"
same "one of another number is not, as the text says" open "$(dial outside 10.99.0.2 10.99.0.1 4000)"
at gate nft delete table ip published

at gate nft delete table inet loopgate
all "taken out again" open
exit 0

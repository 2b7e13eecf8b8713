#!/usr/bin/env bash
# The gate between networks: namespaces of our own for the gate, a client inside its network and one outside.
#
#                        192.168.77.1/24, fd77::1/64            10.99.0.1/24, fd99::1/64
#   inside ── lan ────────────────────────────────── gate ──────────────────────────────── wan ── outside
#   .2, .66 (denied), .254 (the default gateway)      └ br0 10.55.0.1/24 ── guest .2              .2
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
here=$ROOT/tests/netns

if [ -z "${LIMITED:-}" ]; then
    packages ip:iproute2 curl:curl openssl:openssl python3:python3
    binary
    export GATE
    [ "$(id -u)" -eq 0 ] || { echo "network namespaces need root" >&2; exit 1; }
fi
limited 110 "$0" "$@"

spaces=(gate inside outside guest)
tag=lg$$
tidy() { local s; for s in "${spaces[@]}"; do ip netns del "$tag-$s" 2>/dev/null; done; }
# `at SPACE COMMAND…`
at() { local s=$1; shift; ip netns exec "$tag-$s" "$@"; }

for space in "${spaces[@]}"; do
    ip netns add "$tag-$space" && at "$space" ip link set lo up || exit 1
done
# `wire SPACE INTERFACE PEER_INTERFACE`: from the gate's INTERFACE to the space's one.
wire() {
    at gate ip link add "$2" type veth peer name "$3" netns "$tag-$1" || exit 1
    at gate ip link set "$2" up
    at "$1" ip link set "$3" up
}
address() { local space=$1 device=$2 a; shift 2; for a in "$@"; do
    if [[ $a == *:* ]]; then at "$space" ip addr add "$a" dev "$device" nodad; else at "$space" ip addr add "$a" dev "$device"; fi || exit 1
done; }

wire inside lan eth0
address gate lan 192.168.77.1/24 fd77::1/64
address inside eth0 192.168.77.2/24 192.168.77.66/24 192.168.77.254/24 fd77::2/64 fd77::66/64 fd77::254/64
at gate ip route add default via 192.168.77.254
at gate ip -6 route add default via fd77::254
at inside ip route add 10.99.0.0/24 via 192.168.77.1 src 192.168.77.2

# Clients choose .2 by themselves.
for extra in 192.168.77.66/24 192.168.77.254/24 fd77::66/64 fd77::254/64; do
    at inside ip addr change "$extra" dev eth0 preferred_lft 0
done

wire outside wan eth0
address gate wan 10.99.0.1/24 fd99::1/64
address outside eth0 10.99.0.2/24 fd99::2/64
at outside ip route add default via 10.99.0.1
at outside ip -6 route add default via fd99::1

# A bridge, as container engines make them. It has a default route too, and is no network of ours all the same.
at gate ip link add br0 type bridge
at gate ip link set br0 up
wire guest tap0 eth0
at gate ip link set tap0 master br0
address gate br0 10.55.0.1/24
address guest eth0 10.55.0.2/24
at gate ip route add default via 10.55.0.2 metric 900
at guest ip route add default via 10.55.0.1

code() { # `code SPACE URL [curl options]`
    local space=$1 url=$2
    shift 2
    at "$space" curl -sS -m 5 -o /dev/null -w '%{http_code}' --cacert "$WORK/ca.pem" "$@" "$url" 2>/dev/null
}
knock() { local space=$1; shift; at "$space" python3 "$here/knock.py" "$@" 2>&1 | tail -1; }

authority
start upstream ip netns exec "$tag-gate" python3 -u "$here/service.py"
until_true 10 at gate curl -sf -o /dev/null http://127.0.0.1:3000/ || { echo "the upstream does not start" >&2; exit 1; }

# ---- one command, no file
start demo ip netns exec "$tag-gate" "$GATE" demo
until_written "$WORK/demo.out" '(Password)' >/dev/null || exit 1
demo=$PID
password=$(sed -nE 's/^ *Password +([a-z-]+)$/\1/p' "$WORK/demo.out")
has "demo prints the address that the network can use" 'Open +https://192.168.77.1:8443/' "$(cat "$WORK/demo.out")"
lacks "demo offers no address that its own gate refuses" 'https://(10\.|\[fd99)' "$(cat "$WORK/demo.out")"
same "demo: inside, with the password" 200 "$(code inside https://192.168.77.1:8443/whoami -u "me:$password")"
same "demo: inside, without" 401 "$(code inside https://192.168.77.1:8443/whoami)"
same "demo: inside over IPv6" 200 "$(code inside 'https://[fd77::1]:8443/whoami' -u "me:$password")"
same "demo: outside" "closed without bytes" "$(knock outside 10.99.0.1 8443 10.99.0.2 hello)"
same "demo: outside over IPv6" "closed without bytes" "$(knock outside fd99::1 8443 fd99::2 hello)"
kill "$demo"
wait "$demo"
same "demo ends by SIGTERM with 0" 0 $?

# ---- from a file
echo "correct horse" | "$GATE" -q user add alice --users-file "$WORK/users.htpasswd" || exit 1
cat >"$WORK/loopgate.toml" <<'TOML'
[[listener]]
address = ["0.0.0.0:8443", "[::]:8443"]
networks = { allow = ["this-lan", "loopback"], deny = ["192.168.77.66", "fd77::66"] }

[[route]]
upstream = "127.0.0.1:3000"

[auth]
users_file = "users.htpasswd"
TOML
start serve ip netns exec "$tag-gate" "$GATE" serve -c "$WORK/loopgate.toml"
until_written "$WORK/serve.err" '(serving)' >/dev/null || { cat "$WORK/serve.err"; exit 1; }
login=(-u "alice:correct horse")

same "inside, with the password" 200 "$(code inside https://192.168.77.1:8443/ "${login[@]}")"
same "inside, with a wrong one" 401 "$(code inside https://192.168.77.1:8443/ -u alice:wrong)"
same "inside over IPv6" 200 "$(code inside 'https://[fd77::1]:8443/' "${login[@]}")"
same "the gate's own machine" 200 "$(code gate https://127.0.0.1:8443/ "${login[@]}")"
same "inside, at the gate's other address: the client counts" 200 "$(code inside https://10.99.0.1:8443/ "${login[@]}")"
for what in silent hello; do
    same "outside, $what: closed, not a byte" "closed without bytes" "$(knock outside 10.99.0.1 8443 10.99.0.2 $what)"
    same "outside over IPv6, $what" "closed without bytes" "$(knock outside fd99::1 8443 fd99::2 $what)"
    same "outside, at the inner address, $what" "closed without bytes" "$(knock outside 192.168.77.1 8443 10.99.0.2 $what)"
    same "behind a bridge, $what" "closed without bytes" "$(knock guest 10.55.0.1 8443 10.55.0.2 $what)"
    same "deny wins over allow, $what" "closed without bytes" "$(knock inside 192.168.77.1 8443 192.168.77.66 $what)"
    same "deny wins over IPv6, $what" "closed without bytes" "$(knock inside fd77::1 8443 fd77::66 $what)"
    same "the default gateway, behind which anybody may be, $what" "closed without bytes" "$(knock inside 192.168.77.1 8443 192.168.77.254 $what)"
    same "the default gateway over IPv6, $what" "closed without bytes" "$(knock inside fd77::1 8443 fd77::254 $what)"
done
same "inside, silent: left open until its time is over" "open without bytes" "$(knock inside 192.168.77.1 8443 192.168.77.2 silent)"
same "inside, hello: answered" "open with bytes" "$(knock inside 192.168.77.1 8443 192.168.77.2 hello)"
has "the log says who was outside" '10\.99\.0\.2 .*network-denied' "$(cat "$WORK/serve.out")"
same "plain HTTP from inside is sent to https" "308 https://192.168.77.1:8443/a?b=c" \
    "$(at inside curl -s -m 5 -o /dev/null -w '%{http_code} %{redirect_url}' 'http://192.168.77.1:8443/a?b=c')"
same "plain HTTP from outside gets nothing" "000 " \
    "$(at outside curl -s -m 5 -o /dev/null -w '%{http_code} %{redirect_url}' 'http://10.99.0.1:8443/a?b=c')"
# fe80::/64 is the same on every interface, so an address in it says nothing about the network it is in.
for side in inside:lan outside:wan guest:br0; do
    neighbour=$(at gate ip -6 -o addr show dev "${side#*:}" scope link | sed -nE 's#.*inet6 ([^/]+)/.*#\1#p')
    same "${side%:*}, by a link-local address" 000 "$(code "${side%:*}" "https://[$neighbour%25eth0]:8443/" "${login[@]}")"
done

# ---- the network changes while it runs
start kept ip netns exec "$tag-inside" curl -sS -N -m 60 --cacert "$WORK/ca.pem" "${login[@]}" https://10.99.0.1:8443/ticks
kept=$PID
until_true 5 grep -q tick "$WORK/kept.out" || bad "the stream does not begin"
at gate ip addr del 192.168.77.1/24 dev lan
at gate ip addr del fd77::1/64 dev lan
address gate lan 192.168.88.1/24 fd88::1/64
address inside eth0 192.168.88.2/24 fd88::2/64
at gate ip route replace default via 192.168.88.254 || at gate ip route add default via 192.168.88.254
at gate ip -6 route add default via fd88::254 2>/dev/null
# What answers the old network still finds its way: a refusal that follows is the gate's own.
at gate ip route add 192.168.77.0/24 dev lan

served() { [ "$(code inside https://192.168.88.1:8443/ "${login[@]}")" = 200 ]; }
if until_true 10 served; then ok "the new address serves, with a certificate that matches it"; else bad "the new address serves"; fi
same "and over IPv6" 200 "$(code inside 'https://[fd88::1]:8443/' "${login[@]}")"
names=$(at inside openssl s_client -connect 192.168.88.1:8443 -CAfile "$WORK/ca.pem" -verify_ip 192.168.88.1 -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName)
has "the certificate carries the new address" 'IP Address:192\.168\.88\.1' "$names"
lacks "and not the old one" '192\.168\.77\.1' "$names"
same "the network of before is outside now" "closed without bytes" "$(knock inside 10.99.0.1 8443 192.168.77.2 hello)"
# A permission that was granted is withdrawn from what is still running.
gone() { ! kill -0 "$kept" 2>/dev/null; }
if until_true 5 gone; then ok "and its running stream is cut"; else bad "its stream goes on"; fi
same "outside is still outside" "closed without bytes" "$(knock outside 192.168.88.1 8443 10.99.0.2 hello)"
same "plain HTTP at the new address" "308 https://192.168.88.1:8443/" \
    "$(at inside curl -s -m 5 -o /dev/null -w '%{http_code} %{redirect_url}' 'http://192.168.88.1:8443/')"
logged "the log says that the network changed" 'network_changed' "$WORK/serve.err"
exit 0

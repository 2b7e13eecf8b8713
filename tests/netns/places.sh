#!/usr/bin/env bash
# A machine that moves: a listener that is open at home only, addresses that come and go by reload, and a stranger on the port.
#
#   gate  eth0 192.168.77.1/24 (home), later 10.99.0.1/24 (the café), ── veth ── visitor .2
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

tag=lgp$$
spaces=(gate visitor)
tidy() { local s; for s in "${spaces[@]}"; do ip netns del "$tag-$s" 2>/dev/null; done; }
at() { local s=$1; shift; ip netns exec "$tag-$s" "$@"; }
for space in "${spaces[@]}"; do ip netns add "$tag-$space" && at "$space" ip link set lo up || exit 1; done
at gate ip link add eth0 type veth peer name eth0 netns "$tag-visitor" || exit 1
for space in "${spaces[@]}"; do at "$space" ip link set eth0 up; done
at visitor ip addr add 192.168.77.2/24 dev eth0
at visitor ip addr add 10.99.0.2/24 dev eth0
at gate ip addr add 10.99.0.1/24 dev eth0

start upstream ip netns exec "$tag-gate" python3 -u "$here/service.py"
until_true 10 at gate curl -sf -o /dev/null http://127.0.0.1:3000/ || { echo "the upstream does not start" >&2; exit 1; }

# `file ADDRESSES [LISTENER KEYS]`
file() {
    cat >"$WORK/new.toml" <<TOML
[server]
drain = "6s"
[log]
access = "off"
[[listener]]
address = [$1]
networks = { allow = ["192.168.77.0/24", "10.99.0.0/24", "127.0.0.0/8"] }
${2:-}
[[route]]
upstream = "127.0.0.1:3000"
access = "anyone"
TOML
    mv "$WORK/new.toml" "$WORK/loopgate.toml"
}
# What a dial finds: `open`, `refused`.
dialled() { at "$1" python3 -c '
import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2); print("open")
except ConnectionRefusedError: print("refused")
except OSError as error: print(error)' "$2" "$3"; }
is() { [ "$(dialled "$2" "$3" "$4")" = "$1" ]; }
# `becomes NAME SECONDS WANTED SPACE HOST PORT`
becomes() { if until_true "$2" is "${@:3}"; then ok "$1"; else bad "$1" "it is $(dialled "${@:4}")"; fi; }
reload() { at gate "$GATE" reload -c "$WORK/loopgate.toml" >"$WORK/reload.out" 2>&1; }

# ---- only at home
file '"0.0.0.0:8443"' 'only_on = ["192.168.77.0/24"]'
start serve ip netns exec "$tag-gate" "$GATE" serve -c "$WORK/loopgate.toml"
serve=$PID
until_true 20 grep -q ' serving ' "$WORK/serve.err" || { cat "$WORK/serve.err"; exit 1; }
logged "started elsewhere, it runs, waits and says why" 'listener_closed .*0\.0\.0\.0:8443.*192\.168\.77\.0/24' "$WORK/serve.err"
same "elsewhere the port is closed" refused "$(dialled visitor 10.99.0.1 8443)"
has "check says so" 'closed here and now' "$(at gate "$GATE" check -c "$WORK/loopgate.toml" 2>&1)"
at gate ip addr add 192.168.77.1/24 dev eth0
becomes "at home it opens" 5 open visitor 192.168.77.1 8443
until_true 5 grep -q listener_opened "$WORK/serve.err"
logged "and says so" 'listener_opened .*0\.0\.0\.0:8443' "$WORK/serve.err"
start kept ip netns exec "$tag-visitor" curl -sS -k -N -m 60 https://10.99.0.1:8443/ticks
kept=$PID
until_true 5 grep -q tick "$WORK/kept.out" || bad "a stream begins"
at gate ip addr del 192.168.77.1/24 dev eth0
becomes "away again it closes" 5 refused visitor 10.99.0.1 8443
gone() { ! kill -0 "$kept" 2>/dev/null; }
if until_true 5 gone; then ok "and what ran is cut"; else bad "and what ran is cut"; fi

# A mistake that waits in the file does not keep it closed, nor open.
echo 'nonsense = 1' >"$WORK/loopgate.toml"
until_true 10 grep -q config_rejected "$WORK/serve.err" || bad "the mistake is noticed"
at gate ip addr add 192.168.77.1/24 dev eth0
becomes "a mistake in the file does not keep it closed at home" 5 open visitor 192.168.77.1 8443
at gate ip addr del 192.168.77.1/24 dev eth0
becomes "nor open elsewhere" 5 refused visitor 10.99.0.1 8443

# ---- addresses come and go
file '"0.0.0.0:8443"'
if reload; then ok "a listener without a place"; else bad "a listener without a place" "$(cat "$WORK/reload.out")"; fi
becomes "is open" 5 open visitor 10.99.0.1 8443
start kept ip netns exec "$tag-visitor" curl -sS -k -N -m 60 https://10.99.0.1:8443/ticks
kept=$PID
until_true 5 grep -q tick "$WORK/kept.out" || bad "a second stream begins"
file '"127.0.0.1:8443", "10.99.0.1:9443"'
if reload; then ok "narrowed to another address on the same port"; else bad "narrowed" "$(cat "$WORK/reload.out")"; fi
becomes "the address that was removed refuses" 5 refused visitor 10.99.0.1 8443
same "the new one is open" open "$(dialled visitor 10.99.0.1 9443)"
same "and the one on loopback" open "$(dialled gate 127.0.0.1 8443)"
if kill -0 "$kept" 2>/dev/null; then ok "what runs by the removed one may finish"; else bad "what runs by the removed one may finish"; fi
if until_true 20 gone; then ok "and is cut when the time to drain is over"; else bad "and is cut when the time to drain is over"; fi

# ---- strangers
start stranger ip netns exec "$tag-gate" python3 -c '
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(("10.99.0.1", 8443)); s.listen(); time.sleep(100)'
stranger=$PID
until_true 5 is open visitor 10.99.0.1 8443
file '"0.0.0.0:8443", "10.99.0.1:7443"'
reload
same "a stranger who would share the port refuses the reload" 3 $?
has "naming the address" '0\.0\.0\.0:8443 is in use by another program' "$(cat "$WORK/reload.out")"
same "nothing of it is open" refused "$(dialled visitor 10.99.0.1 7443)"
same "and what was served is" open "$(dialled visitor 10.99.0.1 9443)"
kill "$stranger"
until_true 5 is refused visitor 10.99.0.1 8443
if reload; then ok "without the stranger it is taken"; else bad "without the stranger it is taken" "$(cat "$WORK/reload.out")"; fi
becomes "and open" 5 open visitor 10.99.0.1 7443

sed -i 's/^\[server\]/[server]\nworkers = 9\nsandbox = "off"/' "$WORK/loopgate.toml"
reload
has "what needs a restart is said" 'data threads go on, not 9; that needs a restart' "$(tr -s ' \n' ' ' <"$WORK/reload.out")"
has "and that the sandbox stays" 'the process goes on as it began: .*; that needs a restart' "$(tr -s ' \n' ' ' <"$WORK/reload.out")"
kill "$serve"
wait "$serve"
same "ends by SIGTERM with 0" 0 $?
exit 0

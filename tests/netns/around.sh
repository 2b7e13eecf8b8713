#!/usr/bin/env bash
# What a hostile eye looks for at the check of what goes around: the moment of a restart, what runs already, what is told at the start
# and at a reload, a gate that is its own service, two gates that forward to each other.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
source "$(dirname "${BASH_SOURCE[0]}")/pair.sh"
pair 280 setpriv:util-linux

# `service ADDRESS LINE`: sets PID.
service() { start service ip netns exec "$tag-gate" python3 -u "$here/service.py" "$@"; }
# `listens PORT`
listens() { until_true 5 at gate bash -c "ss -Hltn 'sport = :$1' | grep -q ."; }
answers() { until_true 10 at gate curl -s -m 2 -o /dev/null "http://$1:3000/" || { bad "the service does not start" "$(cat "$WORK/service.err")"; exit 1; }; }

# ---- a restart on the wrong address, while somebody asks without a pause
file
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
serve
until_true 10 is 200 || bad "it is served" "$(log)"
cat >"$WORK/ask.py" <<'PY'
import http.client, ssl, sys, time
context = ssl._create_unverified_context()
seen, end = {}, time.time() + float(sys.argv[1])
while time.time() < end:
    try:
        ask = http.client.HTTPSConnection("192.168.77.1", 8443, context=context, timeout=8)
        while time.time() < end:
            ask.request("GET", "/")
            answer = ask.getresponse()
            body = answer.read().decode()
            word = body.strip() if answer.status == 200 else str(answer.status)
            seen[word] = seen.get(word, 0) + 1
            time.sleep(0.003)
    except (OSError, http.client.HTTPException):
        seen["broken"] = seen.get("broken", 0) + 1
print(seen)
PY
start asking ip netns exec "$tag-neighbour" python3 "$WORK/ask.py" 14
asking=$PID
sleep 1
for round in 1 2; do
    stop "$right"
    service 0.0.0.0 wrong
    wrong=$PID
    answers 192.168.77.1
    until_true 5 is 503 || bad "round $round: bound to everyone it is refused" "$(code)"
    stop "$wrong"
    service 127.0.0.1 right
    right=$PID
    answers 127.0.0.1
    until_true 5 is 200 || bad "round $round: it heals" "$(code) $(log)"
done
wait "$asking"
has "who asks all the time gets the page of the right one" "'right': [0-9]{2}" "$(cat "$WORK/asking.out")"
has "and is refused while it is open" "'503': [0-9]" "$(cat "$WORK/asking.out")"
lacks "never the page of one that is bound to everyone, not even once" "'wrong'" "$(cat "$WORK/asking.out")"

# ---- what runs already ends
start stream ip netns exec "$tag-neighbour" curl -sSk -N -m 60 https://192.168.77.1:8443/ticks
stream=$PID
until_true 5 grep -q tick "$WORK/stream.out" || bad "the stream does not begin"
start forwarder ip netns exec "$tag-gate" socat TCP-LISTEN:4000,fork,reuseaddr TCP:127.0.0.1:3000
forwarder=$PID
gone() { ! kill -0 "$stream" 2>/dev/null; }
if until_true 11 gone; then ok "a stream of a service that becomes exposed is cut"; else bad "a stream goes on while its service is exposed" "$(log)"; fi
stop "$forwarder"
until_true 11 is 200 || bad "without the forwarder it heals" "$(code)"

# ---- a reload says what it does not serve, and is one
file 'host_header = "upstream"'
at gate "$GATE" reload -c "$WORK/loopgate.toml" >"$WORK/reload.out" 2>&1
same "a reload: exit 0" 0 $?
reloads=$(grep -c config_reloaded "$WORK/serve.err")
# The rate of requests is that of the last look at the file: from none to some there was one.
rate() { at gate "$GATE" status --json -c "$WORK/loopgate.toml" | grep -qE '"per_second": ?'"$1"; }
until_true 20 rate 0.0 || bad "the rate falls"
page >/dev/null
until_true 20 rate '(0\.0*)?[1-9]' || bad "the rate rises"
same "what a reload has taken is not taken again" "$reloads" "$(grep -c config_reloaded "$WORK/serve.err")"
start forwarder ip netns exec "$tag-gate" socat TCP-LISTEN:4000,fork,reuseaddr TCP:127.0.0.1:3000
forwarder=$PID
listens 4000
at gate "$GATE" reload -c "$WORK/loopgate.toml" >"$WORK/reload.out" 2>&1
same "a reload that finds an exposure: exit 4" 4 $?
has "it is accepted" '^accepted by ' "$(cat "$WORK/reload.out")"
has "and says which service is refused" "refused .*socat \\(pid $forwarder\\) forwards" "$(tr -s ' \n|' ' ' <"$WORK/reload.out")"
has "and the repair" "end socat \\(pid $forwarder\\)" "$(tr -s ' \n|' ' ' <"$WORK/reload.out")"
has "and so does the event" 'warn config_reloaded refused_as_exposed=1' "$(log)"
stop "$forwarder"
stop "$serve"
stop "$right"

# ---- forwarders, however they spell where they lead to: the verdict is what a neighbour can do
mkdir -p "/etc/netns/$tag-gate"
printf '127.0.0.1 localhost box\n::1 ip6-localhost ip6-loopback\n127.0.0.2 other\n192.168.77.1 lan\n' >"/etc/netns/$tag-gate/hosts"
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
# It has ended, or it serves.
is_decided() { ! kill -0 "$1" || grep -q '^ *Open ' "$WORK/start.out"; }
# `agrees NAME PORT [TARGET]`: whether a neighbour gets the page on that port, and whether the start is refused.
agrees() {
    local around=open verdict=open target=${3:-127.0.0.1:3000}
    [ "$(at neighbour curl -s -m 5 "http://192.168.77.1:$2/" 2>/dev/null)" = right ] || around=shut
    start start ip netns exec "$tag-gate" "$GATE" expose "$target" -l 127.0.0.1:0 --unsafe-no-auth
    until_true 20 is_decided "$PID" || bad "$1: it starts or ends" "$(cat "$WORK"/start.*)"
    kill "$PID" 2>/dev/null
    wait "$PID"
    [ $? -eq 4 ] || verdict=shut
    same "$1: $around to a neighbour" "$around" "$verdict"
}
forward() { start "f$2" ip netns exec "$tag-gate" socat "TCP-LISTEN:$2,fork,reuseaddr${3:-}" "$1"; forwarders+=("$PID"); listens "$2"; }
end_forwarders() { local f; for f in "${forwarders[@]}"; do stop "$f"; done; forwarders=(); }
forwarders=()
for target in TCP:127.1:3000 TCP:2130706433:3000 TCP:0x7f000001:3000 TCP:0177.0.0.1:3000 TCP:0.0.0.0:3000 TCP:localhost:3000 \
    TCP:LOCALHOST:3000 TCP:box:3000 'TCP6:[::ffff:127.0.0.1]:3000' TCP:127.0.0.2:3000 TCP:other:3000 'TCP6:[::1]:3000' TCP:lan:3000 TCP:127.0.0.1:3001; do
    forward "$target" 4000
    agrees "$target" 4000
    end_forwarders
done
forward TCP:127.0.0.1:3000 4001 ,bind=127.0.0.1
agrees "a forwarder on loopback alone" 4001
forward TCP:localhost:4001 4002 ,bind=127.0.0.3
agrees "two of them" 4002
forward TCP:127.0.0.3:4002 4003
agrees "three in a row, the last one open" 4003
end_forwarders
for target in TCP:127.0.0.1:0xbb8 TCP:127.0.0.1:05670; do
    forward "$target" 4000
    agrees "$target" 4000
    end_forwarders
done
start unix ip netns exec "$tag-gate" socat "UNIX-LISTEN:$WORK/a.sock,fork,mode=600" TCP:127.0.0.1:3000
forwarders+=("$PID")
until_true 5 test -S "$WORK/a.sock"
agrees "a Unix socket to it" 4004
forward "UNIX-CONNECT:$WORK/a.sock" 4004
agrees "a Unix socket to it, that is open" 4004
agrees "the same, as the upstream" 4004 "unix:$WORK/a.sock"
end_forwarders
# A forwarder of another user, whose sockets only root can see.
chmod 755 "$WORK" "$(dirname "$GATE")"
forward TCP:127.0.0.1:3000 4005
mkdir -p "$WORK/nobody" && chown nobody "$WORK/nobody"
at gate setpriv --reuid nobody --clear-groups env STATE_DIRECTORY="$WORK/nobody" timeout 8 "$GATE" expose 3000 -l 127.0.0.1:0 --unsafe-no-auth >"$WORK/nobody.out" 2>&1
has "whose sockets cannot be seen: it cannot tell, and says so" 'exposure_unknown .*socat \(pid [0-9]+\) leads to it' "$(cat "$WORK/nobody.out")"
end_forwarders
stop "$right"

# ---- Unix sockets: check tells of them too
mkdir -p "$WORK/way/inner" && chmod 711 "$WORK" && chmod 777 "$WORK/way"
start unix ip netns exec "$tag-gate" socat "UNIX-LISTEN:$WORK/way/inner/app.sock,fork,mode=600" STDIO
unix=$PID
until_true 5 test -S "$WORK/way/inner/app.sock"
file
sed -i "s#^upstream = .*#upstream = \"unix:$WORK/way/inner/app.sock\"#" "$WORK/loopgate.toml"
told_by_check() { at gate "$GATE" check -c "$WORK/loopgate.toml" 2>&1; }
has "check: a folder above can be written by everyone" 'warning\[upstream-socket\].*others may put their own socket' "$(told_by_check)"
same "which is no mistake" 0 "$(told_by_check >/dev/null; echo $?)"
chmod 755 "$WORK/way"
lacks "check: not any more" upstream-socket "$(told_by_check)"
chown nobody "$WORK/way"
has "check: a folder above is a stranger's" 'upstream-socket.*user [0-9]+, who is neither' "$(told_by_check)"
chown root "$WORK/way"
chgrp 47110 "$WORK/way" && chmod 775 "$WORK/way"
has "check: a folder above can be written by a group with others" 'upstream-socket.*members of group 47110 may put' "$(told_by_check)"
chgrp root "$WORK/way" && chmod 755 "$WORK/way"
lacks "check: by root's it is no matter" upstream-socket "$(told_by_check)"
chmod 1777 "$WORK/way/inner" && chown nobody "$WORK/way/inner/app.sock"
has "check, as root: in a folder for everyone somebody has put it" 'upstream-socket.*has put it into a folder where everyone' "$(told_by_check)"
chown root "$WORK/way/inner/app.sock"
lacks "check: root has" upstream-socket "$(told_by_check)"
chmod 755 "$WORK/way/inner"
chmod 666 "$WORK/way/inner/app.sock"
has "check: everybody may connect" 'every user of this machine may connect' "$(told_by_check)"
stop "$unix"

# ---- audit: a name proves nothing
cp "$(command -v socat)" "$WORK/loopgate"
file
start named ip netns exec "$tag-gate" "$WORK/loopgate" TCP-LISTEN:8443,fork STDIO
named=$PID
listens 8443
at gate "$GATE" audit -c "$WORK/loopgate.toml" >"$WORK/audit.out" 2>&1
same "audit: somebody's program of the name loopgate is not guarded" 4 $?
has "though the plan has its address" '^! .*0\.0\.0\.0:8443 ' "$(cat "$WORK/audit.out")"
stop "$named"
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
serve
at gate "$GATE" audit -c "$WORK/loopgate.toml" >"$WORK/audit.out" 2>&1
same "audit: the gate itself is" 0 $?
has "with what it lets in" '^# .*0\.0\.0\.0:8443 ' "$(cat "$WORK/audit.out")"
has "and the service of the route is named" "127\\.0\\.0\\.1:3000 +python3 \\(pid $right\\), the service of \\*/" "$(cat "$WORK/audit.out")"
stop "$serve"
stop "$right"

# ---- told to go on: said at the start
service 0.0.0.0 open
open=$PID
answers 192.168.77.1
file 'exposed_upstream = "warn"'
serve
if until_true 5 told "warn exposure_changed .*exposed=true refused=false .*python3 \\(pid $open\\)"; then ok 'exposed_upstream = "warn": the log says it at the start'; else bad 'exposed_upstream = "warn": the log is silent' "$(log)"; fi
same "and it is served" open "$(page)"
stop "$serve"
start expose ip netns exec "$tag-gate" "$GATE" expose 3000 --unsafe-upstream --unsafe-no-auth
unsafe=$PID
if until_true 10 grep -qE "exposure_changed .*exposed=true refused=false .*pid $open" "$WORK/expose.out" "$WORK/expose.err"; then ok "--unsafe-upstream: the log says it at the start"; else bad "--unsafe-upstream: silent" "$(cat "$WORK/expose.out" "$WORK/expose.err")"; fi
stop "$unsafe"
stop "$open"

# ---- without encryption: only by the flag that says so
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
start plain ip netns exec "$tag-gate" "$GATE" expose 3000 -l 0.0.0.0:8080 --allow 192.168.77.0/24 --allow loopback --unsafe-plain-http
plain=$PID
until_true 10 grep -q '^ *Password' "$WORK/plain.out" || bad "it starts" "$(cat "$WORK/plain.err")"
password=$(sed -nE 's/^ *Password +([a-z-]+)$/\1/p' "$WORK/plain.out")
http() { at neighbour curl -sS -m 5 -o /dev/null -w '%{http_code}' "$@" http://192.168.77.1:8080/ 2>/dev/null; }
same "--unsafe-plain-http: with the password" 200 "$(http -u "me:$password")"
same "a browser is asked by Basic, whose cookie it could not keep" 401 "$(http -H 'Accept: text/html')"
has "the banner has the address" 'http://localhost:8080/' "$(cat "$WORK/plain.out")"
has "and says it aloud" 'NOT ENCRYPTED' "$(cat "$WORK/plain.out")"
logged "and so does a warning" 'PLAIN HTTP' "$WORK/plain.err"
logged "and the log" 'warn plain_http address=0\.0\.0\.0:8080' "$WORK/plain.err"
stop "$plain"
start tls ip netns exec "$tag-gate" "$GATE" expose 3000 -l 0.0.0.0:8080 --allow 192.168.77.0/24
tls=$PID
until_true 10 grep -q '^ *Password' "$WORK/tls.out"
same "without it: sent to https" 308 "$(http)"
lacks "and no such words" 'NOT ENCRYPTED|plain_http' "$(cat "$WORK/tls.out" "$WORK/tls.err")"
stop "$tls"
stop "$right"
for from in none unsafe-plain unsafe_plain; do
    file
    sed -i "s#^networks = .*#&\ntls = { from = \"$from\" }#" "$WORK/loopgate.toml"
    at gate "$GATE" check -c "$WORK/loopgate.toml" >"$WORK/check.out" 2>&1
    same "a file cannot say it: $from" 3 $?
done

# ---- places that are none, and a listener that is closed
for net in 0.0.0.0/0 ::/0 127.0.0.0/8; do
    file
    sed -i "s#^networks = .*#&\nonly_on = [\"$net\"]#" "$WORK/loopgate.toml"
    at gate "$GATE" check -c "$WORK/loopgate.toml" >"$WORK/check.out" 2>&1
    same "only_on = $net: exit 3" 3 $?
    has "with words" 'is no place' "$(cat "$WORK/check.out")"
done
file
sed -i 's#^networks = .*#&\nonly_on = ["10.0.0.0/8"]#' "$WORK/loopgate.toml"
has "firewall marks a listener that only_on closes" 'Closed here and now: .*only_on' "$(at gate "$GATE" firewall -c "$WORK/loopgate.toml" 2>/dev/null)"

# ---- a place is one whose link is up
at gate ip link add home type veth peer name home netns "$tag-neighbour" && at gate ip addr add 10.9.9.5/24 dev home
at gate ip link set home up && at neighbour ip link set home up
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
file
sed -i 's#^networks = .*#&\nonly_on = ["10.9.9.0/24"]#' "$WORK/loopgate.toml"
serve
until_true 5 is 200 && ok "only_on: at home it is open" || bad "only_on: closed at home" "$(log)"
at gate ip link set home down
until_true 10 is 000 && ok "with the link down, its address left, it is closed" || bad "it is open with the link down" "$(code) $(log)"
at gate ip link set home up
until_true 10 is 200 && ok "with the link up it is open again" || bad "it stays closed" "$(log)"
at neighbour ip link set home down
until_true 10 is 000 && ok "without a carrier it is closed" || bad "it is open without a carrier" "$(code) $(log)"
at neighbour ip link set home up
until_true 10 is 200 && ok "with a carrier it is open again" || bad "it stays closed" "$(log)"
stop "$serve"
at gate ip link del home

# ---- every gateway is one behind which many may be
file
explained() { at gate "$GATE" explain -c "$WORK/loopgate.toml" --from "$1" https://192.168.77.1:8443/ 2>&1; }
lacks "a neighbour is no gateway" gateway "$(explained 192.168.77.9)"
at gate ip route add default nexthop via 192.168.77.254 nexthop via 192.168.77.253
has "the first next hop of a default route" gateway "$(explained 192.168.77.254)"
has "the second one" gateway "$(explained 192.168.77.253)"
at gate ip route del default
at gate ip route add default via 192.168.77.252 table 100
has "that of another table" gateway "$(explained 192.168.77.252)"
at gate ip route flush table 100
at gate ip route add 0.0.0.0/1 via 192.168.77.251 && at gate ip route add 128.0.0.0/1 via 192.168.77.251
has "that of both halves" gateway "$(explained 192.168.77.251)"
at gate ip route del 0.0.0.0/1 && at gate ip route del 128.0.0.0/1
lacks "and then not any more" gateway "$(explained 192.168.77.251)"
stop "$right"

# ---- a service on the address of the network alone
cat >"$WORK/lan.py" <<'PY'
import socket, time
listener = socket.create_server(("192.168.77.1", 3000))
time.sleep(60)
PY
start lan ip netns exec "$tag-gate" python3 "$WORK/lan.py"
lan=$PID
listens 3000
at gate timeout 20 "$GATE" expose 3000 >"$WORK/lan.out" 2>&1
same "a service on its network address alone: exit 4" 4 $?
has "the repair names that address" 'its host is "192\.168\.77\.1": make it "127\.0\.0\.1"' "$(cat "$WORK/lan.out")"
stop "$lan"

# ---- the same process on another port: it may be the same service, or not; it is said everywhere and served
cat >"$WORK/both.py" <<'PY'
import http.server, socket, sys, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"right")
    def log_message(self, *_): pass
for place in sys.argv[1:]:
    kind, host, port = place.split(":")
    if kind == "udp":
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); held.bind((host, int(port)))
    elif kind == "unix":
        held = socket.socket(socket.AF_UNIX); held.bind(host); held.listen(8)
    else:
        server = http.server.ThreadingHTTPServer((host, int(port)), Page)
        threading.Thread(target=server.serve_forever).start()
threading.Event().wait()
PY
both() { rm -f "$WORK/both.sock"; start both ip netns exec "$tag-gate" python3 "$WORK/both.py" "$@"; both=$PID; }
both tcp:127.0.0.1:3000 tcp:0.0.0.0:3001
listens 3001
file
same "check: another port of the same process is no mistake" 0 "$(told_by_check >/dev/null; echo $?)"
has "but a warning" "warning\[exposure-unknown\].*python3 \(pid $both\) also listens on 0\.0\.0\.0:3001" "$(told_by_check | tr -s ' \n|' ' ')"
serve
if until_true 5 told "warn exposure_unknown .*python3 \(pid $both\) also listens on 0\.0\.0\.0:3001"; then ok "the log says it"; else bad "the log is silent" "$(log)"; fi
same "and it is served" right "$(page)"
at gate "$GATE" status -c "$WORK/loopgate.toml" >"$WORK/status.out" 2>&1
has "status says so" "UNKNOWN: see below" "$(cat "$WORK/status.out")"
has "and why" "! 127\.0\.0\.1:3000: cannot tell: python3 \(pid $both\) also listens" "$(tr -s ' \n' ' ' <"$WORK/status.out")"
at gate "$GATE" status --json -c "$WORK/loopgate.toml" >"$WORK/status.json" 2>&1
has "status --json: unknown, neither exposed nor refused" '"exposed": ?false,"refused": ?false,"around": ?"unknown"' "$(tr -d '\n' <"$WORK/status.json" | tr -s ' ')"
same "and the metric" 1 "$(gauge upstream_exposure_unknown)"
stop "$both"
until_true 10 at gate bash -c "$GATE status -c $WORK/loopgate.toml | grep -q 'nothing listens there now'" && ok "status: nobody is there" || bad "status does not say that nobody is there" "$(at gate "$GATE" status -c "$WORK/loopgate.toml")"
both tcp:127.0.0.1:3000
listens 3000
until_true 10 at gate bash -c "$GATE status --json -c $WORK/loopgate.toml | grep -q none-found" && ok "when the port is closed it is over" || bad "it is not over" "$(log)"
stop "$both"
stop "$serve"
both tcp:127.0.0.1:3000 udp:0.0.0.0:3000
listens 3000
has "check: datagrams on the same port" 'also listens on 0\.0\.0\.0:3000 \(UDP\)' "$(told_by_check | tr -s ' \n|' ' ')"
start banner ip netns exec "$tag-gate" "$GATE" expose 3000 -l 127.0.0.1:0 --unsafe-no-auth
banner=$PID
until_true 10 grep -q 'Beware' "$WORK/banner.out"
has "expose: in the banner" 'Beware +cannot tell: python3' "$(cat "$WORK/banner.out")"
stop "$banner"
stop "$both"
both "unix:$WORK/both.sock:0" tcp:0.0.0.0:3001
listens 3001
file
sed -i "s#^upstream = .*#upstream = \"unix:$WORK/both.sock\"#" "$WORK/loopgate.toml"
has "check: a Unix socket whose process has an open port" 'also listens on 0\.0\.0\.0:3001' "$(told_by_check | tr -s ' \n|' ' ')"
stop "$both"
file
start front ip netns exec "$tag-gate" socat TCP-LISTEN:3000,bind=127.0.0.1,fork,reuseaddr TCP:172.30.0.2:80
front=$PID
listens 3000
has "check: a forwarder in the place of the service" "socat \(pid $front\) stands in its place and leads to 172\.30\.0\.2:80" "$(told_by_check | tr -s ' \n|' ' ')"
stop "$front"
file 'exposed_upstream = "warn"'
has 'check: exposed_upstream = "warn" is unwise' 'warning\[exposed-upstream\]' "$(told_by_check)"
same "and no mistake" 0 "$(told_by_check >/dev/null; echo $?)"
file
lacks "check: without it no word" 'warning' "$(told_by_check)"

# ---- what check and explain say of a service that is open as it runs now
service 0.0.0.0 open
open=$PID
answers 192.168.77.1
has "check: it would be refused" "warning\[upstream-exposed\].*as things are now it would be refused .*python3 \(pid $open\).*repair|help" "$(told_by_check | tr -s ' \n|' ' ')"
has "explain: the step and the answer" '^no +exposure +python3 .*upstream-exposed: the client sees 503' "$(explained 192.168.77.2 | tr -s ' \n' ' ' | sed 's/ no exposure/\nno exposure/')"
stop "$open"
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
has "explain: it is not" 'exposure 127\.0\.0\.1:3000 is on loopback alone.* allowed: the request is forwarded' "$(explained 192.168.77.2 | tr -s ' \n' ' ')"

# ---- the loopback of another network namespace is another one
start far ip netns exec "$tag-neighbour" socat TCP-LISTEN:9000,fork,reuseaddr TCP:127.0.0.1:3000
far=$PID
until_true 5 at neighbour bash -c "ss -Hltn 'sport = :9000' | grep -q ."
lacks "a forwarder there that names 127.0.0.1:3000: no word" warning "$(told_by_check)"
stop "$far"

# ---- doubt goes through chains, and datagrams are a way too
forward 'SYSTEM:nc 0x7f.1 0xbb8' 4001 ,bind=127.0.0.1
first=${forwarders[0]}
lacks "one that may lead there, on loopback alone: no word" warning "$(told_by_check)"
forward TCP:127.0.0.1:4001 4002
has "another one that is open and leads to it: in doubt" "exposure-unknown.*socat \(pid $PID\) may lead to it by way of socat \(pid $first\)" "$(told_by_check | tr -s ' \n|' ' ')"
end_forwarders
start datagrams ip netns exec "$tag-gate" socat UDP-LISTEN:4001,fork,reuseaddr TCP:127.0.0.1:3000
forwarders=("$PID")
until_true 5 at gate bash -c "ss -Hlun 'sport = :4001' | grep -q ."
has "by UDP a neighbour gets the page" right "$(printf 'GET / HTTP/1.0\r\n\r\n' | at neighbour timeout 3 socat -t 2 - UDP:192.168.77.1:4001)"
has "and check says so" "upstream-exposed.*socat \(pid $PID\) forwards to it" "$(told_by_check | tr -s ' \n|' ' ')"
end_forwarders
forward TCP:127.0.0.1:3000 3010 ,bind=127.0.0.1
inner=${forwarders[0]}
sed -i 's#^upstream = .*#upstream = "127.0.0.1:3010"#' "$WORK/loopgate.toml"
lacks "a forwarder in the place of a service that is on loopback: no word" warning "$(told_by_check)"
forward TCP:127.0.0.1:3000 4001
has "another one, open, to what is behind it: in doubt" "exposure-unknown.*socat \(pid $inner\) stands in its place, and socat \(pid $PID\), which others can use" "$(told_by_check | tr -s ' \n|' ' ')"
end_forwarders
stop "$right"
file
start transparent ip netns exec "$tag-gate" socat TCP-LISTEN:3000,bind=127.0.0.1,fork,reuseaddr,ip-transparent STDIO
transparent=$PID
listens 3000
has "a transparent socket: TPROXY may bring others" 'exposure-unknown.*TPROXY' "$(told_by_check | tr -s ' \n|' ' ')"
stop "$transparent"

# ---- the Unix socket of the service by another path, through another mount namespace
both "unix:$WORK/both.sock:0"
until_true 5 test -S "$WORK/both.sock"
sed -i "s#^upstream = .*#upstream = \"unix:$WORK/both.sock\"#" "$WORK/loopgate.toml"
start mounted ip netns exec "$tag-gate" unshare -m bash -c "mount --bind $WORK /mnt && cd /mnt && exec socat TCP-LISTEN:4001,fork,reuseaddr UNIX-CONNECT:both.sock"
mounted=$PID
listens 4001
has "a forwarder with mounts of its own: found" "upstream-exposed.*socat \(pid $mounted\) forwards to it" "$(told_by_check | tr -s ' \n|' ' ')"
stop "$mounted"
start mounted ip netns exec "$tag-gate" unshare -m bash -c "mount -t tmpfs none $WORK && exec socat TCP-LISTEN:4001,fork,reuseaddr UNIX-CONNECT:$WORK/both.sock"
mounted=$PID
listens 4001
lacks "and one that means another socket by the same path is not" 'upstream-exposed' "$(told_by_check)"
stop "$mounted"
stop "$both"
file

# ---- a forwarder in another network namespace, to the Unix socket of the service
both "unix:$WORK/both.sock:0" tcp:127.0.0.1:3009
listens 3009
start far ip netns exec "$tag-neighbour" socat TCP-LISTEN:9000,fork,reuseaddr "UNIX-CONNECT:$WORK/both.sock"
far=$PID
until_true 5 at neighbour bash -c "ss -Hltn 'sport = :9000' | grep -q ."
sed -i "s#^upstream = .*#upstream = \"unix:$WORK/both.sock\"#" "$WORK/loopgate.toml"
serve
until_true 5 told "exposure_unknown .*socat"
has "a forwarder in another namespace: it cannot tell" "exposure_unknown .*socat \(pid $far\) leads to it from another network namespace.*nsenter -t $far" "$(log)"
until_true 5 told "exposure_unseen .*Something listens"
has "and other namespaces are told at the start" 'exposure_unseen .*Something listens in .*network namespace' "$(log)"
stop "$serve"
stop "$far"
stop "$both"
file

# ---- what /proc hides is said
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
hidden() { # OPTIONS OF unshare's shell
    mkdir -p "$WORK/hidden" && chown nobody "$WORK/hidden"
    at gate unshare -m bash -c "$1; exec setpriv --reuid nobody --regid 65534 --clear-groups env STATE_DIRECTORY=$WORK/hidden timeout 8 $GATE expose 3000 -l 127.0.0.1:0 --unsafe-no-auth" >"$WORK/hidden.out" 2>&1
    tr -s ' \n' ' ' <"$WORK/hidden.out"
}
has "processes of others are hidden (hidepid, as in the unit): said" 'Processes of other users are hidden' "$(hidden 'mount -t proc -o hidepid=2 proc /proc')"
# The same of a gate that is asked.
mkdir -p "$WORK/asked" && chown nobody "$WORK/asked" && chmod 644 "$WORK/loopgate.toml"
as_nobody="mount -t proc -o hidepid=2 proc /proc; exec setpriv --reuid nobody --regid 65534 --clear-groups env STATE_DIRECTORY=$WORK/asked"
asks() { at gate unshare -m bash -c "$as_nobody $GATE $1 -c $WORK/loopgate.toml $2" 2>&1 | tr -s ' \n' ' '; }
start asked ip netns exec "$tag-gate" unshare -m bash -c "$as_nobody $GATE serve -c $WORK/loopgate.toml"
asked=$PID
until_true 20 grep -q ' serving ' "$WORK/asked.err"
has "status says it too, and the verdict is the table's" 'no way found.*note: Processes of other users are hidden' "$(asks status "")"
has "and status --json" '"unseen": ?\[.*Processes of other users are hidden' "$(asks status --json)"
has "and explain" 'exposure 127.* is on loopback alone, as far as can be seen\. Processes of other users are hidden' "$(asks explain '--from 192.168.77.2 https://192.168.77.1:8443/')"
stop "$asked"
nothing=$(hidden 'mount -t tmpfs none /proc')
has "no /proc: said" 'There is no /proc here' "$nothing"
has "and the verdict is that it cannot tell" 'exposure_unknown .*whether `route_localnet` lets others' "$nothing"
lacks "with all of it: no such word" 'are hidden|no /proc|route_localnet' "$(hidden true)"
stop "$right"

# ---- in a container the banner says what nobody sees, and no line of the log comes between
start demo ip netns exec "$tag-gate" env KUBERNETES_SERVICE_HOST=1 "$GATE" demo
demo=$PID
until_true 10 grep -q 'Unseen' "$WORK/demo.out"
has "demo in a container: in the banner" 'Unseen +This runs in a container' "$(cat "$WORK/demo.out")"
lacks "and not between" exposure_unseen "$(cat "$WORK/demo.out" "$WORK/demo.err")"
stop "$demo"

# ---- a gate that would be its own service
for upstream in 127.0.0.1:8443 https://localhost:8443 https://127.0.0.5:8443; do
    file
    sed -i "s#^upstream = .*#upstream = \"$upstream\"#" "$WORK/loopgate.toml"
    at gate "$GATE" check -c "$WORK/loopgate.toml" >"$WORK/check.out" 2>&1
    same "check: $upstream is the gate itself" 3 $?
    has "with the line" 'loopgate\.toml:5:' "$(cat "$WORK/check.out")"
    at gate timeout 20 "$GATE" serve -c "$WORK/loopgate.toml" >"$WORK/own.out" 2>&1
    same "serve: the same" 3 $?
done
at gate timeout 20 "$GATE" expose https://localhost:8443 >"$WORK/own.out" 2>&1
same "expose: the same" 3 $?
file
service 127.0.0.1 right
right=$PID
answers 127.0.0.1
serve
sed "s#^upstream = .*#upstream = \"https://127.0.0.1:8443\"#" "$WORK/loopgate.toml" >"$WORK/new.toml" && mv "$WORK/new.toml" "$WORK/loopgate.toml"
at gate "$GATE" reload -c "$WORK/loopgate.toml" >"$WORK/reload.out" 2>&1
same "reload: the same" 3 $?
same "and what was in force is served" right "$(page)"
stop "$serve"
stop "$right"

# ---- two gates that forward to each other
for n in 1 2; do
    mkdir -m 700 "$WORK/state$n"
    cat >"$WORK/gate$n.toml" <<TOML
[[listener]]
address = "127.0.0.1:900$n"
networks = { allow = ["loopback"] }
[[route]]
upstream = "https://127.0.0.1:900$((3 - n))"
access = "anyone"
TOML
    STATE_DIRECTORY=$WORK/state$n start "gate$n" ip netns exec "$tag-gate" "$GATE" serve -c "$WORK/gate$n.toml"
    until_true 20 grep -q ' serving ' "$WORK/gate$n.err" || { cat "$WORK/gate$n.err"; exit 1; }
done
same "a request between two gates ends" 502 "$(at gate curl -sSk -m 8 -o /dev/null -w '%{http_code}' https://localhost:9001/)"
lines() { cat "$WORK/gate1.out" "$WORK/gate2.out" | grep -c ' GET '; }
five() { [ "$(lines)" -ge 5 ]; }
until_true 5 five
at_most "after a few" 5 "$(lines)"
exit 0

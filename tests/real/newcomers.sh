#!/usr/bin/env bash
# What a gate knows of others by a first look, with the built program and real clients: the certificate of a service, as it was seen
# first; the page for a device that does not trust the authority yet; a link for a visitor.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl jq:jq openssl:openssl python3:python3 ss:iproute2
    binary
    export GATE
fi
limited 200 "$0" "$@"
cd "$WORK" || exit 1

# `certificate NAME`; its fingerprint in the words of the gate.
certificate() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -keyout "$1.key" -out "$1.pem" -subj "/CN=$1" 2>/dev/null; }
print() { echo "sha256:$(openssl x509 -in "$1.pem" -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr A-F a-f)"; }
listens() { [ -n "$(ss -Hltn "sport = :$1")" ]; }
# `stop PID…`: ends them, and waits for the end.
stop() { local pid; for pid in "$@"; do kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done; }
# `service NAME`: the service of this part, with that certificate. What it was asked for stands in NAME.out as `FILE:…`.
service() {
    [ -z "${SERVICE:-}" ] || stop "$SERVICE"
    start "$1" openssl s_server -WWW -accept "127.0.0.1:$UPSTREAM" -cert "$1.pem" -key "$1.key"
    SERVICE=$PID
    until_true 10 listens "$UPSTREAM" || bad "the service with $1 listens" "$(cat "$1.err")"
}
# `code ARGUMENTS…`: the status; what came stands in `body`.
code() { curl -sS --cacert ca.pem -m 20 --resolve "app.lan:$PORT:127.0.0.1" -o body -w '%{http_code}' "$@" 2>>curl.err; }
is_code() { [ "$(code "${@:2}")" = "$1" ]; }
again() { stop "$gate"; rm -f gate.err; serving gate gate.toml; gate=$PID; }

echo "== a port alone is on 127.0.0.1 or on ::1"
UPSTREAM=$(free_port)
cat >six.py <<'PY'
import http.server, socket, sys
class Six(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Six(("::1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
PY
echo "by six" >six.txt
exposed() {
    start exposed "$GATE" expose "$UPSTREAM" -l "127.0.0.1:$PORT" --unsafe-no-auth
    until_true 20 listens "$PORT" || bad "expose $UPSTREAM starts" "$(cat exposed.err)"
}
got_six() { [ "$(curl -sk -m 5 "https://localhost:$PORT/six.txt")" = "by six" ]; }
PORT=$(free_port)
start six python3 six.py "$UPSTREAM"
six=$PID
until_true 10 listens "$UPSTREAM" || bad "the service listens on ::1" "$(cat six.err)"
exposed
until_true 10 grep -q "localhost:$PORT" exposed.out
lacks "the banner does not wait for a service that is there" 'Waiting' "$(cat exposed.out)"
got_six && ok "and visitors get it" || bad "and visitors get it"
stop "$PID" "$six"
PORT=$(free_port)
exposed
until_true 10 grep -q 'Waiting' exposed.out && ok "before it is there, the banner says so" || bad "before it is there, the banner says so" "$(cat exposed.out)"
exposed=$PID
start six python3 six.py "$UPSTREAM"
until_true 20 got_six && ok "and it is found when it comes" || bad "and it is found when it comes" "$(cat exposed.err)"
stop "$exposed" "$PID"

echo "== the certificate of a service"
echo "the page" >page.html
for name in first second third; do certificate "$name"; done
UPSTREAM=$(free_port)
name=https://127.0.0.1:$UPSTREAM
pinned() {
    cat >gate.toml <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[log]
access = "access.log"
[[route]]
hosts = ["app.lan"]
upstream = "$name"
access = "anyone"
$1
TOML
}
authority
pinned ''
service first
serving gate gate.toml
gate=$PID
logged "the gate looks at it when it starts, and says what it saw" "info upstream_certificate upstream=$name certificate=$(print first)" gate.err
same "a service with a certificate of its own is served" 200 "$(code "https://app.lan:$PORT/page.html")"
same "with its page" "the page" "$(cat body)"
has "it stands in the state directory" "^$name $(print first)" "$(cat "$STATE_DIRECTORY/upstream-certs")"
same "which is the owner's alone" 600 "$(stat -c %a "$STATE_DIRECTORY/upstream-certs")"
same "upstream-cert list has it" "$(print first)" "$("$GATE" upstream-cert list --json | jq -r '.remembered[0].certificate')"
has "explain says what is held to" "seen first, $(print first)" "$("$GATE" explain --json -c gate.toml --from 127.0.0.1 "https://app.lan:$PORT/" 2>&1)"
service second
same "one with another certificate is 502" 502 "$(code "https://app.lan:$PORT/page.html")"
lacks "with nothing of the service" 'the page' "$(cat body)"
logged "the log has both fingerprints and the command" \
    "warn upstream_certificate_changed upstream=$name expected=$(print first) found=$(print second) .*loopgate upstream-cert accept $name $(print second)" gate.err
for n in 1 2 3; do code "https://app.lan:$PORT/page.html" >/dev/null; done
same "once, however many come" 1 "$(grep -c upstream_certificate_changed gate.err)"
has "list shows it as well" "upstream-cert accept $name $(print second)" "$("$GATE" --no-color upstream-cert list)"
again
same "another run does not take it either" 502 "$(code "https://app.lan:$PORT/page.html")"
lacks "it was asked for nothing in all this" 'FILE:' "$(cat second.out)"
service first
until_true 20 is_code 200 "https://app.lan:$PORT/page.html"
same "the right one may come back" 200 "$(code "https://app.lan:$PORT/page.html")"
service second
out=$("$GATE" upstream-cert accept "$name" "sha256:12" 2>&1)
same "half a fingerprint is none" 2 $?
out=$("$GATE" upstream-cert accept "https://10.1.2.3:8006" "$(print second)" 2>&1)
same "a service elsewhere is none" 2 $?
out=$("$GATE" upstream-cert accept "$name" "$(print second)" 2>&1)
same "accept" 0 $?
has "is in force when it returns" 'in force at' "$out"
same "the new one is served" 200 "$(code "https://app.lan:$PORT/page.html")"
service first
same "and the one before is not" 502 "$(code "https://app.lan:$PORT/page.html")"
again
same "nor after another start" 502 "$(code "https://app.lan:$PORT/page.html")"
out=$("$GATE" upstream-cert forget "$name" 2>&1)
same "forget" 0 $?
has "says what is no longer held to" "not held to $(print second)" "$out"
same "the next one is the first again" 200 "$(code "https://app.lan:$PORT/page.html")"
is_kept() { grep -q "$(print first)" "$STATE_DIRECTORY/upstream-certs"; }
until_true 10 is_kept && ok "and is written down" || bad "and is written down" "$(cat "$STATE_DIRECTORY/upstream-certs")"
service third
same "and held to" 502 "$(code "https://app.lan:$PORT/page.html")"
"$GATE" upstream-cert forget https://127.0.0.1:1 >/dev/null 2>&1
same "what is not there cannot be forgotten" 1 $?
# Written down: it counts more than what was seen.
cat third.pem second.pem >two.pem
for way in "third:200:\"$(print third)\"" "third:200:{ file = \"two.pem\" }" "second:200:{ file = \"two.pem\" }" "first:502:{ file = \"two.pem\" }" \
    "second:502:\"$(print third)\"" 'second:200:"any"'; do
    IFS=: read -r who want rest <<<"$way"
    pinned "upstream_cert = $rest"
    service "$who"
    again
    same "upstream_cert = ${rest:0:25}: $who is $want" "$want" "$(code "https://app.lan:$PORT/page.html")"
done
chmod 666 "$STATE_DIRECTORY/upstream-certs"
pinned ''
out=$(timeout 20 "$GATE" serve -c gate.toml 2>&1)
same "a list that others could have written is refused" 3 $?
has "with the way out" 'upstream-certs' "$out"
chmod 600 "$STATE_DIRECTORY/upstream-certs"
stop "$gate" "$SERVICE"
# The same on the command line.
for way in "first:200:$(print first)" "second:502:$(print first)" "second:200:two.pem" "first:502:two.pem" "first:200:any"; do
    IFS=: read -r who want rest <<<"$way"
    service "$who"
    rm -f exposed.out
    gate exposed expose "$name" -l 127.0.0.1:0 --name app.lan --unsafe-no-auth --upstream-cert "$rest"
    same "--upstream-cert ${rest:0:25}: $who is $want" "$want" "$(code "https://app.lan:$PORT/page.html")"
    said=$(cat exposed.out exposed.err | grep -c "the certificate of $name is not checked")
    same "and whether it is checked is said" "$([ "$rest" = any ] && echo 1 || echo 0)" "$said"
    stop "$PID" "$SERVICE"
done

echo "== a service that is not there"
# Somebody has the port on ::1 and nobody on 127.0.0.1; the threads that serve may not look who.
UPSTREAM=$(free_port)
start elsewhere python3 -m http.server --bind ::1 "$UPSTREAM"
until_true 10 listens "$UPSTREAM" || bad "a server on ::1" "$(cat elsewhere.err)"
echo "open sesame alice" | "$GATE" -q user add alice --users-file users
cat >gate.toml <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[auth]
users_file = "users"
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
[[route]]
hosts = ["app.lan"]
path = "/file"
upstream = "unix:$WORK/there-is-none.sock"
TOML
rm -f gate.err
serving gate gate.toml
gate=$PID
# A visitor waits only a moment for the hint: where the machine is busy, the next one hears it.
hears() { code -u "alice:open sesame alice" -H 'Accept: text/html' "https://app.lan:$PORT$1"; grep -q "$2" body; }
until_true 20 hears / "Nothing answers on"
same "is 502" 502 "$(code -u "alice:open sesame alice" -H 'Accept: text/html' "https://app.lan:$PORT/")"
until_true 20 hears / "Nothing answers on"
has "and the page names who listens instead" "Nothing answers on 127.0.0.1:$UPSTREAM, but python3[.0-9]* listens on \[::1\]:$UPSTREAM" "$(cat body)"
same "nobody is told without a login" 401 "$(code "https://app.lan:$PORT/")"
lacks "neither the name" 'python3' "$(cat body)"
same "a socket in the file system" 502 "$(code -u "alice:open sesame alice" "https://app.lan:$PORT/file")"
until_true 20 hears /file "There is no socket"
has "is looked for as well" "There is no socket $WORK/there-is-none.sock" "$(cat body)"
stop "$gate"

echo "== a page for a new device"
cat >app.py <<'PY'
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        print("asked", self.path, self.headers.get("X-Loopgate-User"), self.headers.get("Cookie"), flush=True)
        self.send_response(200)
        if not self.path.endswith("/stream"):
            body = b"the page"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"data: tick\n\n")
                time.sleep(0.1)
        except OSError:
            print("cut", self.path, flush=True)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
PY
UPSTREAM=$(free_port)
start app python3 app.py "$UPSTREAM"
cat >gate.toml <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[auth]
users_file = "users"
[log]
access = "access.log"
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
[[route]]
hosts = ["app.lan"]
path = "/named"
upstream = "127.0.0.1:$UPSTREAM"
access = { users = ["alice"] }
TOML
rm -f gate.err
serving gate gate.toml
gate=$PID
site=https://app.lan:$PORT
page=$site/.loopgate/onboard
for path in "" /loopgate-ca.crt /loopgate-ca.mobileconfig; do same "closed, $path is not there" 404 "$(code "$page$path")"; done
out=$("$GATE" --no-color onboard --for 5m)
same "onboard" 0 $?
has "says where" "$page" "$out"
"$GATE" ca show >shown
device=$(openssl x509 -in ca.pem -noout -fingerprint -sha256 | sed 's/.*=//')
same "the fingerprint in the terminal is the one that OpenSSL shows" "$device" "$(grep -oE '([0-9A-F]{2}:){8,}([0-9A-F]{2})?' <<<"$out" | tr -d '\n')"
same "open, the page is there without a login" 200 "$(code "$page")"
has "with the fingerprint" "$device" "$(cat body)"
same "and without trust as well, which is what it is for" 200 "$(curl -sk -m 20 --resolve "app.lan:$PORT:127.0.0.1" -o body -w '%{http_code}' "$page")"
same "the certificate" 200 "$(code "$page/loopgate-ca.crt")"
same "is the one of the authority" "$device" "$(openssl x509 -inform der -in body -noout -fingerprint -sha256 | sed 's/.*=//')"
openssl x509 -inform der -in body -out downloaded.pem
same "who trusts it trusts the gate" 401 "$(curl -sS --cacert downloaded.pem -m 20 --resolve "app.lan:$PORT:127.0.0.1" -o /dev/null -w '%{http_code}' "$site/")"
same "the profile" 200 "$(code "$page/loopgate-ca.mobileconfig")"
out=$(python3 - body <<'PY'
import hashlib, plistlib, sys
profile = plistlib.load(open(sys.argv[1], "rb"))
assert profile["PayloadType"] == "Configuration" and profile["PayloadVersion"] == 1, profile
(one,) = profile["PayloadContent"]
assert profile["PayloadUUID"] != one["PayloadUUID"]
print(one["PayloadType"], hashlib.sha256(one["PayloadContent"]).hexdigest())
PY
)
same "is a property list with that certificate as a root" "com.apple.security.root $(tr -d : <<<"$device" | tr A-F a-f)" "$out"
for path in /.loopgate/onboard/other /.loopgate/onboarded; do same "$path is not there" 404 "$(code "$site$path")"; done
same "nothing else is open" 401 "$(code "$site/")"
same "nor the account" 303 "$(code "$site/.loopgate/")"
same "and nobody can write to it" 405 "$(code -d x "$page")"
same "another name is none of ours" 421 "$(code -H 'Host: evil.example' "$page")"
out=$("$GATE" onboard --close)
has "close" 'is closed' "$out"
same "and it is not there" 404 "$(code "$page")"
"$GATE" -q onboard --for 8s >/dev/null
same "opened for a while" 200 "$(code "$page")"
until_true 30 is_code 404 "$page"
same "it closes by itself" 404 "$(code "$page")"
"$GATE" onboard --for 25h >/dev/null 2>&1
same "not for longer than a day" 2 $?
"$GATE" -q onboard --for 1h >/dev/null
same "open again" 200 "$(code "$page")"
again
site=https://app.lan:$PORT
page=$site/.loopgate/onboard
same "it ends with the process" 404 "$(code "$page")"
lacks "nothing of all this reached the service" 'asked' "$(cat app.out)"

echo "== a link for a visitor"
# `link OPTIONS…`: sets ID, LINK and SECRET.
secrets=()
link() {
    "$GATE" share --json "$@" >made || bad "share $*"
    ID=$(jq -r .id made)
    LINK=$(jq -r --arg site "$site" '.urls[] | select(startswith($site))' made | head -1)
    SECRET=${LINK##*/}
    secrets+=("$SECRET")
}
opens() { code -X POST -H 'Content-Length: 0' -H "Origin: $site" -c "$1" -D head "$LINK"; }
as() { code -b "$1" "${@:2}"; }
same "without anything there is a login" 401 "$(code "$site/in/x")"
link --for 1h --path /in
same "the secret has 256 bits" 43 "${#SECRET}"
for n in 1 2 3; do same "looking at it" 200 "$(code -D head "$LINK")"; done
has "shows a button" '<form[^>]* method="post"' "$(cat body)"
lacks "and gives nothing" '^set-cookie' "$(tr A-Z a-z <head)"
has "the page sends nobody its address" '^referrer-policy: no-referrer' "$(tr A-Z a-z <head)"
same "another site's button does nothing" 403 "$(code -X POST -H 'Content-Length: 0' -H 'Origin: https://evil.example' "$LINK")"
same "its own button opens it" 303 "$(opens anna)"
has "and leads to the path" '^location: /in' "$(tr A-Z a-z <head | tr -d '\r')"
has "with a cookie for the browser alone" '__host-.*; secure; httponly' "$(tr A-Z a-z <head | grep set-cookie | sed 's/path=[^;]*; //')"
same "tapped again by whom it let in" 303 "$(as anna -D head "$LINK")"
has "it leads there again" '^location: /in' "$(tr A-Z a-z <head | tr -d '\r')"
has "a page of ours lets a visitor go" 'action="/.loopgate/logout"' "$(as anna "$site/.loopgate/" >/dev/null; cat body)"
same "once" 401 "$(opens berta)"
same "and whoever came second has nothing" 401 "$(as berta "$site/in/x")"
for path in /in /in/x '/in/x?y=/../z'; do same "$path is within" 200 "$(as anna "$site$path")"; done
for path in / /inside /In/x /named; do same "$path is not" 403 "$(as anna "$site$path")"; done
for path in /in/../x /in/%2e%2e/x /in%2f..%2fx '/in/..;/x' /in//../x; do
    got=$(as anna --path-as-is "$site$path")
    has "$path is not" '^(400|403)$' "$got"
done
has "the service sees who it is, and no cookie of ours" "^asked /in/x share:$ID None" "$(cat app.out)"
same "the list shows it" "$ID /in true" "$("$GATE" share list --json | jq -r '.[] | "\(.id) \(.path) \(.used != null)"')"
same "a second link" "" "$(link --for 1h --path / 2>&1)"
link --for 1h
other=$ID
same "for somebody else" 303 "$(opens carla)"
same "opens everything that users may" 200 "$(as carla "$site/x")"
same "and nothing that is for one of them" 403 "$(as carla "$site/named")"
# `streaming JAR PATH`: a stream by that cookie; its id in STREAM.
streaming() {
    start stream curl -sSN --cacert ca.pem -m 60 --resolve "app.lan:$PORT:127.0.0.1" -b "$1" "$site$2"
    STREAM=$PID
    until_true 10 grep -q tick stream.out || bad "the stream $2 runs" "$(cat stream.err)"
}
is_over() { ! kill -0 "$1" 2>/dev/null; }
streaming anna /in/stream
out=$("$GATE" share revoke "$(jq -r '.[] | select(.path == "/in") | .id' <("$GATE" share list --json))")
has "revoke" '1 link is revoked' "$out"
until_true 5 is_over "$STREAM" && ok "cuts what runs by it" || bad "cuts what runs by it"
until_true 10 grep -q 'cut /in/stream' app.out && ok "up to the service" || bad "up to the service" "$(cat app.out)"
same "and the cookie is worth nothing" 401 "$(as anna "$site/in/x")"
same "others go on" 200 "$(as carla "$site/x")"
"$GATE" share revoke "$ID" >/dev/null; "$GATE" share revoke "$ID" >/dev/null 2>&1
same "what is not there cannot be revoked" 1 $?
link --for 10s --path /brief
same "a short link" 303 "$(opens dora)"
streaming dora /brief/stream
until_true 40 is_over "$STREAM" && ok "what runs by it ends with its time" || bad "what runs by it ends with its time"
same "and so does the visit" 401 "$(as dora "$site/brief/x")"
same "the list is as long as what is left" "$("$GATE" share list --json | jq length)" 1
link --for 1h
unused=$LINK
link --for 1h
same "before another start" 303 "$(opens erna)"
for wrong in 8d 0s; do
    "$GATE" share --for $wrong >/dev/null 2>&1
    same "--for $wrong is refused" 2 $?
done
for wrong in relative /a/../b '/a?b' /.loopgate/x /named; do
    "$GATE" share --path "$wrong" >/dev/null 2>&1
    same "--path $wrong is refused" 2 $?
done
"$GATE" share --host evil.example >/dev/null 2>&1
same "--host of somebody else is refused" 2 $?
logged "the log names the visitor" "share:$ID" access.log
logged "and where he pressed the button, without the secret" 'POST app.lan[^ ]* /.loopgate/share/ |/.loopgate/share/' access.log
found=0
for secret in "${secrets[@]}"; do
    grep -rqF -- "$secret" access.log gate.err gate.out app.out "$STATE_DIRECTORY" && found=$((found + 1))
done
same "of ${#secrets[@]} secrets none stands in a log, at the service or in the state directory" 0 "$found"
cookies=$(awk '/__Host-/ {print $7}' anna carla dora erna)
found=0
for secret in $cookies; do grep -rqF -- "$secret" access.log gate.err app.out "$STATE_DIRECTORY" && found=$((found + 1)); done
same "and none of $(wc -w <<<"$cookies") cookies" 0 "$found"
port=$PORT
stop "$gate"
sed -i "s/127.0.0.1:0/127.0.0.1:$port/" gate.toml
rm gate.err
serving gate gate.toml
same "visits end with the process" 401 "$(as erna "$site/x")"
LINK=$unused
same "and so do links" 401 "$(opens fine)"
exit 0

#!/usr/bin/env bash
# A client certificate in Debian's Chromium: imported from the `.p12` as a person imports it, chosen by a policy that stands for the
# person's click. With it the browser is in; without it, and once it is revoked, it sees our page of refusal.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages chromium:chromium certutil:libnss3-tools pk12util:libnss3-tools openssl:openssl python3:python3
    binary
    export GATE
fi
limited 120 "$0" "$@"
cd "$WORK" || exit 1
POLICY=/etc/chromium/policies/managed/loopgate-test-$$.json
tidy() { rm -f "$POLICY"; }

# A service that says what it was told.
cat >service.py <<'PY'
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("the service sees " + (self.headers.get("X-Loopgate-User") or "nobody")).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
PY
UPSTREAM=$(free_port) LISTEN=$(free_port)
start service python3 service.py "$UPSTREAM"
echo "a good password" | "$GATE" -q user add me --users-file users
cat >gate.toml <<TOML
[[listener]]
address = "127.0.0.1:$LISTEN"
networks = { allow = ["loopback"] }
client_certificates = { from = "local-ca" }
[auth]
users_file = "users"
[log]
access = "off"
[[route]]
hosts = ["gate.home.arpa"]
upstream = "127.0.0.1:$UPSTREAM"
access = { certificate = "required" }
TOML
serving gate "$WORK/gate.toml"
authority
"$GATE" -q cert client me --out me.p12 >password
has "a certificate is made" '^[a-z0-9-]+$' "$(cat password)"

# `home NAME`: a home whose trust store holds our authority alone.
home() {
    for store in "$WORK/$1/.pki/nssdb" "$WORK/$1/.local/share/pki/nssdb"; do
        mkdir -p "$store"
        certutil -d "sql:$store" -N --empty-password
        certutil -d "sql:$store" -A -t C,, -n loopgate -i "$WORK/ca.pem" || exit 1
    done
}
home with
home without
for store in "$WORK/with/.pki/nssdb" "$WORK/with/.local/share/pki/nssdb"; do
    pk12util -d "sql:$store" -i me.p12 -W "$(cat password)" -K '' >import.txt 2>&1 && ok "the file is imported" || bad "the file is imported" "$(cat import.txt)"
done
mkdir -p "${POLICY%/*}"
printf '{"AutoSelectCertificateForUrls":["{\\"pattern\\":\\"https://gate.home.arpa:%s\\",\\"filter\\":{}}"]}\n' "$LISTEN" >"$POLICY"

# `see HOME`: what a new browser shows.
see() {
    HOME=$WORK/$1 XDG_DATA_HOME=$WORK/$1/.local/share XDG_CONFIG_HOME=$WORK/$1/.config timeout 120 chromium --headless --no-sandbox --disable-gpu \
        --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
        --user-data-dir="$WORK/$1/profile" --host-resolver-rules="MAP gate.home.arpa 127.0.0.1" \
        --dump-dom "https://gate.home.arpa:$LISTEN/" 2>"$WORK/$1.err"
}
page=$(see with)
has "with the certificate the browser is in" 'the service sees me' "$page"
page=$(see without)
has "without one it is told so, on a page of ours" 'certificate' "$page"
lacks "and sees nothing of the service" 'the service sees' "$page"
"$GATE" -q cert revoke me
page=$(see with)
has "once it is revoked it is told so" 'certificate' "$page"
lacks "and sees nothing of the service either" 'the service sees' "$page"
exit 0

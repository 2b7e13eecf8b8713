#!/usr/bin/env bash
# Behind real proxies: nginx that ends TLS and writes X-Forwarded-For, HAProxy that passes TLS through behind a PROXY header.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 nginx:nginx-light haproxy:haproxy openssl:openssl
    binary
    export GATE
fi
limited 120 "$0" "$@"

# A service that answers with what it was told of the client.
cat >"$WORK/mirror.py" <<'PY'
import http.server, sys
class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        text = " ".join(f"{n}={'|'.join(self.headers.get_all(n) or [])};" for n in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"))
        self.send_response(200); self.send_header("Content-Length", str(len(text))); self.end_headers(); self.wfile.write(text.encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Mirror).serve_forever()
PY
UPSTREAM=$(free_port)
start mirror python3 "$WORK/mirror.py" "$UPSTREAM"

# The clients are 127.0.0.2 (let in) and 127.0.0.3 (not), the proxies 127.0.0.9.
GATE_PORT=$(free_port) HEADER_PORT=$(free_port)
printf 'alice:%s\n' "$(echo 'open sesame' | "$GATE" hash-password)" >"$WORK/users"
chmod 600 "$WORK/users"
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:$GATE_PORT"
networks = { allow = ["127.0.0.2"] }
trusted_proxies = ["127.0.0.9"]
[[listener]]
address = "127.0.0.1:$HEADER_PORT"
networks = { allow = ["127.0.0.2"] }
trusted_proxies = ["127.0.0.9"]
proxy_protocol = "required"
[auth]
users_file = "users"
lockout = { failures = 3, window = "5m", ban = "15m" }
[[route]]
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
[[route]]
path = "/private"
upstream = "127.0.0.1:$UPSTREAM"
[log]
access = "access.log"
format = "json"
[[test]]
from = "127.0.0.9"
forwarded_for = "127.0.0.2"
expect = "allowed"
[[test]]
from = "127.0.0.9"
forwarded_for = "127.0.0.2, 127.0.0.3"
expect = "network-denied"
TOML
start gate "$GATE" serve -c "$WORK/gate.toml"
until_written "$WORK/gate.err" '(serving)' >/dev/null || exit 1
asked() { curl -sk --max-time 10 -w ' %{http_code}' "$@"; }

echo "== explain"
out=$("$GATE" explain -c "$WORK/gate.toml" --from 127.0.0.9 --forwarded-for 127.0.0.2 "https://localhost:$GATE_PORT/")
has "shows the chain" '127.0.0.2 through 127.0.0.9' "$out"
out=$("$GATE" explain -c "$WORK/gate.toml" --from 127.0.0.9 --forwarded-for "127.0.0.2, 127.0.0.3" "https://localhost:$GATE_PORT/")
has "and its end" 'network-denied: the client sees 403' "$out"
out=$("$GATE" explain -c "$WORK/gate.toml" --from 127.0.0.9 "https://localhost:$HEADER_PORT/")
has "a missing PROXY header is a refusal" 'bad-request' "$out"
sed 's/trusted_proxies = \["127.0.0.9"\]/trusted_proxies = ["0.0.0.0\/0"]/' "$WORK/gate.toml" >"$WORK/wide.toml"
out=$("$GATE" check -c "$WORK/wide.toml" 2>&1)
same "the whole internet is refused as proxies" 3 $?
has "and it says why" 'could claim to be any client' "$out"

echo "== nginx"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2 \
    -keyout "$WORK/nginx.key" -out "$WORK/nginx.pem" 2>/dev/null
NGINX_PORT=$(free_port)
mkdir "$WORK/nginx"
cat >"$WORK/nginx.conf" <<CONF
daemon off; pid $WORK/nginx/pid; error_log $WORK/nginx/error.log;
worker_processes 1;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $WORK/nginx/a; proxy_temp_path $WORK/nginx/b; fastcgi_temp_path $WORK/nginx/c;
    uwsgi_temp_path $WORK/nginx/d; scgi_temp_path $WORK/nginx/e;
    upstream gate { server 127.0.0.1:$GATE_PORT; keepalive 4; }
    server {
        listen 127.0.0.1:$NGINX_PORT ssl;
        ssl_certificate $WORK/nginx.pem; ssl_certificate_key $WORK/nginx.key;
        location / {
            proxy_pass https://gate;
            proxy_bind 127.0.0.9;
            proxy_http_version 1.1;
            proxy_ssl_server_name on;
            proxy_ssl_name localhost;
            proxy_set_header Connection "";
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto \$scheme;
            proxy_set_header Forwarded "";
        }
    }
}
CONF
start nginx nginx -c "$WORK/nginx.conf" -p "$WORK/nginx"
url=https://localhost:$NGINX_PORT
until_true 10 curl -sk -o /dev/null "$url/" || cat "$WORK/nginx/error.log" >&2
out=$(asked --interface 127.0.0.2 "$url/")
same "a client that is let in" 'X-Forwarded-For=127.0.0.2, 127.0.0.9; X-Forwarded-Proto=https; Forwarded=; 200' "$out"
has "another one on the same connections" ' 403$' "$(asked --interface 127.0.0.3 "$url/")"
has "who claims to be the first one" ' 403$' "$(asked --interface 127.0.0.3 -H 'X-Forwarded-For: 127.0.0.2' "$url/")"
has "or a proxy" ' 403$' "$(asked --interface 127.0.0.3 -H 'X-Forwarded-For: 127.0.0.2, 127.0.0.9' -H 'Forwarded: for=127.0.0.2' "$url/")"
out=$(asked --interface 127.0.0.2 -H 'X-Forwarded-For: 203.0.113.9' -H 'X-Forwarded-Proto: ftp' -H 'X_Forwarded_For: 1.1.1.1' "$url/")
same "whatever the client claims is not handed on" 'X-Forwarded-For=127.0.0.2, 127.0.0.9; X-Forwarded-Proto=https; Forwarded=; 200' "$out"
out=$(for n in 1 2 3 4; do asked --interface 127.0.0.2 -u alice:wrong -o /dev/null "$url/private"; done)
has "a guesser is locked out" '429' "$out"
logged "by his own address" '"event":"locked_out".*"client":"127.0.0.2"|locked_out .*client=127.0.0.2' "$WORK/gate.err"
has "a direct visitor that is not let in is closed" '000$' "$(asked --interface 127.0.0.3 "https://localhost:$GATE_PORT/" 2>&1)"
has "and one that is let in names nobody else" 'X-Forwarded-For=127.0.0.2; .*200$' \
    "$(asked --interface 127.0.0.2 -H 'X-Forwarded-For: 9.9.9.9' "https://localhost:$GATE_PORT/")"

echo "== HAProxy"
for version in send-proxy send-proxy-v2; do
    PORT_HERE=$(free_port)
    cat >"$WORK/$version.cfg" <<CFG
global
    maxconn 256
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend in
    bind 127.0.0.1:$PORT_HERE
    default_backend gate
backend gate
    source 127.0.0.9
    server gate 127.0.0.1:$HEADER_PORT $version check inter 200ms
CFG
    start "$version" haproxy -db -f "$WORK/$version.cfg"
    url=https://localhost:$PORT_HERE
    until_true 10 curl -sk --interface 127.0.0.2 -o /dev/null "$url/"
    for http in --http1.1 --http2; do
        out=$(asked $http --interface 127.0.0.2 -H 'X-Forwarded-For: 203.0.113.9' "$url/")
        same "$version $http: the client of the header" 'X-Forwarded-For=127.0.0.2, 127.0.0.9; X-Forwarded-Proto=https; Forwarded=; 200' "$out"
    done
    has "$version: who is not let in is closed" '000$' "$(asked --interface 127.0.0.3 -H 'X-Forwarded-For: 127.0.0.2' "$url/" 2>&1)"
done
has "without a header the proxy's address is closed" '000$' "$(asked --interface 127.0.0.9 "https://localhost:$HEADER_PORT/" 2>&1)"
has "and a visitor that is let in needs none" '200$' "$(asked --interface 127.0.0.2 "https://localhost:$HEADER_PORT/")"
line=$(grep '"client":"127.0.0.3"' "$WORK/access.log" | grep '"peer":"127.0.0.9' | head -1)
has "the log has the client behind the peer" '"reason":"network-denied"' "$line"

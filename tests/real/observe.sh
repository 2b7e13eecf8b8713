#!/usr/bin/env bash
# What the owner of a running gate sees: the control socket, with the built program.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl jq:jq python3:python3
    python_packages "$ROOT/target/python-metrics" prometheus_client==0.22.1
    binary
    export GATE
    # promtool alone: the package as a whole would start a server.
    PROMTOOL=$(command -v promtool)
    if [ -z "$PROMTOOL" ]; then
        tools=$(mktemp -d)
        unpacked "$tools" prometheus
        PROMTOOL=$tools/usr/bin/promtool
    fi
    [ -x "$PROMTOOL" ] && PROMETHEUS=$(dirname "$PROMTOOL")/prometheus && [ -x "$PROMETHEUS" ] || { echo "no promtool and prometheus: the package prometheus cannot be fetched" >&2; exit 1; }
    export PROMTOOL PROMETHEUS tools
fi
limited 220 "$0" "$@"
tidy() {
    mountpoint -q "$WORK/disk" && umount "$WORK/disk"
    [ -z "${tools:-}" ] || rm -rf "$tools"
}

# A service, and a file for it.
mkdir "$WORK/www" && echo hello >"$WORK/www/index.html"
UPSTREAM=$(free_port)
start service python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" "$UPSTREAM"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$UPSTREAM"
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
[log]
access = "access.log"
TOML

echo "== the control socket"
out=$("$GATE" status 2>&1)
same "status without a gate fails" 1 $?
has "and says that none is running" 'no gate of yours is running' "$out"
serving gate "$WORK/gate.toml"
first=$PID
out=$("$GATE" status --json)
same "status finds the gate" "$first" "$(jq '.[0].pid' <<<"$out")"
same "and its file" "$WORK/gate.toml" "$(jq -r '.[0].config' <<<"$out")"
same "and its port" "127.0.0.1:$PORT" "$(jq -r '.[0].addresses[0]' <<<"$out")"
sock=$(find "$STATE_DIRECTORY/control" -name '*.sock')
same "the socket is the owner's alone" "600 700" "$(stat -c %a "$sock") $(stat -c %a "$STATE_DIRECTORY/control")"
if [ "$(id -u)" -eq 0 ]; then
    chmod 711 "$WORK" "$STATE_DIRECTORY"
    out=$(setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c "
import socket; s = socket.socket(socket.AF_UNIX); s.connect('$sock')" 2>&1)
    has "another user cannot open it" 'PermissionError' "$out"
    # Even where the modes are wrong, the one who asks is looked at.
    chmod 711 "$STATE_DIRECTORY/control"; chmod 666 "$sock"
    out=$(setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c "
import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect('$sock')
try:
    s.send(b'{\"v\":1,\"do\":\"status\"}\n'); print('got', s.recv(100))
except OSError: print('got', b'')" 2>&1)
    same "and is told nothing if it could" "got b''" "$out"
    chmod 600 "$sock"; chmod 700 "$STATE_DIRECTORY/control"
fi

echo "== reload"
out=$("$GATE" reload 2>&1)
same "a file without a mistake is accepted" 0 $?
has "and it says so" "accepted by $first" "$out"
cp "$WORK/gate.toml" "$WORK/good.toml"
sed -i 's/access = "anyone"/acces = "anyone"/' "$WORK/gate.toml"
out=$("$GATE" reload -c "$WORK/gate.toml" 2>&1)
same "a mistake is exit 3" 3 $?
has "with file, line and column" 'gate.toml:7:1' "$out"
has "and what to write" 'access' "$out"
out=$("$GATE" reload --json)
same "the same for programs" "3 7 1" "$? $(jq -r '.[0].problems[0] | "\(.line) \(.column)"' <<<"$out")"
same "status remembers it" "false 7" "$("$GATE" status --json | jq -r '.[0].reload | "\(.accepted) \(.problems[0].line)"')"
same "and the gate serves on" hello "$(curl -sk --resolve "app.lan:$PORT:127.0.0.1" "https://app.lan:$PORT/")"
cp "$WORK/good.toml" "$WORK/gate.toml"
"$GATE" reload >/dev/null
same "repaired" "0 true" "$? $("$GATE" status --json | jq '.[0].reload.accepted')"

echo "== several gates"
cp "$WORK/good.toml" "$WORK/other.toml"
serving second "$WORK/other.toml"
out=$("$GATE" reload 2>&1)
same "which one has to be said" 2 $?
has "and is shown" "--pid $PID" "$out"
out=$("$GATE" reload -c "$WORK/other.toml" 2>&1)
same "by its file" "accepted by $PID" "$out"
same "or all" 2 "$("$GATE" reload --all | grep -c accepted)"
kill -9 "$PID" && wait "$PID" 2>/dev/null
same "one that was killed is not listed" "[$first]" "$("$GATE" status --json | jq -c 'map(.pid)')"
serving third "$WORK/other.toml"
same "and what it left is taken away" 2 "$(find "$STATE_DIRECTORY/control" -type s | wc -l)"
kill "$PID" && wait "$PID" 2>/dev/null
same "the end of a gate takes its socket away" 1 "$(find "$STATE_DIRECTORY/control" -type s | wc -l)"
kill "$first" && wait "$first" 2>/dev/null

echo "== the admin address"
ADMIN=$(free_port)
cat >>"$WORK/gate.toml" <<TOML
[admin]
address = "127.0.0.1:$ADMIN"
TOML
cp "$WORK/gate.toml" "$WORK/good.toml"
for wrong in 0.0.0.0:9095 192.168.1.5:9095 '[::]:9095' https://127.0.0.1:9095 example.org:9095 127.0.0.1; do
    sed "s#^address = \"127.0.0.1:$ADMIN\"#address = \"$wrong\"#" "$WORK/gate.toml" >"$WORK/wrong.toml"
    out=$("$GATE" check -c "$WORK/wrong.toml" 2>&1)
    same "only loopback can be written: not $wrong" "3 yes" "$? $(grep -q 'admin.sock' <<<"$out" && echo yes)"
done
out=$("$GATE" serve -c "$WORK/wrong.toml" 2>&1)
same "and nothing is started with it" 3 $?
serving watched "$WORK/gate.toml"
gate=$PID
admin() { curl -s --max-time 10 "$@"; }
same "alive" "alive" "$(admin "http://127.0.0.1:$ADMIN/healthz")"
has "ready" "ready      127.0.0.1:$UPSTREAM" "$(admin "http://localhost:$ADMIN/readyz")"
code() { curl -s -o /dev/null --max-time 10 -w '%{http_code}' "$@"; }
same "nothing else is there" 404 "$(code "http://127.0.0.1:$ADMIN/")"
same "only GET and HEAD" "405 200" "$(code -d x "http://127.0.0.1:$ADMIN/healthz") $(code -I "http://127.0.0.1:$ADMIN/healthz")"
same "a name that leads to loopback is turned away" 421 "$(code -H 'Host: rebind.example' "http://127.0.0.1:$ADMIN/metrics")"
same "a probe of HTTP/1.0 without a Host is answered" 200 "$(code -0 -H 'Host:' "http://127.0.0.1:$ADMIN/healthz")"
same "one of HTTP/1.1 is not" 421 "$(code --http1.1 -H 'Host:' "http://127.0.0.1:$ADMIN/healthz")"
same "and a page of another site" 403 "$(code -H 'Sec-Fetch-Site: cross-site' "http://127.0.0.1:$ADMIN/metrics")"
same "a second gate cannot have the same address" 5 "$("$GATE" serve -c "$WORK/gate.toml" >/dev/null 2>&1; echo $?)"
has "health says so by the control socket" 'ready' "$("$GATE" health -c "$WORK/gate.toml")"
same "and by the admin address" "0 0" "$(STATE_DIRECTORY=/nonexistent "$GATE" -q health -c "$WORK/gate.toml"; echo -n "$? "; STATE_DIRECTORY=/nonexistent "$GATE" -q health --alive -c "$WORK/gate.toml"; echo $?)"

echo "== metrics"
url="https://app.lan:$PORT/"
site() { curl -sk --resolve "app.lan:$PORT:127.0.0.1" -o /dev/null "$@"; }
site "$url"; site -X BREW "$url"; site --http1.1 "$url/none?token=hunter2"; site "https://app.lan:$PORT/" -H 'Host: other.lan'
admin "http://127.0.0.1:$ADMIN/metrics" >"$WORK/metrics"
has "the type of the text" 'text/plain; version=0.0.4' "$(admin -D - -o /dev/null "http://127.0.0.1:$ADMIN/metrics")"
has "requests are counted" 'loopgate_requests_total\{route="app.lan/",code="200",method="GET"\} 1' "$(cat "$WORK/metrics")"
lacks "what a client sent is no label" 'hunter2|BREW|none\?' "$(cat "$WORK/metrics")"
out=$("$ROOT/target/python-metrics/bin/python" - "$WORK/metrics" <<'PY'
import sys
from prometheus_client.parser import text_string_to_metric_families
families = {f.name: f for f in text_string_to_metric_families(open(sys.argv[1]).read())}
want = "build_info config_last_reload_successful requests request_duration_seconds connections upgraded_streams decisions auth_attempts auth_cache_hits auth_cache_misses locked_clients certificate_not_after_seconds upstream_exposed upstream_errors".split()
missing = [w for w in want if "loopgate_" + w not in families]
print("missing", missing)
labels = lambda n: sorted({k for s in families["loopgate_" + n].samples for k in s.labels})
print(labels("requests"), labels("connections"), labels("decisions"), labels("auth_attempts"), labels("certificate_not_after_seconds"), labels("upstream_exposed"), labels("upstream_errors"))
print("samples", sum(len(f.samples) for f in families.values()), "all with help", all(f.documentation for f in families.values()))
PY
)
has "a Prometheus parser reads all of it" 'missing \[\]' "$out"
has "with the labels of the contract" "'code', 'method', 'route'\] \['listener'\] \['decision', 'reason'\] \['method', 'result'\] \['name'\] \['route'\] \['kind'\]" "$out"
has "and a help for each" 'all with help True' "$out"
out=$("$PROMTOOL" check metrics <"$WORK/metrics" 2>&1)
same "promtool finds nothing to mend" "0 " "$? $out"

same "the alert rules are read" "0" "$("$PROMTOOL" check rules "$ROOT/config/prometheus/alerts.yml" >"$WORK/rules.out" 2>&1; echo $?)"
# A real Prometheus scrapes for some seconds; then every query of the dashboard and every rule is asked for.
PROM=$(free_port)
cat >"$WORK/prometheus.yml" <<YAML
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: ["$ROOT/config/prometheus/alerts.yml"]
scrape_configs: [{ job_name: loopgate, static_configs: [{ targets: ["127.0.0.1:$ADMIN"] }] }]
YAML
start prometheus "$PROMETHEUS" --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/tsdb" --web.listen-address="127.0.0.1:$PROM" --log.level=error
until_true 30 curl -sf "http://127.0.0.1:$PROM/-/ready"
end=$((SECONDS + 7))
while [ $SECONDS -lt $end ]; do site "$url" -u nobody:wrong; site "$url" -H 'Host: other.lan'; sleep 0.2; done
out=$(python3 - "$ROOT" "$PROM" <<'PY'
import json, sys, time, urllib.parse, urllib.request
root, port = sys.argv[1:]
board = json.load(open(root + "/config/grafana/loopgate.json"))
asked = empty = 0
def ask(expression):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    return json.load(urllib.request.urlopen(url, timeout=10))["data"]["result"]
for panel in board["panels"]:
    for target in panel["targets"]:
        query = target["expr"].replace("$instance", ".*").replace("$job", ".*").replace("$__rate_interval", "30s")
        asked += 1
        result = ask(query)
        quiet = query.endswith("> 0") or "auth_cache" in query
        # A rate needs two looks at a series; on a busy machine they may take a while.
        until = time.monotonic() + 20
        while not result and not quiet and time.monotonic() < until:
            time.sleep(1)
            result = ask(query)
        if not result and not quiet:
            empty += 1
            print("no answer to", query)
rules = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/rules", timeout=10))["data"]["groups"][0]["rules"]
print("asked", asked, "empty", empty, "rules", len(rules), "healthy", sum(r["health"] == "ok" for r in rules), "firing", [r["name"] for r in rules if r["state"] == "firing"])
PY
)
has "every query of the dashboard has an answer" 'asked [2-9][0-9] empty 0' "$out"
has "every rule can be evaluated, and none fires" 'rules 11 healthy 11 firing \[\]' "$out"
kill "$PID"; wait "$PID" 2>/dev/null

echo "== status"
out=$("$GATE" status -c "$WORK/gate.toml")
has "the page has the listener, the route and the certificates" 'loopgate .*serving' "$out"
has "route" "app.lan/ +127.0.0.1:$UPSTREAM +no way found" "$out"
has "certificate" '^local-ca .* d$' "$out"
same "it fits 80 columns" 0 "$(awk 'length > 80' <<<"$out" | wc -l)"
begun=$SECONDS
start watch "$GATE" status -c "$WORK/gate.toml" --watch
drawn() { [ "$(grep -c serving "$WORK/watch.out")" -ge "$1" ]; }
until_true 20 drawn 2 && ok "status --watch draws again" || bad "status --watch draws again" "$(cat "$WORK/watch.out")"
same "and ends when nobody reads it" 0 "$(timeout 20 "$GATE" status -c "$WORK/gate.toml" --watch | head -1 >/dev/null; echo "${PIPESTATUS[0]}")"
kill "$PID"; wait "$PID" 2>/dev/null
at_most "and not all the time" $((2 * (SECONDS - begun) + 3)) "$(grep -c serving "$WORK/watch.out")"
logged "the events tell of certificates" 'cert_issued name=localhost not_after=' "$WORK/watched.err"

echo "== readiness"
kill "${started[0]}"; wait "${started[0]}" 2>/dev/null
is_code() { [ "$(code "$2")" = "$1" ]; }
until_true 10 is_code 503 "http://127.0.0.1:$ADMIN/readyz"
same "without its service it is not ready" 503 "$(code "http://127.0.0.1:$ADMIN/readyz")"
has "and says which" "not ready  127.0.0.1:$UPSTREAM: nothing accepts" "$(admin "http://127.0.0.1:$ADMIN/readyz")"
same "but alive" 200 "$(code "http://127.0.0.1:$ADMIN/healthz")"
out=$("$GATE" health -c "$WORK/gate.toml" 2>&1)
same "health is 1" "1 yes" "$? $(grep -q 'not ready' <<<"$out" && echo yes)"
same "alive is 0" 0 "$("$GATE" -q health --alive -c "$WORK/gate.toml"; echo $?)"
start exposed python3 -m http.server --bind 0.0.0.0 --directory "$WORK/www" "$UPSTREAM"
exposed=$PID
until_true 20 sh -c "curl -s http://127.0.0.1:$ADMIN/readyz | grep -q 'around the gate'" && ok "one that can be reached around the gate is not ready" || bad "an exposed service is not ready" "$(admin "http://127.0.0.1:$ADMIN/readyz")"
gauge() { admin "http://127.0.0.1:$ADMIN/metrics" | grep '^loopgate_upstream_exposed{'; }
is_gauge() { [ "$(gauge)" = "$1" ]; }
until_true 10 is_gauge 'loopgate_upstream_exposed{route="app.lan/"} 1'
same "and the metric says so" 'loopgate_upstream_exposed{route="app.lan/"} 1' "$(gauge)"
kill "$exposed"; wait "$exposed" 2>/dev/null
start service python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" "$UPSTREAM"
until_true 20 sh -c "curl -s http://127.0.0.1:$ADMIN/readyz | grep -q ^ready$" && ok "ready again" || bad "ready again"

echo "== the admin address on a Unix socket, by reload"
sed -i "s#^address = \"127.0.0.1:$ADMIN\"#address = \"unix:$WORK/admin.sock\"#" "$WORK/gate.toml"
"$GATE" reload -c "$WORK/gate.toml" >/dev/null
has "moved" 'ready' "$(admin --unix-socket "$WORK/admin.sock" http://any/readyz)"
same "with its mode" "660 socket" "$(stat -c '%a %F' "$WORK/admin.sock")"
until_true 10 is_code 000 "http://127.0.0.1:$ADMIN/healthz"
same "and the old one is closed" 000 "$(code "http://127.0.0.1:$ADMIN/healthz")"
echo keep >"$WORK/file"
sed -i "s#admin.sock#file#" "$WORK/gate.toml"
out=$("$GATE" reload -c "$WORK/gate.toml" 2>&1)
same "a file that is no socket is left alone, and the reload refused" "3 keep" "$? $(cat "$WORK/file")"
same "what was there serves on" 200 "$(code --unix-socket "$WORK/admin.sock" http://any/healthz)"
kill "$gate" && wait "$gate" 2>/dev/null
same "the end of the gate takes the socket away" no "$([ -e "$WORK/admin.sock" ] && echo yes || echo no)"

echo "== rotation by size and by name"
mkdir "$WORK/disk"
[ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=192k,mode=700 tmpfs "$WORK/disk" || bad "a small disk" "mount needs root"
cat >"$WORK/small.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
[log]
access = "disk/access.log"
rotate_size = "16KiB"
keep = 2
TOML
serving small "$WORK/small.toml"
small=$PID
# `many N`: so many requests over one connection, with a long text of the client in each.
many() { seq "$1" | sed "s#.*#url = \"https://app.lan:$PORT/?q=1\"\noutput = /dev/null#" | curl -sk --resolve "app.lan:$PORT:127.0.0.1" --no-progress-meter -A "$(printf 'x%.0s' {1..120})" -w '%{http_code}\n' -K - 2>/dev/null | sort | uniq -c | tr -s ' '; }
many 400 >/dev/null
until_true 10 test -e "$WORK/disk/access.log.2"
same "old files are kept up to the number" "access.log access.log.1 access.log.2" "$(cd "$WORK/disk" && ls | xargs)"
[ "$(stat -c %s "$WORK/disk/access.log.1")" -ge 16384 ] && ok "at the size" || bad "at the size"
mv "$WORK/disk/access.log" "$WORK/disk/moved" && kill -USR1 "$small"
until_true 10 test -e "$WORK/disk/access.log" && ok "and at USR1" || bad "and at USR1"

echo "== a full disk"
head -c 300k /dev/zero >"$WORK/disk/filler" 2>/dev/null
same "requests are served while the disk is full" ' 300 200' "$(many 300)"
lost() { "$GATE" status -c "$WORK/small.toml" --json | jq '.[0].log.lines_lost'; }
until_true 10 sh -c "[ \$('$GATE' status -c '$WORK/small.toml' --json | jq '.[0].log.lines_lost') -gt 50 ]" && ok "what is lost is counted ($(lost))" || bad "what is lost is counted" "$(lost)"
has "and told once" '^1$' "$(grep -c log_failed "$WORK/small.err")"
rm -f "$WORK/disk/filler" "$WORK/disk/moved" "$WORK/disk/access.log.1" "$WORK/disk/access.log.2"
until_true 10 sh -c "curl -sk --resolve 'app.lan:$PORT:127.0.0.1' 'https://app.lan:$PORT/after' -o /dev/null; grep -q /after '$WORK/disk/access.log'" && ok "with room it goes on" || bad "with room it goes on" "$(ls -la "$WORK/disk")"
logged "and says so" 'log_recovered lines_lost=[1-9]' "$WORK/small.err"
same "no line is half a line" 0 "$(cat "$WORK"/disk/access.log* | grep -cvE '^20[0-9-]+T[0-9:.]+Z .* [0-9a-z]{16}$')"
echo "== a file that cannot be opened anew"
mv "$WORK/disk/access.log" "$WORK/disk/moved" && mkdir "$WORK/disk/access.log" && kill -USR1 "$small"
until_true 10 grep -q 'log_failed error="cannot open .*access.log anew' "$WORK/small.err" && ok "is told" || bad "is told" "$(cat "$WORK/small.err")"
many 1 >/dev/null
until_true 10 grep -q '^20.* GET ' "$WORK/disk/moved" && ok "and lines go on into the one before" || bad "and lines go on into the one before"
rmdir "$WORK/disk/access.log" && kill -USR1 "$small"
until_true 10 test -f "$WORK/disk/access.log" && ok "until it can" || bad "until it can"
many 1 >/dev/null
until_true 10 sh -c "[ \$(grep -c log_recovered '$WORK/small.err') = 2 ]" && ok "which is told, too" || bad "which is told, too" "$(cat "$WORK/small.err")"
kill "$small" && wait "$small" 2>/dev/null

#!/usr/bin/env bash
# The gate as a browser sees it: Debian's Chromium, which trusts the exported authority and nothing else, without any flag
# that ignores certificates. Pictures of our pages go to $SHOTS, when that is set.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
here=$ROOT/tests/browser

if [ -z "${LIMITED:-}" ]; then
    packages chromium:chromium certutil:libnss3-tools node:nodejs npm:npm openssl:openssl jq:jq python3:python3
    node_modules "$here"
    binary
    export GATE
fi
limited 200 "$0" "$@"

# A home of its own, whose trust store holds our authority alone. One of the two places is read, by version.
authority
export HOME=$WORK/home XDG_DATA_HOME=$WORK/home/.local/share XDG_CONFIG_HOME=$WORK/home/.config
for store in "$HOME/.pki/nssdb" "$XDG_DATA_HOME/pki/nssdb"; do
    mkdir -p "$store"
    certutil -d "sql:$store" -N --empty-password
    certutil -d "sql:$store" -A -t C,, -n loopgate -i "$WORK/ca.pem" || exit 1
done

gate demo demo -l 127.0.0.1:0 --name gate.home.arpa
export DEMO_PORT=$PORT DEMO_PASSWORD=$PASSWORD

# A page of somebody else, on another port of the same name: for a browser that is the same site, so cookies go along.
start elsewhere node "$here/elsewhere.mjs" "$DEMO_PORT"
target=$(until_written "$WORK/elsewhere.out" 'port ([0-9]+)') || exit 1
gate other expose "$target" -l 127.0.0.1:0 --name gate.home.arpa --unsafe-no-auth
export OTHER_PORT=$PORT FOREIGN_PORT=$target

# The same authority signs a name that it may not sign for.
leaf outside DNS:www.example.com
gate outside demo -l 127.0.0.1:0 --name www.example.com --tls-cert "$WORK/outside.pem" --tls-key "$WORK/outside.key"
export OUTSIDE_PORT=$PORT
# And one that it may, made by the same hands: so that the refusal is for the name alone.
leaf inside DNS:inside.home.arpa
gate inside demo -l 127.0.0.1:0 --name inside.home.arpa --tls-cert "$WORK/inside.pem" --tls-key "$WORK/inside.key"
export INSIDE_PORT=$PORT

export SHOTS=${SHOTS:-$WORK/shots} PROFILE=$WORK/profile
mkdir -p "$SHOTS"
node "$here/login.mjs" >"$WORK/browser.txt" 2>"$WORK/browser.err" </dev/null &
browser=$!
started+=("$browser")
wait "$browser"
code=$?
cat "$WORK/browser.txt"
passed=$((passed + $(grep -c '^ok ' "$WORK/browser.txt")))
failed=$((failed + $(grep -c '^FAIL ' "$WORK/browser.txt")))
[ "$code" -eq 0 ] || [ "$failed" -gt 0 ] || bad "the browser script ended with $code"
tail -20 "$WORK/browser.err" >&2

# Pictures and measures of our pages, on a gate of their own.
down=$(free_port)
printf 'me:%s\n' "$(echo 'a good password' | "$GATE" hash-password)" >"$WORK/users"
chmod 600 "$WORK/users"
cat >"$WORK/pages.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[auth]
users_file = "users"
[[group]]
name = "family"
users = ["me"]
[[route]]
hosts = ["gate.home.arpa"]
upstream = "127.0.0.1:$FOREIGN_PORT"
[[route]]
hosts = ["gate.home.arpa"]
path = "/shut"
upstream = "127.0.0.1:$FOREIGN_PORT"
access = "nobody"
[[route]]
hosts = ["gate.home.arpa"]
path = "/down"
upstream = "127.0.0.1:$down"
TOML
serving pages "$WORK/pages.toml"
# Those who have no account yet: links, and the page for a new device.
links=
for _ in 1 2 3; do links+=$("$GATE" share --json -c "$WORK/pages.toml" --path /in --host gate.home.arpa | jq -r '.urls[0]')$'\n'; done
opened=$("$GATE" onboard --json -c "$WORK/pages.toml")
STRANGER=$WORK/stranger LINKS=$links ONBOARD=$(jq -r '.urls[] | select(contains("gate.home.arpa"))' <<<"$opened") \
    FINGERPRINT=$(jq -r .fingerprint_sha256 <<<"$opened") node "$here/visitors.mjs" >"$WORK/visitors.txt" 2>"$WORK/visitors.err" </dev/null &
visitors=$!
started+=("$visitors")
wait "$visitors"
code=$?
cat "$WORK/visitors.txt"
passed=$((passed + $(grep -c '^ok ' "$WORK/visitors.txt")))
failed=$((failed + $(grep -c '^FAIL ' "$WORK/visitors.txt")))
[ "$code" -eq 0 ] || [ "$failed" -gt 0 ] || bad "the visitors ended with $code"
tail -20 "$WORK/visitors.err" >&2

PAGES_PORT=$PORT node "$here/pictures.mjs" >"$WORK/pictures.txt" 2>"$WORK/pictures.err" </dev/null &
pictures=$!
started+=("$pictures")
wait "$pictures"
code=$?
cat "$WORK/pictures.txt"
passed=$((passed + $(grep -c '^ok ' "$WORK/pictures.txt")))
failed=$((failed + $(grep -c '^FAIL ' "$WORK/pictures.txt")))
[ "$code" -eq 0 ] || [ "$failed" -gt 0 ] || bad "the pictures ended with $code"
tail -20 "$WORK/pictures.err" >&2

# What the log of the gate says about all this.
log=$(cat "$WORK/demo.out" "$WORK/demo.err")
has "the log names the cross-site refusals" 'cross-site' "$log"
lacks "no password in the log" "$DEMO_PASSWORD.*(GET|POST)" "$(grep -v '^ *Password' <<<"$log")"
exit 0

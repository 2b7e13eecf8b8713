#!/usr/bin/env bash
# What the running process has given up, read from the kernel; and that it serves, reloads and opens its log anew all the same.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3
    binary
    export GATE
fi
limited 120 "$0" "$@"

mkdir "$WORK/www" && echo hello >"$WORK/www/index.html"
UPSTREAM=$(free_port)
start service python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" "$UPSTREAM"
until_true 10 curl -s -o /dev/null "http://127.0.0.1:$UPSTREAM/"
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
field() { sed -nE "s/^$2:[[:space:]]*(.*)/\1/p" "/proc/$1/status"; }
page() { curl -sk --max-time 10 --resolve "app.lan:$PORT:127.0.0.1" "https://app.lan:$PORT/"; }

(ulimit -Sn 256; exec "$GATE" serve -c "$WORK/gate.toml") >"$WORK/gate.out" 2>"$WORK/gate.err" </dev/null &
FIRST=$!
started+=("$FIRST")
PORT=$(until_written "$WORK/gate.err" 'serving .*addresses="?[^ ]*:([0-9]+)') || exit 1
line=$(grep serving "$WORK/gate.err")
has "it says what it has given up" 'no new privileges, not dumpable' "$line"
same "the limit of open files is raised" "$(ulimit -Hn)" "$(awk '/open files/ {print $4}' "/proc/$FIRST/limits")"
same "no thread can gain privileges" "" "$(grep -L 'NoNewPrivs:[[:space:]]1' /proc/"$FIRST"/task/*/status)"
if [ "$(id -u)" -eq 0 ]; then
    # DAC_OVERRIDE, DAC_READ_SEARCH, SYS_PTRACE
    same "few capabilities are left" 0000000000080006 "$(sed -nE 's/^CapPrm:\s*//p' /proc/"$FIRST"/task/*/status | sort -u)"
    same "and no program could regain one" 0000000000080006 "$(field "$FIRST" CapBnd)"
    same "its memory belongs to nobody else" "0 0" "$(stat -c '%u %g' "/proc/$FIRST/mem")"
fi
same "it serves" hello "$(page)"
mkdir "$WORK/www2" && echo other >"$WORK/www2/index.html"
SECOND=$(free_port)
start second python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www2" "$SECOND"
until_true 10 curl -s -o /dev/null "http://127.0.0.1:$SECOND/"
sed -i "s/:$UPSTREAM/:$SECOND/" "$WORK/gate.toml"
"$GATE" reload -c "$WORK/gate.toml" >/dev/null
same "a reload is taken" "0 other" "$? $(page)"
mv "$WORK/access.log" "$WORK/access.log.1"
kill -USR1 "$FIRST"
again() { page >/dev/null; [ -s "$WORK/access.log" ]; }
until_true 10 again
same "the log is opened anew" 0 $?
kill "$FIRST"; wait "$FIRST" 2>/dev/null

sed 's/^\[log\]/[server]\nsandbox = "off"\n[log]/' "$WORK/gate.toml" >"$WORK/off.toml"
serving off "$WORK/off.toml"
same "off gives up nothing" 0 "$(field "$PID" NoNewPrivs)"
same "and serves" other "$(page)"

#!/usr/bin/env bash
# The built program between real clients (curl, nghttp2, Python, gRPC, websockets) and real services (Python, nginx, gRPC):
# every protocol, uploads and downloads of any size with a flat memory curve, limits, drain, exit codes.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
here=$ROOT/tests/real
python=$ROOT/target/python/bin/python

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl openssl:openssl nghttp:nghttp2-client h2load:nghttp2-client nginx:nginx-light python3:python3 jq:jq
    python_packages "$ROOT/target/python" grpcio==1.85.3 websockets==17.4
    binary
    export GATE
fi
limited 330 "$0" "$@"
cd "$WORK" || exit 1

# The services: a small one in Python, nginx for files and ranges, WebSockets, gRPC.
service=$(free_port) files=$(free_port) sockets=$(free_port) rpc=$(free_port)
start service python3 "$here/service.py" "$service"
start sockets "$python" "$here/sockets.py" serve "$sockets"
start rpc "$python" "$here/rpc.py" serve "$rpc"
mkdir www
truncate -s 1G www/giant
head -c 5000000 /dev/urandom >www/random
cat >nginx.conf <<CONF
daemon off; worker_processes 1; pid $WORK/nginx.pid; error_log $WORK/nginx.log;
events { worker_connections 2048; }
http { access_log off; client_body_temp_path $WORK/body; proxy_temp_path $WORK/p; fastcgi_temp_path $WORK/f; uwsgi_temp_path $WORK/u; scgi_temp_path $WORK/s;
  keepalive_timeout 1s; sendfile on;
  server { listen 127.0.0.1:$files; root $WORK/www; } }
CONF
[ "$(id -u)" -ne 0 ] || { chmod 755 "$WORK"; sed -i '1s/^/user root; /' nginx.conf; }
start nginx nginx -c "$WORK/nginx.conf" -e "$WORK/nginx.log"

for port in "$service" "$sockets" "$rpc" "$files"; do
    until_true 20 bash -c "</dev/tcp/127.0.0.1/$port" || { bad "a service listens" "$(cat ./*.err nginx.log)"; exit 1; }
done

# `config NAME LIMITS`
config() {
    cat >"$1.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[limits]
$2
[log]
access = "access.log"
[[route]]
hosts = ["app.lan", "localhost", "127.0.0.1"]
upstream = "127.0.0.1:$service"
access = "anyone"
[[route]]
hosts = ["app.lan", "localhost", "127.0.0.1"]
path = "/chat"
upstream = "127.0.0.1:$sockets"
access = "anyone"
[[route]]
hosts = ["files.lan"]
upstream = "127.0.0.1:$files"
access = "anyone"
[[route]]
hosts = ["rpc.lan"]
upstream = "h2c://127.0.0.1:$rpc"
access = "anyone"
TOML
}
config gate ""
serving gate gate.toml
first=$PID first_port=$PORT
"$GATE" -q ca export -o ca.pem || exit 1
# `ask HOST PATH OPTIONS…`: curl that trusts our authority alone.
ask() {
    local host=$1 path=$2
    shift 2
    curl -sS --max-time 60 --cacert "$WORK/ca.pem" --resolve "$host:$PORT:127.0.0.1" "$@" "https://$host:$PORT$path" 2>&1
}

echo "== versions"
same "HTTP/1.1" "hello 1.1" "$(ask app.lan / --http1.1 -w '%{http_version}' | tr '\n' ' ')"
same "HTTP/2" "hello 2" "$(ask app.lan / --http2 -w '%{http_version}' | tr '\n' ' ')"
same "TLS 1.2" hello "$(ask app.lan / --tls-max 1.2)"
same "TLS 1.3" hello "$(ask app.lan / --tlsv1.3)"
lacks "no TLS 1.1" hello "$(ask app.lan / --tls-max 1.1)"
has "plain HTTP is redirected" '^HTTP/1.1 308' "$(curl -sSi --max-time 10 -H "Host: app.lan:$PORT" "http://127.0.0.1:$PORT/x" 2>&1)"
same "an unknown host is none of ours" 421 "$(ask app.lan / -H 'Host: other.lan' -o /dev/null -w '%{http_code}')"

echo "== files and ranges (nginx)"
wanted=$(sha256sum <www/random)
for version in --http1.1 --http2; do
    same "a file $version" "$wanted" "$(ask files.lan /random $version | sha256sum)"
    same "a range $version" "$(head -c 2000999 www/random | tail -c 1000999 | sha256sum)" "$(ask files.lan /random $version -r 1000000-2000998 | sha256sum)"
    same "its status $version" 206 "$(ask files.lan /random $version -r 0-9 -o /dev/null -w '%{http_code}')"
    same "a range that is none $version" 416 "$(ask files.lan /random $version -r 9000000- -o /dev/null -w '%{http_code}')"
    ask files.lan /random $version -o half -r 0-999999 >/dev/null
    ask files.lan /random $version -o half -C - >/dev/null
    same "a download that goes on where it stopped $version" "$wanted" "$(sha256sum <half)"
    rm half
done
has "nghttp, one connection, many streams" 'requests: 2000 total.*2000 succeeded' "$(h2load -n 2000 -c 4 -m 20 --connect-to="127.0.0.1:$PORT" "https://app.lan:$PORT/" 2>&1)"

echo "== uploads"
for version in --http1.1 --http2; do
    same "with a length $version" "length 5000000 ${wanted%% *}" "$(ask app.lan /hash $version -T www/random)"
    [ $version = --http2 ] || same "in chunks $version" "chunked 5000000 ${wanted%% *}" "$(ask app.lan /hash $version -T - <www/random)"
    [ $version = --http1.1 ] || same "without a length $version" "chunked 5000000 ${wanted%% *}" "$(ask app.lan /hash $version -T - <www/random)"
    same "as a form $version" 200 "$(ask app.lan /hash $version -F "file=@www/random" -o /dev/null -w '%{http_code}')"
    same "an early 413 of the service $version" 413 "$(ask app.lan /early $version -T www/giant -H Expect: -o /dev/null -w '%{http_code}')"
    same "the same in chunks $version" 413 "$(head -c 50000000 /dev/zero | ask app.lan /early $version -T - -o /dev/null -w '%{http_code}')"
done
config small 'body_size = "1MiB"'
serving small small.toml
for version in --http1.1 --http2; do
    codes=$(for _ in 1 2 3; do ask app.lan /hash $version -T www/giant -H Expect: -o /dev/null -w '%{http_code} '; head -c 50000000 /dev/zero | ask app.lan /hash $version -T - -o /dev/null -w '%{http_code} '; done)
    same "an early 413 of ours $version" "413 413 413 413 413 413 " "$codes"
    same "and what is small enough passes $version" 200 "$(head -c 1000000 /dev/zero | ask app.lan /hash $version -T - -o /dev/null -w '%{http_code}')"
done
kill "$PID"
PORT=$(sed -nE 's/.*serving .*addresses="?[^ ]*:([0-9]+).*/\1/p' gate.err | head -1)

echo "== streams"
for version in --http1.1 --http2; do
    read -r count late < <(ask app.lan /events $version -N | python3 "$here/events.py")
    same "events $version" 10 "$count"
    # Ten in a second: held back until the end, the first one would be late by 900.
    read -r _ direct < <(curl -sSN --max-time 60 "http://127.0.0.1:$service/events" | python3 "$here/events.py")
    at_most "the latest was late by milliseconds $version, of which $direct without the gate" $((600 + 5 * direct)) "$late"
done
# 18: less came than was said; 92: the stream was reset; 502: the end came with the head.
for way in --http1.1:18 --http2:92; do
    for path in /cut/length /cut/chunked; do
        for n in 1 2 3 4 5; do
            said=$(ask app.lan "$path" "${way%:*}" -o cut -w '%{http_code}')
            has "an answer that the service cuts is seen as cut ${way%:*} $path" "^${way#*:} |^0 502\$" "$? $said"
        done
    done
done
same "WebSocket messages, in order" "3000 1000" "$("$python" "$here/sockets.py" ask "$PORT" ca.pem 3000 2>&1 | tail -1)"
rpc() { timeout 60 "$python" "$here/rpc.py" ask "$PORT" ca.pem "$1" 2>&1 | tail -1; }
same "gRPC: a call and its trailers" "hello service" "$(rpc unary)"
same "gRPC: many at once" 500 "$(rpc many)"
same "gRPC: a large message each way" 3145728 "$(rpc large)"
same "gRPC: an error with its words" "FAILED_PRECONDITION not today because" "$(rpc fail)"
same "gRPC: a stream down" 2000 "$(rpc down)"
same "gRPC: a stream up" 2000000 "$(rpc up)"
same "gRPC: both ways, word by word" "50 WORD 49" "$(rpc both)"
same "gRPC: a cancelled call is cancelled there" "ONE yes" "$(rpc cancel)"
same "gRPC: a deadline is kept" "DEADLINE_EXCEEDED True" "$(rpc deadline)"

echo "== 1 GiB each way"
# `flat NAME COMMAND…`: how much the gate's memory grew at its most, in MiB.
flat() {
    local name=$1 before
    shift
    peak_reset "$first"
    before=$(rss "$first")
    "$@"
    at_most "memory grew by MiB: $name" 16 $((($(peak "$first") - before + 512) / 1024))
}
giant=$((1 << 30))
down() { same "down $1" "$giant" "$(ask files.lan /giant "$1" -o /dev/null -w '%{size_download}')"; }
up() { has "up $1" "^length $giant " "$(ask app.lan /hash "$1" -T www/giant)"; }
for version in --http1.1 --http2; do
    flat "down $version" down $version
    flat "up $version" up $version
done
# Five connections ask for a hundred such files each, which is what one client may hold, and read nothing.
peak_reset "$first"
before=$(rss "$first")
start greedy python3 "$here/greedy.py" "$PORT" ca.pem files.lan /giant 5 100
greedy=$PID
until_written greedy.out '(asked)' >/dev/null
at_most "memory of a connection with a hundred streams that nobody reads, in KiB" 16384 $((($(peak "$first") - before) / 5))
same "others are served meanwhile" hello "$(ask app.lan / --interface 127.0.0.2)"
kill "$greedy"
rm www/giant

echo "== an upstream on ::1"
port6=$(free_port)
start six python3 -m http.server --bind ::1 --directory "$WORK/www" "$port6"
if until_true 10 curl -so /dev/null "http://[::1]:$port6/"; then
    gate six expose "localhost:$port6" -l 127.0.0.1:0 --name app.lan
    same "without the password" 401 "$(ask app.lan /random -o /dev/null -w '%{http_code}')"
    same "with it" "$wanted" "$(ask app.lan /random -u "me:$PASSWORD" | sha256sum)"
    kill "$PID"
else
    echo "skip  this machine has no ::1"
fi

echo "== descriptors run out"
config narrow ""
start narrow bash -c "ulimit -n 60; exec '$GATE' serve -c narrow.toml"
narrow=$PID
PORT=$(until_written narrow.err 'serving .*addresses="?[^ ]*:([0-9]+)') || exit 1
same "it serves" hello "$(ask app.lan /)"
start holder python3 -c "
import socket, time
held = [socket.create_connection(('127.0.0.1', $PORT)) for _ in range(120)]
print('held', flush=True)
time.sleep(4)"
until_written holder.out '(held)' >/dev/null
until_true 5 grep -q accept_failed narrow.err || bad "accepting fails" "$(tail -3 narrow.err)"
ticks() { awk '{print $14 + $15}' "/proc/$narrow/stat"; }
before=$(ticks)
sleep 2
at_most "hundredths of a second of work in two seconds without descriptors" 40 $(($(ticks) - before))
wait "$PID" 2>/dev/null
open_ones() { find "/proc/$narrow/fd" -mindepth 1 | wc -l; }
few_open() { [ "$(open_ones)" -le "$1" ]; }
# Those that waited in the queue and have gone are accepted first.
until_true 20 ask app.lan / -f
until_true 20 few_open 40 || bad "those that have gone are let go" "$(open_ones)"
same "and it accepts again by itself" hello "$(ask app.lan /)"
at_most "lines about it in the log" 20 "$(grep -c accept_failed narrow.err)"
# Streams take descriptors too: 80 of them want a connection each to a service that is slow, and the gate has few.
failures=$(grep -c accept_failed narrow.err) idle=$(open_ones)
quiet=$(ask app.lan / -o /dev/null -w '%{http_code} %{time_total}')
start streams h2load -n 80 -c 2 -m 40 "https://127.0.0.1:$PORT/hold"
streams=$PID
until_true 10 grep -q '^held' service.err || bad "streams are held" "$(tail -3 service.err streams.out)"
took() { ask app.lan / -o /dev/null -w '%{http_code} %{time_total}' -m 20 "$@"; }
# In under a second, and ten times what a request takes with nothing in its way: `soon NAME PATTERN ANSWER`.
soon() {
    local limit
    limit=$(awk -v quiet="${quiet#* }" 'BEGIN { print int(1000 + 10000 * quiet) }')
    has "$1" "$2" "$3"
    at_most "$1: in milliseconds" "$limit" "$(awk -v took="${3#* }" 'BEGIN { print int(1000 * took) }')"
}
for n in 1 2 3; do
    soon "another client is served ($n)" '^200 ' "$(took --interface 127.0.0.2)"
    soon "the same one is served, or told so ($n)" '^(200|503) ' "$(took)"
done
kill -0 "$streams" 2>/dev/null || bad "the streams were held meanwhile" "$(cat streams.out)"
wait "$streams"
has "every stream has an answer" '80 done, .* 0 errored, 0 timeout' "$(cat streams.out)"
has "some are served and the others told so" '^status codes: [1-9][0-9]* 2xx, 0 3xx, 0 4xx, [1-9][0-9]* 5xx' "$(cat streams.out)"
at_most "times that a descriptor was missing, which each is a pause and told once" 3 $(($(grep -c accept_failed narrow.err) - failures))
# A connection for each of its threads may be kept for the next request.
kept=$((idle + 4))
until_true 10 few_open "$kept"
at_most "descriptors afterwards, of $idle before" "$kept" "$(open_ones)"
kill "$narrow"

echo "== drain"
config drain ""
serving drain drain.toml
drain=$PID
ask app.lan /slow --http1.1 >slow1 & one=$!
ask app.lan /slow --http2 >slow2 & two=$!
slow_ones() { [ "$(grep -c 'slow begins' service.err)" -eq 2 ]; }
until_true 20 slow_ones
kill -TERM "$drain"
wait $one $two
same "what runs is finished" "slow but whole slow but whole" "$(cat slow1 slow2 | paste -sd' ')"
wait "$drain"
same "and it ends with 0" 0 $?
lacks "nobody is let in any more" hello "$(ask app.lan /)"

echo "== exit codes"
code() { timeout 20 "$GATE" "$@" >code.out 2>&1 </dev/null; echo $?; }
same "2: wrong usage" 2 "$(code expose)"
same "2: an upstream on another machine" 2 "$(code expose 192.0.2.1:80)"
sed 's/access = "anyone"/acces = "anyone"/' gate.toml >wrong.toml
same "3: a mistake in the file" 3 "$(code serve -c wrong.toml)"
{ cat gate.toml; printf '[[test]]\nfrom = "127.0.0.1"\nrequest = "GET https://app.lan/"\nexpect = "not-permitted"\n'; } >test.toml
same "3: a test in the file fails" 3 "$(code check -c test.toml)"
if [ "$(id -u)" -eq 0 ]; then
    # In a network namespace that nobody reaches.
    out=$(unshare -n bash -c "ip link set lo up
        python3 -m http.server --bind 0.0.0.0 --directory '$WORK/www' 7000 >/dev/null 2>&1 & web=\$!
        for _ in {1..50}; do curl -so /dev/null http://127.0.0.1:7000/ && break; sleep 0.1; done
        timeout 20 '$GATE' expose 7000 -l 127.0.0.1:7443 >/dev/null 2>&1; echo \$?; kill \$web")
    same "4: the service can be reached around the gate" 4 "$out"
fi
sed "s/127.0.0.1:0\"/127.0.0.1:$first_port\"/" gate.toml >taken.toml
same "5: the address is taken" 5 "$(code serve -c taken.toml)"

echo "== what the first gate went through"
same "no panic" 0 "$(grep -c panic gate.err)"
kill -TERM "$first"
wait "$first"
same "it ends with 0" 0 $?

echo "== everything at once, shortly"
out=$(env -u LIMITED LOOPGATE_BIN="$GATE" "$ROOT/tests/endurance/run.sh" 20 2>&1)
if [ $? -eq 0 ]; then ok "$(grep -c '^ok' <<<"$out") checks of tests/endurance"; else bad "tests/endurance" "$(tail -30 <<<"$out")"; fi
exit 0

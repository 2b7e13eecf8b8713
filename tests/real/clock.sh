#!/usr/bin/env bash
# A wall clock that jumps while the gate serves, and between two runs: what rests on time that has passed goes on as if nothing had
# been, what rests on a date is judged by the clock of now, and nobody is let in who should not be. By libfaketime, which lies to
# the gate alone; the monotonic clock is the true one.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq openssl:openssl faketime:faketime
    binary
    export GATE
fi
limited 240 "$0" "$@"
cd "$WORK" || exit 1

library=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1)
[ -f "$library" ] || { echo "no libfaketimeMT.so.1 below /usr/lib/*/faketime" >&2; exit 1; }
# `lied COMMAND…`: by the clock of the file.
lied=(env "LD_PRELOAD=$library" "FAKETIME_TIMESTAMP_FILE=$WORK/clock" FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1)
lied() { "${lied[@]}" "$@"; }
day=86400
offset=0
echo +0 >clock
has "a program takes the clock of the file" '^1970-01-02' "$(echo "-$(($(date +%s) - day))" >clock && lied date -u +%F)"
echo +0 >clock

service=$(free_port) port=$(free_port) admin=$(free_port)
start service python3 "$ROOT/tests/real/service.py" "$service"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$service"
for user in alice bob eve; do printf '%s:%s\n' "$user" "$(echo "pass-$user" | "$GATE" hash-password)"; done >users
chmod 600 users
# No sandbox: the threads that serve could not read the file with the clock.
cat >gate.toml <<TOML
[server]
workers = 2
sandbox = "off"
[[listener]]
address = "127.0.0.1:$port"
networks = { allow = ["loopback"] }
client_certificates = { from = "local-ca" }
[auth]
users_file = "users"
tokens_file = "tokens.toml"
lockout = { failures = 3, window = "5m", ban = "15m" }
[log]
access = "access.log"
format = "json"
[admin]
address = "127.0.0.1:$admin"
[[route]]
upstream = "127.0.0.1:$service"
[[route]]
path = "/card"
upstream = "127.0.0.1:$service"
access = { certificate = "required" }
TOML
half=$("$GATE" -q token add --name half --for 12h --tokens-file tokens.toml)
month=$("$GATE" -q token add --name month --for 30d --tokens-file tokens.toml)
ever=$("$GATE" -q token add --name ever --tokens-file tokens.toml)
site=https://localhost:$port
# `code SOURCE ARGUMENTS…`: the status of an answer to that address.
code() { local from=$1; shift; curl -sk --max-time 20 --interface "$from" -o body -w '%{http_code}' "$@"; }
token() { code 127.0.0.1 -H "Loopgate-Token: $1" "$site/"; }
cookie() { sed -nE 's/^set-cookie: ([^;]*);.*/\1/Ip' | tr -d '\r'; }
link() { "$GATE" share --for "$1" -c gate.toml --json | jq -r '.. | .urls? // empty | .[0]' | head -1; }
opens() { curl -sk --max-time 20 -X POST -H "Origin: $site" -H 'Content-Length: 0' -D - -o /dev/null "$1" | cookie; }
status() { "$GATE" status -c gate.toml --json; }
metric() { curl -s --max-time 20 "http://127.0.0.1:$admin/metrics" | sed -n "s/^$1 //p"; }
# How many seconds the gate's clock is ahead, as what it says of a certificate has it.
ahead() { status | jq -r --arg now "$(date +%s)" '.[0].certificates[] | select(.name == "local-ca") | (.not_after | sub("\\..*Z$"; "Z") | fromdate) - .seconds_left - ($now | tonumber)'; }
# Its day, and that of half a minute ago.
gate_day() { echo "($(date -u -d "@$(($(date +%s) + offset))" +%F)|$(date -u -d "@$(($(date +%s) + offset - 30))" +%F))"; }
# `starts NAME`: the gate, by the clock of the file.
starts() { start "$1" "${lied[@]}" "$GATE" serve -c "$WORK/gate.toml"; until_true 30 grep -q '"serving"' "$1.err" || { cat "$1.err" >&2; exit 1; }; }
# `cards NAME DURATION`: a client certificate.
cards() {
    "$GATE" -q cert client alice --for "$2" -o "$1.p12" >"$1.password" 2>/dev/null
    openssl pkcs12 -in "$1.p12" -passin "file:$1.password" -nodes -out "$1.pem" 2>/dev/null
}
card() { code 127.0.0.1 --cert "$1.pem" "$site/card"; }
# What a client says to the certificate of the gate, by the true clock and by that of the gate: `ok` or why not.
believes() {
    "$@" curl -s --max-time 20 --cacert ca.pem -o /dev/null "$site/" 2>said
    case $? in 0) echo ok ;; 60) echo refused ;; *) echo "none ($?)" ;; esac
}
# `streams NAME ARGUMENTS…`: one that is open; `runs NAME`, `has_ended NAME`.
streams() {
    local name=$1
    shift
    start "$name" curl -skN --max-time 110 "$@"
    until_true 20 grep -q 'data: 1' "$name.out" || bad "the stream $name begins" "$(cat "$name.err")"
    echo "$PID" >"$name.pid"
}
longer() { [ "$(wc -l <"$1.out")" -gt "$2" ]; }
runs() { until_true 20 longer "$1" "$(wc -l <"$1.out")" && echo runs || echo "has ended"; }
is_over() { ! kill -0 "$(cat "$1.pid")" 2>/dev/null; }
ends() { until_true 20 is_over "$1" && echo ended || echo "still runs"; }
leaf() { status | jq -r '.[0].certificates[] | select(.name == "localhost") | .not_after'; }
# `jumps NAME SECONDS`: to so far from the true time, and how the gate's clock is told.
jumps() {
    now=$1 offset=$2
    echo "== $now"
    echo "$offset" | sed 's/^[0-9]/+&/' >clock.new && mv clock.new clock
    local told
    told=$(ahead)
    # `status` was asked within a minute.
    [ $((told - offset)) -le 60 ] && [ $((told - offset)) -ge -60 ] && ok "$now: status is told by that clock" || bad "$now: status is told by that clock" "$told"
    same "$now: and says that it serves" serving "$(status | jq -r '.[0].state')"
}

starts gate
main=$PID
authority
cards two 2d
cards long 300d
session=$(curl -sk --max-time 20 -u alice:pass-alice -H 'Accept: text/html' -D - -o /dev/null "$site/" | cookie)
visitor=$(opens "$(link 2h)") later=$(link 2h) late=$(link 2h)
for _ in 1 2 3; do code 127.0.9.1 -u eve:wrong "$site/" >/dev/null; done
streams of-session -H "Cookie: $session" "$site/stream"
streams of-visitor -H "Cookie: $visitor" "$site/stream"
streams of-half -H "Loopgate-Token: $half" "$site/stream"
streams of-month -H "Loopgate-Token: $month" "$site/stream"
streams of-ever -H "Loopgate-Token: $ever" "$site/stream"
streams of-card --cert two.pem "$site/card/stream"

n=0
# `look`: what no jump changes.
look() {
    n=$((n + 1))
    same "$now: a session goes on" 200 "$(code 127.0.0.1 -H "Cookie: $session" "$site/")"
    same "$now: and one that is made up is none" 401 "$(code 127.0.0.1 -H "Cookie: ${session%%=*}=$(printf 'a%.0s' {1..43})" "$site/")"
    same "$now: a visitor goes on" 200 "$(code 127.0.0.1 -H "Cookie: $visitor" "$site/")"
    same "$now: a password is right" 200 "$(code "127.0.3.$n" -u bob:pass-bob "$site/")"
    same "$now: or wrong" 401 "$(code "127.0.4.$n" -u "guest$n:wrong" "$site/")"
    same "$now: nobody is let in" 401 "$(code 127.0.0.1 "$site/")"
    local headers
    headers=$(curl -sk --max-time 20 --interface 127.0.9.1 -u eve:pass-eve -D - -o /dev/null "$site/" | tr -d '\r')
    has "$now: a ban goes on" '^HTTP/[0-9.]+ 429' "$headers"
    local wait
    wait=$(sed -n 's/^retry-after: //Ip' <<<"$headers")
    [ "${wait:-0}" -ge 600 ] && [ "${wait:-0}" -le 900 ] && ok "$now: for as long as it was" || bad "$now: for as long as it was" "$wait"
    same "$now: a token without an end" 200 "$(token "$ever")"
    same "$now: whatever has an end of its own time runs" "runs runs runs" "$(runs of-session) $(runs of-visitor) $(runs of-ever)"
    code 127.0.0.1 -H "Cookie: $session" "$site/seen/$n" >/dev/null
    until_true 20 grep -q "/seen/$n\"" access.log
    has "$now: the log has the day" "\"ts\":\"$(gate_day)T" "$(grep "/seen/$n\"" access.log)"
    has "$now: that of events too" "\"ts\":\"$(gate_day)T.*auth_failed" "$(grep "127.0.4.$n[^0-9]" gate.err)"
    local answered
    answered=$(metric 'loopgate_auth_attempts_total{method="basic",result="failure"}')
    [ "${answered:-0}" -gt "${counted:-0}" ] && ok "$now: counters count" || bad "$now: counters count" "$counted, then $answered"
    counted=$answered
    same "$now: readiness" 200 "$(curl -s --max-time 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$admin/readyz")"
    has "$now: the certificate's end is a metric" "^$(date -d "$(leaf)" +%s)$" "$(metric 'loopgate_certificate_not_after_seconds{name="localhost"}')"
}
# `dated HALF MONTH TWO LONG`: tokens of 12 hours and 30 days, certificates of two days and 300.
dated() {
    same "$now: a token of twelve hours" "$1" "$(token "$half")"
    same "$now: of thirty days" "$2" "$(token "$month")"
    same "$now: a certificate of two days" "$3" "$(card two)"
    same "$now: of three hundred" "$4" "$(card long)"
}
# `client TRUE OWN`: what clients say to the certificate, by the true clock and by that of the gate.
client() {
    same "$now: a client whose clock is right" "$1" "$(believes)"
    same "$now: one whose clock is the gate's" "$2" "$(believes lied)"
}

jumps "the right time" 0
look
dated 200 200 200 200
client ok ok
first=$(leaf)

jumps "a day on" $day
same "$now: the stream of a token that is over" ended "$(ends of-half)"
look
dated 401 200 200 200
client ok ok
same "$now: no new certificate is due" "$first" "$(leaf)"

jumps "half a day back" $((-day / 2))
look
# Client certificates begin an hour before they were made.
dated 200 200 403 403
client ok ok

jumps "25 days on" $((25 * day))
is_renewed() { [ "$(leaf)" != "$first" ]; }
until_true 20 is_renewed && ok "$now: the certificate is renewed" || bad "$now: the certificate is renewed"
look
dated 401 200 403 200
# It begins a day before it was made.
client refused ok
same "$now: what runs by a token that has not ended" runs "$(runs of-month)"
same "$now: by a certificate that has" ended "$(ends of-card)"

jumps "31 days on" $((31 * day))
same "$now: the stream of the longer token" ended "$(ends of-month)"
look
dated 401 401 403 200
client refused ok

jumps "ten years on" $((3651 * day))
is_told() { grep -qE "cert_failed.*expired on.*loopgate ca renew" gate.err; }
until_true 20 is_told && ok "$now: the authority is over, with what to do" || bad "$now: the authority is over, with what to do"
client "none (35)" "none (35)"
same "$now: whoever is there goes on" "runs runs runs" "$(runs of-session) $(runs of-visitor) $(runs of-ever)"
same "$now: readiness" 200 "$(curl -s --max-time 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$admin/readyz")"

# In 1970, where a machine begins whose battery is empty.
jumps "in 1970" $((day - $(date +%s)))
look
# An end that is a date gets no more time by it.
dated 401 401 403 403
client ok refused
has "$now: the log says why" 'clock shows a day before the token was made' "$(grep 'token:month' gate.err)"
same "$now: a link that was made before opens" 200 "$(code 127.0.0.1 -H "Cookie: $(opens "$later")" "$site/")"
same "$now: once" 401 "$(code 127.0.0.1 -X POST -H "Origin: $site" -H 'Content-Length: 0' "$later")"
# An editor's hand is seen by any clock.
reloads=$(status | jq -r '.[0].reload.count')
printf 'dora:%s\n' "$(echo pass-dora | "$GATE" hash-password)" >>users
is_read() { [ "$(status | jq -r '.[0].reload.count')" -gt "$reloads" ]; }
until_true 20 is_read
same "$now: a new user is taken" 200 "$(code 127.0.6.1 -u dora:pass-dora "$site/")"

jumps "back" 0
look
dated 200 200 200 200
client ok ok
same "$now: revoked is revoked" 0 "$("$GATE" -q token revoke month -c gate.toml >/dev/null 2>&1; echo $?)"
same "$now: whatever its date" 401 "$(token "$month")"
same "$now: a link opens" 200 "$(code 127.0.0.1 -H "Cookie: $(opens "$late")" "$site/")"
same "nothing was caught that should not be" 0 "$(status | jq -r '.[0].panics')"
ticks() { awk '{print $14 + $15}' "/proc/$main/stat"; }
for pid in of-session of-visitor of-ever; do kill "$(cat $pid.pid)" 2>/dev/null; done

echo "== what ends by true time ends in time"
# Seconds that have passed decide: whatever the clock does meanwhile.
sed -i "s/ban = \"15m\"/ban = \"6s\"/; s/\\[auth\\]/&\nsession = { lifetime = \"6s\", idle = \"6s\" }/" gate.toml
"$GATE" -q reload -c gate.toml >said 2>&1
same "a shorter ban, shorter sessions" 0 $?
n=20
for jump in $((25 * day)) $((-day / 2)) $((day - $(date +%s))); do
    n=$((n + 1)) now="by $jump s"
    echo +0 >clock
    begun=$(date +%s%N)
    for _ in 1 2 3; do code "127.0.9.$n" -u "stranger$n:wrong" "$site/" >/dev/null; done
    brief=$(curl -sk --max-time 20 -u bob:pass-bob -H 'Accept: text/html' -D - -o /dev/null "$site/" | cookie)
    visit=$(opens "$(link 6s)")
    said=$(date +%s%N)
    echo "$jump" | sed 's/^[0-9]/+&/' >clock
    all="$(code "127.0.9.$n" -u bob:pass-bob "$site/") $(code 127.0.0.1 -H "Cookie: $brief" "$site/") $(code 127.0.0.1 -H "Cookie: $visit" "$site/")"
    # On a machine that took all the time for these requests there is nothing to be seen.
    if [ $(($(date +%s%N) - begun)) -lt 5000000000 ]; then same "$now: all three are there" "429 200 200" "$all"; fi
    is_free() { [ "$(code "127.0.9.$n" -u bob:pass-bob "$site/")" = 200 ]; }
    is_out() { [ "$(code 127.0.0.1 -H "Cookie: $1" "$site/")" = 401 ]; }
    until_true 30 is_free && ok "$now: the ban ends" || bad "$now: the ban ends"
    took=$((($(date +%s%N) - begun) / 1000000))
    # Its seconds are whole ones.
    [ $took -ge 5000 ] && ok "$now: not before its time ($took ms)" || bad "$now: not before its time" "$took ms"
    until_true 30 is_out "$brief" && ok "$now: the session ends" || bad "$now: the session ends"
    until_true 30 is_out "$visit" && ok "$now: the visit ends" || bad "$now: the visit ends"
    at_most "$now: within a minute" 60 $((($(date +%s%N) - said) / 1000000000))
done
echo +0 >clock
sed -i '/^session = /d; s/ban = "6s"/ban = "15m"/' gate.toml

echo "== nothing is busy"
echo "-$(($(date +%s) - day))" >clock
before=$(ticks)
sleep 2
at_most "hundredths of a second of work in two seconds" 100 $(($(ticks) - before))

echo "== between two runs"
# `again NAME SECONDS`: ends the gate by the right time, and starts it by another one.
again() {
    now=$1 offset=$2
    kill "$main"; wait "$main" 2>/dev/null
    echo "$offset" | sed 's/^[0-9]/+&/' >clock
    runs=$((${runs:-0} + 1))
    starts "gate$runs"
    main=$PID
}
# `lasts CLIENT`: the ban, and not for longer than it was.
lasts() {
    local wait
    wait=$(curl -sk --max-time 20 --interface "$1" -u bob:pass-bob -D - -o /dev/null "$site/" | tr -d '\r' | sed -n 's/^retry-after: //Ip')
    [ "${wait:-0}" -ge 600 ] && [ "${wait:-0}" -le 900 ] && ok "$now: a ban has its right end" || bad "$now: a ban has its right end" "$wait"
}
again "in 1970 at the start" $((day - $(date +%s)))
for _ in 1 2 3; do code 127.0.9.7 -u stranger7:wrong "$site/" >/dev/null; done
same "$now: it serves" 200 "$(code 127.0.5.1 -u bob:pass-bob "$site/")"
same "$now: nobody else" 401 "$(code 127.0.5.1 "$site/")"
same "$now: a session of before is none" 401 "$(code 127.0.0.1 -H "Cookie: $session" "$site/")"
dated 401 401 403 403
client ok refused
has "$now: a ban" '^429' "$(code 127.0.9.7 -u bob:pass-bob "$site/")"
again "the right time again" 0
# Fifty years have passed, by the wall clock. The machine knows better, until it is started anew.
same "$now: the ban goes on" 429 "$(code 127.0.9.7 -u bob:pass-bob "$site/")"
lasts 127.0.9.7
dated 200 401 200 200
for _ in 1 2 3; do code 127.0.9.8 -u stranger8:wrong "$site/" >/dev/null; done
again "half a day back at the start" $((-day / 2))
lasts 127.0.9.8
same "$now: for that client alone" 200 "$(code 127.0.9.9 -u bob:pass-bob "$site/")"
again "a day on at the start" $day
lasts 127.0.9.8
kill "$main"; wait "$main" 2>/dev/null
# As after a reboot: another life of the machine, so the clock is all that there is.
sed -i 's/^./x/' "$STATE_DIRECTORY/lockouts-$port.time"
starts rebooted
same "after a reboot with the clock a day on the ban is over" 200 "$(code 127.0.9.8 -u bob:pass-bob "$site/")"
kill "$PID"; wait "$PID" 2>/dev/null
echo "+$((3651 * day))" >clock
lied timeout 60 "$GATE" serve -c gate.toml >over.out 2>over.err
same "ten years on it does not start" 3 $?
logged "and says why, and what to do" 'expired on .*loopgate ca renew' over.err
echo "-$(($(date +%s) - day))" >clock
mkdir -m 700 empty
lied env STATE_DIRECTORY="$WORK/empty" timeout 60 "$GATE" serve -c gate.toml >first.out 2>first.err
same "in 1970 no authority is made" 3 $?
logged "because of the clock" 'clock' first.err
same "of which nothing is left" "" "$(find empty -name '*.pem')"
exit 0

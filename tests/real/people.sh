#!/usr/bin/env bash
# People, with the built program: password files of other tools, access tables, tests in the file, lockouts across kill -9 and
# clock jumps, `explain --id`, `unlock`, fail2ban.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq openssl:openssl htpasswd:apache2-utils faketime:faketime
    binary
    export GATE
    # fail2ban-regex alone: the package as a whole would start a server.
    FAIL2BAN=$(command -v fail2ban-regex)
    if [ -z "$FAIL2BAN" ]; then
        tools=$(mktemp -d)
        unpacked "$tools" fail2ban
        FAIL2BAN="env PYTHONPATH=$tools/usr/lib/python3/dist-packages python3 $tools/usr/bin/fail2ban-regex"
        [ -x "$tools/usr/bin/fail2ban-regex" ] || { echo "no fail2ban-regex: the package fail2ban cannot be fetched" >&2; exit 1; }
    fi
    export FAIL2BAN tools
fi
limited 280 "$0" "$@"
tidy() { [ -z "${tools:-}" ] || rm -rf "$tools"; }

# A service that says what it sees.
cat >"$WORK/echo.py" <<'PY'
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"method": self.command, "path": self.path, **{k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = do_DELETE = answer
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
PY
UPSTREAM=$(free_port) LISTEN=$(free_port)
start service python3 "$WORK/echo.py" "$UPSTREAM"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$UPSTREAM"

echo "== password files of other tools"
htpasswd -nbB -C 5 bea pass-bea | head -1 >"$WORK/users"
printf 'five:%s\nsix:%s\n' "$(openssl passwd -5 pass-five)" "$(openssl passwd -6 pass-six)" >>"$WORK/users"
for name in alice bob eve; do printf '%s:%s\n' "$name" "$(echo "pass-$name" | "$GATE" hash-password)" >>"$WORK/users"; done
chmod 600 "$WORK/users"
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:$LISTEN"
networks = { allow = ["loopback"] }
[auth]
users_file = "users"
lockout = { failures = 3, window = "5m", ban = "15m" }
[[group]]
name = "ops"
users = ["alice"]
[[route]]
path = "/"
upstream = "127.0.0.1:$UPSTREAM"
upstream_secret = "between-us-two"
[[route]]
path = "/ops"
upstream = "127.0.0.1:$UPSTREAM"
access = { groups = ["ops"], users = ["eve"], methods = ["GET", "POST"] }
[[route]]
path = "/all"
upstream = "127.0.0.1:$UPSTREAM"
access = { users = ["alice"], networks = ["127.0.2.0/24"], require = "all" }
[[route]]
path = "/any"
upstream = "127.0.0.1:$UPSTREAM"
access = { users = ["alice"], networks = ["127.0.2.0/24"], require = "any" }
[[route]]
path = "/shut"
upstream = "127.0.0.1:$UPSTREAM"
access = "nobody"
[log]
access = "access.log"
TOML
serving gate "$WORK/gate.toml"
main=$PID
site=https://localhost:$LISTEN
# `code FROM ARGUMENTS…`: the status of an answer to that address.
code() { local from=$1; shift; curl -sk --max-time 10 --interface "$from" -o "$WORK/body" -w '%{http_code}' "$@"; }
for user in bea five six alice; do
    same "$user's password is right" 200 "$(code 127.0.3.1 -u "$user:pass-$user" "$site/")"
    same "and another one is not" 401 "$(code 127.0.3.2 -u "$user:pass-x" "$site/")"
    "$GATE" unlock --client 127.0.3.2 >/dev/null
done
for weak in "\$apr1\$:$(openssl passwd -apr1 x)" "{SHA}:$(htpasswd -nbs x x | head -1 | cut -d: -f2)" "crypt:$(htpasswd -nbd x x 2>/dev/null | head -1 | cut -d: -f2)" "MD5:$(openssl passwd -1 x)"; do
    mkdir -p "$WORK/weak"
    sed "s/$LISTEN/0/" "$WORK/gate.toml" >"$WORK/weak/gate.toml"
    { cat "$WORK/users"; printf 'old:%s\n' "${weak#*:}"; } >"$WORK/weak/users"
    chmod 600 "$WORK/weak/users"
    out=$("$GATE" check -c "$WORK/weak/gate.toml" 2>&1)
    same "a ${weak%%:*} hash refuses the file" 3 $?
    has "with its line" 'users:7' "$out"
    has "and the command that repairs it" 'loopgate (user add|hash-password)|htpasswd -B' "$out"
    lacks "and without the hash" "$(printf %s "${weak#*:}" | tail -c 8 | sed 's/[].[*^$/]/\\&/g')" "$out"
done

echo "== access tables"
same "nobody is asked to log in" 401 "$(code 127.0.3.1 "$site/")"
same "a user" 200 "$(code 127.0.3.1 -u bob:pass-bob -H 'X-Loopgate-User: root' -H 'X-Loopgate-Secret: guess' "$site/a?b=c")"
same "the service sees who it is" bob "$(jq -r '."x-loopgate-user"' "$WORK/body")"
same "and by the secret that we sent it" between-us-two "$(jq -r '."x-loopgate-secret"' "$WORK/body")"
same "but not the password" null "$(jq -r '.authorization' "$WORK/body")"
same "a member of the group" 200 "$(code 127.0.3.1 -u alice:pass-alice "$site/ops")"
same "with his groups" ops "$(jq -r '."x-loopgate-groups"' "$WORK/body")"
same "and without a secret that is another route's" null "$(jq -r '."x-loopgate-secret"' "$WORK/body")"
same "a user who is named" 200 "$(code 127.0.3.1 -u eve:pass-eve "$site/ops/x")"
same "one who is neither" 403 "$(code 127.0.3.1 -u bob:pass-bob "$site/ops")"
same "a method of the list" 200 "$(code 127.0.3.1 -u eve:pass-eve -d x "$site/ops")"
same "another method" 405 "$(code 127.0.3.1 -u eve:pass-eve -X DELETE "$site/ops")"
same "all: the right network and the right user" 200 "$(code 127.0.2.9 -u alice:pass-alice "$site/all")"
same "all: the right network alone" 401 "$(code 127.0.2.9 "$site/all")"
same "all: the right network, another user" 403 "$(code 127.0.2.9 -u bob:pass-bob "$site/all")"
same "all: the right user elsewhere" 403 "$(code 127.0.3.1 -u alice:pass-alice "$site/all")"
same "any: the right network" 200 "$(code 127.0.2.9 "$site/any")"
same "and the service is told of no user" null "$(jq -r '."x-loopgate-user"' "$WORK/body")"
same "any: the right user elsewhere" 200 "$(code 127.0.3.1 -u alice:pass-alice "$site/any")"
same "any: another user elsewhere" 403 "$(code 127.0.3.1 -u bob:pass-bob "$site/any")"
same "any: nobody elsewhere" 401 "$(code 127.0.3.1 "$site/any")"
same "nobody" 403 "$(code 127.0.3.1 -u alice:pass-alice "$site/shut")"

echo "== credentials that are refused, by hand"
cat >"$WORK/raw.py" <<'PY'
import base64, socket, ssl, sys
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
good = b"Basic " + base64.b64encode(b"alice:pass-alice")
cases = {
    "good": [good], "two": [good, good], "two kinds": [good, b"Bearer x"], "empty": [b""], "scheme": [b"Basic"], "blank": [b"Basic  "],
    "giant": [b"Basic " + base64.b64encode(b"alice:" + b"x" * 9000)],
    "nul": [b"Basic " + base64.b64encode(b"alice\0:pass-alice")], "nul password": [b"Basic " + base64.b64encode(b"alice:pass-alice\0")],
    "bytes": [b"Basic \0\0"], "no colon": [b"Basic " + base64.b64encode(b"alice")], "not base64": [b"Basic !!!!"],
}
for name, values in cases.items():
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10, ("127.0.4.1", 0)) as plain:
        plain.settimeout(10)
        with context.wrap_socket(plain, server_hostname="localhost") as s:
            fields = b"".join(b"Authorization: " + v + b"\r\n" for v in values)
            s.sendall(b"GET / HTTP/1.1\r\nHost: localhost:" + sys.argv[1].encode() + b"\r\n" + fields + b"Connection: close\r\n\r\n")
            try:
                print(f"{name}={s.recv(100).split(b' ')[1].decode()}", end=" ")
            except (OSError, IndexError):
                print(f"{name}=closed", end=" ")
print()
PY
out=$(python3 "$WORK/raw.py" "$LISTEN")
echo "      $out"
has "one good field is let in" '^good=200 ' "$out"
has "two are refused, whatever they say" 'two=400 two kinds=400' "$out"
has "an empty one is nobody" 'empty=40[01] scheme=40[01] blank=40[01]' "$out"
has "a giant one is refused" 'giant=4[0-9][0-9]' "$out"
has "NUL and bytes that are no text are refused" 'nul=40[01] nul password=40[01] bytes=40[01] no colon=40[01] not base64=40[01]' "$out"
"$GATE" unlock --client 127.0.4.1 --user alice >/dev/null

echo "== explain what no route decides"
out=$("$GATE" explain --from 127.0.0.1 -c "$WORK/gate.toml" "$site/.loopgate/login")
has "a page of our own is a step of its own" 'own page +a page of' "$out"
has "and is answered here" 'allowed: loopgate answers it itself' "$out"
lacks "whatever the routes say" 'leads to' "$out"
out=$("$GATE" explain --from 127.0.0.1 --user bob -c "$WORK/gate.toml" "http://localhost:$LISTEN/")
has "plain HTTP is told to be redirected" 'scheme +plain HTTP is' "$out"
has "and what comes of it" 'allowed: the request is forwarded' "$out"
has "as it is" '^308 https://localhost' "$(curl -s -o /dev/null -w '%{http_code} %{redirect_url}' "http://localhost:$LISTEN/")"
out=$("$GATE" explain --from 127.0.0.1 --user bob -c "$WORK/gate.toml" OPTIONS '*')
has "the asterisk can be asked for" 'allowed: the request is forwarded' "$out"
"$GATE" explain --from 127.0.0.1 --user bob -c "$WORK/gate.toml" GET '*' >/dev/null 2>&1
same "but only with OPTIONS" 2 $?

echo "== explain --id"
id=$(curl -sk --interface 127.0.3.1 -u bob:pass-bob -o /dev/null -D - "$site/ops/x?token=hush" | tr -d '\r' | sed -n 's/^x-request-id: //Ip')
out=$("$GATE" explain --id "$id" -c "$WORK/gate.toml")
same "a request of the log is explained" 0 $?
has "what was decided" 'Then: not-permitted.*the client saw 403' "$out"
has "what would be decided" 'Now: not-permitted: the client sees 403' "$out"
has "with the line that decided" '"gate.toml:17:10"' "$("$GATE" explain --id "$id" --json -c "$WORK/gate.toml" | jq '.now.steps[-1].place | sub(".*/"; "")')"
has "by the same plan" 'The plan has not changed since' "$out"
lacks "without what was in the query" 'hush' "$out"
cp "$WORK/gate.toml" "$WORK/before.toml"
sed -i 's/users = \["eve"\]/users = ["eve", "bob"]/' "$WORK/gate.toml"
"$GATE" reload -c "$WORK/gate.toml" >/dev/null || bad "the reload"
out=$("$GATE" explain --id "$id" -c "$WORK/gate.toml")
has "after a reload it says so" 'The plan has been replaced' "$out"
has "and judges anew" 'Now: allowed' "$out"
out=$("$GATE" explain --id "$id" --json -c "$WORK/gate.toml")
same "for programs" "not-permitted true allowed" "$(jq -r '[.request.reason, .changed, .now.decision] | join(" ")' <<<"$out")"
lacks "no secret in it" 'pass-bob|between-us|hush' "$out"
out=$("$GATE" explain --id zzzzzzzzzzzzzzzz -c "$WORK/gate.toml" 2>&1)
same "an unknown id fails" 1 $?
has "and says that the gate was asked" 'the running gate [0-9]+: it is not among the last requests' "$out"
has "and which log was read" 'access.log: it is not in there' "$out"
"$GATE" explain --id '../x' -c "$WORK/gate.toml" >/dev/null 2>&1
same "what is no id is wrong usage" 2 $?

echo "== exit codes of what is written"
out=$("$GATE" token add --name 'no name' --tokens-file "$WORK/t" 2>&1)
same "a name that no token can have is wrong usage" 2 $?
out=$("$GATE" token add --name ci --tokens-file "$WORK/missing/t" 2>&1)
same "a file that cannot be written is none" 1 $?
"$GATE" -q token add --name ci --tokens-file "$WORK/t" >/dev/null && out=$("$GATE" token add --name ci --tokens-file "$WORK/t" 2>&1)
same "nor is a name that is taken" 1 $?
out=$("$GATE" cert client "$(printf 'x%.0s' $(seq 65))" 2>&1)
same "a name that no certificate can have is wrong usage" 2 $?
if [ "$(id -u)" -eq 0 ] && mkdir "$WORK/full" && mount -t tmpfs -o size=16k none "$WORK/full" 2>/dev/null; then
    head -c 20000 /dev/zero >"$WORK/full/fill" 2>/dev/null
    for way in "user add bob --users-file" "token add --name ci --tokens-file" "cert client bob --out" "ca export --output"; do
        out=$("$GATE" $way "$WORK/full/file" 2>&1 <<<"open sesame")
        same "a disk that is full: ${way%% --*}" 1 $?
    done
    umount "$WORK/full"
fi

echo "== tests in the file"
{ cat "$WORK/before.toml"; printf '[[test]]\nfrom = "127.0.3.1"\nuser = "bob"\nrequest = "GET /ops"\nexpect = "allowed"\n'; } >"$WORK/failing.toml"
out=$("$GATE" check -c "$WORK/failing.toml" 2>&1)
same "a test that fails: check" 3 $?
has "says what came instead" 'not-permitted' "$out"
out=$(timeout 20 "$GATE" serve -c "$WORK/failing.toml" 2>&1)
same "start" 3 $?
cp "$WORK/failing.toml" "$WORK/gate.toml"
out=$("$GATE" reload -c "$WORK/gate.toml" 2>&1)
same "reload" 3 $?
has "says what came instead, too" 'not-permitted' "$out"
same "and the plan before stays in force" 200 "$(code 127.0.3.1 -u bob:pass-bob "$site/ops")"
sed -i 's/expect = "allowed"/expect = "not-permitted"/' "$WORK/gate.toml"
"$GATE" reload -c "$WORK/gate.toml" >/dev/null
same "a test that holds: the new plan is in force" "0 403" "$? $(code 127.0.3.1 -u bob:pass-bob "$site/ops")"
cp "$WORK/before.toml" "$WORK/gate.toml"

echo "== lockouts"
lock() { local n; for n in 1 2 3; do code "$1" -u "$2:wrong-$n" "$site/" >/dev/null; done; }
wait_of() { curl -sk --max-time 10 --interface "$1" -u "$2:pass-$2" -o /dev/null -D - "$site/" | tr -d '\r' | sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p; s/^retry-after: //Ip' | xargs; }
lock 127.0.5.1 nobody1
out=$(wait_of 127.0.5.1 six)
has "who is locked out is told how long" '^429 (8[0-9][0-9]|900)$' "$out"
lock 127.0.5.2 five
own=$(wait_of 127.0.5.3 five)
has "a user who is locked out elsewhere as well" '^429 (8[0-9][0-9]|900)$' "$own"
text() { curl -sk --interface "$1" -u "$2:pass-$2" "$site/" | sed 's/request id [a-z0-9]*//'; }
same "in the same words, whoever it was" "$(text 127.0.5.1 six)" "$(text 127.0.5.3 five)"
out=$("$GATE" unlock --client 127.0.5.1)
has "unlock a network" 'network of 127.0.5.1 may try again' "$out"
same "and it is let in" 200 "$(code 127.0.5.1 -u six:pass-six "$site/")"
same "while the user is still locked" 429 "$(code 127.0.5.3 -u five:pass-five "$site/")"
out=$("$GATE" unlock --user five --json)
same "unlock a user" true "$(jq -r '.[0].ended' <<<"$out")"
same "and he is let in" 200 "$(code 127.0.5.3 -u five:pass-five "$site/")"
out=$("$GATE" unlock --user five)
has "a second time there was nothing" 'nothing was counted against user five' "$out"
"$GATE" unlock >/dev/null 2>&1
same "unlock wants to know whom" 2 $?
has "a user, a network, or both" 'user <NAME>\|--client <IP>' "$("$GATE" unlock 2>&1)"
logged "the log says so" 'info unlocked user=five' "$WORK/gate.err"

file=$STATE_DIRECTORY/lockouts-$LISTEN
touch "$WORK/now"
lock 127.0.6.1 nobody2
lock 127.0.6.5 nobody5
is_new() { [ "$file" -nt "$WORK/now" ]; }
until_true 10 is_new || bad "the lockouts were written"
sleep 4 # And those of the last guess as well: a second write follows within 3 s.
again() {
    kill "-$1" "$main" 2>/dev/null; wait "$main" 2>/dev/null
    shift
    rm -f "$WORK/gate.err"
    start gate "$@" "$GATE" serve -c "$WORK/gate.toml"
    main=$PID
    until_written "$WORK/gate.err" '(serving)' >/dev/null || cat "$WORK/gate.err"
}
again TERM
has "a lockout outlives a restart" '^429 ' "$(wait_of 127.0.6.1 six)"
"$GATE" unlock --client 127.0.6.5 >/dev/null
again KILL
has "and kill -9" '^429 ' "$(wait_of 127.0.6.1 six)"
same "but not what was unlocked just before" 200 "$(code 127.0.6.5 -u six:pass-six "$site/")"
# Another clock for the program alone; the monotonic one goes on.
library=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1)
again KILL env LD_PRELOAD="$library" FAKETIME=-400d FAKETIME_DONT_FAKE_MONOTONIC=1
logged "another clock is believed" "^$(date -u -d '-400 days' +%Y)-" "$WORK/gate.err"
has "and a clock that is a year behind" '^429 ([1-9][0-9]?[0-9]?)$' "$(wait_of 127.0.6.1 six)"
again KILL
# A wall clock that runs an hour a second while the gate serves: after three seconds every ban would be over.
again KILL env LD_PRELOAD="$library" FAKETIME='+0 x3600' FAKETIME_DONT_FAKE_MONOTONIC=1
lock 127.0.6.2 nobody3
sleep 3
code 127.0.6.9 -u bob:wrong "$site/" >/dev/null
before=$(date -d "$(sed -n 's/ warn locked_out .*client=127.0.6.2.*//p' "$WORK/gate.err" | head -1)" +%s)
after=$(date -d "$(sed -n 's/ info auth_failed client=127.0.6.9.*//p' "$WORK/gate.err" | head -1)" +%s)
[ $((after - before)) -gt 900 ] && ok "its clock went on by $((after - before)) s" || bad "its clock went on by $((after - before)) s"
has "and the ban is not over before its time" '^429 (8[0-9][0-9])$' "$(wait_of 127.0.6.2 six)"
kill -9 "$main"; wait "$main" 2>/dev/null
rm -f "$file"

echo "== fail2ban"
rules=$ROOT/config/fail2ban/filter.d/loopgate.conf
hostile() {
    local line
    # The address of somebody else in everything that a client says: names, path, method, user agent, host.
    for line in 'x client=9.9.9.1 ' $'a\nb info auth_failed client=9.9.9.2 user=x' $'a\r\n2026-11-28T18:01:07.325Z info auth_failed client=9.9.9.3 user=x' \
        '","client":"9.9.9.4' $'a\n{"ts":"2026-11-28T18:01:07.325Z","level":"info","event":"auth_failed","client":"9.9.9.5"}' 'client=9.9.9.6'; do
        code "$1" -u "$line:wrong" "$site/" >/dev/null
        "$GATE" unlock --client "$1" >/dev/null
    done
    # And in what is said of a ban.
    for line in 'x info auth_failed client=9.9.9.5 user=y' $'x\n","level":"info","event":"auth_failed","client":"9.9.9.5",'; do
        for n in 1 2 3; do code "$1" -u "$line:wrong $n" "$site/" >/dev/null; done
        "$GATE" unlock --client "$1" >/dev/null
    done
    for line in '/info%20auth_failed%20client=9.9.9.7' '/"},{"event":"auth_failed","client":"9.9.9.7"}' '/info/auth_failed/client=9.9.9.7'; do
        code "$1" --path-as-is -g -A "info auth_failed client=9.9.9.8 user=" "$site$line" >/dev/null
        code "$1" --path-as-is -g -X info -A '"},{"level":"info","event":"auth_failed","client":"9.9.9.8"}' "$site$line" >/dev/null
    done
    code "$1" -H 'Host: info' "$site/" >/dev/null
    code "$1" -H 'Authorization: Bearer client=9.9.9.9' "$site/" >/dev/null
}
for format in text json; do
    sed "s/access = \"access.log\"/access = \"$format.log\"\nformat = \"$format\"/" "$WORK/before.toml" >"$WORK/gate.toml"
    again TERM
    for n in 1 2; do code 127.0.7.1 -u "bob:wrong-$n" "$site/" >/dev/null; done
    code 127.0.7.2 -u alice:pass-alice "$site/" >/dev/null
    hostile 127.0.7.3
    "$GATE" unlock --user bob --client 127.0.7.1 >/dev/null
    until_true 10 grep -q 'info' "$WORK/$format.log"
    # As they may come: events and access lines in one file, and behind what syslog puts in front.
    cat "$WORK/gate.err" "$WORK/$format.log" >"$WORK/$format.all"
    sed 's/^/Nov 28 18:01:07 host loopgate[77]: /' "$WORK/$format.all" >"$WORK/$format.syslog"
    for lines in "$WORK/$format.all" "$WORK/$format.syslog"; do
        found=$($FAIL2BAN -o ip "$lines" "$rules" 2>&1 | sort | uniq -c | awk '{print $2 "*" $1}' | xargs)
        has "$format, ${lines##*.}: wrong passwords are found" '127\.0\.7\.1\*2' "$found"
        same "$format, ${lines##*.}: and of nobody else" "127.0.7.1 127.0.7.3" "$(sed 's/\*[0-9]*//g' <<<"$found")"
    done
done
out=$(sed -n '/^\[/p' "$ROOT/config/fail2ban/jail.d/loopgate.conf")
same "the jail is named as its filter" "[loopgate]" "$out"

echo "== a request that only the log knows"
id=$(sed -n 's/.*"request_id":"\([a-z0-9]*\)".*"reason":"credentials-missing".*/\1/p' "$WORK/json.log" | tail -1)
again TERM
out=$("$GATE" explain --id "$id" -c "$WORK/gate.toml")
has "JSON: it is read from the file" 'Found in .*json.log, judged by .*gate.toml as it is now' "$out"
has "JSON: what was decided" 'Then: credentials-missing .*; the client saw 401' "$out"
id=$(sed -n 's/.* 401 .*credentials-missing .* \([a-z0-9]*\)$/\1/p' "$WORK/text.log" | tail -1)
sed -i 's/json/text/g' "$WORK/gate.toml"
kill "$main"; wait "$main" 2>/dev/null
out=$("$GATE" explain --id "$id" -c "$WORK/gate.toml")
has "text, without a gate: it is read from the file" 'Found in .*text.log' "$out"
has "text: that the file was changed since" 'Written to since: .*gate.toml' "$out"
sed -i 's/access = "text.log"/access = "off"/' "$WORK/gate.toml"
out=$("$GATE" explain --id "$id" -c "$WORK/gate.toml" 2>&1)
same "a log that is off" 1 $?
has "says so" 'log.access is off' "$out"
exit 0

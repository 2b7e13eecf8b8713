#!/usr/bin/env bash
# A gate that drains, with the built program: who is removed or revoked is out there too, by a plain end and beside the process that
# has taken over; networks and services are watched to the end, and every command that withdraws says where it did.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq strace:strace
    binary
    export GATE
fi
limited 240 "$0" "$@"
cd "$WORK" || exit 1

service=$ROOT/tests/real/service.py
UPSTREAM=$(free_port) LISTEN=$(free_port)
start service python3 "$service" "$UPSTREAM" 127.0.0.1
until_true 10 bash -c "</dev/tcp/127.0.0.1/$UPSTREAM"
site=https://localhost:$LISTEN
config() {
    cat >new <<TOML
[[listener]]
address = "127.0.0.1:$LISTEN"
networks = { allow = ["loopback"], deny = [$1] }
[server]
drain = "60s"
[auth]
users_file = "users"
tokens_file = "tokens.toml"
[log]
access = "access.log"
[[route]]
upstream = "127.0.0.1:$UPSTREAM"
TOML
    mv new gate.toml
}
# `stream NAME ARGUMENTS…`: an answer that goes on.
declare -A pid
stream() {
    local name=$1
    shift
    start "$name" curl -skN --max-time 100 "$@" "$site/stream"
    pid[$name]=$PID
    until_true 10 grep -q 'data: 1$' "$name.out" || bad "the stream of $name begins" "$(head -c 300 "$name.out")"
}
lines() { grep -c data "$1.out"; }
is_gone() { ! kill -0 "${pid[$1]}" 2>/dev/null; }
ends() { until_true "$2" is_gone "$1" && ok "the stream of $1 ends" || bad "the stream of $1 ends"; }
goes_on() {
    local now
    now=$(lines "$1")
    more() { [ "$(lines "$1")" -gt $((now + 5)) ]; }
    until_true 10 more "$1" && ok "the stream of $1 goes on" || bad "the stream of $1 goes on"
}
# Everybody is in, by a gate of his own name.
begin() {
    rm -f users tokens.toml
    for user in alice bob carol dora; do echo "pass-$user" | "$GATE" -q user add "$user" --users-file users; done
    config ''
    TOKEN=$("$GATE" -q token add --name ci --tokens-file tokens.toml)
    serving "$1" gate.toml
    OLD=$PID
    "$GATE" share --for 1h --json >share.json
    local link
    link=$(jq -r '.urls[] | select(contains("localhost"))' share.json)
    curl -sk -c jar -o /dev/null -X POST -H "Origin: $site" "${link/https:\/\/localhost:*\/.loopgate/$site/.loopgate}"
    for user in alice bob carol; do stream "$user" -u "$user:pass-$user"; done
    stream token -H "Loopgate-Token: $TOKEN"
    stream visitor -b jar
    stream far --interface 127.0.0.7 -u alice:pass-alice
}

echo "== beside the process that has taken over"
begin first
start second "$GATE" serve -c gate.toml --take-over
NEW=$PID
until_written second.err '(serving)' >/dev/null
same "the one that serves is asked" "$NEW" "$("$GATE" status -c gate.toml --json | jq -r '.[].pid')"
same "the one that drains is listed" "$NEW serving $OLD draining" "$("$GATE" status --all --json | jq -r 'sort_by(.state == "draining") | .[] | "\(.pid) \(.state)"' | paste -sd' ')"
same "and asked by its number" draining "$("$GATE" status --pid "$OLD" --json | jq -r '.[].state')"
has "a link of before is known" "$(jq -r .id share.json)" "$("$GATE" share list)"
same "and revoked" "1 link is revoked" "$("$GATE" share revoke "$(jq -r .id share.json)")"
ends visitor 5
same "a link that nobody knows is still none" 1 "$("$GATE" share revoke nobody >/dev/null 2>&1; echo $?)"
out=$("$GATE" token revoke ci -c gate.toml 2>&1)
same "a token is revoked" 0 $?
has "in the one that serves" "in force at $NEW " "$out"
has "and in the one that drains" "in force at $OLD .*draining" "$out"
ends token 5
out=$("$GATE" user remove bob -c gate.toml 2>&1)
has "a user is removed there as well" "in force at $OLD .*draining" "$out"
ends bob 5
{ cat gate.toml; echo 'nonsense = 1'; } >new && mv new gate.toml
out=$("$GATE" user remove carol -c gate.toml 2>&1)
same "and while the configuration has a mistake" 0 $?
has "which is said of both" "in force at $OLD .*nothing else" "$out"
ends carol 5
config '"127.0.0.7"'
out=$("$GATE" reload -c gate.toml 2>&1)
same "a reload with narrower networks" 0 $?
has "reaches both" "accepted by $OLD, which drains" "$out"
ends far 5
goes_on alice
same "unlocking reaches both" "$(printf '%s\n' "$NEW" "$OLD" | sort)" "$("$GATE" unlock --user bob --json | jq -r '.[].pid' | sort)"
# By hand, while nobody asks; and by a signal.
grep -v '^alice:' users >new && chmod 600 new && mv new users
ends alice 10
kill -TERM "$OLD"
wait "$OLD"
kill -TERM "$NEW"
wait "$NEW"
same "both end well" 0 $?

echo "== while it ends"
begin third
kill -TERM "$OLD"
until_written third.err '(draining why=TERM)' >/dev/null
out=$("$GATE" user remove bob -c gate.toml 2>&1)
same "a user is removed" 0 $?
has "and says where" "in force at $OLD .*draining" "$out"
ends bob 5
out=$("$GATE" token revoke ci -c gate.toml 2>&1)
ends token 5
same "a link is revoked" "1 link is revoked" "$("$GATE" share revoke)"
ends visitor 5
grep -v '^carol:' users >new && chmod 600 new && mv new users
kill -HUP "$OLD"
ends carol 5
out=$("$GATE" share --for 1h 2>&1)
has "nothing is opened any more" 'about to end; nothing was changed' "$out"
out=$("$GATE" serve -c gate.toml --take-over 2>&1)
same "there is nothing to take over" 1 $?
has "because it drains" "process $OLD\) drains: .* nothing to take over" "$(tr '\n' ' ' <<<"$out")"
goes_on alice
start open python3 "$service" "$UPSTREAM" 0.0.0.0
until_written third.err '(exposure_changed .*exposed=true)' >/dev/null
ends alice 10
wait "$OLD"
same "it has ended well" 0 $?
logged "and says how long that took" 'ended why="everything has finished" after_ms=[0-9]+ cut=0' third.err
kill "$PID"
wait "$PID" 2>/dev/null

echo "== to its last moment"
begin fourth
kill -TERM "$OLD"
until_written fourth.err '(draining why=TERM connections=6 at_most=60s)' >/dev/null
kill -INT "$OLD"
wait "$OLD"
logged "a second signal is told, with what it cut" 'ended why="a second INT" after_ms=[0-9]+ cut=6' fourth.err

echo "== at a service that was replaced"
BLUE=$UPSTREAM GREEN=$(free_port)
start green python3 "$service" "$GREEN" 127.0.0.1
until_true 10 bash -c "</dev/tcp/127.0.0.1/$GREEN"
rm -f users access.log
for user in alice bob; do echo "pass-$user" | "$GATE" -q user add "$user" --users-file users; done
config ''
sed -i 's/"60s"/"2s"/' gate.toml
serving switch gate.toml
OLD=$PID
stream alice --http1.1 -u alice:pass-alice
stream bob --http2 -u bob:pass-bob
before=$(($(lines alice) + $(lines bob)))
sed -i "s/:$BLUE\"/:$GREEN\"/" gate.toml
same "a reload leads its route to another one" 0 "$("$GATE" reload -c gate.toml >said 2>&1; echo $?)"
ends alice 15
ends bob 15
wait "${pid[alice]}"
same "which was cut, over HTTP/1.1" 18 $?
wait "${pid[bob]}"
same "and over HTTP/2" 92 $?
more=$(($(lines alice) + $(lines bob) - before))
[ "$more" -ge 20 ] && ok "both flowed on ($more events)" || bad "both flowed on" "$more events"
# By the gate's own clock: from the reload to the ends of the two answers, whose lines say when they began and how long they took.
since() { date -d "$(cut -d' ' -f1 <<<"$1")" +%s%3N; }
swapped=$(since "$(grep config_reloaded switch.err)")
for user in alice bob; do
    until_true 5 grep -q " $user GET .*/stream .* cut " access.log
    line=$(grep " $user GET .*/stream .* cut " access.log)
    took=$(($(since "$line") + $(sed -E 's/.* ([0-9]+)(\.[0-9]+)?ms .*/\1/' <<<"$line") - swapped))
    [ "$took" -ge 1900 ] && ok "the one of $user until the end of the drain ($took ms)" || bad "the one of $user until the end of the drain" "$took ms"
    at_most "and no longer" 12000 "$took"
done

# Who was let in there is out when he is removed, though the new service asks nobody; and so is everybody when the old one is open.
config ''
same "back again, with more time" 0 "$("$GATE" reload -c gate.toml >said 2>&1; echo $?)"
stream alice -u alice:pass-alice
stream bob --http1.1 -u bob:pass-bob
sed -i "s/:$BLUE\"/:$GREEN\"/" gate.toml
echo 'access = "anyone"' >>gate.toml
same "its route leads to one that is open to anyone" 0 "$("$GATE" reload -c gate.toml >said 2>&1; echo $?)"
goes_on alice
goes_on bob
same "a user is removed" 0 "$("$GATE" user remove bob -c gate.toml >said 2>&1; echo $?)"
ends bob 5
goes_on alice
start open python3 "$service" "$BLUE" 0.0.0.0
until_written switch.err '(exposure_changed .*exposed=true)' >/dev/null
ends alice 10
kill "$PID"
wait "$PID" 2>/dev/null
kill -TERM "$OLD"
wait "$OLD"
same "it ends well" 0 $?

echo "== files that are none"
begin fifth
cp gate.toml good.toml
mkfifo fifo
# `odd NAME PATTERN`: a reload with this file says what is wrong with it, at once, and the gate can be asked and ended.
odd() {
    out=$(timeout 20 "$GATE" reload -c gate.toml 2>&1)
    same "$1: exit code" 3 $?
    has "$1: says what is wrong" "$2" "$(tr '\n' ' ' <<<"$out")"
    same "$1: it can be asked" serving "$(timeout 10 "$GATE" status -c gate.toml --json | jq -r '.[].state')"
    cp good.toml gate.toml
}
sed -i 's/"access.log"/"fifo"/' gate.toml
odd "a FIFO for the access log" 'no program has this FIFO open for reading'
for what in fifo /dev/zero; do
    sed -i "s#^networks#tls = { chain = \"$what\", key = \"$what\" }\nnetworks#" gate.toml
    odd "$what for a certificate" 'not a regular file'
    sed -i "s#\"users\"#\"$what\"#" gate.toml
    odd "$what for the users" 'not a regular file'
    sed -i "s#^upstream.*#upstream = \"https://127.0.0.1:$UPSTREAM\"\nupstream_cert = { file = \"$what\" }#" gate.toml
    odd "$what for the certificate of a service" 'not a regular file'
done
mkdir conf.d && mkfifo conf.d/z.toml
odd "a FIFO in conf.d" 'z.toml. cannot be read: it is not a regular file'
rm -r conf.d
same "a pipe for a check" 0 "$("$GATE" check -c <(sed "s#\"users\"#\"$WORK/users\"#" gate.toml) >check.out 2>&1; echo $?)"
goes_on alice
kill -TERM "$OLD"
until_written fifth.err '(draining why=TERM)' >/dev/null
kill -TERM "$OLD"
wait "$OLD"
same "it ends well" 0 $?

if command -v strace >/dev/null && [ "$(id -u)" -eq 0 ]; then
    echo "== while the control thread hangs in a file"
    begin sixth
    start hang strace -qq -p "$OLD" -e trace=openat -e inject=openat:delay_enter=100000000 -o hang.trace
    attached() { grep -q "^TracerPid:[[:space:]]*[1-9]" "/proc/$OLD/status"; }
    until_true 10 attached
    kill -HUP "$OLD"
    until_true 10 grep -q openat hang.trace
    kill -TERM "$OLD"
    until_true 15 grep -q control_stuck sixth.err
    logged "the first signal begins the drain all the same" 'control_stuck' sixth.err
    lacks "nobody new is let in" '^[1-9]' "$(curl -sk -m 3 -o /dev/null -w '%{http_code}' -u alice:pass-alice "$site/")"
    goes_on alice
    kill -TERM "$OLD"
    has_ended() { ! kill -0 "$OLD"; }
    until_true 25 has_ended
    wait "$OLD"
    same "the second one ends it" 1 $?
    logged "and that is told" 'ended_by_force' sixth.err
fi
same "no panic" 0 "$(cat ./*.err | grep -c panic)"
exit 0

#!/usr/bin/env bash
# A hand-over between two versions of the program: each understands the other, or one refuses in plain words and the other goes on.
# The side of another version is a small program that says what such a one could say.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
peer=$ROOT/tests/real/versions.py

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq
    binary
    export GATE
fi
limited 180 "$0" "$@"
cd "$WORK" || exit 1

service=$(free_port) port=$(free_port)
start service python3 "$ROOT/tests/real/service.py" "$service"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$service"
cat >gate.toml <<TOML
[server]
drain = "2s"
[[listener]]
address = "127.0.0.1:$port"
networks = { allow = ["loopback"] }
[[route]]
upstream = "127.0.0.1:$service"
access = "anyone"
TOML
page() { curl -sk --max-time 20 "https://localhost:$port/"; }
serving gate gate.toml
main=$PID
control=$STATE_DIRECTORY/control/$main.sock

echo "== another program asks the running gate"
failures() { grep -c hand_over_failed gate.err; }
asked() { python3 "$peer" heir "$control" "$1" | paste -sd' '; }
has "another protocol is refused" 'speaks another protocol; use the loopgate that it was started with' "$(asked protocol)"
has "a question that is not known, too" 'does not know what was asked' "$(asked verb)"
same "no hand-over had begun" 0 "$(failures)"
# What is added to the question is passed over.
same "another word instead of ready" "offered then closed" "$(asked steady)"
told() { [ "$(failures)" -ge "$1" ]; }
until_true 20 told 1 && ok "is told" || bad "is told"
same "another word instead of taken" "offered given has_lock lockouts visits then closed" "$(asked took)"
until_true 20 told 2 && ok "is told" || bad "is told"
same "the gate serves" "hello serving" "$(page) $("$GATE" status -c gate.toml --json | jq -r '.[0].state')"
"$GATE" status -c gate.toml --json | jq '.[0]' >about.json
# Something that runs, so that the drain has a length.
start stream curl -skN --max-time 60 "https://localhost:$port/stream"
until_written stream.out '(data: 1)' >/dev/null
start heir python3 "$peer" heir "$control" taken
until_written gate.err '(handed_over)' >/dev/null
wait "$main"
same "one that takes it and says what is not known: the gate ends well" 0 $?
wait "$PID"
same "and has said its last" 'then "over"' "$(tail -1 heir.out)"
lacks "nobody has lost track" 'hand_over_lost' "$(cat gate.err)"

echo "== a gate of another version is asked"
begin() {
    echo "$1" >way
    [ -n "${old:-}" ] && kill -0 "$old" 2>/dev/null && return
    start old python3 "$peer" gate "$STATE_DIRECTORY/control/old.sock" about.json "$port"
    old=$PID
    until_written old.out '(listens)' >/dev/null
}
# `refused NAME WAY PATTERN HEARD`: what the new program says, and what the old gate has heard of it.
refused() {
    begin "$2"
    local before
    before=$(wc -l <old.out)
    timeout 60 "$GATE" serve -c gate.toml --take-over >refused.out 2>refused.err
    same "$1: exit code" 1 $?
    has "$1: says why" "$3" "$(tr '\n' ' ' <refused.err)"
    is_done() { tail -n +$((before + 1)) old.out | grep -q done; }
    until_true 20 is_done
    same "$1: what the old one hears" "$4" "$(tail -n +$((before + 1)) old.out | paste -sd' ')"
    same "$1: it listens" 0 "$(timeout 5 bash -c "</dev/tcp/127.0.0.1/$port"; echo $?)"
}
refused "another protocol" protocol 'loopgate 9.9.9\) speaks another protocol' "done"
refused "one that hands nothing over" before 'does not know what was asked' "done"
refused "one that is no gate" noise 'not a gate of this version' "done"
refused "an offer that lacks something" lacks 'does not understand .*missing field `lockouts`.*goes on.*without `--take-over`' "left done"
refused "lockouts with more to them" limits 'does not understand .*unknown field `more`.*goes on' "left done"
refused "fewer sockets than it says" fewer 'more sockets than came; it goes on' "left done"
refused "a last word that lacks something" last 'does not hand over: missing field `has_lock`.*goes on' "heard ready left done"
# `understood NAME WAY`: the new one serves, in the place of the old one.
understood() {
    begin "$2"
    start "$2" "$GATE" serve -c gate.toml --take-over
    local new=$PID
    until_true 20 grep -q ' serving ' "$2.err" || bad "$1: it serves" "$(cat "$2.err")"
    same "$1: it serves" hello "$(page)"
    logged "$1: in the place of the old one" "took_over pid=$old" "$2.err"
    has "$1: which has heard so" 'heard taken' "$(tail -4 old.out)"
    kill "$old"
    wait "$old" 2>/dev/null
    old=
    rm -f "$STATE_DIRECTORY/control/old.sock"
    same "$1: and goes on when that is gone" hello "$(page)"
    kill "$new"
    wait "$new"
    same "$1: to a good end" 0 $?
}
understood "the first version that hands over" first
lacks "knows of no sessions" 'sessions=|hand_over_lost' "$(cat first.err)"
understood "a later one that says more" more
lacks "whose sessions are left behind" 'sessions=|hand_over_lost' "$(cat more.err)"
# The denied one: of the same version, without the last word.
understood "one that breaks off" broken
logged "whose sessions come along" 'took_over .*sessions=0 links=0' broken.err
logged "is missed" 'hand_over_lost' broken.err
exit 0

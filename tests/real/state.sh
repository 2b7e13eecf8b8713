#!/usr/bin/env bash
# kill -9 while state is written, some 200 times: whatever was acknowledged is there, everything starts again, nothing is left lying about.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 jq:jq
    binary
    export GATE
fi
limited 200 "$0" "$@"

cat >"$WORK/kill.py" <<'PY'
# Starts one command after the other and kills each at some moment of its life; prints what was acknowledged and then lost.
import os, random, subprocess, sys, time
gate, work = sys.argv[1], sys.argv[2]
random.seed(7)
env = dict(os.environ, NO_COLOR="1")

def run(*args, stdin=None):
    done = subprocess.run([gate, *args], input=stdin, capture_output=True, env=env, timeout=20)
    return done.returncode, done.stdout.decode()

def cut(life, *args):
    """True when the command had ended well before it was killed."""
    child = subprocess.Popen([gate, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    try:
        return child.wait(timeout=random.uniform(0, life)) == 0
    except subprocess.TimeoutExpired:
        child.kill(); child.wait()
        return False

tokens, ca = f"{work}/tokens.toml", f"{work}/ca.pem"
began = time.monotonic()
run("token", "add", "--name", "first", "--tokens-file", tokens)
whole = time.monotonic() - began
kept, lost, torn, killed = {"first"}, set(), 0, 0
for n in range(150):
    if cut(whole * 1.2, "token", "add", "--name", f"t{n}", "--tokens-file", tokens):
        kept.add(f"t{n}")
    else:
        killed += 1
    if n % 5 == 0 or n == 149:
        code, out = run("token", "list", "--json", "--tokens-file", tokens)
        torn += code != 0
        lost |= {name for name in kept if f'"{name}"' not in out}
print(f"tokens killed={killed} kept={len(kept)} lost={sorted(lost)} torn={torn}")

torn = killed = 0
began = time.monotonic(); run("ca", "renew"); whole = time.monotonic() - began
for n in range(60):
    killed += not cut(whole * 1.2, "ca", "renew")
    code, out = run("ca", "show")
    torn += code != 0
print(f"ca killed={killed} torn={torn}")
PY
echo "== commands"
out=$(python3 "$WORK/kill.py" "$GATE" "$WORK")
echo "      $out" | sed '2,$s/^/      /'
has "no acknowledged token was lost, and the file was never torn" '^tokens .* lost=\[\] torn=0$' "$out"
has "the authority could always be read" '^ca .* torn=0$' "$out"
"$GATE" token add --name last --tokens-file "$WORK/tokens.toml" >/dev/null 2>&1
same "nothing is left beside it" "" "$(find "$WORK" -name '.tokens.toml.new-*')"

echo "== a gate that keeps lockouts"
UPSTREAM=$(free_port) LISTEN=$(free_port)
printf 'alice:%s\n' "$(echo 'open sesame' | "$GATE" hash-password)" >"$WORK/users"
chmod 600 "$WORK/users"
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:$LISTEN"
networks = { allow = ["loopback"] }
[auth]
users_file = "users"
lockout = { failures = 3, window = "5m", ban = "15m" }
[[route]]
upstream = "127.0.0.1:$UPSTREAM"
[log]
access = "off"
TOML
starts=0 locked=0
guess() { curl -sk --max-time 5 --interface "127.0.1.$1" -u "alice:wrong" -o /dev/null -w '%{http_code} ' "https://localhost:$LISTEN/"; }
for round in 1 2 3 4 5 6; do
    start "gate$round" "$GATE" serve -c "$WORK/gate.toml"
    until_written "$WORK/gate$round.err" '(serving)' >/dev/null && starts=$((starts + 1))
    grep -q lockouts_unread "$WORK/gate$round.err" && bad "round $round read its lockouts" "$(cat "$WORK/gate$round.err")"
    if [ "$round" -gt 1 ]; then
        # What was on the disk when the last one was killed still holds.
        [ "$before" = none ] || { [ "$(guess "$before")" = "429 " ] && locked=$((locked + 1)); }
    fi
    before=none
    file=$STATE_DIRECTORY/lockouts-$LISTEN
    for _ in 1 2 3 4; do guess "$round" >/dev/null; done
    if [ $((round % 2)) -eq 1 ]; then
        # Written after the last guess, or so long ago that nothing is left to write.
        touch "$WORK/now"
        is_new() { [ "$file" -nt "$WORK/now" ]; }
        until_true 5 is_new
        before=$round
    fi
    kill -9 "$PID"; wait "$PID" 2>/dev/null
done
same "it started after every kill" 6 $starts
same "a lockout that was written held after the kill" 3 $locked
start one "$GATE" serve -c "$WORK/gate.toml"
until_written "$WORK/one.err" '(serving)' >/dev/null
same "modes are the owner's alone" "600" "$(stat -c %a "$file")"

#!/usr/bin/env bash
# `loopgate run`: real programs started, found, followed, stopped; and nothing of them left behind.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
here=$ROOT/tests/real/run_command

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl openssl:openssl python3:python3 node:nodejs npm:npm tmux:tmux
    binary
    export GATE
    TOOLS=$(mktemp -d)
    export TOOLS
    patiently npm install --prefix "$TOOLS" --no-audit --no-fund --loglevel=error vite@8 >/dev/null || exit 1
    python_packages "$TOOLS/venv" 'django==5.2.*'
fi
limited 240 "$0" "$@"
tidy() { rm -rf "$TOOLS"; tmux -L "lg$$" kill-server 2>/dev/null; }

# `runs NAME [OPTIONS] -- CMD…`: starts it in a session of its own; sets PID, PORT (of the gate) and PASSWORD.
runs() {
    local name=$1
    shift
    start "$name" "$GATE" run -l 127.0.0.1:0 --name run.home.arpa "$@"
    PORT=$(until_written "$WORK/$name.err" 'https://run.home.arpa:([0-9]+)/') || exit 1
    PASSWORD=$(sed -nE 's/^ *Password +([a-z-]+)$/\1/p' "$WORK/$name.err")
}
fetch() { curl -sS -m 10 --cacert "$WORK/ca.pem" --resolve "run.home.arpa:$PORT:127.0.0.1" -u "me:$PASSWORD" "https://run.home.arpa:$PORT$1" "${@:2}" 2>/dev/null; }
status() { fetch "$1" -o /dev/null -w '%{http_code}' "${@:2}"; }
answers() { [ "$(status "$1")" = 200 ]; }
says() { fetch "$1" | grep -qF -- "$2"; }
# Waits for the end of the run that was started last; sets CODE.
over() { if until_true 15 gone "$PID"; then wait "$PID"; CODE=$?; else CODE="still running"; fi; }
gone() { ! kill -0 "$1" 2>/dev/null || [ "$(awk '{print $3}' "/proc/$1/stat" 2>/dev/null)" = Z ]; }
# Every process that carries this word in its environment: the children of one run, wherever they have gone.
marked() { grep -lzE "^MARK=$1\$" /proc/[0-9]*/environ 2>/dev/null | grep -c . ; }
none_left() { [ "$(marked "$1")" = 0 ]; }
nothing_left() { if until_true 10 none_left "$2"; then ok "$1"; else bad "$1" "$(marked "$2") processes"; fi; }

authority
# One that is set stays.
unset NODE_EXTRA_CA_CERTS
cd "$WORK" || exit 1
mkdir site && echo "hello from the site" >site/index.html

# ---- environment, placeholders, output, exit codes
start env "$GATE" run -l 127.0.0.1:0 -- sh -c 'echo "H=$HOST P=$PORT A=$1 U=$LOOPGATE_URL"; openssl x509 -in "$NODE_EXTRA_CA_CERTS" -noout -subject >/dev/null && echo CA=ok; exit 7' sh '{host}:{port}'
over; same "the code of the command is ours" 7 "$CODE"
has "HOST, PORT, the placeholders and the address" '^H=127\.0\.0\.1 P=([0-9]+) A=127\.0\.0\.1:\1 U=https://[^ ]+:[0-9]+/$' "$(cat env.out)"
has "the authority is in a file that can be read" '^CA=ok$' "$(cat env.out)"
same "standard output is the command's alone" 2 "$(wc -l <env.out)"
logged "the banner is on standard error" 'Password +[a-z-]+' env.err
start itself "$GATE" run -l 127.0.0.1:0 -- node -e 'fetch(process.env.LOOPGATE_URL).then((answer) => console.log("status", answer.status), (error) => console.log(String(error.cause ?? error)))'
over; same "a Node program that calls itself through the gate trusts it, and is asked who it is" "status 401" "$(cat itself.out)"
start sig "$GATE" run -l 127.0.0.1:0 -- sh -c 'kill -9 $$'
over; same "a command that died of a signal: 128 + n" 137 "$CODE"
start missing "$GATE" run -l 127.0.0.1:0 -- ./no-such-program
over; same "a command that is not there: 127" 127 "$CODE"
logged "and it says so" 'no-such-program. was not found' missing.err
start usage "$GATE" run -l 127.0.0.1:0
over; same "no command: wrong usage" 2 "$CODE"

# ---- a server on loopback, on the port that it was told and on one of its own
MARK=told$$ runs told -- python3 -u -m http.server --bind '{host}' -d site '{port}'
if until_true 10 says / "hello from the site"; then ok "the told port is fronted"; else bad "the told port is fronted" "$(tail -5 told.err)"; fi
same "without the password nothing" 401 "$(curl -sS -m 5 -o /dev/null -w '%{http_code}' --cacert ca.pem --resolve "run.home.arpa:$PORT:127.0.0.1" "https://run.home.arpa:$PORT/")"
kill -TERM "$PID"
over; same "TERM goes to the command, and its code is ours" 143 "$CODE"
nothing_left "nothing is left" "told$$"
other=$(free_port)
MARK=other$$ runs other -- python3 -u -m http.server --bind 127.0.0.1 -d site "$other"
same "before it is there: 502" 502 "$(status /)"
if until_true 10 answers /; then ok "a port of its own choice is found"; else bad "a port of its own choice is found" "$(tail -5 other.err)"; fi
logged "and told" "loopgate: 127.0.0.1:$other is on the network now" other.err
kill -INT "$PID"
over
if [ "$CODE" = 0 ] || [ "$CODE" = 130 ]; then ok "INT too ($CODE)"; else bad "INT too" "$CODE"; fi
nothing_left "nothing is left" "other$$"
MARK=six$$ runs six -- python3 -u -m http.server --bind ::1 -d site "$(free_port)"
if until_true 10 answers /; then ok "a service on ::1 alone"; else bad "a service on ::1 alone" "$(tail -5 six.err)"; fi
kill "$PID"; over

# ---- bound to everyone
for bind in 0.0.0.0 ::; do
    MARK=open$$ start open "$GATE" run -l 127.0.0.1:0 -- python3 -u -m http.server --bind "$bind" -d site "$(free_port)"
    over; same "bound to $bind: stopped, 4" 4 "$CODE"
    logged "bound to $bind: who" 'python3.* \(pid [0-9]+\)' open.err
    logged "bound to $bind: the repair" '--bind 127\.0\.0\.1' open.err
    nothing_left "bound to $bind: it is gone" "open$$"
done
runs unsafe --unsafe-upstream -- python3 -u -m http.server --bind 0.0.0.0 -d site "$(free_port)"
if until_true 10 answers /; then ok "unless that is meant"; else bad "unless that is meant" "$(tail -5 unsafe.err)"; fi
logged "and it is said" 'without passing this gate' unsafe.err
kill "$PID"; over

# ---- several ports
pages=$(free_port) raw=$(free_port)
runs two -- python3 -u "$here/ports.py" raw:"$raw" pages:"$pages"
if until_true 15 says / "pages $pages"; then ok "of two ports the one that answers HTTP"; else bad "of two ports the one that answers HTTP" "$(tail -5 two.err)"; fi
kill "$PID"; over
runs wanted --port "$raw" -- python3 -u "$here/ports.py" pages:"$pages" pages:"$raw"
if until_true 15 says / "pages $raw"; then ok "or the one that was named"; else bad "or the one that was named" "$(tail -5 wanted.err)"; fi
kill "$PID"; over
runs debugger -- node --inspect=127.0.0.1:"$raw" -e 'setInterval(() => {}, 1000)'
until_true 10 grep -q 'Debugger listening' debugger.err
until_true 3 answers / && bad "a debugger is not put on the network" || ok "a debugger is not put on the network"
kill "$PID"; over
runs secure -- node "$here/secure.mjs" "$other"
if until_true 10 says / "over TLS"; then ok "a service that speaks TLS itself"; else bad "a service that speaks TLS itself" "$(tail -5 secure.err)"; fi
kill "$PID"; over

# ---- restarts
MARK=again$$ runs again -- python3 -u "$here/restarts.py" "$pages" "$raw"
if until_true 15 says / "first on $pages"; then ok "the first life"; else bad "the first life" "$(tail -5 again.err)"; fi
fetch /restart >/dev/null
if until_true 15 says / "second on $raw"; then ok "started anew on another port, it is followed"; else bad "started anew on another port, it is followed" "$(tail -5 again.err)"; fi
fetch /restart >/dev/null
if until_true 15 says / "third on $raw"; then ok "and on the same"; else bad "and on the same" "$(tail -5 again.err)"; fi
kill "$PID"; over
nothing_left "nothing is left" "again$$"
MARK=worse$$ start worse "$GATE" run -l 127.0.0.1:0 -- python3 -u "$here/worse.py" "$pages"
over; same "one that opens up only later is stopped then" 4 "$CODE"
nothing_left "and nothing is left" "worse$$"

# ---- nothing left behind
MARK=fork$$ start fork "$GATE" run -l 127.0.0.1:0 -- sh -c 'setsid sh -c "sleep 300 & sleep 300" & (setsid sleep 300 &); sleep 0.2; exit 3'
over; same "what it left running is ended with it" 3 "$CODE"
nothing_left "even what went into a session of its own" "fork$$"
MARK=deaf$$ start deaf "$GATE" run -l 127.0.0.1:0 -- sh -c 'trap "" TERM INT HUP; echo ready; while :; do sleep 300; done'
until_written deaf.out '(ready)' >/dev/null
kill "$PID"; sleep 0.1; kill "$PID"
over; same "one that is deaf is killed by the second signal" 137 "$CODE"
nothing_left "and all of it" "deaf$$"
MARK=usr$$ start usr "$GATE" run -l 127.0.0.1:0 -- sh -c 'trap "echo got" USR2; echo ready; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; done; exit 0'
until_written usr.out '(ready)' >/dev/null
kill -USR2 "$PID"
until_written usr.out '(got)' >/dev/null && ok "signals of its own reach it"
over; same "and it goes on to its end" 0 "$CODE"
MARK=while$$ start while "$GATE" run -l 127.0.0.1:0 --for 1s -- sleep 300
over; same "the time is over: the command is ended" 143 "$CODE"

# ---- dev servers
mkdir vite && printf '<!doctype html><title>vite</title><h1>a vite page</h1>' >vite/index.html
MARK=vite$$ runs vite -- "$TOOLS/node_modules/.bin/vite" vite
if until_true 20 grep -q 'is on the network now' vite.err; then ok "Vite is found on the port of its choice"; else bad "Vite is found" "$(tail -5 vite.err)"; fi
until_true 10 grep -q 'does not want to be called' vite.err
logged "and that it refuses our name, with the option that opens it" "Vite does not want to be called run.home.arpa:[0-9]+: .*allowedHosts: \['run.home.arpa'\]" vite.err
same "which it does" 403 "$(status /)"
kill "$PID"
over
nothing_left "Vite is gone" "vite$$"
runs vite2 --host-header upstream -- "$TOOLS/node_modules/.bin/vite" vite --port '{port}'
if until_true 20 says / "a vite page"; then ok "Vite, by its own name"; else bad "Vite, by its own name" "$(tail -5 vite2.err)"; fi
kill "$PID"; over
runs vite3 --host-header auto -- "$TOOLS/node_modules/.bin/vite" vite
if until_true 20 says / "a vite page"; then ok "which is found out when asked"; else bad "which is found out when asked" "$(tail -5 vite3.err)"; fi
kill "$PID"; over
MARK=vhost$$ start vhost "$GATE" run -l 127.0.0.1:0 -- "$TOOLS/node_modules/.bin/vite" vite --host
over; same "vite --host is refused" 4 "$CODE"
logged "with the repair" '--host 127\.0\.0\.1' vhost.err
nothing_left "and gone" "vhost$$"

"$TOOLS/venv/bin/django-admin" startproject dj "$WORK" >/dev/null
sed -i "s/ALLOWED_HOSTS = .*/ALLOWED_HOSTS = ['run.home.arpa']/" dj/settings.py
printf 'from django.http import HttpResponse\nfrom django.urls import path\nurlpatterns = [path("", lambda r: HttpResponse("edition 1 for " + r.get_host()))]\n' >dj/urls.py
MARK=dj$$ runs django -- "$TOOLS/venv/bin/python" -u manage.py runserver '{host}:{port}'
if until_true 20 says / "edition 1 for run.home.arpa:$PORT"; then ok "Django"; else bad "Django" "$(tail -5 django.err)"; fi
sed -i 's/edition 1/edition 2/' dj/urls.py
if until_true 20 says / "edition 2"; then ok "Django after its reload"; else bad "Django after its reload" "$(tail -5 django.err)"; fi
kill "$PID"; over
nothing_left "Django and its reloader are gone" "dj$$"

# ---- a service that is not there
nowhere=$(free_port)
start six python3 -u -m http.server --bind ::1 -d site "$nowhere"
until_true 10 curl -sf -o /dev/null "http://[::1]:$nowhere/" || bad "no server on ::1"
gate absent expose "127.0.0.1:$nowhere" -l 127.0.0.1:0 --name run.home.arpa
# A visitor waits only a moment for the hint: where the machine is busy, the next one hears it.
took=
names_it() {
    local began
    began=$(date +%s%N)
    page=$(fetch / -H 'Accept: text/html')
    took=${took:-$((($(date +%s%N) - began) / 1000000))}
    grep -q "Nothing answers on" <<<"$page"
}
until_true 20 names_it
has "the page says what was dialled and what listens instead" "Nothing answers on 127.0.0.1:$nowhere, but [^ ]+ listens on \[::1\]:$nowhere" "$page"
has "and asks again by itself" 'http-equiv="refresh"' "$page"
# What a login alone takes on this machine now, by a page of ours.
began=$(date +%s%N)
fetch /.loopgate/ >/dev/null
at_most "in milliseconds, TLS and password included" $((2000 + 5 * ($(date +%s%N) - began) / 1000000)) "$took"
until_true 20 says / "Nothing answers on"
has "a program reads the same" 'Nothing answers on .*request id' "$(fetch /)"
lacks "who is not logged in does not" 'python3' "$(PASSWORD=wrong fetch / -H 'Accept: text/html')"
start back python3 -u -m http.server --bind 127.0.0.1 -d site "$nowhere"
if until_true 5 says / "hello from the site"; then ok "and it is served when it is back"; else bad "and it is served when it is back"; fi
# The same server refuses names that it does not know.
start picky python3 -u "$here/picky.py" "$pages"
until_true 10 curl -s -o /dev/null "http://127.0.0.1:$pages/" || bad "no picky server"
gate named expose "127.0.0.1:$pages" -l 127.0.0.1:0 --name run.home.arpa
until_true 10 grep -q 'does not want to be called' named.err
logged "expose says which option opens a service that refuses our name" 'webpack-dev-server does not want to be called run.home.arpa' named.err
same "which it does" 403 "$(status /)"
gate auto expose "127.0.0.1:$pages" -l 127.0.0.1:0 --name run.home.arpa --host-header auto
same "and opens it when asked" 200 "$(status /)"
# Services that are started after the gate: found where they really listen, and asked about their name then.
for way in keep:127.0.0.1 auto:127.0.0.1 auto:::1; do
    IFS=: read -r mode address <<<"$way"
    late=$(free_port) name=late-$mode-${address//:/}
    gate "$name" expose "localhost:$late" -l 127.0.0.1:0 --name run.home.arpa --host-header "$mode"
    same "$way, before it is there" 502 "$(status /)"
    start "$name-service" python3 -u "$here/picky.py" "$late" "$address"
    until_true 20 grep -q 'does not want to be called' "$name.err" || bad "$way: it was asked" "$(cat "$name.err")"
    if [ "$mode" = keep ]; then
        logged "$way, started later: its name is told, with the option" "does not want to be called run.home.arpa:.*allowedHosts: \['run.home.arpa'\].*--host-header upstream" "$name.err"
        same "$way: and it refuses" 403 "$(status /)"
    else
        logged "$way, started later: it is called localhost" 'called localhost from now on' "$name.err"
        if until_true 5 answers /; then ok "$way: and it is served"; else bad "$way: and it is served" "$(status /)"; fi
    fi
done
late=$(free_port)
gate late-open expose "127.0.0.1:$late" -l 127.0.0.1:0 --name run.home.arpa
start late-open-service python3 -u -m http.server --bind 0.0.0.0 -d site "$late"
is_told() { [ "$(status /)" = 503 ]; }
if until_true 20 is_told; then ok "one that opens to everybody when it comes later is refused"; else bad "one that opens to everybody later is refused" "$(status /)"; fi

# ---- a terminal
tm() { tmux -L "lg$$" "$@"; }
screen() { tm capture-pane -p -t t -S -200; }
shows() { screen | grep -qE -- "$1"; }
tm new-session -d -s t -x 100 -y 50 'bash --norc' && tm set-option -g remain-on-exit on
tm send-keys -t t "PS1='READY '; clear" Enter
until_true 5 shows '^READY' || bad "no shell in the terminal"
tm send-keys -t t "$GATE run -l 127.0.0.1:0 -- bash -c 'test -t 0 && test -t 1 && echo a-terminal; read -p \"name? \" n; echo \"hi \$n\"; trap \"echo got-int\" INT; sleep 60; echo after; exit 5'" Enter
if until_true 10 shows '^name\?'; then ok "it has the terminal"; else bad "it has the terminal" "$(screen)"; fi
tm send-keys -t t "anna" Enter
if until_true 10 shows '^(name\? )?hi anna'; then ok "and can read it"; else bad "and can read it" "$(screen)"; fi
tm send-keys -t t C-c
if until_true 10 shows '^after'; then ok "Ctrl-C is its own affair"; else bad "Ctrl-C is its own affair" "$(screen)"; fi
tm send-keys -t t "echo code \$?" Enter
if until_true 10 shows '^code 5'; then ok "the shell has the terminal back"; else bad "the shell has the terminal back" "$(screen)"; fi
tm send-keys -t t "clear; $GATE run -l 127.0.0.1:0 -- bash -c 'echo begin; sleep 2; echo goes-on; read x; echo \"read \$x\"'" Enter
until_true 10 shows '^begin' || bad "it does not begin"
tm send-keys -t t C-z
if until_true 10 shows 'Stopped'; then ok "Ctrl-Z stops it all, and the shell is there"; else bad "Ctrl-Z" "$(screen)"; fi
tm send-keys -t t "fg" Enter
if until_true 10 shows '^goes-on'; then ok "fg goes on"; else bad "fg goes on" "$(screen)"; fi
tm send-keys -t t "more" Enter
if until_true 10 shows '^read more'; then ok "with the terminal"; else bad "with the terminal" "$(screen)"; fi
tm send-keys -t t "clear; $GATE run -l 127.0.0.1:0 -- bash -c 'stty -echo -icanon; kill -9 \$\$'; stty -a | tr ' ' '\n' | grep -xE -- '-?(echo|icanon);?' | xargs echo modes" Enter
if until_true 10 shows '^modes icanon echo|^modes echo icanon'; then ok "its modes are put right"; else bad "its modes are put right" "$(screen)"; fi
tm send-keys -t t "clear; $GATE run -l 127.0.0.1:0 -- bash -c 'read -p \"who? \" n; echo \"hello \$n\"' | cat" Enter
until_true 10 shows '^who\?'
tm send-keys -t t "otto" Enter
if until_true 10 shows '^(who\? )?hello otto'; then ok "in a pipeline it gets the terminal when it reads"; else bad "in a pipeline" "$(screen)"; fi
exit 0

# shellcheck shell=bash
# Real applications behind recipes: in a network and a list of names of our own, so that every recipe runs as it is written, on the
# ports that it names. Sourced after checks.sh and `limited`, by a script that called `own_network` before.

# Goes on in a network of its own, with only loopback, and names that lead to it.
own_network() {
    [ -n "${OWN_NETWORK:-}" ] && return
    packages ip:iproute2 nft:nftables
    local user=()
    [ "$(id -u)" -eq 0 ] || user=(-r)
    OWN_NETWORK=1 exec unshare "${user[@]}" --net --mount "$0" "$@"
}

# `names NAME…`: these lead to 127.0.0.1, here and for every program started from here.
names() {
    ip link set lo up || exit 1
    { echo "127.0.0.1 localhost"; printf '127.0.0.1 %s\n' "$(hostname)" "$@"; } >"$WORK/hosts"
    mount --bind "$WORK/hosts" /etc/hosts || exit 1
    nft add table inet apps && nft add chain inet apps out '{ type filter hook output priority 0; }' || exit 1
}

# `listens PORT`: waits for it.
listens() { until_true "${2:-30}" bash -c "</dev/tcp/127.0.0.1/$1" || { bad "something listens on $1" "$(tail -n 20 "$WORK"/*.err)"; exit 1; }; }

# `recipe NAME`: runs the recipe, in a directory of its own with the users anna and ben and a token; sets PID and TOKEN.
recipe() {
    mkdir -p "$WORK/$1.d"
    cp "$ROOT/config/recipes/$1.toml" "$WORK/$1.d/loopgate.toml"
    behind "$1"
}

# `site NAME HOST UPSTREAM [LINES]`: the same for a file that is no recipe; LINES are tables before those of the route.
site() {
    mkdir -p "$WORK/$1.d"
    printf '%s\n' "${4:-}" >"$WORK/$1.d/loopgate.toml"
    printf '[[listener]]\naddress = "0.0.0.0:8443"\nnetworks = { allow = ["loopback"] }\n[auth]\nusers_file = "users.htpasswd"\ntokens_file = "tokens.toml"\n[[route]]\nhosts = ["%s"]\nupstream = "%s"\n' "$2" "$3" >>"$WORK/$1.d/loopgate.toml"
    behind "$1"
}

PASSWORD=correct-horse-battery-9
behind() {
    local file=$WORK/$1.d/loopgate.toml user
    for user in anna ben; do
        "$GATE" -q user add "$user" -c "$file" <<<"$PASSWORD" || exit 1
    done
    TOKEN=
    if grep -q '^tokens_file' "$file"; then TOKEN=$("$GATE" -q token add --name robot -c "$file" 2>/dev/null); fi
    # What is sent to the application is counted by the kernel, whatever our own log says.
    UPSTREAM=$(sed -nE 's/^upstream = "[^"]*:([0-9]+)"/\1/p' "$file" | head -n 1)
    HOST=$(sed -nE 's/^hosts = \["([^"]*)"\]/\1/p' "$file" | head -n 1)
    counted "$UPSTREAM"
    rm -f "$STATE_DIRECTORY"/lockouts-*
    serving "$1.gate" "$file"
    SITE=https://$HOST:$PORT
    nobody "$1"
}

# `counted PORT`: from now on the kernel counts what is sent to this port.
counted() {
    nft add counter inet apps "to$1" 2>/dev/null &&
        nft add rule inet apps out tcp dport "$1" tcp flags '& psh == psh' counter name "to$1" || { echo "no counter for $1" >&2; exit 1; }
}
sent() { nft list counter inet apps "to$1" | awk '/packets/ {print $2}'; }

# `nobody NAME [PATH]`: who brings no credentials, or wrong ones, is refused, and nothing was sent to the application.
nobody() {
    local before after codes=""
    before=$(sent "$UPSTREAM")
    ask() { codes+=$(curl -sS -m 10 --cacert "$WORK/ca.pem" -o /dev/null -w '%{http_code} ' "$@"); }
    ask "$SITE${2:-/}"
    ask -u anna:wrong "$SITE${2:-/}"
    ask -d x "$SITE${2:-/}"
    ask -X DELETE "$SITE${2:-/}"
    ask --http1.1 -H 'Upgrade: websocket' -H 'Connection: Upgrade' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' "$SITE${2:-/}"
    ask -b "__Host-loopgate-$PORT=wrong" "$SITE${2:-/}"
    ask -H 'Loopgate-Token: wrong' "$SITE${2:-/}"
    after=$(sent "$UPSTREAM")
    same "$1: without credentials nothing reached the application" "401 401 401 401 401 401 401 $before" "$codes$after"
}

# Ends what was started last, so that its port is free again.
stop() {
    local pid
    for pid in "$@"; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
}

# curl as anna.
as_anna() { curl -sS -m 30 --cacert "$WORK/ca.pem" -u "anna:$PASSWORD" "$@"; }
code() { as_anna -o /dev/null -w '%{http_code}' "$@"; }

# ---- with a browser: apps.mjs and homelab.mjs of tests/browser

# A home of its own, whose trust store holds our authority alone. One of the two places is read, by version.
browser_home() {
    export HOME=$WORK/home XDG_DATA_HOME=$WORK/home/.local/share XDG_CONFIG_HOME=$WORK/home/.config WORK
    local store
    for store in "$HOME/.pki/nssdb" "$XDG_DATA_HOME/pki/nssdb"; do
        mkdir -p "$store"
        certutil -d "sql:$store" -N --empty-password
        certutil -d "sql:$store" -A -t C,, -n loopgate -i "$WORK/ca.pem" || exit 1
    done
}

# `browse NAME [SCRIPT]`: the browser's part, as anna or as the user of `exposed`.
browse() {
    SITE=$SITE VISITOR=${VISITOR:-anna} VISITOR_PASSWORD=$PASSWORD timeout 400 node "$ROOT/tests/browser/${2:-apps.mjs}" "$1" >browser.txt 2>browser.err </dev/null
    local ended=$?
    cat browser.txt
    passed=$((passed + $(grep -c '^ok ' browser.txt)))
    failed=$((failed + $(grep -c '^FAIL ' browser.txt)))
    [ "$ended" -eq 0 ] || bad "$1: the browser script ended with $ended" "$(tail -n 5 browser.err)"
}

# `exposed NAME PORT [OPTIONS]`: by `loopgate expose` alone; sets PID, SITE, UPSTREAM, VISITOR and PASSWORD.
exposed() {
    local name=$1 host=$1.home.arpa
    UPSTREAM=$2
    counted "$2"
    gate "$name.gate" expose "$2" --name "$host" "${@:3}"
    # Its own question, whether the application wants this name.
    until_true 10 asked || bad "$name: it was asked"
    SITE=https://$host:$PORT VISITOR=me
    nobody "$name"
}
asked() { [ "$(sent "$UPSTREAM")" -gt 0 ]; }
as_before() { VISITOR=anna PASSWORD=correct-horse-battery-9; }

# `fronted NAME HOST`: what `loopgate run` has started is served; sets PORT, SITE, UPSTREAM, VISITOR and PASSWORD.
fronted() {
    PORT=$(until_written "$1.err" "https://$2:([0-9]+)/") PASSWORD=$(sed -nE 's/^ *Password +([a-z-]+)$/\1/p' "$1.err")
    SITE=https://$2:$PORT VISITOR=me
    until_true 60 opened || bad "$1: it is served" "$(tail -n 5 "$1.err")"
    UPSTREAM=$(sed -nE 's/.*loopgate: [^ ]*:([0-9]+) is on the network now.*/\1/p' "$1.err" | tail -n 1)
    counted "$UPSTREAM"
}
opened() { [ "$(curl -sS -m 30 --cacert "$WORK/ca.pem" -u "me:$PASSWORD" -o /dev/null -w '%{http_code}' "$SITE/")" = 200 ]; }

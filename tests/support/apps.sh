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

# `site NAME HOST UPSTREAM [LINES]`: the same for a file that is no recipe.
site() {
    mkdir -p "$WORK/$1.d"
    printf '[[listener]]\naddress = "0.0.0.0:8443"\nnetworks = { allow = ["loopback"] }\n[auth]\nusers_file = "users.htpasswd"\ntokens_file = "tokens.toml"\n[[route]]\nhosts = ["%s"]\nupstream = "%s"\n' "$2" "$3" >"$WORK/$1.d/loopgate.toml"
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

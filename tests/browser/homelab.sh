#!/usr/bin/env bash
# What people write and what they have at home, in Chromium, with nothing but `loopgate expose PORT`, and `--host-header auto` where an
# application refuses our name: Express, FastAPI, PHP, WEBrick, Radicale; qBittorrent, Flask's debugger, Syncthing, Transmission.
# `homelab.sh NAME…` runs some of them.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
source "$ROOT/tests/support/apps.sh"
here=$ROOT/tests/browser
venv=$ROOT/target/homelab
alone=$ROOT/target/unpacked
wanted=" ${*:-express fastapi php webrick radicale qbittorrent flask syncthing transmission} "

# `apart PACKAGE…`: into a directory of ours; installed, they would start a service for everybody.
apart() {
    [ "$(cat "$alone/installed" 2>/dev/null)" = "$*" ] && return
    rm -rf "$alone"
    unpacked "$alone/files" "$@" || { echo "cannot get $*" >&2; exit 1; }
    echo "$*" >"$alone/installed"
}

if [ -z "${LIMITED:-}" ]; then
    if [ -z "${OWN_NETWORK:-}" ]; then
        packages chromium:chromium certutil:libnss3-tools node:nodejs npm:npm openssl:openssl python3:python3 curl:curl php:php-cli ruby:ruby \
            syncthing:syncthing qbittorrent-nox:qbittorrent-nox radicale:radicale
        ruby -e 'require "webrick"' 2>/dev/null || packages no-such-command:ruby-webrick
        apart transmission-daemon transmission-common libevent-2.1-7 libminiupnpc17 libnatpmp1
        node_modules "$here"
        node_modules "$here/apps"
        python_packages "$venv" flask==3.1.3 fastapi==0.165.0 fastapi-offline==1.7.7 uvicorn==0.54.0 websockets==17.4
        binary
        export GATE
    fi
    own_network "$@"
fi
limited 300 "$0" "$@"
cd "$WORK" || exit 1
names {express,fastapi,php,webrick,radicale,qbittorrent,flask,syncthing,transmission}.home.arpa
authority
browser_home
# `part NAME`: whether it is wanted.
part() { [[ $wanted == *" $1 "* ]]; }
# `refuses NAME PORT PATTERN`: with nothing but `expose`, the application that refuses our name is told, with what opens it.
refuses() {
    gate "$1.keep" expose "$2" --name "$1.home.arpa"
    until_true 20 grep -q 'host-header upstream' "$1.keep.err"
    has "$1: it is said that it refuses our name, and what opens it" "$3.*--host-header upstream" "$(cat "$1.keep.err")"
    stop "$PID"
}
# `opened_up NAME PORT`: with `--host-header auto` it works.
opened_up() {
    exposed "$1" "$2" --host-header auto
    has "$1: that is found out when asked" 'it is called localhost' "$(cat "$1.gate.err")"
}

if part express; then
    start express node "$here/apps/express.cjs" 3000
    app=$PID
    listens 3000
    exposed express 3000
    browse express homelab.mjs
    stop "$PID" "$app"
fi

if part fastapi; then
    start fastapi "$venv/bin/uvicorn" --app-dir "$here/apps" fastapi_page:app --host 127.0.0.1 --port 8000
    app=$PID
    listens 8000
    exposed fastapi 8000
    browse fastapi homelab.mjs
    stop "$PID" "$app"
fi

if part php; then
    start php php -S 127.0.0.1:8001 -t "$here/apps/php"
    app=$PID
    listens 8001
    exposed php 8001
    browse php homelab.mjs
    stop "$PID" "$app"
fi

if part webrick; then
    mkdir -p webrick/folder && echo '<!doctype html><title>folder</title><link rel="icon" href="data:,"><h1>in the folder</h1>' >webrick/folder/index.html
    start webrick ruby -run -e httpd "$WORK/webrick" -p 8002 -b 127.0.0.1
    app=$PID
    listens 8002
    exposed webrick 8002
    ALLOWED='favicon' browse webrick homelab.mjs
    stop "$PID" "$app"
fi

if part radicale; then
    start radicale radicale --config "" --server-hosts 127.0.0.1:5232 --auth-type none --storage-filesystem-folder "$WORK/collections"
    app=$PID
    listens 5232
    exposed radicale 5232
    browse radicale homelab.mjs
    stop "$PID" "$app"
fi

if part qbittorrent; then
    mkdir -p torrents/qBittorrent/config
    printf '[LegalNotice]\nAccepted=true\n[Preferences]\nWebUI\\Address=127.0.0.1\nWebUI\\Port=8088\n' >torrents/qBittorrent/config/qBittorrent.conf
    start qbittorrent qbittorrent-nox --profile="$WORK/torrents"
    app=$PID
    listens 8088
    # It wants its own port in `Host`, and then everything else of that name too.
    refuses qbittorrent 8088 "the service does not want to be called qbittorrent"
    opened_up qbittorrent 8088
    browse qbittorrent homelab.mjs
    stop "$PID" "$app"
fi

if part flask; then
    start flask "$venv/bin/flask" --app "$here/apps/broken.py" run --debug --host 127.0.0.1 --port 5000
    app=$PID
    listens 5000
    refuses flask 5000 "Flask's debugger"
    opened_up flask 5000
    PIN=$(sed -nE 's/.*Debugger PIN: ([0-9-]+).*/\1/p' flask.err | head -n 1) ALLOWED='status of 500|favicon' browse flask homelab.mjs
    stop "$PID" "$app"
fi

if part syncthing; then
    start syncthing env STNOUPGRADE=1 syncthing serve --no-browser --no-restart --home="$WORK/syncthing" --gui-address=127.0.0.1:8384
    app=$PID
    listens 8384
    refuses syncthing 8384 Syncthing
    opened_up syncthing 8384
    # It has no way to upgrade itself here, and says so.
    ALLOWED='503 .*/rest/system/upgrade' browse syncthing homelab.mjs
    stop "$PID" "$app"
fi

if part transmission; then
    mkdir transmission
    start transmission env LD_LIBRARY_PATH="$(echo "$alone"/files/usr/lib/*-linux-gnu)" TRANSMISSION_WEB_HOME="$alone/files/usr/share/transmission/web" \
        "$alone/files/usr/bin/transmission-daemon" -f -g "$WORK/transmission" -p 9091 -r 127.0.0.1 -w "$WORK/transmission"
    app=$PID
    listens 9091
    refuses transmission 9091 Transmission
    opened_up transmission 9091
    browse transmission homelab.mjs
    stop "$PID" "$app"
fi
exit 0

# shellcheck shell=bash
# What the checks with real programs share: a work directory, processes that are ended by the id they were started with,
# a count of what passed. Sourced, after `set -u`; `finish` is the last line of every script.

# A name in the environment that could change what a check finds.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy LOOPGATE_CONFIG
export LC_ALL=C

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
passed=0 failed=0
started=()

# `patiently COMMAND…`: up to four times, a while apart. Registries and mirrors have bad moments, which say nothing about us.
patiently() {
    local _pause
    for _pause in 5 20 60; do
        "$@" && return
        echo "again in $_pause s: $*" >&2
        sleep "$_pause"
    done
    "$@"
}

# Installs what is missing: `packages COMMAND:PACKAGE…`.
packages() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "installing ${missing[*]}"
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    packages_installed() {
        "${sudo[@]}" apt-get update -qq >/dev/null &&
            DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    }
    patiently packages_installed || { echo "cannot install ${missing[*]}" >&2; exit 1; }
}

# Downloads Debian packages and unpacks them, without installing: `unpacked DIRECTORY NAME…`.
unpacked() {
    local place=$1 file
    shift
    packages_downloaded() { (cd "$place" && { apt-get download -qq "$@" || { apt-get update -qq && apt-get download -qq "$@"; }; }) >/dev/null 2>&1; }
    mkdir -p "$place" && patiently packages_downloaded "$@" || return
    for file in "$place"/*.deb; do dpkg-deb -x "$file" "$place" || return; done
}

# Installs the npm packages of a directory, as its lock file names them.
node_modules() {
    [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] && return
    patiently env -C "$1" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || { echo "npm ci failed in $1" >&2; exit 1; }
}

# Installs Python packages into an environment of its own: `python_packages DIRECTORY NAME==VERSION…`.
python_packages() {
    local place=$1
    shift
    [ "$(cat "$place/installed" 2>/dev/null)" = "$*" ] && return
    python3 -c 'import ensurepip' 2>/dev/null || packages no-such-command:python3-venv
    rm -rf "$place"
    python3 -m venv "$place" && patiently "$place/bin/pip" install --quiet --disable-pip-version-check "$@" ||
        { echo "cannot install $*" >&2; exit 1; }
    echo "$*" >"$place/installed"
}

# Finds the program, or builds it.
binary() {
    GATE=${LOOPGATE_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/loopgate}
    [ -n "${LOOPGATE_BIN:-}" ] || (cd "$ROOT" && cargo build --locked --quiet) || exit 1
}

# Runs the rest of the script under a time limit: `limited SECONDS "$0" "$@"`. Installing is done before and does not count. The seconds
# are those of a machine with nothing else to do; one that is busy has three times as many.
limited() {
    local seconds=$1
    shift
    [ -n "${LIMITED:-}" ] || LIMITED=1 exec timeout -k 10 $((3 * seconds)) "$@"
    WORK=$(mktemp -d)
    export STATE_DIRECTORY=$WORK/state
    mkdir -m 700 "$STATE_DIRECTORY"
    trap 'ended $?' EXIT
    trap 'echo "out of time or interrupted" >&2; failed=$((failed + 1)); exit 1' TERM INT
}

ended() {
    # A child that is ended before it has become its program still has the traps of this script.
    [ "$BASHPID" = "$$" ] || exit "$1"
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null; done
    # A second, then by force: nothing outlives the checks.
    local n=0
    while [ $n -lt 20 ] && running; do sleep 0.1; n=$((n + 1)); done
    for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null; done
    declare -F tidy >/dev/null && tidy
    if [ "$failed" -gt 0 ] && [ -n "${KEEP:-}" ]; then
        echo "kept: $WORK"
    else
        rm -rf "$WORK"
    fi
    echo "$passed passed, $failed failed"
    [ "$1" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] || exit 1
}

# A check with a function of this name would leave all that it has started behind.
readonly -f ended

running() {
    local pid
    for pid in "${started[@]}"; do kill -0 "$pid" 2>/dev/null && return 0; done
    return 1
}

ok() { passed=$((passed + 1)); echo "ok    $1"; }
bad() {
    failed=$((failed + 1))
    echo "FAIL  $1"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | head -c 2000 | sed 's/^/      /'
}

# `same NAME WANTED GOT`
same() { if [ "$2" = "$3" ]; then ok "$1"; else bad "$1" "wanted: $2
got:    $3"; fi; }
# `has NAME PATTERN TEXT`: an extended regular expression, matched in one line.
has() { if grep -qE -- "$2" <<<"$3"; then ok "$1"; else bad "$1" "wanted: $2
got:    $3"; fi; }
# `logged NAME PATTERN FILE`: the same of a file, waited for: lines are written by another thread, and after what they tell of.
logged() { until_true 10 grep -qE -- "$2" "$3"; has "$1" "$2" "$(cat "$3")"; }
# `lacks NAME PATTERN TEXT`
lacks() { if grep -qE -- "$2" <<<"$3"; then bad "$1" "not wanted: $2
got:        $3"; else ok "$1"; fi; }
# `at_most NAME LIMIT NUMBER`
at_most() { if [ "$3" -le "$2" ]; then ok "$1 ($3)"; else bad "$1" "at most $2, got $3"; fi; }

# `start NAME COMMAND…`: in the background, output in $WORK/NAME.out and .err, its id in $PID. The command is a program and
# no function: the id would be that of a shell, and the program would outlive it.
start() {
    local name=$1
    shift
    # Before it begins: whoever looks at once must not see what another one of this name has said.
    : >"$WORK/$name.out" 2>"$WORK/$name.err"
    "$@" >"$WORK/$name.out" 2>"$WORK/$name.err" </dev/null &
    PID=$!
    started+=("$PID")
}

# `until_true SECONDS COMMAND…`: looks again and again, for so many seconds. They are those of a machine with nothing else to do: on
# one that comes to few looks in that time, up to four times as many. Its names are its own: what it calls sees them.
until_true() {
    local _end=$((SECONDS + $1)) _last=$((SECONDS + 4 * $1)) _most=$((8 * $1)) _looks=0
    shift
    until "$@" >/dev/null 2>&1; do
        _looks=$((_looks + 1))
        [ $SECONDS -lt "$_end" ] || { [ $_looks -lt $_most ] && [ $SECONDS -lt "$_last" ]; } || return 1
        sleep 0.05
    done
}

# `until_written FILE PATTERN`: waits for a line, and prints what the pattern's first group matched.
until_written() {
    until_true 20 grep -qE -- "$2" "$1" || { echo "no line $2 in $1" >&2; tail -5 "$1" >&2; return 1; }
    sed -nE "s#.*$2.*#\\1#p" "$1" | head -1
}

# `gate NAME ARGUMENTS…`: starts loopgate with a banner; sets PID, PORT and PASSWORD.
gate() {
    local name=$1
    shift
    start "$name" "$GATE" "$@"
    PORT=$(until_written "$WORK/$name.out" 'https://[^ ]*:([0-9]+)/') || { cat "$WORK/$name.err" >&2; exit 1; }
    PASSWORD=$(sed -nE 's/^ *Password +([a-z-]+)$/\1/p' "$WORK/$name.out")
}

# `serving NAME FILE`: starts `loopgate serve`; sets PID and PORT (of the first address).
serving() {
    start "$1" "$GATE" serve -c "$2"
    PORT=$(until_written "$WORK/$1.err" 'serving.*addresses"?[=:]"?[^ ]*:([0-9]+)') || { cat "$WORK/$1.err" >&2; exit 1; }
}

# A port that nobody uses now, and that this script has not been given before. It is none of those that clients get: one of them could
# have it before us. Nor is it 10080, which browsers refuse.
free_port() {
    python3 - "${WORK:-}" <<'PY'
import os, random, socket, sys
given = os.path.join(sys.argv[1], "ports-given") if sys.argv[1] else os.devnull
with open(given, "a+") as file:
    file.seek(0)
    taken = set(file.read().split())
    lowest = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
    for port in random.sample(range(11000, max(lowest, 20000)), 1000):
        if str(port) in taken: continue
        try:
            for address in "0.0.0.0", "127.0.0.1":
                with socket.socket() as s: s.bind((address, port))
            with socket.socket(socket.AF_INET6) as s:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind(("::", port))
        except OSError as error:
            if error.errno == 98: continue # in use; without IPv6 it is another one
        print(port, file=file)
        print(port)
        break
PY
}

# The memory of a process in KiB: now, and at its most since `peak_reset`.
rss() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
peak() { awk '/^VmHWM/ {print $2}' "/proc/$1/status"; }
peak_reset() { echo 5 >"/proc/$1/clear_refs"; }

# The local authority of this state directory in three files: ca.pem (what devices trust), signer.pem and signer.key.
authority() {
    "$GATE" -q ca export -o "$WORK/ca.pem" || exit 1
    local all=$STATE_DIRECTORY/ca/local-ca.pem
    openssl pkey -in "$all" -out "$WORK/signer.key"
    awk '/BEGIN CERT/ {n++} n == 2 && /BEGIN CERT/,/END CERT/' "$all" >"$WORK/signer.pem"
}

# `leaf FILE SAN`: a certificate signed by the local authority's own key, whatever its constraints say.
leaf() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/$1.key" -subj "/CN=leaf" -out "$WORK/$1.csr" 2>/dev/null
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nauthorityKeyIdentifier=keyid\n' "$2" >"$WORK/$1.ext"
    openssl x509 -req -in "$WORK/$1.csr" -CA "$WORK/signer.pem" -CAkey "$WORK/signer.key" -days 30 -extfile "$WORK/$1.ext" -set_serial "0x$(openssl rand -hex 16)" -out "$WORK/$1.leaf.pem" 2>/dev/null
    cat "$WORK/$1.leaf.pem" "$WORK/signer.pem" >"$WORK/$1.pem"
    chmod 600 "$WORK/$1.key"
}

#!/usr/bin/env bash
# The package in a copy of this machine's root that is thrown away, with a systemd of its own: installed, started, reloaded, hung,
# restarted by its socket, installed again, removed and purged. `deb.sh [FILE]`; without a file one is made of the debug build.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    [ "$(id -u)" -eq 0 ] || { echo "needs root: namespaces and chroot" >&2; exit 1; }
    packages curl:curl python3:python3 unshare:util-linux dpkg:dpkg systemctl:systemd ip:iproute2
    [ -x /lib/systemd/systemd ] || packages no-such-command:systemd
    export FILE=${1:-}
    if [ -z "$FILE" ]; then
        binary
        tools=$ROOT/target/cargo-deb
        [ -x "$tools/bin/cargo-deb" ] || patiently cargo install --quiet --debug --locked --root "$tools" --target-dir "$tools/build" cargo-deb --version 3.8.0 || exit 1
        rm -rf "$tools/build"
        # A build for release would take minutes, and the package would be the same but for the program.
        made=$tools/made
        rm -rf "$made" && mkdir -p "$made/release" && cp "$GATE" "$made/release/loopgate" || exit 1
        FILE=$made/loopgate.deb
        (cd "$ROOT" && CARGO_TARGET_DIR=$made "$tools/bin/cargo-deb" deb --quiet --no-build --fast -o "$FILE") || exit 1
    fi
fi
limited 180 unshare --mount -- "$0" "$@"

mount -t tmpfs tmpfs "$WORK"
R=$WORK/root
mkdir "$WORK/up" "$WORK/work" "$R"
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/up,workdir=$WORK/work" "$R" || exit 1
cp "$FILE" "$R/loopgate.deb"
# A container says here that nothing is to be started; and whatever this machine has of loopgate is another one.
rm -rf "$R/usr/sbin/policy-rc.d" "$R/var/lib/loopgate" "$R/etc/loopgate"
cat >"$R/etc/systemd/system/test.target" <<'UNIT'
[Unit]
DefaultDependencies=no
UNIT
# What a container manager does, and then systemd as its first process.
cat >"$WORK/boot.sh" <<'BOOT'
R=$1
mount --make-rprivate /
mount -t proc proc "$R/proc" && mount -t sysfs sysfs "$R/sys"
groups=$R/sys/fs/cgroup
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$groups"
else
    mount -t tmpfs tmpfs "$groups" && mkdir "$groups/systemd" "$groups/unified"
    mount -t cgroup -o none,name=systemd cgroup "$groups/systemd" && mount -t cgroup2 cgroup2 "$groups/unified"
fi
for dir in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$R/$dir"; done
for device in null zero full random urandom tty; do touch "$R/dev/$device" && mount --bind "/dev/$device" "$R/dev/$device"; done
mkdir "$R/dev/pts" "$R/dev/shm" && mount -t devpts -o newinstance,ptmxmode=0666 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
ip link set lo up
# The root itself, no chroot: systemd makes further namespaces for what it starts.
cd "$R" && mkdir -p old && pivot_root . old && cd / && umount -l /old && rmdir old
# Mounts for credentials are made in one namespace and seen in others.
mount --make-rshared /
exec env -i container=loopgate PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=test.target --log-target=console --show-status=no
BOOT
# Its control groups are below one of ours, in every hierarchy that lets us, so that nothing is left behind.
cat >"$WORK/fenced.sh" <<'FENCED'
while IFS=: read -r _ names path; do
    case $names in '') at=unified ;; name=*) at=${names#name=} ;; *) at=$names ;; esac
    [ -f /sys/fs/cgroup/cgroup.controllers ] && at=.
    fence=/sys/fs/cgroup/$at$path/loopgate-deb
    mkdir "$fence" || continue
    if echo $$ >"$fence/cgroup.procs"; then echo "$fence"; else rmdir "$fence"; fi
done </proc/self/cgroup >"$1" 2>/dev/null
shift
exec "$@"
FENCED
start boot bash "$WORK/fenced.sh" "$WORK/fences" unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup bash "$WORK/boot.sh" "$R"
first() { pgrep -P "${started[0]}" | head -1; }
inside() { nsenter -t "$(first)" --all --root --wd env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" 2>&1; }
tidy() {
    # systemd and all that it has started end with the first process of their namespace.
    until_true 5 bash -c "! kill -0 ${started[0]} 2>/dev/null"
    sleep 0.5
    umount -l "$R"
    umount -l "$WORK"
    local fence
    while read -r fence; do find "$fence" -depth -type d -exec rmdir {} \; ; done <<<"$fences" 2>/dev/null
}
is_up() { [ "$(inside systemctl is-system-running)" = running ]; }
until_true 30 is_up
fences=$(cat "$WORK/fences")
same "systemd is up" 0 $?

echo "== installed"
out=$(inside dpkg -i /loopgate.deb)
has "it installs" '^Setting up loopgate' "$out"
lacks "without a complaint" 'rror|arning' "$out"
has "the program runs" '^loopgate [0-9]' "$(inside loopgate --version)"
same "systemd accepts its units" "" "$(inside systemd-analyze verify --man=no /usr/lib/systemd/system/loopgate.service /usr/lib/systemd/system/loopgate.socket)"
same "nothing is started or enabled: there is no configuration yet" "inactive disabled disabled" "$(inside systemctl is-active loopgate) $(inside systemctl is-enabled loopgate.service) $(inside systemctl is-enabled loopgate.socket)"

mkdir -p "$R/etc/loopgate" "$R/etc/systemd/system/loopgate.service.d" "$R/srv/www"
echo hello >"$R/srv/www/index.html"
echo "alice:$(inside sh -c 'echo "open sesame" | loopgate hash-password')" >"$R/etc/loopgate/users.htpasswd"
chmod 600 "$R/etc/loopgate/users.htpasswd"
cat >"$R/etc/loopgate/loopgate.toml" <<'TOML'
[[listener]]
address = "127.0.0.1:443"
networks = { allow = ["loopback"] }
[auth]
users_file = "/run/credentials/loopgate.service/users"
[[route]]
hosts = ["app.lan"]
upstream = "127.0.0.1:3000"
TOML
cat >"$R/etc/systemd/system/loopgate.service.d/test.conf" <<'UNIT'
[Service]
LoadCredential=users:/etc/loopgate/users.htpasswd
WatchdogSec=6
StandardOutput=append:/gate.out
StandardError=append:/gate.err
UNIT
python=$(command -v python3)
inside systemctl daemon-reload
inside systemd-run --quiet --unit=app "$python" -m http.server --bind 127.0.0.1 --directory /srv/www 3000
page() { inside curl -sk --max-time 10 -u 'alice:open sesame' --resolve app.lan:443:127.0.0.1 https://app.lan/; }
shown() { inside systemctl show -p "$1" --value loopgate; }
until_true 10 inside curl -s -o /dev/null http://127.0.0.1:3000/

echo "== started, under everything that the unit forbids"
inside systemctl start loopgate
same "it starts" 0 $?
same "on a low port, with users out of a credential" hello "$(page)"
has "and says where" '^serving 127.0.0.1:443$' "$(shown StatusText)"
pid=$(shown MainPID)
status() { inside cat "/proc/$pid/status" | awk -v name="$1:" '$1 == name {print $2}'; }
same "by a user of its own, without capabilities, behind a filter of system calls" "yes 0000000000000000 1 2" "$([ "$(status Uid)" -gt 60000 ] && echo yes) $(status CapEff) $(status NoNewPrivs) $(status Seccomp)"
mounts=$(inside cat "/proc/$pid/mountinfo")
has "the root is read-only for it" ' / / ro' "$mounts"
has "its state is not" ' /var/lib/private/loopgate .*rw' "$mounts"
same "which nobody else may look into" "700" "$(inside stat -c %a /var/lib/private/loopgate)"
has "the owner can ask it" 'serving' "$(inside loopgate status -c /etc/loopgate/loopgate.toml)"
has "and it sees what goes around" '"around": *"none-found"' "$(inside loopgate status -c /etc/loopgate/loopgate.toml --json)"
inside systemctl reload loopgate
same "a reload" 0 $?
echo 'acces = 1' >>"$R/etc/loopgate/loopgate.toml"
out=$(inside systemctl reload loopgate)
same "one of a file with a mistake fails" 1 $?
same "and it serves, as systemd knows" "hello active" "$(page) $(shown ActiveState)"
has "with the reason" 'the last reload was rejected' "$(shown StatusText)"
sed -i '$d' "$R/etc/loopgate/loopgate.toml"
out=$(inside env RUNTIME_DIRECTORY=/run/loopgate timeout 20 loopgate serve -c /etc/loopgate/loopgate.toml --take-over)
has "a take-over from a shell is refused" 'systemctl restart' "$(tr '\n' ' ' <<<"$out")"
sleep 8
same "it lives, in the eyes of the watchdog" "$pid 0" "$(shown MainPID) $(shown NRestarts)"
inside kill -STOP "$pid"
again() { [ "$(shown NRestarts)" = 1 ] && [ "$(shown ActiveState)" = active ]; }
until_true 30 again
same "a gate that hangs is started again" "hello" "$(page)"
inside systemctl stop loopgate
same "it stops, and well" "inactive success" "$(shown ActiveState) $(shown Result)"
echo 'acces = 1' >>"$R/etc/loopgate/loopgate.toml"
inside systemctl start loopgate >/dev/null
same "with a mistake it does not start" 1 $?
sleep 3
same "and nothing is tried again and again" "failed 0 3" "$(shown ActiveState) $(shown NRestarts) $(shown ExecMainStatus)"
sed -i '$d' "$R/etc/loopgate/loopgate.toml"
# An address that somebody else has: it is tried until it is free.
inside systemd-run --quiet --unit=other "$python" -m http.server --bind 127.0.0.1 443
until_true 10 inside curl -s -o /dev/null http://127.0.0.1:443/
inside systemctl start --no-block loopgate
tried() { [ "$(shown NRestarts)" -ge 6 ]; }
until_true 40 tried
same "an address in use is tried again and again" activating "$(shown ActiveState)"
inside systemctl stop other
up() { [ "$(page)" = hello ]; }
until_true 10 up
same "until it is free" 0 $?
inside systemctl stop loopgate

echo "== by its socket"
mkdir -p "$R/etc/systemd/system/loopgate.socket.d"
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:443\n' >"$R/etc/systemd/system/loopgate.socket.d/test.conf"
inside systemctl daemon-reload
inside systemctl start loopgate.socket
same "a visitor starts it" hello "$(page)"
pid=$(shown MainPID)
inside sh -c 'for n in $(seq 60); do curl -sk --max-time 20 -u "alice:open sesame" --resolve app.lan:443:127.0.0.1 https://app.lan/ || echo failed; done' >"$WORK/asked" &
asking=$!
asked() { [ "$(wc -l <"$WORK/asked")" -ge "$1" ]; }
for n in 10 25 40; do
    until_true 60 asked $n
    inside systemctl restart loopgate
done
wait "$asking"
same "three restarts while it is asked: nobody is refused" "60 hello" "$(sort "$WORK/asked" | uniq -c | xargs)"
[ "$(shown MainPID)" != "$pid" ]
same "by another process" 0 $?

echo "== installed again, removed, purged"
pid=$(shown MainPID)
inside dpkg -i /loopgate.deb >/dev/null
same "it installs over itself" 0 $?
until_true 20 up
[ "$(shown MainPID)" != "$pid" ]
same "and runs anew" 0 $?
inside dpkg -r loopgate >/dev/null
same "it is removed" 0 $?
same "and has ended" "" "$(inside pgrep -x loopgate)"
same "nothing of it stays" "" "$(ls -d "$R"/usr/bin/loopgate "$R"/usr/lib/systemd/system/loopgate* "$R"/usr/share/doc/loopgate 2>/dev/null)"
same "but the authority and the configuration" 0 "$(test -d "$R/var/lib/private/loopgate/ca" -a -f "$R/etc/loopgate/loopgate.toml"; echo $?)"
inside dpkg -P loopgate >/dev/null
same "which a purge takes, the configuration left to whoever wrote it" "0 1 1 0" "$? $(test -e "$R/var/lib/private/loopgate"; echo $?) $(test -L "$R/var/lib/loopgate"; echo $?) $(test -f "$R/etc/loopgate/loopgate.toml"; echo $?)"
same "no panic" 0 "$(grep -c panic "$R/gate.err")"
exit 0

#!/usr/bin/env bash
# The static program alone in an empty, read-only root, as a user without rights, with the files of config/kubernetes as a pod
# would see them, in a network of its own with an application on its loopback. No image is built: that needs a registry.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    [ "$(id -u)" -eq 0 ] || { echo "needs root: namespaces and chroot" >&2; exit 1; }
    packages curl:curl python3:python3 ip:iproute2 unshare:util-linux openssl:openssl
    python3 -c 'import yaml' 2>/dev/null || packages no-such-command:python3-yaml
    export STATIC=${LOOPGATE_STATIC_BIN:-}
    if [ -z "$STATIC" ]; then
        export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}/static
        (cd "$ROOT" && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --quiet --target x86_64-unknown-linux-gnu) || exit 1
        STATIC=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/debug/loopgate
    fi
fi
limited 120 unshare --net --mount -- "$0" "$@"
GATE=$STATIC
CHROOT=$(command -v chroot)

lacks "the program needs no other file" 'INTERP|NEEDED' "$(readelf -ld "$STATIC" 2>&1)"
ip link set lo up
ip address add 10.86.0.2/24 dev lo
mkdir "$WORK/www" "$WORK/root" && echo hello >"$WORK/www/index.html"
start app python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" 3000
app=$PID
until_true 10 curl -s -o /dev/null http://127.0.0.1:3000/

R=$WORK/root
args=$(python3 "$ROOT/tests/real/manifests.py" "$ROOT/config/kubernetes" "$R" 2>&1)
same "the manifests hold what they promise" "0 serve -c /etc/loopgate/loopgate.toml" "$? $args"
# The tls secret, and a user in the other one.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=app -addext subjectAltName=IP:10.86.0.2 \
    -keyout "$R/etc/loopgate-tls/tls.key" -out "$R/etc/loopgate-tls/tls.crt" 2>/dev/null
chown 0:65532 "$R"/etc/loopgate-tls/tls.*
chmod 440 "$R"/etc/loopgate-tls/tls.*
echo "anna:$(echo correct-horse-battery | "$STATIC" hash-password)" >>"$R/etc/loopgate-users/..one/users.htpasswd"
rm -r "$R"/var/lib/loopgate/..*
cp "$STATIC" "$R/loopgate"
chmod 755 "$R" "$R/loopgate"
mkdir "$R/proc"
mount --bind "$R" "$R" && mount -t proc proc "$R/proc"
mount -t tmpfs -o uid=65532,gid=65532,mode=700 tmpfs "$R/var/lib/loopgate"
mount -o remount,ro,bind "$R"
inside() { env -i STATE_DIRECTORY=/var/lib/loopgate "$CHROOT" --userspec=65532:65532 "$R" "$@"; }
same "the root cannot be written to" 1 "$(touch "$R/file" 2>/dev/null; echo $?)"
# shellcheck disable=SC2086
start gate env -i STATE_DIRECTORY=/var/lib/loopgate "$CHROOT" --userspec=65532:65532 "$R" /loopgate $args
gate_pid=$PID
until_true 30 inside /loopgate health
same "the probe says when it is ready" 0 $?
page() { curl -s --max-time 10 --cacert "$R/etc/loopgate-tls/tls.crt" "$@" https://10.86.0.2:8443/; }
same "the application is served by the pod's address" hello "$(page -u anna:correct-horse-battery)"
same "to nobody without a name" 401 "$(page -o /dev/null -w '%{http_code}')"
same "and not around the gate" 7 "$(curl -s --max-time 5 http://10.86.0.2:3000/; echo $?)"
same "it runs as the user of the image" 65532 "$(sed -nE 's/^Uid:\s*([0-9]+).*/\1/p' "/proc/$gate_pid/status")"
same "without any right" 0000000000000000 "$(sed -nE 's/^CapPrm:\s*//p' "/proc/$gate_pid/status")"

# As a kubelet changes a map: another directory, and one link that is replaced.
mount -o remount,rw,bind "$R"
map=$R/etc/loopgate
mkdir "$map/..two"
sed 's/users_file = .*/&\nrealm = "changed"/' "$map/..one/loopgate.toml" >"$map/..two/loopgate.toml"
ln -s ..two "$map/..new" && mv -T "$map/..new" "$map/..data"
mount -o remount,ro,bind "$R"
changed() { page -i | grep -qi 'realm="changed"'; }
until_true 20 changed
same "a changed map is taken" 0 $?
kill "$app"
gone() { ! inside /loopgate health; }
until_true 20 gone
same "a service that is gone is not ready" 0 $?
inside /loopgate health --alive >/dev/null
same "and the gate is alive" 0 $?
kill "$gate_pid"
wait "$gate_pid"
same "it ends when it is told to" 0 $?
tidy() { umount -R "$R" 2>/dev/null; }

#!/usr/bin/env bash
# The package installed, started, installed again, removed and purged in a copy of this machine's root that is thrown away:
# `deb.sh FILE`, made by `cargo install cargo-deb && cargo deb`. Not in .ci/run: the build for it takes too long.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

FILE=${1:?which package? make one with cargo deb}
limited 120 unshare --mount -- "$0" "$@"

mount -t tmpfs tmpfs "$WORK"
R=$WORK/root
mkdir "$WORK/up" "$WORK/work" "$R"
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/up,workdir=$WORK/work" "$R" || exit 1
mount -t proc proc "$R/proc"
mount --bind /dev "$R/dev"
cp "$FILE" "$R/loopgate.deb"
rm -rf "$R/var/lib/loopgate"
inside() { chroot "$R" env -u STATE_DIRECTORY PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" 2>&1; }

out=$(inside dpkg -i /loopgate.deb)
has "it installs" '^Setting up loopgate' "$out"
lacks "without a complaint" 'rror|arning' "$out"
has "the program runs" '^loopgate [0-9]' "$(inside loopgate --version)"
same "systemd accepts its units" "" "$(inside systemd-analyze verify --man=no /usr/lib/systemd/system/loopgate.service /usr/lib/systemd/system/loopgate.socket)"
mkdir -p "$R/etc/loopgate"
printf '[[listener]]\naddress = "127.0.0.1:0"\nnetworks = { allow = ["loopback"] }\n[[route]]\nupstream = "127.0.0.1:9"\naccess = "anyone"\n' >"$R/etc/loopgate/loopgate.toml"
has "and serves" 'serving addresses' "$(inside timeout -s TERM 3 loopgate serve)"
inside dpkg -i /loopgate.deb >/dev/null
same "it installs over itself" 0 $?
inside dpkg -r loopgate >/dev/null
same "it is removed" 0 $?
same "and nothing of it stays" "" "$(ls -d "$R"/usr/bin/loopgate "$R"/usr/lib/systemd/system/loopgate* "$R"/usr/share/doc/loopgate 2>/dev/null)"
same "but the authority and the configuration" 0 "$(test -d "$R/var/lib/loopgate/ca" -a -f "$R/etc/loopgate/loopgate.toml"; echo $?)"
inside dpkg -P loopgate >/dev/null
same "which a purge takes, the configuration left to whoever wrote it" "0 1 0" "$? $(test -d "$R/var/lib/loopgate"; echo $?) $(test -f "$R/etc/loopgate/loopgate.toml"; echo $?)"
tidy() { umount -R "$R"; umount "$WORK"; }

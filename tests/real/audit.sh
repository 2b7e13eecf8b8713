#!/usr/bin/env bash
# What `loopgate audit` lists against what `ss` lists: about a hundred sockets of real programs in a network namespace of their own.
set -eu
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
packages ip:iproute2 ss:iproute2 python3:python3 nginx:nginx-light node:nodejs socat:socat openssl:openssl
[ "$(id -u)" -eq 0 ] || { echo "network namespaces need root" >&2; exit 1; }
binary
exec timeout -k 10 170 python3 "$ROOT/tests/real/audit.py" "$(realpath "$GATE")"

#!/usr/bin/env bash
# The verdicts about upstreams against what other machines really reach: the table of exposure.py (168 cells, two to four minutes).
set -eu
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
packages ip:iproute2 nft:nftables python3:python3
[ "$(id -u)" -eq 0 ] || { echo "network namespaces need root" >&2; exit 1; }
(cd "$ROOT" && cargo build --locked --quiet --example verdict)
exec timeout -k 10 900 python3 "$ROOT/tests/netns/exposure.py" "${CARGO_TARGET_DIR:-$ROOT/target}/debug/examples/verdict"

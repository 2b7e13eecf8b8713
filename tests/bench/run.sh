#!/usr/bin/env bash
# The benchmark of docs/performance.md: installs nginx, HAProxy and the load generators (Debian), builds, runs. Arguments go to run.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
need=()
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk h2load:nghttp2-client curl:curl htpasswd:apache2-utils openssl:openssl; do
    command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}")
done
if [ ${#need[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${need[@]}"
fi
ulimit -n "$(ulimit -Hn)"
cargo build --locked --release --bin loopgate --example bench_tools
exec tests/bench/run.py "$@"

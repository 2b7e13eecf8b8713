#!/usr/bin/env bash
# A page of Vite in Chromium over HTTP/2, and 1 GiB both ways, beside nginx and Caddy: installs what is missing (Debian, npm), builds, runs.
# Arguments go to page.py. With LOOPGATE_BIN and BENCH_TOOLS nothing is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/support/checks.sh
packages nginx:nginx-light caddy:caddy chromium:chromium certutil:libnss3-tools node:nodejs npm:npm curl:curl openssl:openssl python3:python3
node_modules "$PWD/tests/browser"
node_modules "$PWD/tests/browser/apps"
[ -n "${LOOPGATE_BIN:-}" ] && [ -n "${BENCH_TOOLS:-}" ] || cargo build --locked --release --bin loopgate --example bench_tools
target=${CARGO_TARGET_DIR:-target}/release
exec tests/bench/page.py --gate "${LOOPGATE_BIN:-$target/loopgate}" --tools "${BENCH_TOOLS:-$target/examples/bench_tools}" "$@"

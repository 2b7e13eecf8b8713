#!/usr/bin/env bash
# Fuzzes one target for so many seconds: tests/fuzz/run.sh TARGET SECONDS. What it learns is kept in corpus/TARGET, what it
# finds in artifacts/TARGET. RUNS=n ends it earlier, SEED=n makes the same inputs again, LOOPGATE_FUZZ=program uses a program that is built already.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?usage: run.sh TARGET SECONDS}
seconds=${2:?usage: run.sh TARGET SECONDS}
program=${LOOPGATE_FUZZ:-$(./build.sh)}
case $target in
    forward_h2 | h2_head) words=h2 ;;
    request_head | response_head | chunked | forward_h1 | answer) words=http ;;
    *) words=texts ;;
esac
mkdir -p "corpus/$target" "artifacts/$target"
# Sockets of the targets that serve; a killed program leaves them behind.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
FUZZ_TARGET=$target "$program" "corpus/$target" "seeds/$target" -dict="dict/$words.dict" \
    -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -runs="${RUNS:--1}" -seed="${SEED:-0}" \
    -rss_limit_mb=1024 -timeout=10 -max_len=4096 -print_final_stats=1 2>&1

#!/usr/bin/env bash
# A short run of every fuzz target, two at a time, for CI. Each begins with its seeds and ends after SECONDS_EACH (10) or 2,000,000
# inputs. The last line counts targets; any finding fails.
set -euo pipefail
cd "$(dirname "$0")"
LOOPGATE_FUZZ=$(./build.sh)
# The same inputs every time: what is new is looked for by hand (run.sh), not in somebody else's change.
export LOOPGATE_FUZZ RUNS=2000000 SEED=1
seconds=${SECONDS_EACH:-10}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
targets=$(FUZZ_TARGET=list "$LOOPGATE_FUZZ")

one() { timeout $((seconds + 300)) ./run.sh "$1" "$seconds" >"$logs/$1" 2>&1 && touch "$logs/$1.passed"; }

for target in $targets; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || true; done
    one "$target" &
done
wait || true

passed=0 failed=0
for target in $targets; do
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$target")
    if [ -e "$logs/$target.passed" ]; then
        passed=$((passed + 1))
        printf '%-14s %9s runs\n' "$target" "$runs"
    else
        failed=$((failed + 1))
        printf '%-14s FAILED after %s runs\n' "$target" "${runs:-?}"
        grep -aE -A4 'panicked at|ERROR: |Test unit written|^Base64' "$logs/$target" | cut -c1-2000 || true
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

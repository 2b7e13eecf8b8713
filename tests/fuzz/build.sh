#!/usr/bin/env bash
# Builds the fuzz targets on the stable toolchain and prints where the program is. Coverage is measured by a pass of LLVM that
# is part of rustc; libFuzzer itself is C++ and is built by the crate with g++.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v g++ >/dev/null; then
    source ../support/checks.sh
    packages g++:g++ >&2
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags do not reach build scripts and macros.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# Not --locked: a crate that the gate takes up is added here without another commit.
${FUZZ_CARGO:-cargo} build --release --target "$host" >&2
echo "$PWD/target/$host/release/loopgate-fuzz"

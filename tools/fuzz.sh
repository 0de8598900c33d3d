#!/bin/sh
# Builds every fuzz target (clang-16, ASan and UBSan) and runs each for SECONDS (default 10) from its seeds. New inputs
# that reach new code go to build/fuzz/corpus/NAME; an input that crashes, hangs or eats memory goes to
# build/fuzz/artifacts and makes the script fail. `tools/fuzz.sh 60 gguf` runs one target.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-10}
only=${2:-}

if [ -z "${ERNE_FUZZ_BUILT:-}" ]; then
  [ -f build/fuzz/build.ninja ] || cmake --preset fuzz >/dev/null
  ninja -C build/fuzz fuzzers
  mkdir -p build/fuzz/artifacts
fi

names=$(find build/fuzz/targets -name '*_fuzz' -perm -u+x -printf '%f\n' | sed 's/_fuzz$//' | sort)
if [ -z "$only" ]; then
  # One target a core, each by a run of this script of its own.
  echo "$names" | ERNE_FUZZ_BUILT=1 xargs -P "$(nproc)" -n 1 tools/fuzz.sh "$seconds"
  exit
fi

target=build/fuzz/targets/${only}_fuzz
if [ ! -x "$target" ]; then
  echo "fuzz: there is no target '$only'; the targets are:" >&2
  echo "$names" | sed 's/^/  /' >&2
  exit 2
fi
mkdir -p "build/fuzz/corpus/$only" "fuzz/corpus/$only"
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1  # without it undefined behaviour would be printed and pass
if ! "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
  -print_final_stats=1 -artifact_prefix="build/fuzz/artifacts/$only-" \
  "build/fuzz/corpus/$only" "fuzz/corpus/$only" >"build/fuzz/$only.log" 2>&1; then
  tail -n 40 "build/fuzz/$only.log"
  echo "fuzz: $only failed" >&2
  exit 1
fi
grep -E 'stat::number_of_executed_units|stat::peak_rss_mb' "build/fuzz/$only.log" |
  sed "s/^/fuzz $only, $seconds s: /" || true

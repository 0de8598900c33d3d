#!/bin/sh
# Builds every fuzz target (clang-16, ASan and UBSan) and runs each for SECONDS (default 10) from its seeds. New inputs
# that reach new code go to build/fuzz/corpus/NAME; an input that crashes, hangs or eats memory goes to
# build/fuzz/artifacts and makes the script fail. `tools/fuzz.sh 60 gguf` runs one target.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-10}
only=${2:-}

[ -f build/fuzz/build.ninja ] || cmake --preset fuzz >/dev/null
ninja -C build/fuzz fuzzers
mkdir -p build/fuzz/artifacts

if [ -n "$only" ] && [ ! -x "build/fuzz/targets/${only}_fuzz" ]; then
  echo "fuzz: there is no target '$only'; the targets are:" >&2
  find build/fuzz/targets -name '*_fuzz' -printf '  %f\n' | sed 's/_fuzz$//' | sort >&2
  exit 2
fi

failed=
for target in build/fuzz/targets/*_fuzz; do
  [ -x "$target" ] || continue
  name=$(basename "$target" _fuzz)
  [ -z "$only" ] || [ "$only" = "$name" ] || continue
  mkdir -p "build/fuzz/corpus/$name" "fuzz/corpus/$name"
  echo "fuzz $name: $seconds s"
  if ! "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/artifacts/$name-" \
    "build/fuzz/corpus/$name" "fuzz/corpus/$name" >"build/fuzz/$name.log" 2>&1; then
    tail -n 40 "build/fuzz/$name.log"
    failed="$failed $name"
  else
    grep -E 'stat::number_of_executed_units|stat::peak_rss_mb' "build/fuzz/$name.log" || true
  fi
done
if [ -n "$failed" ]; then
  echo "fuzz: failed:$failed" >&2
  exit 1
fi

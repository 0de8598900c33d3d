#!/bin/sh
# Compiles the CPU room, the formats and what they stand on for aarch64 with Debian's cross compiler and, where
# qemu-aarch64-static and GoogleTest's sources are installed, runs the kernel tests there.
# Usage: tools/check_aarch64.sh [build folder]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/aarch64-check}
cxx=aarch64-linux-gnu-g++
command -v $cxx >/dev/null || { echo "check_aarch64: $cxx is missing (apt install g++-aarch64-linux-gnu)"; exit 1; }
mkdir -p "$build"
# fmt's headers alone: there is no aarch64 libfmt on an x86 machine.
flags="-std=c++20 -O2 -ffp-contract=off -Wall -Wextra -Wshadow -Wconversion -Werror -DFMT_HEADER_ONLY -Isrc -I$build"
ln -sfn /usr/include/fmt "$build/fmt"
# compile FLAGS SOURCE...: objects whose sources are newer, one compiler a core.
compile() {
  compile_flags=$1
  shift
  for source in "$@"; do
    object=$build/$(echo "$source" | tr / _).o
    objects="${objects:-} $object"
    if [ ! -e "$object" ] || [ -n "$(find src tests/cpu "$source" -newer "$object" -type f | head -1)" ]; then
      printf '%s -c %s -o %s\0' "$compile_flags" "$source" "$object"
    fi
  done >"$build/commands"
  xargs -0 -a "$build/commands" -P "$(nproc)" -I '{}' sh -c "${CCACHE:-} $cxx {}"
}

# Not for this processor; hwloc has no aarch64 library here.
cpu_sources=$(ls src/cpu/*.cc | grep -v -e 'isa_a[vm]x' -e '/topology.cc')
# shellcheck disable=SC2086
compile "$flags" src/base/error.cc src/base/progress.cc src/base/thread_pool.cc src/tensor/arena.cc \
  src/tensor/buffer.cc src/tensor/host_pool.cc src/tensor/dtype.cc src/tensor/gguf_blocks.cc src/tensor/tensor.cc src/quant/*.cc $cpu_sources
echo "check_aarch64: compiled"
gtest=/usr/src/googletest
if ! command -v qemu-aarch64-static >/dev/null || [ ! -d $gtest ]; then
  echo "check_aarch64: not run (qemu-aarch64-static or $gtest is missing)"
  # CI installs both, so there their absence hides a failure.
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi
test_flags="-std=c++20 -O1 -DFMT_HEADER_ONLY -Isrc -Itests/cpu -I$build -I$gtest/googletest -I$gtest/googletest/include -I$gtest/googlemock -I$gtest/googlemock/include"
# shellcheck disable=SC2046
compile "$test_flags" $gtest/googletest/src/gtest-all.cc $gtest/googlemock/src/gmock-all.cc \
  $gtest/googlemock/src/gmock_main.cc $(ls tests/cpu/*_test.cc | grep -v '/topology_test.cc')
# Values, not every chunking: emulation is slow.
$cxx -static $objects -pthread -o "$build/cpu_test"
shares=$(nproc)
seq 0 $((shares - 1)) | GTEST_TOTAL_SHARDS=$shares xargs -P "$shares" -I '{}' env GTEST_SHARD_INDEX='{}' \
  qemu-aarch64-static "$build/cpu_test" --gtest_brief=1 --gtest_filter='-*SameBits*'

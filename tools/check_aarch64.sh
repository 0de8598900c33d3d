#!/bin/sh
# Compiles the CPU room and what it stands on for aarch64 with Debian's cross compiler and, where qemu-aarch64-static and
# GoogleTest's sources are installed, runs the kernel tests there. Usage: tools/check_aarch64.sh [build folder]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/aarch64-check}
cxx=aarch64-linux-gnu-g++
command -v $cxx >/dev/null || { echo "check_aarch64: $cxx is missing (apt install g++-aarch64-linux-gnu)"; exit 1; }
mkdir -p "$build"
# fmt's headers alone: there is no aarch64 libfmt on an x86 machine.
flags="-std=c++20 -O2 -ffp-contract=off -Wall -Wextra -Wshadow -Wconversion -Werror -DFMT_HEADER_ONLY -Isrc -I$build"
ln -sfn /usr/include/fmt "$build/fmt"
objects=
compile() {
  object=$build/$(echo "$1" | tr / _).o
  if [ ! -e "$object" ] || [ -n "$(find src tests/cpu "$1" -newer "$object" -type f | head -1)" ]; then
    ${CCACHE:-} $cxx ${2:-$flags} -c "$1" -o "$object"
  fi
  objects="$objects $object"
}
for source in src/base/error.cc src/base/progress.cc src/base/thread_pool.cc src/tensor/arena.cc src/tensor/buffer.cc src/tensor/host_pool.cc \
  src/tensor/dtype.cc src/tensor/tensor.cc src/cpu/*.cc; do
  # Not for this processor; hwloc has no aarch64 library here.
  case $source in src/cpu/isa_avx* | src/cpu/isa_amx* | src/cpu/topology.cc) continue ;; esac
  compile "$source"
done
echo "check_aarch64: compiled"
gtest=/usr/src/googletest
if ! command -v qemu-aarch64-static >/dev/null || [ ! -d $gtest ]; then
  echo "check_aarch64: not run (qemu-aarch64-static or $gtest is missing)"
  # CI installs both, so there their absence hides a failure.
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi
test_flags="-std=c++20 -O1 -DFMT_HEADER_ONLY -Isrc -Itests/cpu -I$build -I$gtest/googletest -I$gtest/googletest/include -I$gtest/googlemock -I$gtest/googlemock/include"
compile $gtest/googletest/src/gtest-all.cc "$test_flags"
compile $gtest/googlemock/src/gmock-all.cc "$test_flags"
compile $gtest/googlemock/src/gmock_main.cc "$test_flags"
for source in tests/cpu/*_test.cc; do
  [ "$source" = tests/cpu/topology_test.cc ] || compile "$source" "$test_flags"
done
$cxx -static $objects -pthread -o "$build/cpu_test"
# Values, not every chunking: emulation is slow.
qemu-aarch64-static "$build/cpu_test" --gtest_brief=1 --gtest_filter='-*SameBits*'

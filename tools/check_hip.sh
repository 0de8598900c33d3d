#!/bin/sh
# Compiles the portable GPU kernels for an AMD device (gfx90a, warps of 64): no inline PTX, no warp of 32, no name of CUDA's.
# Compiles only: nothing runs. Needs Debian's clang-15, clang-tools-15, lld-15, libamdhip64-dev and rocm-device-libs; 77 without.
set -eu
cd "$(dirname "$0")/.."
clang=$(command -v clang++-15 || true)
for needed in /usr/include/hip/hip_runtime.h "$(command -v clang-offload-bundler-15 || echo clang-tools-15)" \
  "$(command -v ld.lld-15 || echo lld-15)" "${clang:-clang-15}"; do
  [ -e "$needed" ] && continue
  echo "check_hip: $needed is not installed: apt-get install clang-15 clang-tools-15 lld-15 libamdhip64-dev rocm-device-libs"
  exit 77
done
bitcode=$(dirname "$(find /usr/lib -name ockl.bc 2>/dev/null | head -1)")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for kernel in src/gpu/kernels/portable/*.cu; do
  name=$(basename "$kernel" .cu)
  "$clang" -x hip --offload-arch=gfx90a -D__HIP_PLATFORM_AMD__ --rocm-device-lib-path="$bitcode" -nogpuinc -include hip/hip_runtime.h -std=c++20 -O3 -DNDEBUG -ffp-contract=off -Wall -Wextra \
    -Wno-unused-command-line-argument -Wno-pass-failed -Isrc -fPIC -c "$kernel" -o "$out/$name.o"
  echo "check_hip: $name"
done

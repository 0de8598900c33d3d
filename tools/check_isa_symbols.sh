#!/bin/sh
# An object built for one instruction set must not define weak symbols: the linker keeps one copy of each, and if it keeps
# the AVX-512 one, a machine without AVX-512 runs it. Usage: tools/check_isa_symbols.sh build/release
set -eu
build=${1:?build folder}
failed=0
found=0
for object in $(find "$build/src/cpu" -name 'isa_*.o' | sort); do
  case $object in *isa_generic*) continue ;; esac
  found=$((found + 1))
  weak=$(nm -C --defined-only "$object" | awk '$2 ~ /^[WVu]$/' || true)
  if [ -n "$weak" ]; then
    echo "$object defines weak symbols:"
    echo "$weak"
    failed=1
  fi
done
echo "check_isa_symbols: $found objects"
[ "$found" -gt 0 ] || failed=1
exit $failed

#!/bin/sh
# Format, file sizes and forbidden words of the tracked sources. `tools/check_style.sh --fix` formats in place;
# `tools/check_style.sh FILE...` looks at these only.
set -eu
cd "$(dirname "$0")/.."
fix=
if [ "${1:-}" = --fix ]; then
  fix=1
  shift
fi
# CI may check the tree out as another user.
tracked() { git -c safe.directory='*' ls-files "$@"; }
[ $# -gt 0 ] || set -- $(tracked '*.h' '*.cc' '*.cu' '*.inc')
failed=0
mkdir -p build

if [ -n "$fix" ]; then
  clang-format-16 -i "$@"
elif ! clang-format-16 --dry-run -Werror "$@" 2>build/format.log; then
  sed -n 's/^\([^:]*\):.*clang-format-violations.*/\1/p' build/format.log | sort | uniq -c
  echo "check_style: tools/check_style.sh --fix formats these files"
  failed=1
fi

# A header is read in one sitting, a source file in two.
for file in "$@"; do
  lines=$(wc -l <"$file")
  limit=600
  case $file in src/*.h) limit=200 ;; esac
  if [ "$lines" -gt "$limit" ]; then
    echo "check_style: $file has $lines lines; the limit is $limit"
    failed=1
  fi
  case $file in
    src/*.h)
      grep -q '^#pragma once' "$file" || {
        echo "check_style: $file lacks #pragma once"
        failed=1
      }
      head -n 1 "$file" | grep -q '^//' || {
        echo "check_style: $file does not open with a comment that says what it is"
        failed=1
      }
      ;;
  esac
done

# Words that stand for unfinished work, names that say nothing, and this or another machine's paths.
if grep -nE 'TODO|FIXME|XXX[^H]|HACK' "$@" /dev/null; then
  echo "check_style: unfinished work belongs into an issue"
  failed=1
fi
if tracked | grep -E '(^|/|_)(util|utils|helper|helpers|manager|common|misc)(_[a-z]+)?\.(h|cc|py)$'; then
  echo "check_style: these file names do not say what is inside"
  failed=1
fi
hosts='pypi\.org|pythonhosted|deb\.debian|snapshot\.debian|/root/|/work/'
if git -c safe.directory='*' grep -nIE "$hosts" -- . ':!tools/check_style.sh'; then
  echo "check_style: package hosts and machine paths do not belong into the repository"
  failed=1
fi
exit $failed

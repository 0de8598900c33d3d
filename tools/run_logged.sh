#!/bin/sh
# run_logged.sh LOG COMMAND…: runs it with its output in LOG, which is shown only if it fails.
log=$1
shift
"$@" >"$log" 2>&1 || {
  status=$?
  cat "$log" >&2
  exit $status
}

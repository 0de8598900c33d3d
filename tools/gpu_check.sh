#!/bin/sh
# Turns a short slot on a card into a report (docs/gpu.md, "A slot on a card").
command -v python3 >/dev/null || { echo "tools/gpu_check.sh needs python3" >&2; exit 2; }
exec python3 "$(dirname "$0")/gpu_check.py" "$@"

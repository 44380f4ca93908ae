#!/usr/bin/env bash
# Runs main on one worker of a cluster and tells the cluster whether the run is finished:
#   bash launch/worker.sh WORKDIR [ARGUMENTS OF MAIN]
# The exit code is main's, except that 0 becomes 75 while WORKDIR/test/summary.json is missing: main also ends with 0 when
# SIGTERM stopped it, which Kubernetes would take for success. After 75 it starts the worker again, and the run resumes.
#   PYTHON   the interpreter; default: .venv/bin/python if it exists, else python3
#   WAIT_S   seconds to wait until another worker's summary is visible on shared storage; default: 60
set -euo pipefail
if [ $# -eq 0 ] || [ "$1" = --help ]; then
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
  [ $# -gt 0 ] || { echo "error: no WORKDIR: bash launch/worker.sh WORKDIR --config ..." >&2 && exit 2; }
  exit 0
fi
cd "$(dirname "$0")/.."
# shellcheck source=launch/forward.sh
. launch/forward.sh
python=${PYTHON:-.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3
workdir=$1
shift
run_and_forward "$python" -m prnet_jax.main --workdir "$workdir" "$@"
[ "$code" -eq 0 ] || exit "$code"
left=${WAIT_S:-60}
[ -z "$signalled" ] || left=0
until [ -e "$workdir/test/summary.json" ]; do
  if [ "$left" -le 0 ]; then
    echo "Not finished: $workdir has no test/summary.json yet. The same command resumes the run." >&2
    exit 75
  fi
  sleep 1
  left=$((left - 1))
done

# shellcheck shell=bash disable=SC2034  # what it sets is read by those who source it
# Sourced by worker.sh and sweep.sh: runs a command and hands signals on to it.
#   run_and_forward COMMAND...   afterwards $code is its exit code, $signalled the first signal's name or ""
# SIGTERM, Ctrl-C and a lost connection each reach the command as one SIGTERM, at which main saves and ends.

run_and_forward() {
  local found
  code='' child='' signalled=''
  trap '_forward TERM' TERM
  trap '_forward INT' INT
  trap '_forward HUP' HUP
  # A process group of its own: else a Ctrl-C would reach the command twice, and two mean "at once".
  set -m
  "$@" &
  child=$!
  set +m
  [ -z "$signalled" ] || kill -TERM "$child" 2>/dev/null || true
  # A trap interrupts `wait`, whose result is then not the command's.
  again=yes
  while [ -n "$again" ]; do
    again=''
    found=0
    wait "$child" || found=$?
    # 127 the second time: the signal came when the command had ended and its code was known.
    if [ "$found" != 127 ] || [ -z "$code" ]; then code=$found; fi
  done
  trap - TERM INT HUP
}

_forward() {
  again=yes
  signalled=${signalled:-$1}
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}

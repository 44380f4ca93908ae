# shellcheck shell=bash disable=SC2034  # the scripts that source this file read its variables
# Sourced by the scripts that start others: runs a command and forwards signals to it.
#   run_and_forward COMMAND...   sets $code to its exit code, $signalled to the name of the first signal or ""
# SIGTERM, Ctrl-C and SIGHUP each reach the command as one SIGTERM, on which main saves and ends.

run_and_forward() {
  local found
  code='' child='' signalled=''
  trap '_forward TERM' TERM
  trap '_forward INT' INT
  trap '_forward HUP' HUP
  # In a process group of its own, the command does not get the terminal's Ctrl-C as well: a second one ends main without saving.
  set -m
  "$@" &
  child=$!
  set +m
  # A signal may have arrived before $child was set.
  [ -z "$signalled" ] || kill -TERM "$child" 2>/dev/null || true
  # A trap interrupts `wait`, which then does not return the command's exit code: wait again.
  again=yes
  while [ -n "$again" ]; do
    again=''
    found=0
    wait "$child" || found=$?
    # 127: the command had ended before, and its code is known.
    if [ "$found" != 127 ] || [ -z "$code" ]; then code=$found; fi
  done
  trap - TERM INT HUP
}

_forward() {
  again=yes
  signalled=${signalled:-$1}
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}

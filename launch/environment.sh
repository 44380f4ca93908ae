# shellcheck shell=bash
# Sourced by the other scripts: makes a virtual environment, or brings one up to date.
#   make_environment FOLDER [EXTRA]     afterwards $python is its interpreter
#   export_python                       PYTHON is set and exported: as it was, or .venv's, which is made
#   find_python VERSION...              prints the first of these interpreters that runs
#   run_tests [ARGUMENT...]             pytest with these arguments and $python, two processes at a time
#   show_progress LOG COMMAND...        runs it, and says every few seconds how far it is
# PYTHON names the interpreter to make an environment with. Where it is not set, an environment that runs is kept, and a new
# one is made with the newest Python that is tested, or else with any other from 3.11 on.

make_environment() {
  local folder=$1 extra=${2:-} base=${PYTHON:-} version
  python=$folder/bin/python
  if [ -n "$base" ] && ! _runs "$base" 3; then
    echo "error: PYTHON=$base must be Python 3.11 or newer, with ensurepip; found: $("$base" --version 2>&1)" >&2
    return 2
  fi
  if ! _runs "$python" 3 || { [ -n "$base" ] && [ "$(_version "$base")" != "$(_version "$python")" ]; }; then
    if [ -z "$base" ] && ! base=$(find_python 3.13 3.12 3.11 3); then
      echo "error: no Python 3.11 or newer runs here; install one, or set PYTHON=..." >&2
      return 2
    fi
    version=$(_version "$base")
    echo "Making $folder with Python $version ($base)."
    show_progress "$folder.log" "$base" -m venv --clear "$folder" || return
  fi
  # The mark says what was installed; a change of setup.cfg or of the constraints installs again.
  local mark=$folder/.installed-${extra:-core}
  if [ ! -e "$mark" ] || [ setup.cfg -nt "$mark" ] || [ "${PIP_CONSTRAINT:-setup.cfg}" -nt "$mark" ]; then
    echo "Installing prnet_jax${extra:+[$extra]} in $folder."
    show_progress "$folder.log" "$python" -m pip install --upgrade pip || return
    show_progress "$folder.log" "$python" -m pip install --editable ".${extra:+[$extra]}" || return
    touch "$mark"
  fi
}

export_python() {
  if [ -z "${PYTHON:-}" ]; then
    make_environment .venv || return
    PYTHON=$PWD/.venv/bin/python
  fi
  export PYTHON
}

find_python() {
  local version candidate
  for version; do
    while IFS= read -r candidate; do
      if _runs "$candidate" "$version"; then
        echo "$candidate"
        return
      fi
    done < <(
      # All on the PATH, because the first may be a shim of pyenv, which fails unless that version is chosen.
      type -aP "python$version"
      printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python
    )
  done
  return 1
}

run_tests() {
  # A process of the tests that crashes ends them: pytest-xdist 3.8 may wait forever for the one in its place (its issue 1327).
  "$python" -m pytest -q -n 2 --dist loadfile --max-worker-restart 0 "$@"
}

# Whether it is that Python, 3.11 or newer, and can make environments: Debian's needs one more package for that.
_runs() {
  "$1" -c "import ensurepip, sys; v = '%d.%d' % sys.version_info[:2]; sys.exit(sys.version_info < (3, 11) or '$2' not in ('3', v))" \
    >/dev/null 2>&1 </dev/null
}

_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

show_progress() {
  local log=$1 start=$SECONDS beat code=0
  shift
  : >"$log"
  while sleep 5 >/dev/null && kill -0 $$; do
    echo "  $((SECONDS - start)) s: $(tail -n 1 "$log" | cut -c -70)"
  done 2>/dev/null &
  beat=$!
  "$@" >"$log" 2>&1 || code=$?
  kill "$beat" 2>/dev/null || true
  wait "$beat" 2>/dev/null || true
  [ "$code" -ne 0 ] || return 0
  tail -n 20 "$log" >&2
  echo "error: this failed, see above and $log: $*" >&2
  return "$code"
}

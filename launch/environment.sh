# Sourced by the other scripts: makes the virtual environment where it is missing or out of date.
#   make_environment FOLDER [EXTRA]   afterwards $python is its interpreter
# PYTHON names the interpreter to make it with (3.11 or newer); python3 where not set.

make_environment() {
  local folder=$1 extra=${2:-}
  local base=${PYTHON:-python3}
  if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: Python 3.11 or newer is needed, found: $("$base" --version 2>&1); set PYTHON=..." >&2
    return 2
  fi
  [ -x "$folder/bin/python" ] || "$base" -m venv "$folder"
  python=$folder/bin/python
  # The mark says what was installed; a change of setup.cfg installs again.
  local mark=$folder/.installed-${extra:-core}
  if [ ! -e "$mark" ] || [ setup.cfg -nt "$mark" ]; then
    "$python" -m pip install -qq --upgrade pip
    "$python" -m pip install -qq --editable ".${extra:+[$extra]}"
    touch "$mark"
  fi
}

#!/usr/bin/env bash
# Makes .venv, installs the project with what its tests need, and runs ruff, mypy and the tests:
#   bash launch/test.sh                 the tests that are not marked slow: some 20 minutes on 2 cores
#   bash launch/test.sh --all           every test
#   bash launch/test.sh tests/models    anything else that pytest takes
# PYTHON names the interpreter to make .venv with.
set -euo pipefail
all='' arguments=()
for argument; do
  case $argument in
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --all) all=yes ;;
    *) arguments+=("$argument") ;;
  esac
done
cd "$(dirname "$0")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh
make_environment .venv test
unset PYTHON # other scripts, which the tests start, take it for an interpreter with the project installed
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
chosen=(-m "not slow")
[ -z "$all" ] || chosen=()
code=0
run_tests ${chosen[@]+"${chosen[@]}"} ${arguments[@]+"${arguments[@]}"} || code=$?
if [ -z "$all" ]; then
  echo "Left out: the tests marked slow."
  [ ${#arguments[@]} -gt 0 ] || grep -rl --include='*.py' 'mark\.slow' tests | sort | sed 's/^/  some of /'
  echo "All tests: bash launch/test.sh --all"
fi
exit "$code"

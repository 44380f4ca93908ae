#!/usr/bin/env bash
# Makes .venv, installs the project with what its tests need, and runs them:
#   bash launch/test.sh                 all tests
#   bash launch/test.sh tests/models    anything that pytest takes
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
make_environment .venv test
"$python" -m ruff check .
exec "$python" -m pytest -q "$@"

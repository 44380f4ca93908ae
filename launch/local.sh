#!/usr/bin/env bash
# Makes .venv, installs the project and trains on this machine:
#   bash launch/local.sh                                   PR-Net on the phantom, about two minutes
#   bash launch/local.sh --config configs/prnet.py:lungs   anything else that main takes
# PYTHON names the interpreter to make .venv with.
set -euo pipefail
if [ "${1:-}" = --help ]; then
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
  exit 0
fi
cd "$(dirname "$0")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh
make_environment .venv
echo "The environment is .venv; to use it in your shell: . .venv/bin/activate"
[ $# -gt 0 ] || set -- --config configs/prnet.py:quick
exec "$python" -m prnet_jax.main "$@"

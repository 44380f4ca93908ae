#!/usr/bin/env bash
# Makes .venv, installs the project and runs the main job on this machine:
#   bash launch/local.sh                                   PR-Net on the phantom, about two minutes
#   bash launch/local.sh --config configs/prnet.py:lungs   anything else that main takes
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
make_environment .venv
[ $# -gt 0 ] || set -- --config configs/prnet.py:quick
exec "$python" -m prnet_jax.main "$@"

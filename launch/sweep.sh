#!/usr/bin/env bash
# Trains several networks with several seeds, one after another, and prints a line for each run:
#   bash launch/sweep.sh --variant quick
#   bash launch/sweep.sh --networks prnet --folds "1/5 2/5 3/5 4/5 5/5" --variant lungs_small -- --config.dataset.manual_dir=FOLDER
#   bash launch/sweep.sh --networks "prnet unet" --seeds "0 1" --variant lungs_small --root runs/lungs -- \
#     --config.dataset.manual_dir=FOLDER
#
#   --networks LIST   NETWORKS   names of configs/, separated by spaces or commas; default: all eight
#   --seeds LIST      SEEDS      default: 0 1 2
#   --folds LIST      FOLDS      of a cross-validation, such as "1/5 2/5 3/5 4/5 5/5"; default: the data set's own split
#   --variant NAME    VARIANT    of every config, as after the colon: quick, lungs, nodules_small, ...; default: none
#   --root FOLDER     ROOT       for the run directories ROOT/NETWORK_SEED, with folds ROOT/NETWORK_SEED_fold1of5, and logs ROOT/....log; default: runs/sweep
#   --list FILE                  a file that gets the finished run directories, one a line
#   -- ARGUMENTS                 passed to main, for every run
#                     PYTHON     an interpreter with the project installed; default: .venv is made
#
# The same command again skips finished runs and resumes the one that was stopped. Another command with the same ROOT passes every
# run to main, which refuses a run with other settings and repeats the results of one with the same. A failed run does not end the
# sweep; its exit code is then 1. Ctrl-C or SIGTERM stops the current run, which saves, and ends the sweep with 130 or 143.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

networks=${NETWORKS:-prnet unet unetpp attention_unet anamnet awsnet lightunet infnet}
seeds=${SEEDS:-0 1 2}
folds=${FOLDS:-}
variant=${VARIANT:-}
root=${ROOT:-runs/sweep}
list=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --networks | --seeds | --folds | --variant | --root | --list)
      [ $# -gt 1 ] || fail "$1 needs a value, see bash launch/sweep.sh --help"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --) shift && break ;;
    *) fail "unexpected '$1': arguments for main go after --, see bash launch/sweep.sh --help" ;;
  esac
done
for argument; do
  case $argument in
    --config | --config=* | --config.seed* | --workdir*) fail "$argument is set by the sweep: use --networks, --seeds, --variant, --root" ;;
    --config.dataset.options.fold*) [ -z "$folds" ] || fail "$argument is set by the sweep: use --folds" ;;
  esac
done
[[ $root = /* ]] || root=$PWD/$root
[ -z "$list" ] || [[ $list = /* ]] || list=$PWD/$list
cd "$(dirname "$0")/.."
read -ra networks <<<"${networks//,/ }"
read -ra seeds <<<"${seeds//,/ }"
read -ra folds <<<"${folds//,/ }"
[ ${#folds[@]} -gt 0 ] || folds=('')
[ ${#networks[@]} -gt 0 ] && [ ${#seeds[@]} -gt 0 ] || fail "no runs: give at least one of --networks and one of --seeds"
for network in "${networks[@]}"; do
  [ -f "configs/$network.py" ] || fail "no network '$network': choose from $(cd configs && echo *.py | sed 's/\.py//g')"
done
for seed in "${seeds[@]}"; do
  [[ $seed =~ ^[0-9]+$ ]] || fail "--seeds must be whole numbers, found '$seed'"
done
for fold in "${folds[@]}"; do
  [[ $fold =~ ^([0-9]+/[0-9]+)?$ ]] || fail "--folds must be like 2/5, found '$fold'"
done
# What an earlier sweep wrote must not be taken for this one's.
[ -z "$list" ] || { : >"$list"; } 2>/dev/null || fail "--list $list cannot be written: name a file in a folder that exists"
# shellcheck source=launch/forward.sh
. launch/forward.sh
if [ -n "${PYTHON:-}" ]; then
  python=$PYTHON
  command -v "$python" >/dev/null || fail "PYTHON=$python does not exist: name an interpreter with the project installed, or unset it"
else
  # shellcheck source=launch/environment.sh
  . launch/environment.sh
  make_environment .venv
fi
mkdir -p "$root"

# line NETWORK NAME RUN NOTE: prints the results of a finished run; NAME is its seed and fold.
line() {
  "$python" - "$@" <<'PYTHON'
import json, sys
network, name, run, note = sys.argv[1:]
try:
    metrics = json.load(open(f"{run}/test/summary.json", encoding="utf-8"))["metrics"]
    dsc, iou = (100 * metrics[name]["mean"] for name in ("dsc", "iou"))
except (OSError, ValueError, KeyError, TypeError) as error:
    sys.exit(
        f"{network:<15} {name:<8} FAILED  {run}/test/summary.json cannot be read ({type(error).__name__}): "
        "delete it and repeat the command"
    )
print(f"{network:<15} {name:<8} DSC {dsc:6.2f} %  IoU {iou:6.2f} %  {note}")
PYTHON
}

# train NETWORK SEED FOLD [ARGUMENTS]: trains one network, unless it is finished.
train() {
  local network=$1 seed=$2 fold=$3 name run log since note mark begin minutes said reason
  shift 3
  name="seed $seed${fold:+ fold $fold}"
  run=$root/${network}_$seed${fold:+_fold${fold/\//of}}
  log=$run.log
  since=$SECONDS
  note='finished before'
  # The last such line in the log names the command that finished the run.
  mark="--- finished by: $variant $(printf '%q ' "$@")"
  if [ ! -e "$run/test/summary.json" ] || [ "$(grep -s '^--- finished by: ' "$log" | tail -n 1)" != "$mark" ]; then
    echo "--- $(date '+%Y-%m-%d %H:%M:%S') $network $name" >>"$log"
    begin=$(wc -l <"$log")
    run_and_forward "$python" -m prnet_jax.main --config "configs/$network.py${variant:+:$variant}" \
      --config.seed="$seed" ${fold:+"--config.dataset.options.fold=$fold"} --workdir "$run" "$@" >>"$log" 2>&1
    minutes=$(((SECONDS - since) * 10 / 60))
    note="$((minutes / 10)).$((minutes % 10)) min"
    if [ -n "$signalled" ]; then
      printf '%-15s %-8s stopped; the same command resumes it\n' "$network" "$name"
      exit $((128 + $(kill -l "$signalled")))
    fi
    if [ "$code" -ne 0 ] || [ ! -e "$run/test/summary.json" ]; then
      said=$(tail -n "+$begin" "$log")
      reason=$(grep '^error: ' <<<"$said" | tail -n 1) || reason=$(grep -v '^ *$' <<<"$said" | tail -n 1)
      printf '%-15s %-8s FAILED  exit code %s: %s (%s)\n' "$network" "$name" "$code" "$reason" "$log"
      failed+=("$run")
      return
    fi
    echo "$mark" >>"$log"
  fi
  if line "$network" "$name" "$run" "$note"; then finished+=("$run"); else failed+=("$run"); fi
}

started=$SECONDS
finished=()
failed=()
for seed in "${seeds[@]}"; do
  for fold in "${folds[@]}"; do
    for network in "${networks[@]}"; do
      train "$network" "$seed" "$fold" "$@"
    done
  done
done
[ -z "$list" ] || [ ${#finished[@]} -eq 0 ] || printf '%s\n' "${finished[@]}" >"$list"
echo "${#finished[@]} finished, ${#failed[@]} failed, $(((SECONDS - started) / 60)) minutes."
if [ ${#finished[@]} -gt 1 ]; then
  # Names each run: ROOT may hold failed runs and those of other sweeps.
  echo "Compare them: $(printf '%q ' "$python" -m prnet_jax.compare "${finished[@]}" --out "${root}_comparison")"
fi
[ ${#failed[@]} -eq 0 ]

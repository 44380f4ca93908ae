#!/usr/bin/env bash
# The paper's Table 1 on all 264 images: trains every network on five folds by patient, so that each image is a test image once,
# scores the folds at the images' own resolution and compares the networks:
#   bash launch/table1.sh --manual-dir FOLDER                                     a GPU: 256x256, the networks' full widths
#   bash launch/table1.sh --manual-dir FOLDER --variant table1_small              2 cores: 96x96, a quarter of the widths
#   bash launch/table1.sh --manual-dir FOLDER --networks "prnet unet" --seeds "0 1 2" --root runs/seeds
#
#   --manual-dir FOLDER   the data set finding_lungs, see datasets/finding_lungs/README.md; required
#   --variant NAME        the protocol: table1, table1_small or another variant of the configs; default: table1
#   --networks LIST       in the order they are trained; default: prnet unet, then the other six
#   --seeds LIST          default: 0
#   --folds LIST          default: 1/5 2/5 3/5 4/5 5/5
#   --root FOLDER         for the run directories; default: runs/ and the name of the variant
#   --results FOLDER      where config, provenance, summary and scores of each finished fold are copied to as small text files
#   --with LIST           folders of evaluations of all images that are to stand in the table too, see threshold.py and nnunet.py
#   -- ARGUMENTS          passed to main, for every run; another protocol needs another --root
# PYTHON names an interpreter with the project installed; by default .venv is made.
#
# The same command again resumes the run that was stopped and skips what is finished. The tables are in ROOT/comparison.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

manual_dir='' variant=table1 networks='prnet unet attention_unet unetpp anamnet awsnet lightunet infnet'
seeds=0 folds='1/5 2/5 3/5 4/5 5/5' root='' results='' with=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --manual-dir | --variant | --networks | --seeds | --folds | --root | --results | --with)
      [ $# -gt 1 ] || fail "$1 needs a value, see bash launch/table1.sh --help"
      name=${1#--}
      printf -v "${name//-/_}" %s "$2"
      shift 2
      ;;
    --) shift && break ;;
    *) fail "unexpected '$1': arguments for main go after --, see bash launch/table1.sh --help" ;;
  esac
done
[ -n "$manual_dir" ] || fail "no data: give --manual-dir, the folder of the data set, see datasets/finding_lungs/README.md"
[ -d "$manual_dir" ] || fail "--manual-dir $manual_dir is not a folder: see datasets/finding_lungs/README.md"
manual_dir=$(realpath "$manual_dir") root=$(realpath -m "${root:-runs/$variant}") results=${results:+$(realpath -m "$results")}
beside=()
for folder in ${with//,/ }; do
  [ -e "$folder/summary.json" ] || fail "--with $folder has no summary.json: name a folder that python -m prnet_jax.evaluate wrote"
  beside+=("$(realpath "$folder")")
done
cd "$(dirname "$0")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh
export_python
# shellcheck source=launch/forward.sh
. launch/forward.sh

# score RUN: evaluates a finished fold at native resolution, once, and copies its results.
score() {
  local run=$1 to=$results/${1##*/} file
  if [ ! -e "$run/test_native/summary.json" ]; then
    "$PYTHON" -m prnet_jax.evaluate --workdir "$run" --resolution native --keep-masks </dev/null >"$run.evaluation.log" 2>&1 ||
      { tail -n 3 "$run.evaluation.log" >&2 && return 1; }
  fi
  [ -n "$results" ] || return 0
  mkdir -p "$to/test_native"
  for file in config.json provenance.json test_native/summary.json test_native/per_image.csv; do
    cp "$run/$file" "$to/$file"
  done
}

for folder in ${beside[@]+"${beside[@]}"}; do
  [ -n "$results" ] || break
  mkdir -p "$results/${folder##*/}"
  cp "$folder/summary.json" "$folder/per_image.csv" "$results/${folder##*/}/"
done

scored=()
failed=''
finished=$(mktemp)
trap 'rm -f "$finished"' EXIT
for network in ${networks//,/ }; do
  run_and_forward bash launch/sweep.sh --networks "$network" --seeds "$seeds" --folds "$folds" --variant "$variant" --root "$root" \
    --list "$finished" -- --config.dataset.manual_dir="$manual_dir" "$@" > >(grep -v '^Compare them')
  [ "$code" -le 1 ] || exit "$code"
  [ "$code" -eq 0 ] || failed=yes
  # Not whatever is there: a run of another protocol is refused, and must not be scored as one of this.
  while read -r run; do
    if score "$run"; then scored+=("$run/test_native"); else failed=yes; fi
  done <"$finished"
done
[ ${#scored[@]} -gt 0 ] || fail "no fold is finished, see the logs in $root"
rm -rf "$root/comparison"
"$PYTHON" -m prnet_jax.compare "${scored[@]}" ${beside[@]+"${beside[@]}"} --out "$root/comparison"
[ -z "$failed" ]

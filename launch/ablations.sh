#!/usr/bin/env bash
# What PR-Net's parts and open points give: trains it once as the paper states it and once for each change, on two of five folds by
# patient, and compares them on the same test images, paired:
#   bash launch/ablations.sh --manual-dir FOLDER                              2 cores: 96x96, a quarter of the width
#   bash launch/ablations.sh --manual-dir FOLDER --variant table1 --changes "no-pam one-head"
#
#   --manual-dir FOLDER   the data set finding_lungs, see datasets/finding_lungs/README.md; required
#   --changes LIST        of the names below, in the order they are trained; default: all
#   --variant NAME        the protocol, see launch/table1.sh; default: table1_small
#   --seed N              default: 0
#   --root FOLDER         for the run directories; default: runs/ablations
#   --results FOLDER      where config, provenance, summary and scores of each fold are copied to as small text files
#   -- ARGUMENTS          passed to main, for every run
# Changes (fields of the network, see prnet_jax/models/prnet.py):
#   no-pam        the enhancement without its attention module
#   double-conv   the encoder of U-Net in place of the residual blocks
#   batch-norm    residual blocks with BatchNorm in place of InstanceNorm
#   one-head      one attention head, as equation 1 read literally has it, in place of 8
#   scaled        q.k divided by the root of its length
#   narrow-qk     half the channels in q and k, at a quarter of the width
#   gate-3x3      gated convolutions with a kernel of 3
#   pam-finer     PAM also on the skip of the third stage
# PYTHON names an interpreter with the project installed; by default .venv is made.
#
# The same command again resumes the run that was stopped and skips what is finished. The tables are in ROOT/comparison.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

manual_dir='' variant=table1_small seed=0 root=runs/ablations results=''
changes='no-pam double-conv batch-norm one-head scaled narrow-qk gate-3x3 pam-finer'
while [ $# -gt 0 ]; do
  case $1 in
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --manual-dir | --changes | --variant | --seed | --root | --results)
      [ $# -gt 1 ] || fail "$1 needs a value, see bash launch/ablations.sh --help"
      name=${1#--}
      printf -v "${name//-/_}" %s "$2"
      shift 2
      ;;
    --) shift && break ;;
    *) fail "unexpected '$1': arguments for main go after --, see bash launch/ablations.sh --help" ;;
  esac
done
[ -d "$manual_dir" ] || fail "give --manual-dir, the folder of the data set, see datasets/finding_lungs/README.md; found '$manual_dir'"
manual_dir=$(realpath "$manual_dir") root=$(realpath -m "$root") results=${results:+$(realpath -m "$results")}

# field_of CHANGE: its setting of the network; nothing for the network as stated.
field_of() {
  case $1 in
    stated) ;;
    no-pam) echo pam=False ;;
    double-conv) echo encoder=double_conv ;;
    batch-norm) echo encoder=residual_batch_norm ;;
    one-head) echo heads=1 ;;
    scaled) echo attention_scale=True ;;
    narrow-qk) echo qk_width=64 ;;
    gate-3x3) echo gate_kernel=3 ;;
    pam-finer) echo 'enhance_skips=(2,)' ;;
    *) fail "no change '$1': see bash launch/ablations.sh --help" ;;
  esac
}
for change in ${changes//,/ }; do
  field_of "$change" >/dev/null
done

cd "$(dirname "$0")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh
export_python
# shellcheck source=launch/forward.sh
. launch/forward.sh

scored=()
for change in stated ${changes//,/ }; do
  field=$(field_of "$change")
  run_and_forward bash launch/table1.sh --manual-dir "$manual_dir" --variant "$variant" --networks prnet --seeds "$seed" \
    --folds '1/5 2/5' --root "$root/$change" --results "$root/$change/results" -- ${field:+"--config.model.$field"} "$@"
  [ "$code" -eq 0 ] || exit "$code"
  for fold in 1of5 2of5; do
    scored+=("$root/$change/prnet_${seed}_fold$fold/test_native")
    [ -n "$results" ] || continue
    mkdir -p "$results"
    cp -r "$root/$change/results/prnet_${seed}_fold$fold/." "$results/prnet-${change}_${seed}_fold$fold"
  done
done
rm -rf "$root/comparison"
"$PYTHON" -m prnet_jax.compare "${scored[@]}" --out "$root/comparison"

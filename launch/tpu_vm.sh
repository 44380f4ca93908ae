#!/usr/bin/env bash
# Trains on a Cloud TPU VM: creates or reuses it, copies this checkout, installs it and runs main on all workers.
# A TPU VM COSTS MONEY FROM CREATION TO DELETION, even while idle: https://cloud.google.com/tpu/pricing
#   bash launch/tpu_vm.sh --name prnet -- --config configs/prnet.py
#   bash launch/tpu_vm.sh --name pod --type v5litepod-16 --nfs 10.0.0.2:/share -- --config configs/prnet.py --config.batch_size=128
#   bash launch/tpu_vm.sh --name prnet --stop      the run saves and ends; the VM stays, and still costs money
#   bash launch/tpu_vm.sh --name prnet --delete    deletes the VM and its disk
#
#   --name NAME           the VM (required)
#   --zone ZONE           default: us-central1-a
#   --project ID          default: gcloud's
#   --type TYPE           default: v5litepod-8, one host with 8 chips
#   --version NAME        the VM's image; default: the one for TYPE
#   --spot, --on-demand   spot VMs are cheaper, but can be preempted at any time; default: --spot
#   --create-flag FLAG    passed to `gcloud ... create`, such as --network=NAME; repeatable
#   --nfs HOST:PATH       an NFS share, such as Filestore, to mount at /mnt/prnet on all workers
#   --workdir PATH        the run directory on the workers; default: /mnt/prnet/runs/NAME with --nfs, ~/runs/NAME without
#   --python VERSION      default: 3.13
#   -- ARGUMENTS          passed to main
#
# The workers of a pod share one run directory: give --nfs, or a --workdir on a share that you mounted on all of them.
# The run continues after Ctrl-C or a lost connection; its output is in ~/prnet_jax.log on each worker.
# The same command resumes a run that was stopped. The exit code is 0 once the run is finished.

# shellcheck disable=SC2016  # $HOME and $USER in single quotes belong to the workers
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

name='' zone=us-central1-a project='' type=v5litepod-8 version='' nfs='' workdir='' python=3.13
spot=--spot create=(--quiet) action=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) sed -n '2,/^[^#]*$/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --spot) spot=--spot ;;
    --on-demand) spot='' ;;
    --stop | --delete) action=$1 ;;
    --name | --zone | --project | --type | --version | --nfs | --workdir | --python | --create-flag)
      [ $# -gt 1 ] || fail "$1 needs a value, see bash launch/tpu_vm.sh --help"
      if [ "$1" = --create-flag ]; then create+=("$2"); else printf -v "${1#--}" %s "$2"; fi
      shift
      ;;
    --) shift && break ;;
    *) fail "unexpected '$1': arguments for main go after --, see bash launch/tpu_vm.sh --help" ;;
  esac
  shift
done
[ -n "$name" ] || fail "no name for the VM: bash launch/tpu_vm.sh --name NAME ..., see --help"
[ $# -gt 0 ] || [ -n "$action" ] || fail "nothing to do: give -- and arguments for main, --stop or --delete"
[ $# -eq 0 ] || [ -z "$action" ] || fail "$action takes no arguments for main, found '$1'"
[[ " $*" != *" --workdir"* ]] || fail "--workdir goes before the --"
[[ -z $workdir || $workdir = /* ]] || fail "--workdir must be an absolute path on the workers, found '$workdir'"
# Types with one host end in 1, 4 or 8.
[ -n "$action$nfs$workdir" ] || [[ $type =~ -(1|4|8)$ ]] || fail "$type has several hosts: give --nfs, or --workdir on a share"
command -v gcloud >/dev/null || fail "gcloud is not on the PATH: install it from https://cloud.google.com/sdk/docs/install"

where=(--zone="$zone" --quiet ${project:+--project="$project"})
tpu() { gcloud compute tpus tpu-vm "$@" "${where[@]}"; }
# on WORKER|all COMMAND: runs shell commands there. The flags end a connection to a VM that is gone.
on() { tpu ssh "$name" --worker="$1" --command="$2" --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4; }

printf -v delete_command 'bash launch/tpu_vm.sh --name %q --zone %q%s --delete' "$name" "$zone" "${project:+ --project $project}"
if [ "$action" = --delete ]; then
  tpu delete "$name"
  exit 0
fi
files=$(mktemp -d)
trap 'rm -r "$files"; echo "If the VM $name exists, it costs money until you run: $delete_command" >&2' EXIT
if [ "$action" = --stop ]; then
  # The lock is held while a run is in progress.
  on all 'flock --nonblock ~/prnet_jax.lock true || kill -TERM "$(cat ~/prnet_jax.pid)"; flock --timeout 120 ~/prnet_jax.lock true'
  exit 0
fi

read -r state found <<<"$(tpu describe "$name" --format='value(state,acceleratorType)' 2>/dev/null || true)"
if [ -z "$state" ]; then
  case $type in
    v5litepod-*) image=v2-alpha-tpuv5-lite ;;
    v5p-*) image=v2-alpha-tpuv5 ;;
    v6e-*) image=v2-alpha-tpuv6e ;;
    *) image=tpu-ubuntu2204-base ;;
  esac
  echo "Creating $name: $type${spot:+, spot}, $zone. It costs money until you run: $delete_command"
  tpu create "$name" --accelerator-type="$type" --version="${version:-$image}" ${spot:+"$spot"} "${create[@]}"
elif [ "$state" != READY ]; then
  fail "$name is $state, not READY: wait, or delete it and repeat this command"
elif [ "${found##*/}" != "$type" ]; then
  fail "$name is of type ${found##*/}, not $type: give --type ${found##*/}, or another --name"
fi

cd "$(dirname "$0")/.."
git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar -czf "$files/prnet_jax.tgz" --null --files-from=-
tpu scp "$files/prnet_jax.tgz" "$name:prnet_jax.tgz" --worker=all
# The images' own Python is too old; uv brings another.
on all "set -e; share=$(printf %q "$nfs") python=$(printf %q "$python")"'
flock --nonblock ~/prnet_jax.lock true || { echo "error: a run is in progress: wait for its end, or stop it with --stop" >&2; exit 1; }
if [ -n "$share" ]; then
  apt="sudo apt-get -qq -o DPkg::Lock::Timeout=300"
  command -v mount.nfs >/dev/null || { $apt update && $apt install -y nfs-common; } >/dev/null
  sudo mkdir -p /mnt/prnet
  findmnt "$share" /mnt/prnet >/dev/null || sudo mount -t nfs "$share" /mnt/prnet
  sudo mkdir -p /mnt/prnet/runs /mnt/prnet/records && sudo chown "$USER" /mnt/prnet/runs /mnt/prnet/records
fi
mkdir -p ~/prnet_jax && cd ~/prnet_jax && tar -xzf ~/prnet_jax.tgz
python3 -m pip install --user --quiet uv
[ -x .venv/bin/python ] || python3 -m uv venv --quiet --python "$python" .venv
python3 -m uv pip install --quiet --python .venv/bin/python --editable ".[tpu]"'

printf -v run '"$HOME"/runs/%q' "$name"
[ -z "$nfs" ] || printf -v run '/mnt/prnet/runs/%q' "$name"
[ -z "$workdir" ] || printf -v run %q "$workdir"
# A lost connection does not end the run: it has a session and a log of its own. If gcloud repeats the command, the lock makes it wait.
code=0
on all "set -- $run $(printf '%q ' "$@")"'
cd ~/prnet_jax && touch ~/prnet_jax.log && shown=$(wc -l <~/prnet_jax.log)
main='\''echo $$ >~/prnet_jax.pid; exec bash launch/worker.sh "$@"'\''
setsid flock ~/prnet_jax.lock sh -c "$main" - "$@" >>~/prnet_jax.log 2>&1 </dev/null & main=$!
tail -n +$((shown + 1)) -f --pid=$main ~/prnet_jax.log & wait $main; code=$?; wait; exit $code' || code=$?
# gcloud's exit code does not always tell how all workers ended; the summary does.
[ "$code" -ne 0 ] || on 0 "test -e $run/test/summary.json" || code=1
if [ "$code" -ne 0 ]; then echo "error: the run is not finished (exit code $code), see above; the same command resumes it" >&2; fi
exit "$code"

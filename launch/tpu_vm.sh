#!/usr/bin/env bash
# Trains on a Cloud TPU VM: creates or reuses it, copies this checkout to all its workers, installs it, runs main on all of them.
# A TPU VM COSTS MONEY FROM CREATION TO DELETION, also when nothing runs on it: https://cloud.google.com/tpu/pricing
#   bash launch/tpu_vm.sh --name prnet -- --config configs/prnet.py
#   bash launch/tpu_vm.sh --name pod --type v5litepod-16 --nfs 10.0.0.2:/share --retry 20 -- --config configs/prnet.py --config.batch_size=64
#   bash launch/tpu_vm.sh --name prnet --stop      the run saves and ends; the VM stays, and costs
#   bash launch/tpu_vm.sh --name prnet --delete    deletes the VM with its disk
#
#   --name NAME       TPU_NAME      of the VM (must be given)
#   --zone ZONE       TPU_ZONE      (us-central1-a)
#   --project ID      TPU_PROJECT   (gcloud's own)
#   --type TYPE       TPU_TYPE      (v5litepod-8: one host of 8 chips)
#   --version NAME    TPU_VERSION   the VM's image (the one for TYPE)
#   --spot | --on-demand            cheaper and preempted at any time, or not (--spot)
#   --create-flag F                 one more flag for `gcloud ... create`, such as --network=NAME; may be repeated
#   --bucket NAME     TPU_BUCKET    a bucket to mount with gcsfuse on all workers; make it with --enable-hierarchical-namespace
#   --nfs HOST:PATH   TPU_NFS       or an NFS share, such as Filestore's, to mount
#   --workdir PATH    TPU_WORKDIR   the run directory on the workers (runs/NAME on the share, else in the home folder)
#   --git URL[@REV]   TPU_GIT       clone that on the workers (REV: a branch, tag or commit without a slash); else the files here that
#                                   git knows or does not ignore are copied
#   --python VERSION  TPU_PYTHON    (3.12)
#   --retry N         TPU_RETRY     tries after the first: a lost VM is made again, and the run goes on (0); RETRY_S: seconds before (60)
#   --delete                        after a run: delete the VM once the run is finished, if there is a share; without a run: now
#   --stop                          stop the run on all workers
#   -- ARGUMENTS                    of main
#
# Runs are written by plain file operations, so all workers of a pod need one mounted folder: a type of several hosts needs
# --bucket or --nfs. Without a share the run lies on the VM's disk, which goes when a spot VM is preempted: --retry needs one too.
# Ctrl-C stops the run on the workers; it saves. A lost connection does not stop it. No VM is deleted unless --delete says so or a
# dead one is made again.
# shellcheck disable=SC2016  # $HOME, $USER and $$ in single quotes are the workers'
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

name=${TPU_NAME:-} zone=${TPU_ZONE:-us-central1-a} project=${TPU_PROJECT:-} type=${TPU_TYPE:-v5litepod-8} version=${TPU_VERSION:-}
bucket=${TPU_BUCKET:-} nfs=${TPU_NFS:-} workdir=${TPU_WORKDIR:-} git=${TPU_GIT:-} python=${TPU_PYTHON:-3.12} retry=${TPU_RETRY:-0}
price=--spot create_flags=() delete='' stop='' run=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --spot) price=--spot ;;
    --on-demand) price='' ;;
    --delete) delete=yes ;;
    --stop) stop=yes ;;
    --create-flag)
      [ $# -gt 1 ] || fail "$1 needs a value"
      create_flags+=("$2")
      shift
      ;;
    --name | --zone | --project | --type | --version | --bucket | --nfs | --workdir | --git | --python | --retry)
      [ $# -gt 1 ] || fail "$1 needs a value, see bash launch/tpu_vm.sh --help"
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --) shift && run=yes && break ;;
    *) fail "unexpected '$1': arguments of main stand behind --, see bash launch/tpu_vm.sh --help" ;;
  esac
  shift
done
[ -n "$name" ] || fail "no name for the VM: bash launch/tpu_vm.sh --name NAME ..., see --help"
command -v gcloud >/dev/null || fail "gcloud is not on the PATH: install it (https://cloud.google.com/sdk/docs/install) and run 'gcloud auth login'"
[[ $retry =~ ^[0-9]+$ ]] || fail "--retry must be a whole number, found '$retry'"
[ -z "$bucket" ] || [ -z "$nfs" ] || fail "--bucket and --nfs: one share is mounted, give one of them"
share=$bucket$nfs
printf -v quoted_share %q "$share"
if [ -n "$run" ]; then
  [ $# -gt 0 ] || fail "nothing behind --: give main's arguments, such as --config configs/prnet.py"
  [ -z "$stop" ] || fail "--stop takes no arguments of main"
  # Types of one host end in 1, 4 or 8.
  [[ $type =~ -(1|4|8)$ ]] || [ -n "$share" ] || fail "$type has several hosts, which need one run directory: give --bucket NAME or --nfs HOST:PATH"
  [ "$retry" = 0 ] || [ -n "$share" ] || fail "--retry needs --bucket or --nfs: a preempted VM's disk is lost with the run on it"
  [ -z "$delete" ] || [ -n "$share" ] || fail "--delete would delete the run with the VM's disk: give --bucket or --nfs, or delete later"
  for argument; do
    case $argument in --workdir*) fail "$argument: give --workdir PATH before the --" ;; esac
  done
  [[ -z $workdir || $workdir = /* ]] || fail "--workdir must be a full path on the workers, found '$workdir'"
elif [ -z "$delete$stop" ]; then
  fail "nothing to do: give -- and main's arguments, --stop or --delete"
fi
if [ -z "$version" ]; then
  case $type in
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *) version=tpu-ubuntu2204-base ;;
  esac
fi
mount=/mnt/prnet
# Quoted, because these are for a shell on the workers; $HOME is theirs.
if [ -n "$workdir" ]; then
  printf -v remote_workdir %q "$workdir"
elif [ -n "$share" ]; then
  printf -v remote_workdir %q "$mount/runs/$name"
else
  printf -v remote_workdir '"$HOME"/runs/%q' "$name"
fi
where=(--zone="$zone" --quiet)
[ -z "$project" ] || where+=(--project="$project")
printf -v delete_command 'bash launch/tpu_vm.sh --name %q --zone %q %s--delete' "$name" "$zone" "${project:+--project $(printf %q "$project") }"

tpu() { gcloud compute tpus tpu-vm "$@" "${where[@]}"; }
# on WORKER|all COMMAND: runs a line of shell there.
# The flags end a connection to a VM that is gone, after two minutes.
on() { tpu ssh "$name" --worker="$1" --command="$2" --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4; }
# tell: sets $state (READY, PREEMPTED, ...; empty where there is no such VM) and $found_type.
tell() {
  local said errors
  errors=$(mktemp)
  state='' found_type=''
  if said=$(tpu describe "$name" --format='value(state,acceleratorType)' 2>"$errors"); then
    read -r state found_type <<<"$said"
  elif ! grep -qi 'NOT_FOUND\|not found' "$errors"; then
    echo "error: gcloud cannot tell the state of $name: $(tail -n 1 "$errors")" >&2
    rm "$errors"
    return 1
  fi
  rm "$errors"
}

# How the two clients are installed where they are missing.
apt='sudo apt-get -o DPkg::Lock::Timeout=300 -qq'
nfs_client="{ command -v mount.nfs || { $apt update && $apt install -y nfs-common; }; } >/dev/null"
key=/usr/share/keyrings/gcsfuse.asc packages=https://packages.cloud.google.com/apt
gcsfuse='{ command -v gcsfuse || { curl -fsS '$packages'/doc/apt-key.gpg | sudo tee '$key' &&
echo "deb [signed-by='$key'] '$packages' gcsfuse-$(lsb_release -cs) main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list &&
'"$apt update && $apt"' install -y gcsfuse; }; } >/dev/null'

stop_run() {
  # The lock is held as long as a run is; its owner's id is in the other file.
  on all 'flock --nonblock ~/prnet_jax.lock true || kill -TERM "$(cat ~/prnet_jax.pid)"; flock --timeout 120 ~/prnet_jax.lock true'
}

# These two return 1 where a later try may help.
ensure_vm() {
  tell || return 1
  case $state in
    READY) echo "Reusing $name in $zone." ;;
    STOPPED) tpu start "$name" || return 1 ;;
    PREEMPTED | TERMINATED)
      echo "$name is $state: making it again."
      tpu delete "$name" || return 1
      state=''
      ;;
    '') ;;
    *) echo "error: $name is $state: wait until it is READY, or delete it" >&2 && return 1 ;;
  esac
  if [ -z "$state" ]; then
    echo "Creating $name: $type, ${price:+spot, }$zone. It costs money until: $delete_command"
    tpu create "$name" --accelerator-type="$type" --version="$version" ${price:+"$price"} ${create_flags[@]+"${create_flags[@]}"} || return 1
  elif [ "${found_type##*/}" != "$type" ]; then
    fail "$name is of type ${found_type##*/}, not $type: give --type ${found_type##*/}, or another --name"
  fi
}

install_here() {
  local checkout mounting
  if [ -n "$git" ]; then
    local url=$git revision=''
    [[ ! $git =~ ^(.+)@([^@:/]+)$ ]] || { url=${BASH_REMATCH[1]} revision=${BASH_REMATCH[2]}; }
    printf -v checkout 'git init --quiet ~/prnet_jax && git -C ~/prnet_jax fetch --quiet %q %q && git -C ~/prnet_jax checkout --quiet --force FETCH_HEAD' \
      "$url" "${revision:-HEAD}"
  else
    tpu scp "$archive" "$name:prnet_jax.tgz" --worker=all || return 1
    checkout='mkdir -p ~/prnet_jax && tar -xzf ~/prnet_jax.tgz -C ~/prnet_jax'
  fi
  mounting=:
  # Owned by the user who runs main; gcsfuse without its caches, because the workers read what the first of them writes.
  if [ -n "$share" ]; then
    mounting="sudo mkdir -p $mount && "
    if [ -n "$bucket" ]; then
      mounting+="$gcsfuse && { mountpoint -q $mount || { sudo chown \"\$USER\" $mount && gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 $quoted_share $mount; }; }"
    else
      mounting+="$nfs_client && { mountpoint -q $mount || sudo mount -t nfs $quoted_share $mount; }"
      mounting+=" && sudo mkdir -p $mount/runs $mount/records && sudo chown \"\$USER\" $mount/runs $mount/records"
    fi
    mounting+=" && { findmnt --noheadings --output SOURCE $mount | grep -qxF $quoted_share || { echo error: $mount holds another share >&2; false; }; }"
  fi
  # Not under a run that is still going. The images' own Python is older than 3.11; uv brings one.
  on all "{ flock --nonblock ~/prnet_jax.lock true || { echo A run is going on: waiting for its end.; flock ~/prnet_jax.lock true; }; } &&
$checkout && $mounting && cd ~/prnet_jax && python3 -m pip install --user --quiet uv &&
{ [ -x .venv/bin/python ] || python3 -m uv venv --quiet --python $(printf %q "$python") .venv; } &&
python3 -m uv pip install --quiet --python .venv/bin/python --editable '.[tpu]'"
}

delete_vm() {
  tpu delete "$name"
  deleted=yes
}

archive='' deleted=''
goodbye() {
  [ -z "$archive" ] || rm -rf "$(dirname "$archive")"
  [ -n "$deleted" ] || echo "If there is a VM $name it costs money until: $delete_command" >&2
}
trap goodbye EXIT
trap 'exit 130' INT TERM HUP

if [ -n "$stop" ]; then stop_run; fi
if [ -z "$run" ]; then
  if [ -n "$delete" ]; then delete_vm; fi
  exit 0
fi

cd "$(dirname "$0")/.."
if [ -z "$git" ]; then
  git rev-parse --is-inside-work-tree >/dev/null 2>&1 || fail "$PWD is no git checkout, so what to copy is not known: clone the repository, or give --git URL"
  archive=$(mktemp -d)/prnet_jax.tgz
  # A file that git knows and that was deleted here is not there to be copied.
  git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
    tar -czf "$archive" --null --files-from=-
fi

printf -v arguments '%q ' "$@"
# run_command ID: for a worker. One run at a time. What it says goes to a file, which is shown as it grows, and the run has a
# session of its own: a lost connection ends neither. gcloud then repeats the command, which by its ID knows a run that has ended.
run_command() {
  cat <<COMMAND
cd ~/prnet_jax && exec 9>~/prnet_jax.lock && flock 9 || exit
if read -r id code <~/prnet_jax.ended && [ "\$id" = $1 ]; then exit "\$code"; fi 2>/dev/null
: >~/prnet_jax.log
setsid bash launch/worker.sh $remote_workdir $arguments >>~/prnet_jax.log 2>&1 &
run=\$!
echo \$run >~/prnet_jax.pid
tail -n +1 -f --pid=\$run ~/prnet_jax.log 9>&- &
wait \$run
code=\$?
echo "$1 \$code" >~/prnet_jax.ended
exec 9>&-
wait
exit \$code
COMMAND
}

try=0 pause=${RETRY_S:-60}
while :; do
  code='' stopped=''
  if ensure_vm && install_here; then
    # In a process group of its own, so that Ctrl-C reaches this shell alone and gcloud goes on showing how the run ends.
    set -m
    on all "$(run_command "$$.$(date +%s)")" </dev/null &
    child=$!
    set +m
    trap 'stopped=yes; stop_run || true' INT TERM HUP
    code=0
    wait "$child" || code=$?
    if [ -n "$stopped" ]; then
      wait "$child" || true
      echo "Stopped. The same command goes on."
      exit 130
    fi
    trap 'exit 130' INT TERM HUP
    # gcloud's exit code does not always say how all workers ended; the summary does.
    if [ "$code" -eq 0 ] && on 0 "test -e $remote_workdir/test/summary.json && echo finished" | grep -q finished; then break; fi
    [ "$code" -ne 2 ] || fail "main refused its arguments, see above"
  fi
  if [ "$try" -ge "$retry" ]; then
    echo "error: the run is not finished${code:+ (exit code $code)}, see above; the same command goes on with it" >&2
    exit 1
  fi
  sleep "$pause" # gcloud learns late of a preemption
  if [ "$code" = 1 ] && tell && [ "$state" = READY ]; then
    echo "error: the run failed on a VM that is well, see above: mend it, then repeat the command" >&2
    exit 1
  fi
  try=$((try + 1))
  pause=$((pause < 300 ? 2 * pause : 600))
  echo "Try $try of $retry."
done
echo 'Finished.'
if [ -n "$delete" ]; then
  delete_vm
elif [ -z "$share" ]; then
  echo "Fetch the run: gcloud compute tpus tpu-vm scp --recurse ${where[*]} --worker=0 $name:${workdir:-runs/$name} ."
fi

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
#   --git URL[@REV]   TPU_GIT       clone that on the workers; else the files here that git knows or does not ignore are copied
#   --python VERSION  TPU_PYTHON    (3.12)
#   --retry N         TPU_RETRY     so often a preempted or lost VM is made again and the run goes on (0)
#   --delete                        after a run: delete the VM once the run is finished, if there is a share; without a run: now
#   --stop                          stop the run on all workers
#   -- ARGUMENTS                    of main
#
# Runs are written by plain file operations, so all workers of a pod need one mounted folder: a type of several hosts needs
# --bucket or --nfs. Without a share the run lies on the VM's disk, which goes when a spot VM is preempted: --retry needs one too.
# Ctrl-C stops the run on the workers; it saves. No VM is deleted unless --delete says so or a dead one is made again.
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

tpu() { gcloud compute tpus tpu-vm "$@" "${where[@]}"; }
# on WORKER|all COMMAND: runs a line of shell there.
# The flags end a connection to a VM that is gone, after two minutes.
on() { tpu ssh "$name" --worker="$1" --command="$2" --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4; }
# state: READY, PREEMPTED, ...; nothing where there is no such VM.
state() {
  local said
  if said=$(tpu describe "$name" --format='value(state)' 2>&1); then
    echo "${said##*$'\n'}"
  elif [[ $said != *NOT_FOUND* && $said != *'not found'* ]]; then
    fail "gcloud cannot tell the state of $name: ${said##*$'\n'}"
  fi
}

# How the two clients are installed where they are missing.
nfs_client='{ command -v mount.nfs || { sudo apt-get update -qq && sudo apt-get install -qq -y nfs-common; }; } >/dev/null'
key=/usr/share/keyrings/gcsfuse.asc packages=https://packages.cloud.google.com/apt
gcsfuse='{ command -v gcsfuse || { curl -fsS '$packages'/doc/apt-key.gpg | sudo tee '$key' &&
echo "deb [signed-by='$key'] '$packages' gcsfuse-$(lsb_release -cs) main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list &&
sudo apt-get update -qq && sudo apt-get install -qq -y gcsfuse; }; } >/dev/null'

stop_run() {
  # The lock is held as long as a run is; its owner's id is in the other file.
  on all 'flock --nonblock ~/prnet_jax.lock true || kill -TERM "$(cat ~/prnet_jax.pid)"; flock --timeout 120 ~/prnet_jax.lock true'
}

ensure_vm() {
  local now
  now=$(state)
  case $now in
    READY) echo "Reusing $name in $zone." ;;
    STOPPED) tpu start "$name" ;;
    PREEMPTED | TERMINATED)
      echo "$name is $now: making it again."
      tpu delete "$name"
      now=''
      ;;
    '') ;;
    *) fail "$name is $now: wait until it is READY, or delete it" ;;
  esac
  if [ -z "$now" ]; then
    echo "Creating $name: $type, ${price:+spot, }$zone. It costs money until: bash launch/tpu_vm.sh --name $name --zone $zone --delete"
    tpu create "$name" --accelerator-type="$type" --version="$version" ${price:+"$price"} ${create_flags[@]+"${create_flags[@]}"}
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
    tpu scp "$archive" "$name:prnet_jax.tgz" --worker=all
    checkout='mkdir -p ~/prnet_jax && tar -xzf ~/prnet_jax.tgz -C ~/prnet_jax'
  fi
  mounting=:
  # Owned by the user who runs main; gcsfuse without its caches, because the workers read what the first of them writes.
  if [ -n "$bucket" ]; then
    printf -v mounting '%s && { mountpoint -q %s || { sudo mkdir -p %s && sudo chown "$USER" %s && %s %q %s; }; }' \
      "$gcsfuse" $mount $mount $mount 'gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0' "$bucket" $mount
  elif [ -n "$nfs" ]; then
    printf -v mounting '%s && { mountpoint -q %s || { sudo mkdir -p %s && sudo mount -t nfs %q %s; }; } && %s' \
      "$nfs_client" $mount $mount "$nfs" $mount "sudo mkdir -p $mount/runs && sudo chown \"\$USER\" $mount/runs"
  fi
  # The images' own Python is older than 3.11; uv brings one.
  on all "$checkout && $mounting && cd ~/prnet_jax && python3 -m pip install --user --quiet uv &&
{ [ -x .venv/bin/python ] || python3 -m uv venv --quiet --python $(printf %q "$python") .venv; } &&
python3 -m uv pip install --quiet --python .venv/bin/python --editable '.[tpu]'"
}

if [ -n "$stop" ]; then stop_run; fi
if [ -z "$run" ]; then
  if [ -n "$delete" ]; then tpu delete "$name"; fi
  exit 0
fi

cd "$(dirname "$0")/.."
archive=''
if [ -z "$git" ]; then
  git rev-parse --is-inside-work-tree >/dev/null 2>&1 || fail "$PWD is no git checkout, so what to copy is not known: clone the repository, or give --git URL"
  archive=$(mktemp -d)/prnet_jax.tgz
  trap 'rm -rf "$(dirname "$archive")"' EXIT
  # A file that git knows and that was deleted here is not there to be copied.
  git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
    tar -czf "$archive" --null --files-from=-
fi
printf -v arguments '%q ' "$@"
# The lock keeps a lost connection's run and the next one apart.
command="cd ~/prnet_jax && exec 9>~/prnet_jax.lock && flock 9 && echo \$\$ >~/prnet_jax.pid && exec bash launch/worker.sh $remote_workdir $arguments"
tries=0
while :; do
  ensure_vm
  install_here
  stopped=''
  # In the background, so that Ctrl-C reaches this shell at once and gcloud goes on showing how the run ends.
  on all "$command" &
  child=$!
  trap 'stopped=yes; stop_run' INT TERM
  code=0
  wait "$child" || code=$?
  trap - INT TERM
  if [ -n "$stopped" ]; then
    wait "$child" || true
    echo "Stopped. The same command goes on. $name stays and costs money: bash launch/tpu_vm.sh --name $name --zone $zone --delete"
    exit 130
  fi
  # gcloud's exit code does not always say how all workers ended; the summary does.
  if [ "$code" -eq 0 ] && on 0 "test -e $remote_workdir/test/summary.json && echo finished" | grep -q finished; then break; fi
  now=$(state)
  [ "$code" -ne 2 ] || fail "main refused its arguments, see above; $name stays and costs money"
  if [ "$tries" -ge "$retry" ]; then
    echo "error: the run ended with code $code before it was finished, and $name is ${now:-gone}: the same command goes on with it" >&2
    exit 1
  fi
  tries=$((tries + 1))
  echo "The run ended with code $code, $name is ${now:-gone}: try $tries of $retry."
done
if [ -n "$delete" ]; then
  tpu delete "$name"
else
  echo "Finished. $name stays and costs money: bash launch/tpu_vm.sh --name $name --zone $zone --delete"
  [ -n "$share" ] || echo "Fetch the run: gcloud compute tpus tpu-vm scp --recurse --zone=$zone --worker=0 $name:${workdir:-runs/$name} ."
fi

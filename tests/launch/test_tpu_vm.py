"""tpu_vm.sh with a stand-in for gcloud, whose worker really runs what it is told."""

import os
import shutil
import signal
import subprocess

import pytest

from tests.launch.scripts import PATIENCE_S, PYTHON, calls, launch, start

DELETE = "bash launch/tpu_vm.sh --name vm --zone us-central1-a --project p --delete"
COST = f"If the VM vm exists, it costs money until you run: {DELETE}\n"
VM = ("--name", "vm", "--project", "p")


@pytest.fixture
def checkout(root, tmp_path):
    """A git checkout with launch/, a file that git ignores, and one that was deleted."""
    folder = tmp_path / "checkout"
    shutil.copytree(root / "launch", folder / "launch")
    (folder / ".gitignore").write_text("runs/\n")
    (folder / "deleted").touch()
    subprocess.run("git init --quiet && git add .", shell=True, cwd=folder, check=True)
    (folder / "deleted").unlink()
    (folder / "not added").touch()
    (folder / "runs").mkdir()
    (folder / "runs" / "a").touch()
    return folder


def tpu(checkout, fake, *arguments, state=None, fails="", **more):
    """Runs tpu_vm.sh; `state` is the VM's, if there is one."""
    for name in ("calls", "kinds"):
        (fake / name).unlink(missing_ok=True)
    (fake / "fails").write_text(fails)
    if state:
        (fake / "state").write_text(state)
    return launch(checkout, fake, "tpu_vm.sh", *VM, *arguments, PYTHON=PYTHON, WAIT_S="0", **more)


def kinds(fake):
    """What gcloud was called for."""
    return " ".join((fake / "kinds").read_text().split())


def options(call):
    return {a.partition("=")[0]: a.partition("=")[2] for a in call if a.startswith("--")}


def test_tpu_vm_is_created_and_runs_on_all_workers(checkout, fake, tmp_path):
    pod = ("--type", "v5litepod-16", "--nfs", "10.0.0.2:/a share", "--workdir", tmp_path / "my run")
    odd = ["--config=a b.py", "it's $HOME; `date`", "*", "", "two\nlines"]
    done = tpu(checkout, fake, *pod, "--create-flag", "--network=my net", "--", *odd)
    assert (done.returncode, done.stderr) == (0, COST)
    assert f"It costs money until you run: {DELETE}\n" in done.stdout
    assert kinds(fake) == "describe create scp install run finished?"
    _, create, *others = calls(fake)
    assert create[4] == "vm" and "--spot" in create and "--network=my net" in create
    assert options(create)["--accelerator-type"] == "v5litepod-16"
    assert options(create)["--version"] == "v2-alpha-tpuv5-lite"
    for call in calls(fake):
        assert options(call)["--zone"] == "us-central1-a" and options(call)["--project"] == "p"
    assert [options(call)["--worker"] for call in others] == ["all", "all", "all", "0"]
    # What the worker then did.
    assert "mount -t nfs 10.0.0.2:/a share /mnt/prnet\n" in (fake / "sudo").read_text()
    installed = (fake / "python3").read_text()
    assert "venv --quiet --python 3.13 .venv\n" in installed and "--editable .[tpu]\n" in installed
    said = "".join(f"{a}|" for a in ["--workdir", tmp_path / "my run", *odd])
    assert (fake / "mains").read_text() == f"{said}\n"
    copied = {path.name for path in (fake / "home" / "prnet_jax").iterdir()}
    assert copied == {"launch", ".gitignore", "not added"}


def test_tpu_vm_is_reused_and_deleted(checkout, fake):
    (fake / "mounted").write_text("h:/s /mnt/prnet\n")
    config = ("--", "--config", "configs/prnet.py")
    done = tpu(checkout, fake, "--nfs", "h:/s", *config, state="READY", FAKE_FAILS="prnet")
    assert done.returncode == 1 and "the run is not finished (exit code 1)" in done.stderr
    assert kinds(fake) == "describe scp install run"
    assert "mount" not in (fake / "sudo").read_text().split()
    assert "error: the loss is nan" in done.stdout
    assert tpu(checkout, fake, *config).returncode == 0
    workdirs = [line.split("|")[1] for line in (fake / "mains").read_text().splitlines()]
    assert workdirs == ["/mnt/prnet/runs/vm", str(fake / "home" / "runs" / "vm")]
    done = tpu(checkout, fake, "--delete")
    assert (done.returncode, done.stderr, kinds(fake)) == (0, "", "delete")
    tpu(checkout, fake, "--on-demand", *config)
    assert kinds(fake).startswith("describe create") and "--spot" not in calls(fake)[1]


def test_tpu_vm_that_cannot_be_used_is_left_alone(checkout, fake):
    done = tpu(checkout, fake, "--", "-x", state="PREEMPTED")
    assert done.returncode == 2 and kinds(fake) == "describe"
    assert "vm is PREEMPTED, not READY" in done.stderr and done.stderr.endswith(COST)
    done = tpu(checkout, fake, "--type", "v5litepod-4", "--", "-x", state="READY")
    assert done.returncode == 2 and kinds(fake) == "describe"
    assert "vm is of type v5litepod-8, not v5litepod-4" in done.stderr


@pytest.mark.parametrize("kind", ["create", "scp", "install", "run", "finished?", "stop"])
def test_tpu_vm_that_fails_names_the_command_that_ends_its_cost(checkout, fake, kind):
    done = tpu(checkout, fake, *(["--stop"] if kind == "stop" else ["--", "-x"]), fails=kind)
    assert done.returncode == 1 and f"no {kind} today" in done.stderr
    assert done.stderr.endswith(COST) and kinds(fake).endswith(kind)


@pytest.fixture
def on_tpu(checkout, fake):
    """tpu_vm.sh while main is running on its worker."""
    (fake / "state").write_text("READY")
    given = (*VM, "--", "--config", "unet")
    return start(checkout, fake, "tpu_vm.sh", *given, FAKE_SLOW="unet", WAIT_S="0")


def test_tpu_run_outlives_ctrl_c_and_is_stopped(checkout, fake, on_tpu):
    os.killpg(on_tpu.pid, signal.SIGINT)  # the terminal's whole foreground group, as Ctrl-C does
    assert on_tpu.wait(PATIENCE_S) in (130, -signal.SIGINT)
    done = tpu(checkout, fake, "--", "--config", "unet")
    assert done.returncode == 1 and "a run is in progress" in done.stderr
    assert kinds(fake) == "describe scp install" and not (fake / "saved").exists()
    done = tpu(checkout, fake, "--stop")
    assert (done.returncode, done.stderr, kinds(fake)) == (0, COST, "stop")
    assert (fake / "saved").read_text() == "saved\n"
    assert COST in on_tpu.communicate(timeout=PATIENCE_S)[0]
    assert tpu(checkout, fake, "--stop").returncode == 0  # nothing to stop


def test_tpu_run_that_is_stopped_is_not_finished(checkout, fake, on_tpu):
    assert tpu(checkout, fake, "--stop").returncode == 0
    said, _ = on_tpu.communicate(timeout=PATIENCE_S)
    assert on_tpu.returncode == 75 and "the run is not finished (exit code 75)" in said
    assert said.endswith(COST)

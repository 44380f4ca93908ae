"""slurm.sbatch with a stand-in for srun, which starts real processes."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from prnet_jax.config import default_config
from tests import programs, runs
from tests.launch.scripts import PATIENCE_S, PYTHON, calls, environment, launch, wait_for


def job(tmp_path, tasks, **more):
    """What Slurm gives to a batch script on one node."""
    with socket.socket() as probe:  # JAX makes the coordinator's port from the job's id
        ports = random.sample(range(61440, 65535), 4095)
        port = next(port for port in ports if probe.connect_ex(("localhost", port)))
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
        "PYTHON": PYTHON,
    }
    return given | more


def test_slurm_starts_one_process_per_gpu(root, fake, tmp_path):
    given = job(tmp_path, 2, SLURM_GPUS_ON_NODE="2")
    done = launch(root, fake, "slurm.sbatch", "--config", "a b.py", **given, FAKE_NEW_SLURM="1")
    assert done.returncode == 0, done.stderr
    assert calls(fake) == [
        ["srun", "--kill-on-bad-exit=1", "--gpu-bind=none", "--cpus-per-task=1"]
        + ["--ignore-signals=TERM", PYTHON, "-m", "prnet_jax.main"]
        + ["--workdir", given["WORKDIR"], "--config", "a b.py"]
    ]
    assert len((fake / "mains").read_text().splitlines()) == 2
    given |= {"SLURM_GPUS_ON_NODE": "8"}
    wrong = launch(root, fake, "slurm.sbatch", "--config", "x", **given)
    assert wrong.returncode == 2 and "found 2 tasks for 8 GPUs per node" in wrong.stderr


def test_slurm_queues_again_at_the_time_limit_only(root, fake, tmp_path):
    (tmp_path / "bin").mkdir()
    clock = tmp_path / "bin" / "date"
    clock.write_text("#!/bin/sh\necho 1000")
    clock.chmod(0o755)
    stopped = job(tmp_path, 1, FAKE_STOPPED="1")
    stopped["PATH"] = f"{clock.parent}:{environment(fake)['PATH']}"
    asked = fake / "scontrol"
    # SIGTERM comes 90 s before the limit, or a minute earlier: 150 s.
    cases = ((60, "1", True), (149, "1", True), (60, "0", False), (240, "1", False))
    for left, requeue, again in cases:
        given = stopped | {"SLURM_JOB_END_TIME": str(1000 + left), "REQUEUE": requeue}
        done = launch(root, fake, "slurm.sbatch", "--config", "x", **given)
        assert done.returncode == 0, done.stderr
        assert asked.exists() == again
        if again:
            assert asked.read_text() == f"requeue {stopped['SLURM_JOB_ID']}\n"
            asked.unlink()
        else:
            assert "The same sbatch command resumes" in done.stdout
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
    assert name == "TERM" and int(seconds) > default_config("prnet").stop_within_s
    # Slurm reads these lines up to the first command.
    assert text.index("\n#SBATCH") < text.index("set -euo pipefail")
    assert text.rindex("\n#SBATCH") < text.index("set -euo pipefail")


def run_slurm(root, fake, given, *arguments):
    devices = {"JAX_NUM_CPU_DEVICES": "2", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    given |= devices | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    return subprocess.Popen(
        ["bash", str(root / "launch" / "slurm.sbatch"), *arguments],
        env=environment(fake, SLURM_SUBMIT_DIR=str(root), **given),
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=programs.end_with_parent,
    )


def steps(run):
    """The steps of the training lines of metrics.jsonl."""
    return [line["step"] for line in runs.metrics_lines(run) if "train/loss" in line]


@pytest.mark.slow
def test_slurm_two_processes_are_stopped_and_end_as_one_run(root, fake, tmp_path, records_dir):
    run = tmp_path / "my run"
    fields = {"num_epochs": 6, "warmup_epochs": 1, "stop_within_s": 300}
    small = [f for f in runs.tiny_flags(run, records_dir, **fields) if "--workdir" not in f]
    given = job(tmp_path, 2, SLURM_JOB_END_TIME=str(int(time.time())), FAKE_HOLD="6")
    first = run_slurm(root, fake, given, *small)
    wait_for(lambda: len(list(fake.glob("held_*"))) == 2, first)
    for pid in (fake / "pids").read_text().split():  # as `--signal=TERM@90`: the step's processes
        os.kill(int(pid), signal.SIGTERM)
    said, errors = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0, errors
    assert (fake / "scontrol").read_text() == f"requeue {given['SLURM_JOB_ID']}\n"
    assert not (run / "test").exists() and 0 < steps(run)[-1] < 12
    second = run_slurm(root, fake, job(tmp_path, 2, PYTHON=sys.executable), *small)
    said, errors = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, errors
    assert said.count("| IoU %") == 1 and "Resuming after step" in said
    assert steps(run) == list(range(1, 13))
    summary = json.loads((run / "test" / "summary.json").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    assert (provenance["devices"], provenance["processes"]) == ("4 x cpu", 2)
    assert summary["checkpoint_step"] in steps(run)
    assert len(list((run / "events").iterdir())) == 2  # a file of each start, by one process

"""Starts the scripts of launch/ with stand-ins for what they call, which lie in tests/fakes."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests import programs

FAKES = pathlib.Path(__file__).parents[1] / "fakes"
PYTHON = str(FAKES / "python")
PATIENCE_S = 3 * programs.PATIENCE_S  # several processes that compile; only ends what hangs


def environment(fake, **more):
    """This process's, with the fakes on the PATH and without a cluster's variables."""
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


def start(root, fake, script, *arguments, **more):
    """The script, in a session of its own as in a terminal, once main is running."""
    running = subprocess.Popen(
        ["bash", str(root / "launch" / script), *map(str, arguments)],
        env=environment(fake, PYTHON=PYTHON, **more),
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_before_it_runs,
    )
    wait_for(lambda: (fake / "waiting").exists(), running)
    return running


def _before_it_runs():
    programs.end_with_parent()
    # Tests in the background of a shell inherit that it is ignored; bash cannot trap it then.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(holds, running):
    """Waits until `holds()` is true; fails if the script ends before that."""
    programs.until(lambda: holds() or running.poll() is not None, PATIENCE_S)
    if not holds():
        running.kill()
        pytest.fail(f"did not start: {running.communicate()}")


def calls(fake):
    """A list of arguments for each call of gcloud or srun."""
    path = fake / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

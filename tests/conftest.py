"""What several tests share: the repository's root, prepared records, the tiny run, cheap compiling.

Tests may start processes; that none of them is left at the end is checked here.
"""

import os
import pathlib
import signal
import sys
import tempfile

import hypothesis
import pytest

from tests import programs, runs

ROOT = programs.ROOT

# JAX reads these variables once, when it is imported; processes that tests start inherit them.
assert "jax" not in sys.modules
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # arrays of different rank meet only on purpose
# GPUs and TPUs multiply float32 as TF32 or bfloat16 by default; the stored outputs allow neither.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Many tests, some in processes of their own, compile the same tiny network: each program once for
# all. The processes of pytest-xdist inherit the variable.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="prnet-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Most of the tests' time is compiling: programs are compiled in half the time, and run slower. With
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 in the environment they are compiled as users have them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# No test measures time: not of an example either, whose first one may import half of SciPy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Every process that is started from here on carries this mark, and so do those that it starts.
_MARK = "PRNET_TESTS"
os.environ[_MARK] = str(os.getpid())


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left():
    """Kills and names what tests have started and not ended."""
    yield
    programs.until(lambda: not _marked(), 20)
    left = _marked()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"tests left these processes behind: {left}"


def _marked() -> dict[int, str]:
    """The processes with this session's mark and their commands, by id; none except on Linux."""
    mark = f"{_MARK}={os.getpid()}".encode()
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                # Python's own lives until pytest itself ends.
                if b"multiprocessing.resource_tracker" not in command:
                    found[int(folder.name)] = command.decode(errors="replace")[:200]
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def records_dir(tmp_path_factory):
    """The folder of the tests' prepared records, which are made once a session."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def tiny_config(records_dir):
    """The config of the tiny run of `tests.runs`, for a test to change."""
    return runs.tiny_config(records_dir)


@pytest.fixture(scope="session")
def finished_run(records_dir, tmp_path_factory):
    """A finished tiny run, which has learnt. Tests copy it before they change anything in it."""
    from prnet_jax.train import train_and_evaluate

    workdir = tmp_path_factory.mktemp("finished") / "run"
    summary = train_and_evaluate(runs.trained_config(records_dir), workdir)
    assert summary["metrics"]["dsc"]["mean"] > 0.6
    return workdir

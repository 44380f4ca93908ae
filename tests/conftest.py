"""What several tests share: the repository's root, the real data, a tiny data set and config."""

import os
import pathlib
import tempfile

import pytest

from tests import runs

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Many tests, some in processes of their own, compile the same tiny network: each program once.
_compiled = tempfile.TemporaryDirectory(prefix="prnet-tests-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compiled.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def records_dir(tmp_path_factory):
    """Where the tests' prepared records lie, made once a session."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def tiny_config(records_dir):
    """The config of the tiny run of `tests.runs`, for a test to change."""
    return runs.tiny_config(records_dir)


@pytest.fixture(scope="session")
def finished_run(records_dir, tmp_path_factory):
    """A finished tiny run. Tests copy it before they change anything in it."""
    from prnet_jax.train import train_and_evaluate

    workdir = tmp_path_factory.mktemp("finished") / "run"
    train_and_evaluate(runs.tiny_config(records_dir), workdir)
    return workdir

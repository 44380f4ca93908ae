"""What several tests share: the repository's root, the real data, a tiny data set and config."""

import os
import pathlib
import tempfile

import pytest

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
    """PR-Net of width 4 to 16 on 8 + 4 + 3 phantom slices at 32x32, two steps an epoch."""
    from prnet_jax.config import make_config

    config = make_config("prnet", "quick")
    config.model.widths = (4, 8, 16)
    config.model.heads = 2
    config.dataset.data_dir = str(records_dir)
    config.dataset.options.size = 64
    config.dataset.options.num_slices = (8, 4, 3)
    config.dataset.image_size = 32
    config.batch_size = config.eval_batch_size = 4
    config.num_epochs = 2
    config.warmup_epochs = 0.5
    config.log_every_steps = 1
    return config

"""The parts that read records: what a call does."""

import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.benchmark import installed
from prnet_jax.benchmark.task import Task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


def task(folder, part, variant):
    return Task(part, "unet", 2, 32, "float32", variant=variant, slices=3, folder=str(folder))


@pytest.mark.parametrize("variant", ["read", "kept"])
def test_batches_are_read_again_or_kept(folder, monkeypatch, variant):
    read = []
    monkeypatch.setattr(
        installed.Slices,
        "_read",
        lambda self, i, old=installed.Slices._read: read.append(i) or old(self, i),
    )
    run, facts = installed.data(task(folder, "data", variant))
    run(2)  # each call two batches of two, as many as hold three slices
    assert facts == {"images": 4} and set(read) == {0, 1, 2}
    before = len(read)
    run(3)
    assert (len(read) == before) == (variant == "kept")


def test_the_hosts_share_of_an_evaluation(folder, monkeypatch):
    written = []
    monkeypatch.setattr(
        installed,
        "score",
        lambda *arguments, old=installed.score, **more: written.append(old(*arguments, **more)),
    )
    run, facts = installed.evaluate(task(folder, "evaluate", "host"))
    run(1)
    assert facts == {"images": 3}
    (summary,) = written
    assert 0.5 < summary["metrics"]["dsc"]["mean"] < 1  # moved by two pixels of 32


def test_a_moved_mask_is_the_same_on_host_and_device():
    mask = np.zeros((4, 6), np.float32)
    mask[1:3, 1:3] = 1
    expected = np.zeros((4, 6), np.float32)
    expected[1:3, 3:5] = 0.9
    np.testing.assert_allclose(installed._moved(mask), expected)
    np.testing.assert_allclose(installed._moved(jnp.asarray(mask)), expected)

"""A run of commit 14875b5 on Colab's libraries (jax 0.7.2, orbax-checkpoint 0.12.4) is still read.

`colab_14875b5.tar.gz` holds what is needed of the folder that this command wrote on a CPU:

    python -m prnet_jax.main --config configs/prnet.py:quick --workdir run \\
      --config.model.widths="(2,4)" --config.model.heads=2 --config.dataset.image_size=32 \\
      --config.dataset.options.size=64 --config.dataset.options.num_slices="(8,4,3)" \\
      --config.batch_size=4 --config.eval_batch_size=4 --config.num_epochs=2 \\
      --config.warmup_epochs=0.5 --config.log_every_steps=1 --config.ema_decay=0.9

The digests are of the arrays that commit and those libraries read back from it.
`phantom_1.1.0.tar.gz` holds the records of the run's data, since today's phantom is another:

    prepare("lung_phantom", DIR, size=64, num_slices=(8, 4, 3))  # at commit eadf160
"""

import csv
import hashlib
import json
import math
import pathlib
import tarfile

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from prnet_jax import optim, steps
from prnet_jax.evaluate import Choices, evaluate_run, source
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.directory import read_run
from prnet_jax.run.variables import load_variables

ARCHIVE = pathlib.Path(__file__).with_name("colab_14875b5.tar.gz")
RECORDS = pathlib.Path(__file__).with_name("phantom_1.1.0.tar.gz")
VARIABLES_SHA256 = "7ea451fba9ce72378f68dcd24d6575131f06367377d38fdf07c0c3f7bad18961"
STATE_SHA256 = "f1d2e91636ad4826c00bb77fec4ed9bb11f3377d35a79f41e1cf4ddb450ea6bd"
# Float32 probabilities of other versions and processors differ in the last digits.
PROBABILITY_TOLERANCE = 1e-6
# One of 1e5 pairs of a lung pixel and another pixel may change its order.
AUC_TOLERANCE = 1e-5


@pytest.fixture
def run(tmp_path):
    """The run's folder, unpacked."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def digest(arrays) -> str:
    found = hashlib.sha256()
    for array in map(np.asarray, arrays):
        found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def named(tree, prefix="") -> dict[str, np.ndarray]:
    found = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        found |= named(value, f"{path} > ") if isinstance(value, dict) else {path: value}
    return found


def test_variables_are_the_same_bits(run):
    variables = named(load_variables(run))
    assert digest(variables[name] for name in sorted(variables)) == VARIABLES_SHA256


def test_training_state_is_the_same_bits(run):
    config, _ = read_run(run)
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, steps_per_epoch=2))
    model = steps.make_model(config)
    state = jax.tree.map(
        lambda array: jax.device_put(np.zeros(array.shape, array.dtype)),
        jax.eval_shape(lambda: steps.init_state(config, model, optimizer)),
    )
    with Checkpoints(run) as checkpoints:
        assert (checkpoints.last_step, checkpoints.best_step) == (4, 4)
        state, clock = checkpoints.restore(state)
        best = checkpoints.restore_best(state)
    assert not (run / "damaged").exists()
    assert int(state.step) == 4
    assert digest(jax.tree.leaves(state)) == digest(jax.tree.leaves(best)) == STATE_SHA256
    assert clock["epochs"] == clock["best_epoch"] == 2
    assert clock["best_dsc"] == 0.04684651160130621


def test_test_scores_are_reproduced(run, tmp_path, monkeypatch):
    """No probability lies within 7e-4 of the threshold, so the masks are the same pixels."""
    with tarfile.open(RECORDS) as archive:
        archive.extractall(tmp_path, filter="data")
    records = tfds.builder_from_directory(tmp_path / "1.1.0")
    monkeypatch.setattr(source, "prepare", lambda *_, **__: records)
    before = json.loads((run / "test" / "summary.json").read_text(encoding="utf-8"))
    choices = Choices(out=str(tmp_path / "again"))
    now = evaluate_run(run, choices)
    for key in ("records", "split_manifest_sha256", "checkpoint_step", "checkpoint_epoch"):
        assert now[key] == before[key]
    assert now["metrics"].keys() == before["metrics"].keys() | {"mae_binary"}  # new since then
    for name, values in before["metrics"].items():
        assert now["metrics"][name] == pytest.approx(
            values, rel=0, abs=tolerance(name), nan_ok=True
        )
    old, new = (rows(folder / "per_image.csv") for folder in (run / "test", tmp_path / "again"))
    assert [row["id"] for row in new] == [row["id"] for row in old]
    for before_row, row in zip(old, new, strict=True):
        for name in before["metrics"]:
            assert math.isclose(
                float(row[name]), float(before_row[name]), rel_tol=0, abs_tol=tolerance(name)
            ), name


def tolerance(metric: str) -> float:
    """Scores of masks are float64: equal but for the order of their sums."""
    return {
        "mae": PROBABILITY_TOLERANCE,
        "brier": PROBABILITY_TOLERANCE,
        "auc": AUC_TOLERANCE,
    }.get(metric, 1e-12)


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))

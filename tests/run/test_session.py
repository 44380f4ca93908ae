"""Which epoch is the best: early stopping and the checkpoints agree."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.run import variables
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.log import MetricWriter, read_metrics
from prnet_jax.run.session import Session, new_clock
from prnet_jax.steps import TrainState

NAN = math.nan


def train(workdir, config, scores):
    """A session of epochs of one step each with these validation scores; what it printed."""
    state = TrainState(jnp.int32(0), {"w": jnp.zeros(2)}, {}, {}, None)
    config.num_epochs = len(scores)
    printed = []
    bar = _Bar(printed)
    with Checkpoints(workdir) as checkpoints, MetricWriter(workdir) as writer:
        session = Session(config, state, new_clock(), checkpoints, writer, bar)
        for loss, dsc in scores:
            if session.stopped_early:
                break
            session.step += 1
            found = {"loss": loss, "dsc": dsc, "iou": dsc}
            session.end_epochs(lambda found=found: (found, np.zeros((4, 4, 3), np.uint8)))
        checkpoints.wait()
        assert checkpoints.best_step == variables.best_step(workdir)
        assert checkpoints.best_step == session.clock["best_epoch"]
    return session, printed


class _Bar:
    """A progress bar that keeps the lines written above it."""

    def __init__(self, printed):
        self.write = printed.append

    def paused(self, doing):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.9, 0.5), (0.8, 0.7), (0.1, 0.7), (0.1, 0.6)], 2),  # the earliest of equals
        ([(0.9, 0.0), (0.8, 0.0), (0.1, 0.0)], 1),
        ([(0.9, NAN), (0.4, NAN), (0.4, NAN), (0.6, NAN)], 2),  # validation marks nothing
        ([(3.5, NAN), (3.0, NAN)], 2),
    ],
)
def test_early_stopping_and_checkpoints_have_the_same_best(tiny_config, tmp_path, scores, best):
    session, _ = train(tmp_path, tiny_config, scores)
    assert session.clock["best_epoch"] == best


def test_early_stopping_without_anything_marked_goes_by_the_loss(tiny_config, tmp_path):
    tiny_config.early_stopping_epochs = 2
    losses = [0.5, 0.4, 0.4, 0.45, 0.1]
    session, printed = train(tmp_path, tiny_config, [(loss, NAN) for loss in losses])
    assert session.clock["epochs"] == 4
    assert session.why_stopped_early == (
        "Stopped after epoch 4: no better validation than that of epoch 2 for 2 epochs."
    )
    assert printed[1] == "epoch 2/5: validation loss 0.4000, DSC -, IoU -"
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["val/dsc"] for line in lines] == [None] * 4
    assert [line["val/loss"] for line in lines] == losses[:4]


def test_in_runs_of_earlier_versions_the_newest_of_equals_stays_the_best(tiny_config, tmp_path):
    """Their metrics have no step."""
    train(tmp_path, tiny_config, [(0.5, 0.3), (0.5, 0.7), (0.5, 0.7)])
    for path in tmp_path.glob("checkpoints/*/metrics/metrics"):
        score = json.loads(path.read_text())
        path.write_text(json.dumps({"score": score["score"]}))
        (path.parents[2] / "seals" / f"{path.parents[1].name}.json").unlink()
    assert variables.best_step(tmp_path) == 3
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step == 3


@pytest.mark.parametrize(("epochs", "due"), [(7, [3, 6, 7]), (6, [3, 6]), (2, [2])])
def test_validations_of_every_third_epoch(tiny_config, tmp_path, epochs, due):
    """The last epoch has one, whatever its number."""
    tiny_config.num_epochs, tiny_config.validate_every_epochs = epochs, 3
    state = TrainState(jnp.int32(0), {}, {}, {}, None)
    session = Session(tiny_config, state, new_clock(), None, None, _Bar([]))
    found = []
    for epoch in range(1, epochs + 1):
        session.step += 2
        if session.validation_is_due(steps_per_epoch=2):
            found.append(epoch)
            session.clock["epochs"] = epoch
    assert found == due
    assert not session.validation_is_due(steps_per_epoch=2)  # a finished run that is begun again

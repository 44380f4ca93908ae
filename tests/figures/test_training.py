"""The curves of a training."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from prnet_jax.figures import training

RUN = [
    {"step": 1, "train/loss": 0.9, "train/learning_rate": 1e-3},
    {"step": 2, "train/loss": None},
    {"step": 2, "val/loss": 0.5},
    {"step": 2, "val/dsc": 0.9, "val/iou": 0.8},
    {"step": 3, "train/loss": 0.1, "train/learning_rate": 5e-4},
    {"step": 4, "val/loss": 0.4, "val/dsc": 0.99, "val/iou": 0.98},
    {"step": 6, "val/loss": 0.3, "val/dsc": 0.98, "val/iou": 0.96},
]


@pytest.mark.parametrize(
    "metrics",
    [RUN, RUN[:1], RUN[:4], [{"step": 1, "val/dsc": 0.0}], [{"step": 1, "train/loss": -1.0}], []],
)
def test_curves_draws_what_there_is(tmp_path, metrics):
    training.draw_training(metrics, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG" and picture.size == (1500, 600)
        pixels = np.asarray(picture.convert("RGB"))
    blue = (pixels == (31, 119, 180)).all(-1)  # the training loss left, the DSC right
    drawn = [any(r.get(name) is not None for r in metrics) for name in ("train/loss", "val/dsc")]
    assert [blue[:, :750].any(), blue[:, 750:].any()] == drawn


def test_best_epoch_is_marked_where_it_is():
    axes = Figure().subplots()
    training.draw_scores(axes, RUN)
    lines = {line.get_label(): line for line in axes.lines}
    star = lines["best: epoch 2, DSC 99.00 %"]
    assert star.get_xdata() == [2]
    np.testing.assert_allclose(star.get_ydata(), [0.01])
    np.testing.assert_array_equal(lines["DSC"].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(lines["IoU"].get_ydata(), [0.2, 0.02, 0.04])
    assert axes.yaxis.get_major_formatter()(0.005) == "99.5"
    low, high = axes.get_ylim()
    assert low > high  # less error is up


def test_epochs_as_recorded():
    axes = Figure().subplots()
    training.draw_scores(axes, [{"step": 7, "epoch": 14, "val/dsc": 0.5}])
    assert axes.lines[-1].get_label() == "best: epoch 14, DSC 50.00 %"


def test_smoothing_is_a_mean_cut_at_the_ends():
    values = np.arange(80.0) ** 2
    smooth = training.smooth(values)
    for index, window in ((0, values[:3]), (40, values[38:43]), (79, values[77:])):
        assert smooth[index] == pytest.approx(window.mean())
    np.testing.assert_array_equal(training.smooth(values[:5]), values[:5])

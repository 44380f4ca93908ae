"""Curves of an evaluation: calibration of the probabilities, overlap against the threshold."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from prnet_jax.figures.png import new_figure, save_figure
from prnet_jax.metrics.names import METRIC_NAMED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_calibration(
    table: Mapping[str, np.ndarray], calibration_error: float, path: str | os.PathLike
) -> None:
    """Writes the reliability diagram above a histogram of the bins, a PNG of 750 x 900 pixels.

    Args:
        table: the result of `prnet_jax.metrics.calibration.reliability`.
        calibration_error: of the same table.
        path: the PNG to write.
    """
    figure = new_figure(5, 6)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="perfect calibration")
    axes.plot(table["mean_prob"], table["foreground"], "o-", markersize=4, label="this network")
    axes.set_ylabel("share of the pixels that are foreground")
    axes.set_title(f"expected calibration error {calibration_error:.4f} (over pixels)", fontsize=10)
    axes.legend(frameon=False, loc="upper left")
    bins = len(table["pixels"])
    centres = (np.arange(bins) + 0.5) / bins
    below.bar(centres, table["pixels"], width=0.9 / bins, color="0.5")
    below.set_yscale("log")
    below.set_ylabel("pixels")
    below.set_xlabel("predicted probability of foreground")
    for each in (axes, below):
        each.set_xlim(0, 1)
        each.grid(alpha=0.3, linewidth=0.5)
    axes.set_ylim(0, 1)
    save_figure(figure, path)


def draw_thresholds(
    table: Mapping[str, np.ndarray], used: float, split: str, path: str | os.PathLike
) -> None:
    """Writes overlap against the threshold, the one in use marked, a PNG of 900 x 675 pixels.

    On the validation split the best threshold is marked too.

    Args:
        table: `threshold` and the means `dsc`, `iou`, `sen`, `ppv`, fractions, float64 [T]; and
            `best`, the best threshold, NaN where there is none.
        used: the threshold that the masks were made with.
        split: whose scores these are; the title names it.
        path: the PNG to write.
    """
    figure = new_figure(6, 4.5)
    axes = figure.subplots()
    for metric in (METRIC_NAMED[name] for name in ("dsc", "iou", "sen", "ppv")):
        scores = metric.factor * table[metric.name]
        axes.plot(table["threshold"], scores, label=metric.title, linewidth=1.6)
    _mark(axes, used, "0.2", "-", f"used: {used:g}")
    # On another split it would invite tuning on the scored images.
    if split == "validation" and not np.isnan(table["best"]):
        _mark(axes, float(table["best"]), "0.5", ":", f"best: {table['best']:g}")
    axes.set_xlim(0, 1)
    axes.set_xlabel("threshold of the probability")
    axes.set_ylabel("mean over images, %")
    about = "" if split == "validation" else ": to look at, not to choose a threshold by"
    axes.set_title(f"{split} split{about}", fontsize=10)
    axes.legend(frameon=False, fontsize="small", ncols=2)
    axes.grid(alpha=0.3, linewidth=0.5)
    save_figure(figure, path)


def _mark(axes: "Axes", at: float, colour: str, style: str, label: str) -> None:
    axes.axvline(at, color=colour, linestyle=style, linewidth=1, label=label)

"""Curves of a training: loss, learning rate, validation scores."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from prnet_jax.figures.png import new_figure, save_figure
from prnet_jax.metrics.names import METRIC_NAMED

_WIDE = 5  # largest over smallest value; above it an axis is labelled 1, 2, 5, 10, ...


def draw_training(metrics: Sequence[Mapping], path: str | os.PathLike) -> None:
    """Writes the course of a training as a PNG of 1500 x 600 pixels.

    On the left, the loss of training (raw and smoothed) and validation against the step, above the
    learning rate. On the right, the validation DSC and IoU against the epoch, with the best DSC
    marked.

    Args:
        metrics: records of metrics.jsonl with `step` and any of `train/loss`, `val/loss`,
            `train/learning_rate`, `val/dsc`, `val/iou` (fractions). A step with a validation
            metric ends an epoch; its number is `epoch`, or else epochs are counted from 1.
        path: the PNG to write.
    """
    figure = new_figure(10, 4)
    left, right = figure.subfigures(1, 2, wspace=0.03)
    _draw_losses(left, metrics)
    draw_scores(right.subplots(), metrics)
    save_figure(figure, path)


def _draw_losses(figure: SubFigure, metrics: Sequence[Mapping]) -> None:
    steps, rates = _series(metrics, "train/learning_rate")
    if len(steps):
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        below.plot(steps, rates, color="0.4", linewidth=1.2)
        below.set_ylim(bottom=0)
        below.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        below.set_ylabel("learning\nrate", fontsize="small")
    else:
        axes = below = figure.subplots()

    drawn = []
    steps, loss = _series(metrics, "train/loss")
    if len(steps):
        mark = "." if len(steps) < 30 else ""
        axes.plot(steps, loss, marker=mark, color="tab:blue", alpha=0.3, lw=0.8, label="training")
        axes.plot(steps, smooth(loss), color="tab:blue", label="smoothed")
        drawn.append(loss)
    steps, loss = _series(metrics, "val/loss")
    if len(steps):
        axes.plot(steps, loss, "o-", color="tab:orange", markersize=3, label="validation")
        drawn.append(loss)
    if drawn:
        _legend_above(axes)
        drawn = np.concatenate(drawn)
        if drawn.min() > 0 and drawn.max() / drawn.min() > _WIDE:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3, linewidth=0.5)
    below.set_xlabel("step")


def draw_scores(axes: Axes, metrics: Sequence[Mapping]) -> None:
    """Draws the right half of `draw_training`."""
    epochs = {}  # step -> epoch
    for record in metrics:
        if any(name.startswith("val/") for name in record):
            epochs.setdefault(record["step"], record.get("epoch", len(epochs) + 1))
    drawn = []
    for name, colour in (("iou", "tab:orange"), ("dsc", "tab:blue")):
        metric = METRIC_NAMED[name]
        steps, score = _series(metrics, f"val/{name}")
        if not len(steps):
            continue
        epoch = [epochs[step] for step in steps]
        error = np.clip(1 - score, 1e-4, 1)
        axes.plot(epoch, error, "o-", color=colour, markersize=3, label=metric.title)
        drawn.append(error)
        if name == "dsc":
            best = int(np.argmax(score))
            value = metric.text_with_unit(score[best])
            label = f"best: epoch {epoch[best]:g}, {metric.title} {value}"
            axes.plot(epoch[best], error[best], "k*", markersize=11, label=label)
    if drawn:
        _legend_above(axes)
        _error_axis(axes, np.concatenate(drawn))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation, % (log scale of the error)")
    axes.grid(alpha=0.3, linewidth=0.5)


def _error_axis(axes: Axes, error: np.ndarray) -> None:
    """A log axis of 1 - share: 98 and 99 % are well apart and 20 % still fits; better is up."""
    axes.set_yscale("log")
    wide = error.max() / error.min() > _WIDE
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * (1 - value):.4g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(min(1.0, error.max() * 1.3), error.min() / 1.3)


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        frameon=False,
        columnspacing=1.2,
        handlelength=1.5,
    )


def _series(metrics: Sequence[Mapping], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps that have a value of a metric and those values, both [n]."""
    found = [(r["step"], r[name]) for r in metrics if r.get(name) is not None]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.asarray(steps), np.asarray(values, np.float64)


def smooth(values: np.ndarray) -> np.ndarray:
    """The running mean over a twentieth of float64 [n], the window cut off at the ends."""
    half = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[last] - total[first]) / (last - first)

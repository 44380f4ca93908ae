"""Draws the pictures of docs/metrics.md with our own metrics: python docs/pictures/metrics.py"""

import math
import pathlib

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import ListedColormap  # noqa: E402

from prnet_jax import metrics  # noqa: E402
from prnet_jax.metrics.names import METRIC_NAMED  # noqa: E402
from prnet_jax.metrics.surface import surface, surface_distances  # noqa: E402

PICTURES = ("overlap", "distances", "probabilities", "empty")
TARGET, PRED, BOTH, NEITHER = "#0f9d58", "#d01884", "#4a5568", "#f1f3f5"


def masks() -> tuple[np.ndarray, np.ndarray]:
    """(prediction, target), bool [22, 30]: two ovals, and a speck of the prediction."""
    rows, columns = np.indices((22, 30))
    target = ((rows - 11) / 8) ** 2 + ((columns - 12) / 9) ** 2 < 1
    pred = ((rows - 10) / 7) ** 2 + ((columns - 15) / 8) ** 2 < 1
    pred[3:5, 27:29] = True
    return pred, target


def kinds(axes: Axes, pred: np.ndarray, target: np.ndarray) -> None:
    """Shows pixels of neither, the target only, the prediction only, both."""
    colours = ListedColormap([NEITHER, TARGET, PRED, BOTH])
    kind = target + 2 * pred
    axes.pcolormesh(kind, cmap=colours, vmin=0, vmax=3, edgecolors="white", linewidth=0.6)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()


def named(values: dict[str, float], *names: str) -> str:
    """A line for each metric: its title and value as everywhere else."""
    return "\n".join(
        f"{METRIC_NAMED[name].title:<14} {METRIC_NAMED[name].text_with_unit(values[name])}"
        for name in names
    )


def overlap(folder: pathlib.Path) -> None:
    pred, target = masks()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), width_ratios=(3, 2))
    kinds(left, pred, target)
    right.set_axis_off()
    for y, (colour, text) in enumerate(
        [(BOTH, "TP: both"), (PRED, "FP: prediction only"), (TARGET, "FN: target only")]
        + [(NEITHER, "TN: neither")]
    ):
        right.text(0, 0.95 - 0.09 * y, "■", color=colour, fontsize=14, va="center")
        right.text(0.1, 0.95 - 0.09 * y, text, va="center")
    scores = metrics.overlap(pred, target)
    text = named(scores, "iou", "dsc", "sen", "ppv", "acc", "spe")
    right.text(0, 0.02, text, family="monospace", va="bottom", linespacing=1.5)
    save(figure, folder / "overlap.png")


def distances(folder: pathlib.Path) -> None:
    pred, target = masks()
    to_target, to_pred = surface_distances(pred, target)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), width_ratios=(1, 1))
    kinds(left, surface(pred), surface(target))
    # The pixel of the prediction that decides the Hausdorff distance, and its nearest one.
    points, others = np.argwhere(surface(pred)), np.argwhere(surface(target))
    apart = np.linalg.norm(points[:, None] - others[None], axis=-1)
    start = apart.min(axis=1).argmax()
    end = apart[start].argmin()
    ends = np.stack([points[start], others[end]]) + 0.5
    left.plot(ends[:, 1], ends[:, 0], color="black", marker="o", markersize=4)
    left.set_title("Border pixels; the line is HD", fontsize=10)

    rows = score(pred, target)
    for found, colour, label in (
        (to_target, PRED, "from the prediction"),
        (to_pred, TARGET, "from the target"),
    ):
        x = np.sort(found)
        right.step(x, np.arange(1, len(x) + 1) / len(x), where="post", color=colour, label=label)
    for name, style in (
        ("hd_px", "-"),
        ("hd95_px", "--"),
        ("hd95_pooled_px", ":"),
        ("assd_px", "-."),
    ):
        metric = METRIC_NAMED[name]
        label = f"{metric.title}: {metric.text_with_unit(rows[name])}"
        right.axvline(rows[name], color="black", linestyle=style, linewidth=1, label=label)
    dice = METRIC_NAMED["surface_dice_1px"]
    text = f"{dice.title}: {dice.text_with_unit(rows[dice.name])}"
    right.axvspan(-0.2, 1, color="#cfd8dc", zorder=0, label=text)
    right.set_xlim(-0.2, rows["hd_px"] + 0.5)
    right.set_xlabel("distance to the other border, px")
    right.set_ylabel("share of border pixels")
    right.legend(fontsize=8, loc="lower right")
    save(figure, folder / "distances.png")


def score(pred: np.ndarray, target: np.ndarray, policy: str = "penalise") -> dict[str, float]:
    return metrics.score_image(pred.astype(np.float64), target, policy=policy)


def probabilities(folder: pathlib.Path) -> None:
    x = np.arange(24)
    target = (x >= 7) & (x < 17)
    prob = 1 / (1 + np.exp(np.abs(x - 11) - 5.2)) + 0.6 * np.exp(-((x - 20) ** 2) / 3)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(3, 2))
    left.bar(x, np.abs(prob - target), bottom=np.minimum(prob, target), width=1, color="#cfd8dc")
    left.step(x, target, where="mid", color=TARGET, label="target G")
    left.plot(x, prob, color=PRED, marker=".", label="probability P")
    left.axhline(0.5, color="black", linewidth=0.8, linestyle=":", label="threshold")
    row, wanted = prob[None], target[None]
    values = {"mae": metrics.mae(row, wanted), "brier": metrics.brier(row, wanted)}
    text = ", ".join(
        f"{METRIC_NAMED[k].title} {METRIC_NAMED[k].text(v)}" for k, v in values.items()
    )
    left.set_title(f"Mean of the grey bars: MAE; of their squares: Brier\n{text}", fontsize=10)
    left.set_xlabel("pixel")
    left.legend(fontsize=8, loc="upper left")

    thresholds = [2.0, *sorted(prob, reverse=True)]
    false = [(prob >= t)[~target].mean() for t in thresholds]
    true = [(prob >= t)[target].mean() for t in thresholds]
    right.plot(false, true, color=PRED)
    right.fill_between(false, true, color="#cfd8dc")
    right.set_aspect("equal")
    right.set_xlabel("1 - SPE")
    right.set_ylabel("SEN")
    auc = METRIC_NAMED["auc"].text_with_unit(metrics.auc(row, wanted))
    right.set_title(f"Area under the ROC curve\nAUC {auc}", fontsize=10)
    save(figure, folder / "probabilities.png")


def empty(folder: pathlib.Path) -> None:
    _, target = masks()
    none = np.zeros_like(target)
    cases = [("both empty", none, none), ("missed", none, target), ("false alarm", target, none)]
    figure, panels = plt.subplots(1, 3, figsize=(8.5, 3.2))
    figure.subplots_adjust(left=0.3, wspace=0.08, bottom=0.3)
    for axes, (title, pred, wanted) in zip(panels, cases, strict=True):
        kinds(axes, pred, wanted)
        axes.set_title(title, fontsize=10)
    for line, policy in enumerate(metrics.POLICIES):
        y = 0.24 - 0.09 * line
        figure.text(0.01, y, policy, family="monospace", fontsize=9)
        for axes, (_, pred, wanted) in zip(panels, cases, strict=True):
            row = score(pred, wanted, policy)
            text = "   ".join(
                f"{METRIC_NAMED[k].title} {'-' if math.isnan(row[k]) else f'{row[k]:.3g}'}"
                for k in ("dsc", "hd_px")
            )
            box = axes.get_position()
            figure.text((box.x0 + box.x1) / 2, y, text, ha="center", fontsize=9)
    figure.text(0.01, 0.6, "green: target\npink: prediction", fontsize=9, va="center")
    save(figure, folder / "empty.png")


def save(figure: plt.Figure, path: pathlib.Path) -> None:
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    for name in PICTURES:
        globals()[name](pathlib.Path(__file__).parent)

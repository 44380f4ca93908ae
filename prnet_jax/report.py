"""What a run says on the terminal: at its start, and at its end with the paper's row beside."""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
from clu import parameter_overview

from prnet_jax.metrics.names import LINES
from prnet_jax.paper import TABLE_1
from prnet_jax.run.provenance import describe_devices

_MISSING = "-"


def beginning(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    sizes: Mapping[str, int],
    steps_per_epoch: int,
    params: Any,
) -> str:
    """The parameters as clu lists them; network, device, data with split sizes, training, folder.

    Args:
        config: the run's.
        workdir: the run directory.
        sizes: images by split.
        steps_per_epoch: of training.
        params: the network's parameters.
    """
    size = config.dataset.image_size
    images = " / ".join(f"{number} {split}" for split, number in sizes.items())
    return "\n".join(
        [
            parameter_overview.get_parameter_overview(params, include_stats=False),
            f"network    {config.model.name}, {config.dtype}",
            f"device     {describe_devices()}",
            f"data       {config.dataset.name}, mask {config.dataset.mask!r}: {images} images",
            f"training   {config.num_epochs} epochs of {steps_per_epoch} steps of "
            f"{config.batch_size} images at {size}x{size}",
            f"run        {workdir}",
        ]
    )


def end(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    summary: Mapping[str, Any],
    clock: Mapping[str, Any],
) -> str:
    """The final table, and where the files and pictures are.

    Args:
        config: the run's.
        workdir: the run directory.
        summary: the content of test/summary.json.
        clock: the run's, see `prnet_jax.train`.
    """
    return "\n".join(
        [
            f"\nTrained for {clock['train_s'] / 60:.1f} min.",
            evaluated(summary, workdir / "test"),
            f"curves     {workdir / 'curves.png'}",
            f"events     tensorboard --logdir {workdir / 'events'}",
        ]
    )


def evaluated(summary: Mapping[str, Any], directory: pathlib.Path) -> str:
    """What was scored, the table, and where the files and pictures are.

    Args:
        summary: the content of summary.json.
        directory: where it lies.
    """
    size, network = summary["image_size"], summary["network"]
    comparable = summary["dataset"] == "finding_lungs" and summary["split"] == "test"
    epoch = summary["checkpoint_epoch"]
    how = [f"threshold {summary['threshold']:g}"]
    if summary["threshold_from"] == "validation":
        how[0] += " (the best on validation)"
    if summary["tta"] != "none":
        how.append(f"test-time augmentation by {summary['tta']}")
    lines = [
        f"\n{summary['split'].capitalize()} split of {summary['dataset']} (mask "
        f"{summary['mask']!r}) at {size}x{size}, {network} of epoch "
        f"{'?' if epoch is None else epoch} (best validation DSC), {', '.join(how)}:\n",
        table(summary, TABLE_1.get(network), comparable),
    ]
    if "readers" in summary:
        lines += ["", *_reader_lines(summary["readers"])]
    return "\n".join(
        [
            *lines,
            f"\noverview   {directory / 'overview.png'}",
            f"overlays   {directory / 'overlays'} (worst first)",
            f"curves     {directory / 'calibration.png'}, {directory / 'thresholds.png'}",
            f"tables     {directory / 'per_image.csv'}, {directory / 'summary.json'}",
        ]
    )


def table(summary: Mapping, paper_row: Mapping | None = None, comparable: bool = True) -> str:
    """The final table: Markdown whose columns are also aligned for a terminal.

    Args:
        summary: as in summary.json: `metrics` {name: {mean, sd, median, n}}, `pooled`
            {name: value}, `counts` {n_images, missed, false_alarm, both_empty} and, where given,
            `empty_rule`; shares as fractions, distances in px or mm, None where not known.
        paper_row: a row of `prnet_jax.paper.TABLE_1`, or None for no such column.
        comparable: False where the test images are not of the paper's kind (the phantom), so that
            its column is marked as no yardstick.

    Returns:
        The table, a blank line, the counts, the rule for empty masks. A line of the table is one
        metric: mean and standard deviation over the images, the bootstrap interval of the mean,
        the number of images scored, the value over all pixels of the split together, the paper's
        value. A metric without any value is left out; a single value that is missing is "-".
    """
    header = ["metric", "per image, mean ± sd", "95 % interval", "images", "pooled"]
    if paper_row is not None:
        header.append(f"paper: {paper_row['method']}" + ("" if comparable else ", not comparable"))

    body = []
    for name, label, factor, decimals in LINES:
        scores = summary["metrics"].get(name, {})
        mean, sd = (_number(scores.get(key), factor, decimals) for key in ("mean", "sd"))
        pooled = _number(summary["pooled"].get(name), factor, decimals)
        paper = _number((paper_row or {}).get(name), factor, decimals)
        if {mean, pooled, paper} == {_MISSING}:
            continue
        if name == "hd_mm" and paper != _MISSING:
            paper += " (as stated)"  # the paper gives no pixel spacing
        per_image = mean if sd == _MISSING else f"{mean} ± {sd}"
        ends = [_number(scores.get(f"ci95_{end}"), factor, decimals) for end in ("low", "high")]
        interval = _MISSING if _MISSING in ends else " to ".join(ends)
        row = [label, per_image, interval, str(scores.get("n", 0)), pooled, paper]
        body.append(row[: len(header)])

    lines = markdown_table(header, body)
    lines += ["", _count_line(summary["counts"])]
    if rule := summary.get("empty_rule"):
        lines.append(f"Empty masks, policy {summary['empty_policy']!r}: {rule}.")
    return "\n".join(lines)


def _number(value: float | None, factor: float, decimals: int) -> str:
    return _MISSING if value is None else f"{value * factor:.{decimals}f}"


def markdown_table(header: list[str], body: list[list[str]]) -> list[str]:
    """The lines of a pipe table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join(aligned) + " |"

    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return [line(header), line(rule), *(line(cells) for cells in body)]


def _reader_lines(readers: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """The network beside the readers: mean Dice of pairs."""
    header = ["mean Dice %", "images both marked", "images one or both marked"]
    body = [
        [
            pair.replace("_", " "),
            *(_number(means[k], 100, 2) for k in ("dice_both_marked", "dice_any_marked")),
        ]
        for pair, means in readers.items()
    ]
    return markdown_table(header, body)


def _count_line(counts: dict) -> str:
    return (
        f"{counts['n_images']} images: {counts['missed']} missed (mask, but nothing predicted), "
        f"{counts['false_alarm']} false alarms (no mask, but something predicted), "
        f"{counts['both_empty']} both empty."
    )

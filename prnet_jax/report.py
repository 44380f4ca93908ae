"""What a run prints: its plan at the start, its scores beside the paper's at the end."""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
from clu import parameter_overview

from prnet_jax.metrics.names import METRIC_NAMED, PRINTED_METRICS
from prnet_jax.paper import TABLE_1
from prnet_jax.run import files
from prnet_jax.run.provenance import describe_devices


def beginning(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    sizes: Mapping[str, int],
    steps_per_epoch: int,
    params: Any,
) -> str:
    """The parameters as clu lists them; then network, device, data, training and folder.

    Args:
        config: of the run.
        workdir: the run directory.
        sizes: the number of images in each split.
        steps_per_epoch: of training.
        params: of the network.
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


def end(workdir: pathlib.Path, summary: Mapping[str, Any], clock: Mapping[str, Any]) -> str:
    """The final table, and where the files and pictures are.

    Args:
        workdir: the run directory.
        summary: the content of the test split's summary.json.
        clock: the run's times, with `train_s` in seconds.
    """
    return "\n".join(
        [
            f"\nTrained for {clock['train_s'] / 60:.1f} min.",
            evaluated(summary, workdir / files.TEST),
            f"curves     {workdir / files.CURVES}",
            f"events     tensorboard --logdir {workdir / files.EVENTS}",
        ]
    )


def evaluated(summary: Mapping[str, Any], directory: pathlib.Path) -> str:
    """What was scored and how, the table, and where the files and pictures are.

    Args:
        summary: the content of summary.json.
        directory: the folder that holds it.
    """
    size, network = summary["image_size"], summary["network"]
    comparable = summary["dataset"] == "finding_lungs" and summary["split"] == "test"
    epoch = summary["checkpoint_epoch"]
    chosen_by = summary.get("checkpoint_chosen_by", "validation DSC")
    how = [f"threshold {summary['threshold']:g}"]
    if summary["threshold_from"] == "validation":
        how[0] += " (the best on validation)"
    if summary["tta"] != "none":
        how.append(f"test-time augmentation by {summary['tta']}")
    of = f"of epoch {'?' if epoch is None else epoch} (best {chosen_by})"
    if "weights" in summary:
        of = f"with {summary['weights']}"
    lines = [
        f"\n{summary['split'].capitalize()} split of {summary['dataset']} (mask "
        f"{summary['mask']!r}) at {size}x{size}, {network} {of}, {', '.join(how)}:\n",
        table(summary, TABLE_1.get(network), comparable),
    ]
    if "readers" in summary:
        lines += ["", *_reader_lines(summary["readers"])]
    stems = [directory / name for name in (files.CALIBRATION, files.THRESHOLDS)]
    return "\n".join(
        [
            *lines,
            f"\noverview   {directory / files.OVERVIEW}",
            f"overlays   {directory / files.OVERLAYS} (worst first)",
            f"curves     {', '.join(f'{stem}.png' for stem in stems)}",
            f"tables     {directory / files.PER_IMAGE}, {directory / files.SUMMARY}",
        ]
    )


def table(summary: Mapping, paper_row: Mapping | None = None, comparable: bool = True) -> str:
    """The final table: Markdown with columns that are also aligned in a terminal.

    Args:
        summary: as in summary.json: `metrics` {name: {mean, sd, median, n}}, `pooled`
            {name: value}, `counts` {n_images, missed, false_alarm, both_empty} and optionally
            `empty_rule`; shares as fractions, distances in px or mm, None where unknown.
        paper_row: a row of `prnet_jax.paper.TABLE_1`; None for no such column.
        comparable: False if the test images are not of the paper's kind, as in the phantom; the
            paper's column then says so.

    Returns:
        The table, a blank line, the counts, and the rule for empty masks. A line of the table is
        one metric: mean and standard deviation over the images, the bootstrap interval of the mean,
        the number of scored images, the value over all pixels of the split together, and the
        paper's value. Metrics without any value are left out; a single missing value is "-".
    """
    header = ["metric", "per image, mean ± sd", "95 % interval", "images", "pooled"]
    if paper_row is not None:
        header.append(f"paper: {paper_row['method']}" + ("" if comparable else ", not comparable"))

    body = []
    for metric in PRINTED_METRICS:
        scores = summary["metrics"].get(metric.name, {})
        mean, sd = (metric.text(scores.get(key)) for key in ("mean", "sd"))
        pooled = metric.text(summary["pooled"].get(metric.name))
        paper = metric.text((paper_row or {}).get(metric.name))
        if {mean, pooled, paper} == {"-"}:
            continue
        if metric.name == "hd_mm" and paper != "-":
            paper += " (as stated)"  # the paper gives no pixel spacing
        per_image = mean if sd == "-" else f"{mean} ± {sd}"
        ends = [metric.text(scores.get(f"ci95_{end}")) for end in ("low", "high")]
        interval = "-" if "-" in ends else " to ".join(ends)
        row = [metric.label, per_image, interval, str(scores.get("n", 0)), pooled, paper]
        body.append(row[: len(header)])

    lines = markdown_table(header, body)
    lines += ["", _count_line(summary["counts"])]
    if rule := summary.get("empty_rule"):
        lines.append(f"Empty masks, policy {summary['empty_policy']!r}: {rule}.")
    return "\n".join(lines)


def markdown_table(header: list[str], body: list[list[str]]) -> list[str]:
    """The lines of a pipe table: the first column aligned left, the others right."""
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join(aligned) + " |"

    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return [line(header), line(rule), *(line(cells) for cells in body)]


def _reader_lines(readers: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """The mean Dice of the network with the readers, and of the readers with each other."""
    header = ["mean Dice %", "images both marked", "images one or both marked"]
    dice = METRIC_NAMED["dsc"]
    body = [
        [
            pair.replace("_", " "),
            *(dice.text(means[k]) for k in ("dice_both_marked", "dice_any_marked")),
        ]
        for pair, means in readers.items()
    ]
    return markdown_table(header, body)


def _count_line(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['n_images']} images: {counts['missed']} missed (mask, but nothing predicted), "
        f"{counts['false_alarm']} false alarms (no mask, but something predicted), "
        f"{counts['both_empty']} both empty."
    )

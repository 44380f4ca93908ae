"""What a run prints: its plan at the start, its scores and what to do next at the end."""

import importlib.util
import itertools
import pathlib
import re
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from prnet_jax.commands import interpreter
from prnet_jax.metrics.names import METRIC_NAMED, PRINTED_METRICS, VOLUME_METRIC_NAMED
from prnet_jax.paper import TABLE_1
from prnet_jax.run import files
from prnet_jax.run.provenance import describe_devices

_VOLUME_LINE = ("dsc_3d", "hd95_mm_3d", "assd_mm_3d", "surface_dice_2mm_3d")
_WIDTH = 80  # of a terminal; only paths may be longer
_CURVES = (f"{files.CALIBRATION}.png", f"{files.THRESHOLDS}.png")


def beginning(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    sizes: Mapping[str, int],
    steps_per_epoch: int,
    params: Mapping[str, Any],
) -> str:
    """Network with the parameters of its modules, device, data, training and folder.

    Args:
        config: of the run.
        workdir: the run directory.
        sizes: the number of images in each split.
        steps_per_epoch: of training.
        params: of the network.
    """
    size = config.dataset.image_size
    numbers = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in params.items()}
    width = max(map(len, numbers))
    return "\n".join(
        [
            f"network    {config.model.name}, {config.dtype}: {sum(numbers.values()):,} parameters",
            *(f"             {name:<{width}} {number:>12,}" for name, number in numbers.items()),
            f"           all arrays: {_command('models', workdir)}",
            f"device     {describe_devices()}",
            f"data       {config.dataset.name}, mask {config.dataset.mask!r}",
            f"images     {', '.join(f'{number} {split}' for split, number in sizes.items())}",
            f"training   {config.num_epochs} epochs of {steps_per_epoch} steps of "
            f"{config.batch_size} images at {size}x{size}",
            f"run        {workdir}",
        ]
    )


def end(
    workdir: pathlib.Path,
    summary: Mapping[str, Any],
    clock: Mapping[str, Any],
    trained: bool = True,
) -> str:
    """The final table, where the files and pictures are, and what to do next.

    Args:
        workdir: the run directory.
        summary: the content of the test split's summary.json.
        clock: of the run, with `epochs` and `train_s` in seconds.
        trained: False if the run was finished before, and only repeats its result.
    """
    epochs, minutes = clock["epochs"], clock["train_s"] / 60
    lines = [f"\nTrained for {minutes:.1f} min."]
    if not trained:
        lines = [
            f"\nThis run is finished: {epochs} epoch{'s' if epochs != 1 else ''}, trained for "
            f"{minutes:.1f} min.",
            f"To train longer, start from its weights: --config.init_from={workdir}",
            "and another --workdir.",
        ]
    return "\n".join(
        [
            *lines,
            evaluated(summary, workdir / files.TEST),
            _row("training", f"in {workdir}: {files.CURVES}, {files.METRICS}, {files.EVENTS}/"),
            "\nnext:",
            *(f"  {command}" for command in _next(workdir)),
        ]
    )


def evaluated(summary: Mapping[str, Any], directory: pathlib.Path) -> str:
    """The headline, the table and how it was made, and where the files and pictures are.

    Args:
        summary: the content of summary.json.
        directory: the folder that holds it.
    """
    dataset, network = summary["dataset"], summary["network"]
    epoch = summary.get("checkpoint_epoch")
    chosen_by = summary.get("checkpoint_chosen_by", "validation DSC")
    # A person's own images have nothing to do with the paper's.
    paper_row = None if dataset == "image_folder" else TABLE_1.get(network)
    comparable = dataset == "finding_lungs" and summary["split"] == "test"
    how = [f"threshold {summary['threshold']:g}"]
    if summary["threshold_from"] == "validation":
        how[0] += " (the best on validation)"
    if summary["tta"] != "none":
        how.append(f"test-time augmentation by {summary['tta']}")
    of = f"of epoch {'?' if epoch is None else epoch} (best {chosen_by})"
    if source := summary.get("weights") or summary.get("predictions"):
        of = f"of {source}"
    lines = [
        f"\n{_headline(summary)}",
        _filled(
            f"{summary['split'].capitalize()} split of {dataset} (mask {summary['mask']!r}) "
            f"{scored_at(summary)}, {network} {of}, {', '.join(how)}:"
        ),
        "",
        table(summary, paper_row, comparable),
    ]
    if "volumes" in summary:
        lines += ["", _volume_line(summary["volumes"])]
    if "readers" in summary:
        lines += ["", *_reader_lines(summary["readers"])]
    drawn = (files.OVERVIEW, f"{files.OVERLAYS}/ (worst first)")
    curves = () if summary.get("of_masks") else _CURVES
    per_volume = [files.PER_VOLUME] if "volumes" in summary else []
    names = ", ".join([*drawn, files.PER_IMAGE, *per_volume, files.SUMMARY, *curves])
    return "\n".join([*lines, "", _row("files", f"in {directory}: {names}")])


def scored_at(summary: Mapping[str, Any]) -> str:
    """Where masks were scored: "at 128x128", "in the middle 64x64", or "as stored"."""
    if summary.get("resolution") == "native":
        return "as stored"
    where = "in the middle" if summary.get("resize") == "middle" else "at"
    return f"{where} {summary['image_size']}x{summary['image_size']}"


def _volume_line(volumes: Mapping[str, Any]) -> str:
    """Means over the volumes, and why some have no distances; evaluations before had only Dice."""
    number = volumes["n"]
    means = [
        f"{VOLUME_METRIC_NAMED[name].title} "
        f"{VOLUME_METRIC_NAMED[name].text_with_unit(volumes[name]['mean'])}"
        for name in _VOLUME_LINE
        if volumes.get(name, {}).get("n")
    ]
    line = f"{number} volume{'s' if number != 1 else ''}: mean {', '.join(means) or '-'} (all "
    line += "voxels of a volume together)."
    for why, without in volumes.get("no_distances", {}).items():
        line += f" Distances of {without} of {number} not measured: {why}."
    return _filled(line)


def table(summary: Mapping, paper_row: Mapping | None = None, comparable: bool = True) -> str:
    """The final table: Markdown with columns that are also aligned in a terminal.

    Args:
        summary: as in summary.json: `metrics` {name: {mean, sd, median, n}}, `pooled`
            {name: value}, `counts` {n_images, missed, false_alarm, both_empty} and optionally
            `empty_rule`; shares as fractions, distances in px or mm, None where unknown.
        paper_row: a row of `prnet_jax.paper.TABLE_1`; None for no such column.
        comparable: False if the test images are not of the paper's kind, as in the phantom; the
            line on the paper's column then says so.

    Returns:
        The table, at most 80 columns wide, a blank line, and lines on the paper's column and on
        empty masks, with their rule where there are any. A line of the table is one metric: mean
        and standard deviation over the images, the bootstrap interval of the mean, the number n of
        scored images, the value over all pixels of the split together, and the paper's value.
        Metrics without a value are left out; a single missing value is "-".
    """
    body = []
    for metric in PRINTED_METRICS:
        scores = summary["metrics"].get(metric.name, {})
        mean, sd = (metric.text(scores.get(key)) for key in ("mean", "sd"))
        pooled = metric.text(summary["pooled"].get(metric.name))
        if mean == pooled == "-":
            continue
        ends = [metric.text(scores.get(f"ci95_{end}")) for end in ("low", "high")]
        row = [
            metric.label.replace("surface", "surf."),  # the longest
            mean if sd == "-" else f"{mean} ± {sd}",
            "-" if "-" in ends else "–".join(ends),
            str(scores.get("n", 0)),
            pooled,
        ]
        body.append(row if paper_row is None else [*row, metric.text(paper_row.get(metric.name))])

    header = ["metric", "mean ± sd", "95 % interval", "n", "pooled"]
    notes = []
    if paper_row is not None:
        header.append("paper")
        notes.append(_paper_line(paper_row, comparable))
    notes.append(_count_line(summary["counts"]))
    empty = any(summary["counts"][state] for state in ("missed", "false_alarm", "both_empty"))
    if empty and (rule := summary.get("empty_rule")):
        notes.append(f"Empty masks, policy {summary['empty_policy']!r}: {rule}.")
    return "\n".join([*markdown_table(header, body), "", *map(_filled, notes)])


def markdown_text(text: str) -> str:
    """Text escaped so that Markdown shows it literally and within its cell."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return re.sub(r"([|*`\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def markdown_table(header: list[str], body: list[list[str]]) -> list[str]:
    """The lines of a pipe table: the first column aligned left, the others right."""
    # At least 2, for the colon of a column that is aligned right.
    widths = [max(2, *(len(row[i]) for row in [header, *body])) for i in range(len(header))]

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


def _headline(summary: Mapping[str, Any]) -> str:
    """The mean DSC, IoU and HD in a line."""

    def score(name: str) -> str:
        metric = METRIC_NAMED[name]
        mean = summary["metrics"].get(name, {}).get("mean")
        return f"{metric.title} {metric.text_with_unit(mean)}"

    in_mm = summary["metrics"].get("hd_mm", {}).get("mean") is not None
    scores = ", ".join(map(score, ("dsc", "iou", "hd_mm" if in_mm else "hd_px")))
    number = summary["counts"]["n_images"]
    return f"{scores} (mean of {number} {summary['split']} images)"


def _paper_line(paper_row: Mapping, comparable: bool) -> str:
    line = f"paper: {paper_row['method']} in its Table 1"
    if not comparable:
        return f"{line}, on other images: not comparable."
    hd = METRIC_NAMED["hd_mm"].text_with_unit(paper_row["hd_mm"])
    return f"{line}. It states an HD of {hd}, and no pixel spacing."


def _count_line(counts: Mapping[str, int]) -> str:
    if not any(counts[state] for state in ("missed", "false_alarm", "both_empty")):
        return f"{counts['n_images']} images: no mask is empty, neither drawn nor predicted."
    return (
        f"{counts['n_images']} images: {counts['missed']} missed (mask, but nothing predicted), "
        f"{counts['false_alarm']} false alarms (no mask, but something predicted), "
        f"{counts['both_empty']} both empty."
    )


def _next(workdir: pathlib.Path) -> list[str]:
    """Commands that run as they are, in the folder where this process was started."""
    names = itertools.chain(["comparison"], (f"comparison_{i}" for i in itertools.count(2)))
    new = next(name for name in names if not pathlib.Path(name).exists())
    commands = [
        _command("evaluate", "--workdir", workdir, "--tta", "flips"),
        _command("compare", workdir, "--out", new),
    ]
    if importlib.util.find_spec("tensorboard"):
        logdir = str(workdir / files.EVENTS)
        commands.append(shlex.join([interpreter(), "-m", "tensorboard.main", "--logdir", logdir]))
    return commands


def _command(name: str, *arguments: str | pathlib.Path) -> str:
    """A command of this package as a person types it."""
    return shlex.join([interpreter(), "-m", f"prnet_jax.{name}", *map(str, arguments)])


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _row(name: str, text: str) -> str:
    """A word, and what belongs to it in a column beside it."""
    lines = textwrap.wrap(text, _WIDTH - 11, break_long_words=False, break_on_hyphens=False)
    return f"{name:<11}" + f"\n{'':<11}".join(lines)

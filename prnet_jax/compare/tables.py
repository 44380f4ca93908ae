"""The comparison as Markdown, LaTeX and CSV, with the best values marked and the paper's rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prnet_jax.compare.differences import HEADING, Difference
from prnet_jax.compare.rows import Row
from prnet_jax.metrics.names import METRIC_NAMED, PRINTED_METRICS, Metric
from prnet_jax.paper import TABLE_1, TEST_IMAGES
from prnet_jax.report import markdown_table, markdown_text, scored_at
from prnet_jax.run.files import csv_text

BEST, SECOND = "best", "second"
_PAPER_FAMILIES = ("iou", "hd", "dsc", "mae", "acc", "spe")
_WITH_INTERVAL = {"iou": "IoU 95 %", "dsc": "DSC 95 %"}  # metrics, and the heads of the columns
_FEW_IMAGES = 50  # below it a table says how little it shows
_COUNTS = {"missed": "missed", "false_alarm": "false alarms", "both_empty": "both empty"}


class Table(NamedTuple):
    """The main table, before it is written as Markdown, LaTeX, HTML or plain text.

    Attributes:
        subject: what was scored.
        differences: a line for each setting in which rows differ, to stand above the table.
        header: the names of the columns.
        body: the cells of each row.
        marks: `BEST`, `SECOND` or "" for each cell of the body.
        paper: the cells of the paper's rows.
        notes: the sentences below the table: how it is to be read.
        cautions: likewise: what it does not show.
    """

    subject: str
    differences: list[str]
    header: list[str]
    body: list[list[str]]
    marks: list[list[str]]
    paper: list[list[str]]
    notes: list[str]
    cautions: list[str]

    @property
    def below(self) -> list[str]:
        """The paragraphs below the table."""
        first, *more = self.notes
        subject = self.subject[0].upper() + self.subject[1:]
        return [f"{subject}. {first}", *more, *self.cautions]


def shown_metrics(rows: Sequence[Row], paper: bool) -> tuple[list[Metric], list[Metric]]:
    """The metrics for which a row has a value: those of the paper's table, and all.

    Args:
        rows: of the comparison.
        paper: whether the paper's rows are shown, which have a Hausdorff distance in mm.
    """
    shown = [
        metric
        for metric in PRINTED_METRICS
        if any(not math.isnan(row.mean.get(metric.name, math.nan)) for row in rows)
    ]
    in_paper = [*shown, METRIC_NAMED["hd_mm"]] if paper else shown
    main = [m for m in PRINTED_METRICS if m in in_paper and m.family in _PAPER_FAMILIES]
    return main, shown


def marks(rows: Sequence[Row], metric: Metric) -> list[str]:
    """`BEST`, `SECOND` or "" for each row in one metric, by the values before rounding.

    Equal values share a mark. A single value is not marked.
    """
    values = [row.mean.get(metric.name, math.nan) for row in rows]
    ranked = sorted({v for v in values if not math.isnan(v)}, reverse=metric.higher_is_better)
    if sum(not math.isnan(v) for v in values) < 2:
        return [""] * len(rows)
    mark_of = dict(zip(ranked, (BEST, SECOND), strict=False))
    return [mark_of.get(value, "") for value in values]


def paper_rows(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """The rows of the paper's Table 1 for the networks that are compared."""
    return [TABLE_1[name] for name in dict.fromkeys(r.network for r in rows) if name in TABLE_1]


def main_table(rows: Sequence[Row], found: Sequence[Difference], paper: bool) -> Table:
    """The paper's columns, the counts, and notes.

    Args:
        rows: of the comparison.
        found: what they differ in besides the network.
        paper: whether to append the paper's rows.
    """
    metrics, every = shown_metrics(rows, paper)
    # Threshold and test-time augmentation are columns only if the rows differ in them.
    how = [
        (name, cells)
        for name, cells in (
            ("threshold", [row.threshold for row in rows]),
            ("TTA", [row.tta for row in rows]),
        )
        if len(set(cells)) > 1
    ]
    summary = rows[0].runs[0].summary
    images = str(len(rows[0].runs[0].ids))
    printed = paper_rows(rows) if paper else []
    unmarked, dashes = [""] * len(rows), ["-"] * len(printed)
    # Of each column: its head, the rows' cells, their marks, and the paper's cells.
    columns = [
        (
            "network",
            [row.title for row in rows],
            unmarked,
            [f"paper: {row['method']}" for row in printed],
        )
    ]
    columns += [(name, cells, unmarked, dashes) for name, cells in how]
    for metric in metrics:
        means = [_cell(row, metric) for row in rows]
        theirs = [metric.text(row.get(metric.name)) for row in printed]
        columns.append((metric.label, means, marks(rows, metric), theirs))
        if head := _WITH_INTERVAL.get(metric.name):
            columns.append((head, [interval(row, metric) for row in rows], unmarked, dashes))
    columns.append(("images", [images] * len(rows), unmarked, [str(TEST_IMAGES)] * len(printed)))
    columns += [
        (head, [f"{row.counts[name]:g}" for row in rows], unmarked, dashes)
        for name, head in _COUNTS.items()
    ]
    header, *cells = zip(*columns, strict=True)
    body, marked, paper_body = (list(map(list, zip(*part, strict=True))) for part in cells)
    return Table(
        subject=f"{summary['split']} split of {summary['dataset']} (mask {summary['mask']!r}) "
        f"{scored_at(summary)}, {images} images",
        differences=[str(difference) for difference in found],
        header=list(header),
        body=body,
        marks=marked,
        paper=paper_body,
        notes=_notes(rows, summary),
        cautions=_cautions(rows, every, summary, paper, bool(how)),
    )


def _cell(row: Row, metric: Metric) -> str:
    mean, sd = (metric.text(d.get(metric.name)) for d in (row.mean, row.sd_seeds))
    return mean if sd == "-" else f"{mean} ± {sd}"


def interval(row: Row, metric: Metric) -> str:
    """The 95 % interval of a row's mean as printed, "-" where it has none."""
    low, high = row.ci95.get(metric.name, (math.nan, math.nan))
    return "-" if math.isnan(low) else f"{metric.text(low)} to {metric.text(high)}"


def _notes(rows: Sequence[Row], summary: Mapping) -> list[str]:
    notes = [
        "Values are means over the images. Best in bold, second best underlined, by the values "
        "before rounding."
    ]
    if any(row.ci95.keys() & _WITH_INTERVAL for row in rows):
        notes.append(
            "95 %: bootstrap interval of the mean, drawing patients: what other images would "
            "change, not another training. Those of the other metrics are in table.csv. Whether "
            "two networks differ is read from their paired difference, not from these."
        )
    if any(len(row.runs) > 1 for row in rows):
        notes.append(
            "With several seeds: mean of the seeds' means ± their standard deviation, which is the "
            "spread of training, not of the images. Counts are means over the seeds."
        )
    if any(row.runs[0].parts for row in rows):
        notes.append(
            "With several folds: each image is scored once, by the network that was trained "
            "without its patient."
        )
    if {0} < {n_scored(row, "mae") for row in rows if "mae" in row.scores}:
        notes.append("A dash under MAE: masks, which have no probabilities.")
    if any(len(row.runs) == 1 for row in rows):
        notes.append("A row without ± is a single seed: its spread of training is unknown.")
    rule = f": {summary['empty_rule']}" if summary.get("empty_rule") else ""
    notes.append(f"Empty masks are scored by the policy {summary['empty_policy']!r}{rule}.")
    return notes


def _cautions(
    rows: Sequence[Row], metrics: Sequence[Metric], summary: Mapping, paper: bool, how: bool
) -> list[str]:
    cautions = []
    images = len(rows[0].runs[0].ids)
    if images < _FEW_IMAGES:
        cautions.append(
            f"Only {images} images are scored: a difference between two networks may well be one "
            "of the split. Folds score every image: --config.dataset.options.fold=1/5 to 5/5."
        )
    uneven = [m.label for m in metrics if len({n_scored(row, m.name) for row in rows} - {0}) > 1]
    if uneven:
        cautions.append(
            f"The networks are not scored on the same number of images in {', '.join(uneven)} "
            "(numbers in table.csv), so these means are not over the same images."
        )
    if how:
        cautions.append(
            "Rows differ in threshold or test-time augmentation (TTA). A threshold chosen on the "
            "validation split is a legitimate part of a method; one tuned on the test images is "
            "not."
        )
    if paper:
        cautions.append(
            f'Rows "paper" are Table 1 of Zhou & Wang (2023): {TEST_IMAGES} images of its own '
            "split, not the same data. Its HD is in mm as stated, without a pixel spacing. These "
            "rows are not ranked."
        )
        if summary["dataset"] != "finding_lungs":
            cautions.append(
                f"{summary['dataset']} is not the paper's kind of data: not comparable."
            )
    return cautions


def n_scored(row: Row, name: str) -> int:
    """The number of images that every seed of a row has scored in a metric."""
    return int(np.count_nonzero(~np.isnan(row.scores.get(name, []))))


def markdown(table: Table) -> str:
    """What rows differ in, a pipe table with **best** and <ins>second best</ins>, and the notes."""
    wrap = {BEST: "**{}**", SECOND: "<ins>{}</ins>", "": "{}"}
    body = [
        [wrap[mark].format(markdown_text(cell)) for cell, mark in zip(cells, marks, strict=True)]
        for cells, marks in zip(table.body, table.marks, strict=True)
    ]
    body += [[markdown_text(cell) for cell in cells] for cells in table.paper]
    above = [f"- {markdown_text(line)}" for line in table.differences]
    above = [f"**{HEADING}**", "", *above, ""] if above else []
    below = "\n\n".join(map(markdown_text, table.below))
    return "\n".join([*above, *markdown_table(table.header, body), "", below]) + "\n"


def latex(table: Table) -> str:
    """A table environment that plain LaTeX compiles without packages.

    Its caption begins with what rows differ in.
    """
    wrap = {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}", "": "{}"}

    def line(cells: Sequence[str], marks: Sequence[str] | None = None) -> str:
        marks = marks or [""] * len(cells)
        return (
            " & ".join(wrap[m].format(_latex_text(c)) for c, m in zip(cells, marks, strict=True))
            + r" \\"
        )

    above = [f"{HEADING} {'. '.join(table.differences)}."] if table.differences else []
    caption = [*above, *table.below]
    lines = [
        "% Written by python -m prnet_jax.compare; best bold, second best underlined.",
        r"\begin{table*}",
        r"\centering",
        r"\scriptsize",
        r"\setlength{\tabcolsep}{2pt}",
        r"\begin{tabular}{l" + "r" * (len(table.header) - 1) + "}",
        r"\hline",
        line(table.header),
        r"\hline",
        *(line(*row) for row in zip(table.body, table.marks, strict=True)),
    ]
    if table.paper:
        lines += [r"\hline", *(line(cells) for cells in table.paper)]
    lines += [
        r"\hline",
        r"\end{tabular}",
        r"\caption{" + " ".join(map(_latex_text, caption)) + "}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "]": "{]}", '"': "''"},
}


def _latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped; other characters beyond ASCII become "?"."""
    text = " ".join(text.split())
    return "".join(_LATEX.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def table_csv(rows: Sequence[Row], metrics: Sequence[Metric], paper: bool) -> str:
    """One line for each row: every metric with spreads and interval, as fractions, unrounded."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {
            "source": "measured",
            "network": row.network,
            "label": row.label,
            "seeds": " ".join(str(run.seed) for run in row.runs),
            "n_seeds": len(row.runs),
            "threshold": row.threshold,
            "tta": row.tta,
            "n_images": len(row.runs[0].ids),
            **row.counts,
        }
        for metric in metrics:
            name = metric.name
            line[f"{name}_mean"] = row.mean.get(name, math.nan)
            line[f"{name}_sd_over_seeds"] = row.sd_seeds.get(name, math.nan)
            line[f"{name}_sd_over_images"] = row.sd_images.get(name, math.nan)
            low, high = row.ci95.get(name, (math.nan, math.nan))
            line[f"{name}_ci95_low"], line[f"{name}_ci95_high"] = low, high
            line[f"{name}_n"] = n_scored(row, name)
        lines.append(line)
    columns = list(lines[0])
    for row in paper_rows(rows) if paper else []:
        line = {f"{name}_mean": value for name, value in row.items() if name != "method"}
        where = {"source": "paper", "label": row["method"], "n_images": TEST_IMAGES}
        lines.append(line | where)
        columns += [name for name in line if name not in columns]
    return csv_text(lines, columns)

"""The comparison as Markdown, LaTeX and CSV: marks of the best, the paper's rows, the tests."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prnet_jax.compare.rows import Row
from prnet_jax.metrics import HIGHER_IS_BETTER
from prnet_jax.metrics.names import LINES
from prnet_jax.metrics.statistics import holm, paired_comparison
from prnet_jax.paper import TABLE_1
from prnet_jax.report import markdown_table

BEST, SECOND = "best", "second"


_PAPER_COLUMNS = ("iou", "hd_px", "hd_mm", "dsc", "mae", "acc", "spe")


_COUNTS = {"missed": "missed", "false_alarm": "false alarms", "both_empty": "both empty"}


class Metric(NamedTuple):
    """How a metric is printed: `value * factor` with so many decimals."""

    name: str
    label: str
    factor: float
    decimals: int

    def text(self, value: float | None) -> str:
        if value is None or math.isnan(value):
            return "-"
        return f"{value * self.factor:.{self.decimals}f}"


class Table(NamedTuple):
    """The main table before it is written in a language.

    Attributes:
        header: the columns' names.
        body: for each row its cells.
        marks: for each row and cell `BEST`, `SECOND` or "".
        paper: the paper's rows.
        notes: sentences that belong below.
    """

    header: list[str]
    body: list[list[str]]
    marks: list[list[str]]
    paper: list[list[str]]
    notes: list[str]


def shown_metrics(rows: Sequence[Row], paper: bool) -> tuple[list[Metric], list[Metric]]:
    """The metrics with any value: those of the paper's table, in its order, and all of them."""
    known = {name: Metric(name, *how) for name, *how in LINES}
    order = dict.fromkeys((*_PAPER_COLUMNS, *(line[0] for line in LINES), *HIGHER_IS_BETTER))
    shown = [
        known.get(name, Metric(name, name, 1, 4))
        for name in order
        if name in HIGHER_IS_BETTER
        and any(not math.isnan(row.mean.get(name, math.nan)) for row in rows)
    ]
    main = [metric for metric in shown if metric.name in _PAPER_COLUMNS]
    names = [metric.name for metric in main]
    if paper and "hd_mm" not in names:
        main.insert(names.index("dsc") if "dsc" in names else 0, known["hd_mm"])
    return main, shown


def marks(rows: Sequence[Row], name: str) -> list[str]:
    """`BEST`, `SECOND` or "" for each row in one metric, by the values before rounding.

    Equal values share a mark; with a single value nothing is marked.
    """
    values = [row.mean.get(name, math.nan) for row in rows]
    ranked = sorted({v for v in values if not math.isnan(v)}, reverse=HIGHER_IS_BETTER[name])
    if sum(not math.isnan(v) for v in values) < 2:
        return [""] * len(rows)
    names = dict(zip(ranked, (BEST, SECOND), strict=False))
    return [names.get(value, "") for value in values]


def paper_rows(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """The paper's row of each network that is compared and that its Table 1 has."""
    return [TABLE_1[name] for name in dict.fromkeys(r.network for r in rows) if name in TABLE_1]


def main_table(rows: Sequence[Row], paper: bool) -> Table:
    """The paper's columns with the counts, and what is to be said of them.

    Args:
        rows: of the comparison.
        paper: whether the paper's rows stand below.
    """
    metrics, every = shown_metrics(rows, paper)
    # How an evaluation was done is a column where the rows differ in it.
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
    body, marked = [], []
    columns = [marks(rows, metric.name) for metric in metrics]
    for index, row in enumerate(rows):
        cells = [_cell(row, metric) for metric in metrics]
        after = [images, *(f"{row.counts[name]:g}" for name in _COUNTS)]
        before = [row.title, *(cells[index] for _, cells in how)]
        body.append([*before, *cells, *after])
        of_metrics = [column[index] for column in columns]
        marked.append([*([""] * len(before)), *of_metrics, *([""] * len(after))])
    header = ["network", *(name for name, _ in how), *(metric.label for metric in metrics)]
    header += ["images", *_COUNTS.values()]
    paper_body = [
        [
            f"paper: {row['method']}",
            *("-" for _ in how),
            *(metric.text(row.get(metric.name)) for metric in metrics),
            *("27", "-", "-", "-"),
        ]
        for row in (paper_rows(rows) if paper else [])
    ]
    return Table(header, body, marked, paper_body, _notes(rows, every, summary, paper, bool(how)))


def _cell(row: Row, metric: Metric) -> str:
    mean, sd = (metric.text(d.get(metric.name)) for d in (row.mean, row.sd_seeds))
    return mean if sd == "-" else f"{mean} ± {sd}"


def _notes(
    rows: Sequence[Row], metrics: Sequence[Metric], summary: Mapping, paper: bool, how: bool
) -> list[str]:
    size = summary["image_size"]
    notes = [
        f"{summary['split']} split of {summary['dataset']} (mask {summary['mask']!r}) at "
        f"{size}x{size}, {len(rows[0].runs[0].ids)} images. Values are means over the images. "
        "Best in bold, second best underlined, by the values before rounding."
    ]
    if any(len(row.runs) > 1 for row in rows):
        notes.append(
            "With several seeds: mean of the seeds' means ± their standard deviation, "
            "which is the spread of training and not that of the images; counts are means over "
            "the seeds."
        )
    if any(len(row.runs) == 1 for row in rows):
        notes.append("A row without ± is one seed: its spread over trainings is not known.")
    uneven = [m.label for m in metrics if len({n_scored(row, m.name) for row in rows}) > 1]
    if uneven:
        notes.append(
            f"Not scored on equally many images by all networks: {', '.join(uneven)} "
            "(table.csv has the numbers); such means are not of the same images."
        )
    rule = f": {summary['empty_rule']}" if summary.get("empty_rule") else ""
    notes.append(f"Empty masks are scored by the policy {summary['empty_policy']!r}{rule}.")
    if how:
        notes.append(
            "Rows differ in threshold or test-time augmentation (TTA). A threshold from the "
            "validation split is a fair part of a method; one tuned on the test images is not."
        )
    if paper:
        notes.append(
            'Rows "paper" are Table 1 of Zhou & Wang (2023): 27 images of its own split, not the '
            "same data; its HD is in mm as stated, without a pixel spacing. They are not ranked."
        )
        if summary["dataset"] != "finding_lungs":
            notes.append(f"{summary['dataset']} is not the paper's kind of data: no yardstick.")
    return notes


def n_scored(row: Row, name: str) -> int:
    """The images that every seed of a row has scored."""
    scores = row.scores.get(name)
    return 0 if scores is None else int((scores == scores).sum())


def markdown(table: Table) -> str:
    """A pipe table with **best** and <ins>second best</ins>, and the notes."""
    wrap = {BEST: "**{}**", SECOND: "<ins>{}</ins>", "": "{}"}
    body = [
        [wrap[mark].format(_markdown_text(cell)) for cell, mark in zip(cells, marks, strict=True)]
        for cells, marks in zip(table.body, table.marks, strict=True)
    ]
    body += [[_markdown_text(cell) for cell in cells] for cells in table.paper]
    lines = markdown_table(table.header, body)
    return "\n".join([*lines, "", "\n\n".join(map(_markdown_text, table.notes))]) + "\n"


def _markdown_text(text: str) -> str:
    """Text from anywhere so that it stays text, and in its cell."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return re.sub(r"([|*`\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def latex(table: Table) -> str:
    """A table environment that plain LaTeX compiles, without a package."""
    wrap = {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}", "": "{}"}

    def line(cells: Sequence[str], marks: Sequence[str] | None = None) -> str:
        marks = marks or [""] * len(cells)
        return (
            " & ".join(wrap[m].format(_latex_text(c)) for c, m in zip(cells, marks, strict=True))
            + r" \\"
        )

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
        r"\caption{" + " ".join(map(_latex_text, table.notes)) + "}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "]": "{]}", '"': "''"},
}


def _latex_text(text: str) -> str:
    """Text with LaTeX's own characters escaped; others beyond ASCII become "?"."""
    text = " ".join(text.split())
    return "".join(_LATEX.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def compare_to(reference: Row, rows: Sequence[Row], metrics: Sequence[Metric]) -> list[dict]:
    """Paired tests of every other row against the reference, on every metric.

    Returns:
        For each metric and row: `metric`, `network` and `reference` (labels), the entries of
        `prnet_jax.metrics.statistics.paired_comparison` for network minus reference, `p_holm`
        (over the networks within a metric), and `better`: "network", "reference" or "".
    """
    results = []
    for metric in metrics:
        name, family = metric.name, []
        for row in rows:
            if row is reference or name not in row.scores or name not in reference.scores:
                continue
            # Where neither marks anything, rightly, there is nothing to compare.
            nothing = row.both_empty & reference.both_empty
            found = paired_comparison(
                np.where(nothing, np.nan, row.paired[name]),
                np.where(nothing, np.nan, reference.paired[name]),
                reference.runs[0].patients,
            )
            gain = found["mean_difference"] * (1 if HIGHER_IS_BETTER[name] else -1)
            better = "network" if gain > 0 else "reference" if gain < 0 else ""
            labels = {"metric": name, "network": row.label, "reference": reference.label}
            family.append(labels | found | {"better": better})
        adjusted = holm([result["p_value"] for result in family])
        results += [r | {"p_holm": p} for r, p in zip(family, adjusted, strict=True)]
    return results


STATISTICS_NOTE = (
    "Differences are network minus reference; an image's value is the mean over the seeds. Images "
    "are those that both score, and those without a target where one raises a false alarm and the "
    "other rightly marks nothing, which counts as a perfect answer: so the difference need not be "
    "that of the table's means. Interval: 95 % percentile bootstrap of the mean difference, "
    "drawing patients. p: two-sided Wilcoxon signed-rank test of the patients' mean differences. "
    "Holm's correction is over the networks within a metric, not over the metrics. Effect size: "
    "matched-pairs rank-biserial correlation, from -1 to 1. Difference and interval weigh images "
    "alike, p and effect size patients: where these have unequal numbers of images they may point "
    "in different directions. The tests speak of other test images, "
    "not of another training."
)


def statistics_csv(results: Sequence[Mapping[str, Any]]) -> str:
    """What `compare_to` found, a line for each metric and network; shares as fractions."""
    columns = (
        *("metric", "network", "reference", "mean_difference", "ci95_low", "ci95_high"),
        *("p_value", "p_holm", "effect_size", "better", "n_images", "n_units", "n_equal"),
    )
    return _csv(columns, results)


def table_csv(rows: Sequence[Row], metrics: Sequence[Metric], paper: bool) -> str:
    """Every metric with its spreads, a line for each row; shares as fractions, not rounded."""
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
            line[f"{name}_n"] = n_scored(row, name)
        lines.append(line)
    columns = list(lines[0])
    for row in paper_rows(rows) if paper else []:
        line = {f"{name}_mean": value for name, value in row.items() if name != "method"}
        where = {"source": "paper", "label": row["method"], "n_images": 27}
        lines.append(line | where)
        columns += [name for name in line if name not in columns]
    return _csv(columns, lines)


def _csv(columns: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> str:
    """CSV text; what is not known is an empty cell."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for line in lines:
        unknown = {k: "" for k, v in line.items() if isinstance(v, float) and math.isnan(v)}
        writer.writerow({**line, **unknown})
    return file.getvalue()

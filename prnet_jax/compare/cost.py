"""What the rows of a comparison cost: a table, and a picture beside their accuracy."""

import io
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.ticker import LogLocator, NullFormatter

from prnet_jax.compare.evaluation import Run
from prnet_jax.compare.rows import Row
from prnet_jax.figures.png import new_figure
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.report import markdown_table, markdown_text
from prnet_jax.run.files import csv_text


class Column(NamedTuple):
    """A cost: its name in summary.json, the head of its column, how it is printed and read."""

    name: str
    label: str
    form: str
    meaning: str


COLUMNS = (
    Column("parameters", "parameters", ",.0f", ""),
    Column(
        "gflop",
        "GFLOP / image",
        ".2f",
        "GFLOP: operations of one image at the network's size, a multiply-add as two.",
    ),
    Column(
        "train_minutes",
        "training min",
        ".1f",
        "Minutes are those of one training, the mean over the trainings of a row.",
    ),
    Column(
        "peak_mib",
        "memory MiB",
        ",.0f",
        "Memory is that of training, the largest over a row; on CPUs that of the process.",
    ),
    Column(
        "seconds_per_slice",
        "s / slice",
        ".3f",
        "Seconds a slice: the network alone, in full batches.",
    ),
)
_AXES = {"gflop": "GFLOP an image, at the network's size", "parameters": "parameters"}
_OF_THE_MACHINE = ("train_minutes", "peak_mib", "seconds_per_slice")


def cost_of(row: Row) -> dict[str, float]:
    """The costs of a row by name: the mean over its trainings, of memory the largest; else NaN.

    Parameters and operations are the network's, so one training that recorded them is enough; those
    of several must agree within 1 %. Another cost must be known of each training.
    """
    found = {}
    for column in COLUMNS:
        values = [_value(run, column.name) for run in row.trainings]
        known = [value for value in values if not math.isnan(value)]
        if column.name in _OF_THE_MACHINE:
            right = len(known) == len(values)
        else:
            right = bool(known) and max(known) <= 1.01 * min(known)
        if not right:
            found[column.name] = math.nan
        elif column.name == "peak_mib":
            found[column.name] = max(known)
        else:
            found[column.name] = sum(known) / len(known)
    return found


def _value(run: Run, name: str) -> float:
    """A cost as recorded; NaN where it is not a number above or equal to 0."""
    cost = run.summary.get("cost")
    value = run.summary.get(name) if name == "parameters" else None
    if name != "parameters" and isinstance(cost, dict):
        value = cost.get(name)
    right = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if right and 0 <= value < math.inf else math.nan


def cost_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the costs that are known of some row; no cells where none is."""
    costs = [cost_of(row) for row in rows]
    shown = [c for c in COLUMNS if any(not math.isnan(cost[c.name]) for cost in costs)]
    if not shown:
        return [], []
    dsc = METRIC_NAMED["dsc"]
    body = [
        [row.title, dsc.text(row.mean.get("dsc")), *(_text(cost[c.name], c.form) for c in shown)]
        for row, cost in zip(rows, costs, strict=True)
    ]
    return ["network", dsc.label, *(column.label for column in shown)], body


def cost_note(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """How a table of `cost_table` is to be read."""
    shown = [column for column in COLUMNS if column.label in header]
    notes = [column.meaning for column in shown if column.meaning]
    if any(column.name in _OF_THE_MACHINE for column in shown):
        notes.append("Times and memory depend on the machine and on what else it does.")
    if any("-" in cells[2:] for cells in body):
        notes.append("A dash: not recorded.")
    return " ".join(notes)


def _text(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def cost_markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown with its note; "" where no cost is known."""
    header, body = cost_table(rows)
    if not body:
        return ""
    cells = [[markdown_text(cell) for cell in line] for line in body]
    return "\n".join([*markdown_table(header, cells), "", cost_note(header, body)]).rstrip() + "\n"


def cost_csv(rows: Sequence[Row]) -> str:
    """One line for each row: network, label, mean DSC as a fraction, and every cost."""
    lines: list[dict[str, Any]] = [
        {
            "network": row.network,
            "label": row.label,
            "dsc_mean": row.mean.get("dsc", math.nan),
            **cost_of(row),
        }
        for row in rows
    ]
    return csv_text(lines)


def draw_cost(rows: Sequence[Row]) -> bytes | None:
    """Mean DSC against GFLOP an image, a point a row, as a PNG of 1200 x 675 pixels.

    Against the number of parameters instead, where more rows have that. The bar is the 95 %
    interval of the mean, drawing patients. A row that has no parameters, such as a threshold, is a
    line; others whose cost is not known are named as left out. The legend has the highest mean
    first. None where fewer than two rows would be points.
    """
    metric = METRIC_NAMED["dsc"]
    scored = [(row, cost_of(row), row.mean.get("dsc", math.nan)) for row in rows]
    scored = [part for part in scored if not math.isnan(part[2])]
    scored.sort(key=lambda part: -part[2])
    known = {name: sum(cost[name] > 0 for _, cost, _ in scored) for name in _AXES}
    across = max(_AXES, key=known.__getitem__)  # of equals the first
    if known[across] < 2:
        return None
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    styles = zip(itertools.cycle("osD^vP"), itertools.cycle(f"C{i}" for i in range(10)))
    for row, cost, dsc in scored:
        label = f"{metric.text(dsc)}  {_plain(row.label)}"
        if cost["parameters"] == 0:
            axes.axhline(metric.factor * dsc, color="0.5", linestyle="--", linewidth=1, label=label)
        elif cost[across] > 0:
            low, high = (metric.factor * abs(dsc - end) for end in row.ci95.get("dsc", (dsc, dsc)))
            marker, colour = next(styles)
            axes.errorbar(
                cost[across],
                metric.factor * dsc,
                [[low], [high]],
                fmt=marker,
                color=colour,
                label=label,
                markersize=5,
                capsize=3,
                linewidth=1,
            )
        else:
            axes.plot([], [], " ", label=f"{label} (left out)")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15)
    axes.set_xlabel(_AXES[across])
    axes.set_ylabel(f"mean {metric.label}")
    axes.grid(alpha=0.3, linewidth=0.5)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _plain(label: str) -> str:
    """A label that Matplotlib does not read as mathematics."""
    return label.replace("$", r"\$")[:40]

"""The comparison as plain text of at most 80 columns."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from prnet_jax.compare.differences import HEADING
from prnet_jax.compare.rows import Row, method_of
from prnet_jax.compare.statistics import p_text, signed
from prnet_jax.compare.tables import BEST, Table
from prnet_jax.metrics.names import METRIC_NAMED, PRINTED_METRICS

_WIDTH = 80
_LONGEST = 22  # label beside all metrics; a row with a longer one is numbered instead
# There is no room for all: the MAE of probabilities, which the paper does not have, is left out.
_METRICS = {metric.label for metric in PRINTED_METRICS if metric.name != "mae"}


def text(rows: Sequence[Row], table: Table, results: Sequence[Mapping[str, Any]]) -> str:
    """What rows differ in, their scores, and the tests of the DSC.

    Args:
        rows: of the comparison.
        table: the main table; its columns of metrics are shown, but for `mae`.
        results: of `prnet_jax.compare.statistics.compare_to`.
    """
    short = _short(rows)

    def named(line: str) -> str:
        for label in sorted(short, key=len, reverse=True):
            line = line.replace(label, short[label])
        return line

    names = [named(row.label) for row in rows]
    seeds = [len(row.runs) for row in rows]
    parts = [
        [table.subject[0].upper() + table.subject[1:]],
        [HEADING, *(f"  {named(line)}" for line in table.differences)] if table.differences else [],
        _scores(table, names, seeds) + _counts(table, names),
        [f"{name} is {label}" for label, name in short.items()],
        _tests([r | {end: named(r[end]) for end in ("network", "reference")} for r in results]),
        table.cautions,
    ]
    return "\n\n".join("\n".join(map(_folded, part)) for part in parts if part)


def _short(rows: Sequence[Row]) -> dict[str, str]:
    """{a long label: the network with a number}."""
    long = [row for row in rows if len(row.label) > _LONGEST]
    room = _LONGEST - len(f" [{len(long)}]")
    return {row.label: f"{method_of(row.network)[:room]} [{n}]" for n, row in enumerate(long, 1)}


def _scores(table: Table, names: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """A line for each row, one of the seeds' spread below it, and what the signs mean.

    Args:
        table: the main table.
        names: of its rows.
        seeds: how many each row has.
    """
    shown = [i for i, name in enumerate(table.header) if name in _METRICS]
    lines = [["network", *(f"{table.header[i]} " for i in shown)]]
    for name, number, cells, marks in zip(names, seeds, table.body, table.marks, strict=True):
        values = [cells[i].partition(" ± ") for i in shown]
        best = ["*" if marks[i] == BEST else " " for i in shown]
        lines.append([name, *(v[0] + sign for v, sign in zip(values, best, strict=True))])
        if number > 1:
            spreads = (f"±{spread} " if spread else "" for _, _, spread in values)
            lines.append([f"  {number} seeds", *spreads])
    lines += [[cells[0], *(f"{cells[i]} " for i in shown)] for cells in table.paper]
    signs = ["* best"] if any(BEST in marks for marks in table.marks) else []
    if any(number > 1 for number in seeds):
        signs.append("± standard deviation over the seeds")
    return _aligned(lines) + ([", ".join(signs)] if signs else [])


def _counts(table: Table, names: Sequence[str]) -> list[str]:
    """The images that a network missed or falsely marked, where there are any."""
    lines = []
    for count, said in (("missed", "images missed"), ("false alarms", "false alarms")):
        cells = [row[table.header.index(count)] for row in table.body]
        found = [f"{n} by {name}" for n, name in zip(cells, names, strict=False) if n != "0"]
        if found:
            lines.append(f"{said}: {', '.join(found)}")
    return lines


def _tests(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The differences in DSC from the reference."""
    metric = METRIC_NAMED["dsc"]
    lines = []
    for result in results:
        if result["metric"] == metric.name:
            values = (result[name] for name in ("mean_difference", "ci95_low", "ci95_high"))
            difference, low, high = (signed(metric, value) for value in values)
            cells = [difference, f"({low} to {high})", f"p {p_text(result['p_holm'])}"]
            lines.append([f"  {result['network']}", *cells])
    if not lines:
        return []
    about = "95 % interval, p by Holm, paired over patients"
    return [f"{metric.label} minus that of {results[0]['reference']} ({about}):", *_aligned(lines)]


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first aligned left, the others right."""
    first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        name.ljust(first)
        + "".join(f" {c:>{w}}" for c, w in zip(cells, others, strict=True)).rstrip()
        for name, *cells in lines
    ]


def _folded(line: str) -> str:
    """A line as lines that fit; what a terminal would obey instead of show becomes "?"."""
    line = "".join(c if c.isprintable() else "?" for c in line)
    if len(line) <= _WIDTH:
        return line
    indent = "      " if line.startswith("  ") else ""
    return textwrap.fill(line, _WIDTH, subsequent_indent=indent)

"""How time and memory grow: with the batch, the image, the network, the slices, the devices."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prnet_jax.benchmark.choices import Choices
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import exponent

BATCHES = (1, 2, 4, 8, 16)
SIZES = (64, 128, 256, 512)
WIDTHS = (16, 32, 64)  # of the finest level; each level below has twice as many
SCORED = (25, 50, 100, 200)  # slices of 512x512, with overlays
PREDICTED = (100, 1_000, 10_000)  # small slices: what a long volume would leave in memory
DEVICES = (1, 2, 4, 8)
_LEVELS = 4
_MEASURES = ("ours_ms", "gflop", "program_mib", "peak_mib")


def tasks(
    choices: Choices, on_disk: Mapping[str, Any], platform: str
) -> Iterator[tuple[str, Task]]:
    """(what grows, task) of every measurement: training steps; of slices evaluations and
    predictions.

    Args:
        choices: `models`, `size`, `dtype` and `fields` are used.
        on_disk: fields of a task that reads records.
        platform: several devices are tried on "cpu" alone, where they are virtual.
    """
    c = choices
    for model in c.models:

        def task(batch: int, size: int, model=model, part="train", **more: Any) -> Task:
            return Task(part, model, batch, size, c.dtype, **{"fields": c.fields, **more})

        for batch in BATCHES:
            yield "batch", task(batch, c.size)
        for size in SIZES:
            yield "size", task(1, size)
        for width in WIDTHS:
            widths = tuple(width * 2**level for level in range(_LEVELS))
            yield "width", task(1, c.size, fields=c.fields | {"widths": widths})
        for number in SCORED:
            more = {**on_disk, "slices": number, "variant": "all"}
            yield "slices scored", task(c.batch, c.size, part="evaluate", **more)
        for number in PREDICTED:
            more = {**on_disk, "slices": number, "variant": "small"}
            yield "slices predicted", task(c.batch, 32, part="predict", **more)
        for devices in DEVICES if platform == "cpu" else ():
            yield "devices", task(max(DEVICES), c.size, devices=devices)


def value(row: Mapping[str, Any]) -> int:
    """What grows, in a row of this part."""
    if row["variant"] == "width":
        return row["fields"]["widths"][0]
    return row["slices" if row["variant"].startswith("slices") else row["variant"]]


def exponents(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each network and each thing that grows, the exponents of the power laws that fit best.

    Args:
        rows: of the part.

    Returns:
        `model`, `grows`, `from`, `to` and the exponents of `_MEASURES`, None where not measured;
        `over_work` is that of the time less that of the operations: above 0 time grows faster.
    """
    found = []
    for model, axis in dict.fromkeys((row["model"], row["variant"]) for row in rows):
        own = [row for row in rows if (row["model"], row["variant"]) == (model, axis)]
        values = [value(row) for row in own]
        if len(set(values)) < 2:
            continue
        entry = {"model": model, "grows": axis, "from": min(values), "to": max(values)}
        for name in _MEASURES:
            measured = [row[name] for row in own]
            entry[name] = exponent(values, measured) if all(measured) else None
        work = entry["gflop"]
        entry["over_work"] = None if work is None else entry["ours_ms"] - work
        found.append(entry)
    return found


def table(entries: Iterable[Mapping[str, Any]]) -> str:
    """The exponents as a Markdown table."""
    lines = [
        "| model | what grows | from | to | time | operations | time over operations "
        "| program's memory | peak memory |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in entries:
        cells = [entry["model"], entry["grows"], str(entry["from"]), str(entry["to"])]
        for name in ("ours_ms", "gflop", "over_work", "program_mib", "peak_mib"):
            cells.append("-" if entry[name] is None else f"{entry[name]:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

"""A row of the benchmark: what JSON holds and what the table shows."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from prnet_jax.benchmark.compare import Measured
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import paired_ratio
from prnet_jax.run.files import write_whole

_PEER_FACTS = ("first_call_s", "busy_cores", "idle_cores")
_FACTS = ("program_mib", "compile_s", *_PEER_FACTS)
_TABLE = (
    # title, field, format
    ("part", "part", "{}"),
    ("variant", "variant", "{}"),
    ("model", "model", "{}"),
    ("batch", "batch", "{}"),
    ("size", "size", "{}"),
    ("dtype", "dtype", "{}"),
    ("ours, ms", "ours_ms", "{:.4g}"),
    ("images/s", "images_per_s", "{:.4g}"),
    ("peer", "peer", "{}"),
    ("peer, ms", "peer_ms", "{:.4g}"),
    ("ratio", "ratio", "{:.2f}"),
    ("peak, MiB", "peak_mib", "{:.0f}"),
    ("GFLOP", "gflop", "{:.4g}"),
    ("of ceiling", "of_ceiling", "{:.0%}"),
)


def make_row(
    task: Task,
    device: str,
    ours: Measured,
    ceilings: Mapping[str, float],
    peer: str | None = None,
    theirs: Measured | None = None,
) -> dict[str, Any]:
    """One row, as JSON holds it; a value that is not known is None.

    Args:
        task: what was measured.
        device: a name.
        ours: our times and facts; `images` of a call is the batch unless the facts say another.
        ceilings: `matmul_gflop_s` and `copy_gb_s` of the device in the task's dtype.
        peer: what it is compared with.
        theirs: the peer's times and facts.

    Returns:
        `ratio` is `ours_ms` / `peer_ms`: below 1 ours is faster. `of_ceiling` is the share of the
        measured speed of matrix products, `of_copy_ceiling` that of the measured speed of copying.
    """
    timing, facts = ours
    low, high = timing.quartiles
    row: dict[str, Any] = {
        "model": task.model,
        "part": task.part,
        "device": device,
        "batch": task.batch,
        "size": task.size,
        "dtype": task.dtype,
        "ours_ms": timing.median,
        "peer": peer,
        "peer_ms": None,
        "ratio": None,
        "peak_mib": facts.get("peak_mib"),
        "gflop": facts.get("gflop"),
        "of_ceiling": _share(facts.get("gflop"), timing.median, ceilings["matmul_gflop_s"]),
        "variant": task.variant,
        "fields": dict(task.fields),
        "slices": task.slices,
        "devices": task.devices or 1,
        "ours_low_ms": low,
        "ours_high_ms": high,
        "repetitions": len(timing.ms),
        "images_per_s": facts.get("images", task.batch) * 1000 / timing.median or None,
        "gbytes": facts.get("gbytes"),
        "of_copy_ceiling": _share(facts.get("gbytes"), timing.median, ceilings["copy_gb_s"]),
        **{name: facts.get(name) for name in _FACTS},
    }
    if theirs is not None:
        row["peer_ms"] = theirs.timing.median
        row["ratio"] = timing.median / theirs.timing.median
        row["ratio_low"], row["ratio_high"] = paired_ratio(timing, theirs.timing)
        row["peer_low_ms"], row["peer_high_ms"] = theirs.timing.quartiles
        row |= {f"peer_{name}": theirs.facts.get(name) for name in ("peak_mib", *_PEER_FACTS)}
    return row


def _share(giga: float | None, ms: float, giga_per_s: float) -> float | None:
    """The share of a speed that was reached, of work counted in 10^9."""
    return None if giga is None else giga / (ms / 1000) / giga_per_s


def line(row: Mapping[str, Any]) -> str:
    """A row for a person, while others are still measured."""
    what = dict.fromkeys(filter(None, (row["part"], row["variant"], row["model"])))
    text = f"{' '.join(what)}: {row['ours_ms']:.4g} ms"
    if row["peer"]:
        text += f", {row['peer']} {row['peer_ms']:.4g} ms, ratio {row['ratio']:.2f}"
    return text


def write_rows(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as a JSON list, so that a reader never sees half of it."""
    write_whole(path, json.dumps(rows, indent=1) + "\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| " + " | ".join(title for title, _, _ in _TABLE) + " |",
        "|"
        + "".join(
            "---|" if field in ("part", "variant", "model", "dtype", "peer") else "--:|"
            for _, field, _ in _TABLE
        ),
    ]
    for row in rows:
        cells = [_cell(row.get(field), form) for _, field, form in _TABLE]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any, form: str) -> str:
    return "-" if value in (None, "") else form.format(value)

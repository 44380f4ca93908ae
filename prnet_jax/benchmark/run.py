"""Runs the chosen parts one after another and gathers their rows."""

import datetime
import os
import pathlib
import sys
import tempfile
from typing import Any

from prnet_jax.benchmark import growth, rows
from prnet_jax.benchmark.choices import Choices
from prnet_jax.benchmark.compare import compare
from prnet_jax.benchmark.plan import Comparison, Plan, ours
from prnet_jax.benchmark.side import Side
from prnet_jax.benchmark.task import Task
from prnet_jax.commands import FAILED, one_line
from prnet_jax.errors import InputError, RunError
from prnet_jax.working import working

_BUSY_LOAD = 0.3  # programs that compute, for each core, before anything is measured
_SPINS = 0.05  # cores that a side uses while it waits


class Benchmark:
    """Measures what was chosen; see `run`."""

    def __init__(self, choices: Choices):
        self._choices = choices
        self._rows: list[dict[str, Any]] = []
        self._failed = False
        self._device = ""
        self._about: dict[str, Any] = {}  # the end of every row
        self._ceilings: dict[str, float] = {}

    def run(self) -> int:
        """Measures, prints a table, writes rows as they come; the exit code.

        Raises:
            InputError: a choice that cannot be measured here.
        """
        with tempfile.TemporaryDirectory(prefix="prnet-benchmark-") as folder:
            for comparison in self._plan(pathlib.Path(folder)).comparisons():
                try:
                    self._measure(comparison)
                except (InputError, RunError) as error:  # the others go on
                    self._failed = True
                    print(f"error: {comparison.task.about}: {one_line(error)}", file=sys.stderr)
        if self._rows:
            print(f"\n{rows.table(self._rows)}", flush=True)
        if grown := growth.exponents([row for row in self._rows if row["part"] == "growth"]):
            print(f"\nExponents:\n\n{growth.table(grown)}", flush=True)
        if self._choices.json and self._rows:
            print(f"\n{len(self._rows)} rows are in {self._choices.json}")
        return FAILED if self._failed else 0

    def _plan(self, folder: pathlib.Path) -> Plan:
        """Asks every side who it is, and how fast the device is, before anything takes long."""
        load = os.getloadavg()[0]
        found = {}
        for kind in ("ours", *self._choices.against):
            python = sys.executable if kind == "ours" else self._choices.torch_python
            with working(f"looking for {kind}"), Side(kind, python) as side:
                found[kind] = side.about()
        here = found["ours"]
        for kind, about in found.items():
            if about["platform"] != here["platform"]:
                raise InputError(
                    f"JAX computes on {here['platform']}, {kind} on {about['platform']}: nothing "
                    "to compare; install both for the same device"
                )
        self._device = here["device"]
        versions = {k: v for about in found.values() for k, v in about["versions"].items()}
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        print(f"{self._device}; {listed}", flush=True)
        if load > _BUSY_LOAD * (os.cpu_count() or 1):
            print(
                f"warning: other programs compute here (load {load:.1f}): do not trust the times",
                file=sys.stderr,
            )
        with working("measuring the device"), ours() as side:
            self._ceilings = side.begin(Task("ceilings", "", 1, 1, self._choices.dtype))
        print(
            f"{self._choices.dtype}: matrix products {self._ceilings['matmul_gflop_s']:.4g} "
            f"GFLOP/s, copying {self._ceilings['copy_gb_s']:.4g} GB/s",
            flush=True,
        )
        self._about = {
            **{name: self._ceilings[name] for name in ("matmul_gflop_s", "copy_gb_s")},
            "versions": versions,
            "date": datetime.date.today().isoformat(),
            "load": round(load, 2),
        }
        networks = [name for about in found.values() for name in about.get("networks", ())]
        return Plan(self._choices, folder, here["platform"], networks)

    def _measure(self, comparison: Comparison) -> None:
        """One row for each peer, or one without."""
        found = compare(comparison.sides, self._choices.repetitions)
        first = found.pop("ours")
        for peer, theirs in (found or {None: None}).items():
            row = rows.make_row(comparison.task, self._device, first, self._ceilings, peer, theirs)
            self._add(row)

    def _add(self, row: dict[str, Any]) -> None:
        """Keeps a row, and says what is wrong with it."""
        self._rows.append({**row, **self._about})
        print(rows.line(row), flush=True)
        for side in ("idle_cores", "peer_idle_cores"):
            if (row.get(side) or 0) > _SPINS:
                print(f"warning: a waiting side used {row[side]:.2f} cores", file=sys.stderr)
        if self._choices.json:
            rows.write_rows(self._choices.json, self._rows)

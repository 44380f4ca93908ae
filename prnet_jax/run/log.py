"""What a run logs while it trains: metrics.jsonl and TensorBoard files."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from prnet_jax import processes, progress
from prnet_jax.errors import InputError, RunError
from prnet_jax.run.files import EVENTS, METRICS, write_whole

_FLUSH_S = 30.0


class SilentWriter:
    """A `MetricWriter` that writes nothing, for all processes but the first."""

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Does nothing."""

    def images(self, step: int, name: str, image: np.ndarray) -> None:
        """Does nothing."""

    def sync(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class MetricWriter(SilentWriter):
    """Writes scalars to `metrics.jsonl`, and scalars and pictures to TensorBoard's `events/`.

    Resuming never logs a step twice: lines written after the checkpoint are dropped from
    metrics.jsonl and hidden from TensorBoard. A context manager.

    Args:
        workdir: the run directory; made where absent.
        resume_step: the step of the checkpoint that the run resumes from. None for a new run: any
            lines are of one that was killed before its first checkpoint, and are dropped.
        epochs: the epochs validated by then. Lines of a later `epoch` are dropped too: the
            checkpoint may be of the same step, before its validation.

    Raises:
        InputError: metrics.jsonl is damaged, other than by a torn last line.
    """

    def __init__(self, workdir: str | os.PathLike, resume_step: int | None = None, epochs: int = 0):
        workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / METRICS
        last_step = -1 if resume_step is None else resume_step
        if path.exists():
            _drop_after(path, last_step, epochs)
        self._file = open(path, "a", encoding="utf-8")
        events = workdir / EVENTS
        again = events.exists()
        events.mkdir(exist_ok=True)
        # Otherwise named by the second: a quick restart would overwrite the file.
        self._events = EventsWriter(str(events / "events"), f".{time.time_ns()}")
        self._flushed = 0.0
        if again:  # has TensorBoard drop later steps of the earlier files
            start = SessionLog(status=SessionLog.START)
            self._event(last_step + 1, session_log=start)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Appends one line, flushed: {"step": ..., "time": seconds since 1970, **values}.

        None, NaN and infinities become null, and TensorBoard gets no point.
        """
        line = {"step": int(step), "time": round(time.time(), 3)}
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                line[name] = value if isinstance(value, int) else float(value)
                self._event(step, summary=summary.scalar(name, line[name]))
            else:
                line[name] = None
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def images(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows one picture in TensorBoard: uint8 [H, W, 3]."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected uint8 [H, W, 3], got {image.dtype} {image.shape}")
        self._event(step, summary=summary.image(name, image, dataformats="HWC"))

    def _event(self, step: int, **content: Any) -> None:
        """Writes one event; TensorBoard sees it within half a minute if more follow."""
        self._events.write_event(Event(step=step, wall_time=time.time(), **content))
        if time.monotonic() - self._flushed > _FLUSH_S:
            self._events.flush()
            self._flushed = time.monotonic()

    def sync(self) -> None:
        """Returns when the lines are on disk: no checkpoint may be newer than its log."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._events.close()


def open_writer(
    workdir: str | os.PathLike, resume_step: int | None = None, epochs: int = 0
) -> SilentWriter:
    """A `MetricWriter` in the first process, a `SilentWriter` in the others."""
    if processes.is_first():
        return MetricWriter(workdir, resume_step, epochs)
    return SilentWriter()


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """The lines of a metrics.jsonl, oldest first; a last line that a kill tore is left out.

    Raises:
        InputError: a line before the last is not a JSON object with a `step`.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["step"]
        except (json.JSONDecodeError, TypeError, KeyError):
            if number == len(lines):
                break
            raise InputError(
                f"{path}, line {number}: expected a JSON object with a step, found "
                f"{line[:40]!r}; correct or remove that line"
            ) from None
        records.append(record)
    return records


def _drop_after(path: Path, last_step: int, epochs: int) -> None:
    """Keeps the complete lines up to that step and epoch."""
    kept = [
        record
        for record in read_metrics(path)
        if record["step"] <= last_step and record.get("epoch", 0) <= epochs
    ]
    write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))


class TrainLog:
    """Logs the results of steps, one step late, so that the device never waits for the host.

    Only the first step of a process is waited for, since it takes a compilation: from then on
    there is something to save. The writer gets means over `config.log_every_steps` steps. A loss or
    a gradient that is not finite ends the run.

    Args:
        writer: of the run's metrics.
        bar: the progress bar.
        config: the run's.
        losses: of the steps that a resumed run has not written yet.
    """

    def __init__(self, writer: SilentWriter, bar: progress.Progress, config, losses: list[float]):
        self._writer = writer
        self._bar = bar
        self._config = config
        self._pending: tuple[int, dict[str, jax.Array], Sequence[str]] | None = None
        self._losses = list(losses)
        self._last: tuple[int, dict[str, jax.Array]] | None = None

    def add(self, step: int, results: dict[str, jax.Array], ids: Sequence[str]) -> None:
        """Takes the results of a step, still on the device, and the ids of its images.

        Raises:
            RunError: the results of the step before are not finite.
        """
        first = self._last is None
        self._read_pending()
        self._pending = step, results, ids
        if first:
            self._read_pending()

    def settle(self) -> list[float]:
        """Reads the last step's results too; returns the losses that are not written yet."""
        self._read_pending()
        return list(self._losses)

    def flush(self) -> None:
        """Writes what is left; every validation starts a new mean."""
        if self.settle():
            self._write(*self._last)

    def _read_pending(self) -> None:
        if self._pending is None:
            return
        step, results, ids = self._pending
        self._pending = None
        loss = float(results["loss"])
        for name, value in (("loss", loss), ("gradient's norm", float(results["grad_norm"]))):
            if not math.isfinite(value):
                raise RunError(
                    f"the {name} is {value} at step {step}, images {', '.join(ids)}: look at "
                    "these, or lower config.learning_rate; the last checkpoint is kept"
                )
        self._losses.append(loss)
        self._last = step, results
        self._bar.update(1, loss=loss, images=self._config.batch_size)
        if step % self._config.log_every_steps == 0:
            self._write(step, results)

    def _write(self, step: int, results: dict[str, jax.Array]) -> None:
        self._writer.scalars(
            step,
            {
                "train/loss": float(np.mean(self._losses)),
                "train/grad_norm": float(results["grad_norm"]),
                "train/learning_rate": float(results["learning_rate"]),
                "train/images_per_s": self._bar.images_per_s,
            },
        )
        self._losses = []

"""What a run leaves while it goes: metrics.jsonl, TensorBoard files, a progress bar."""

import contextlib
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from prnet_jax import processes
from prnet_jax.errors import InputError

METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "events"
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

    Resuming leaves no step twice: what the interrupted session wrote after the checkpoint is
    dropped from metrics.jsonl, and hidden by TensorBoard. Usable as a context manager.

    Args:
        workdir: the run directory; made where absent.
        resume_step: the step of the checkpoint that the run goes on from. None: a new run, before
            which nothing counts, so that the lines of a run that was killed before its first
            checkpoint go too.
        epochs: how many epochs had been validated then. A line with a later `epoch` goes too: that
            of the same step, where the checkpoint is from before its validation.

    Raises:
        InputError: metrics.jsonl is damaged other than by a torn last line.
    """

    def __init__(
        self, workdir: str | os.PathLike, resume_step: int | None = None, epochs: int = 0
    ):
        workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / METRICS_FILE
        last_step = -1 if resume_step is None else resume_step
        if path.exists():
            _drop_after(path, last_step, epochs)
        self._file = open(path, "a", encoding="utf-8")
        events = workdir / EVENTS_FOLDER
        again = events.exists()
        events.mkdir(exist_ok=True)
        # The name is otherwise made of seconds: a quick restart would overwrite the file.
        self._events = EventsWriter(str(events / "events"), f".{time.time_ns()}")
        self._flushed = 0.0
        if again:  # has TensorBoard drop what is later in the files before
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
        """Passes one on to TensorBoard, which sees it within half a minute if more follow."""
        self._events.write_event(Event(step=step, wall_time=time.time(), **content))
        if time.monotonic() - self._flushed > _FLUSH_S:
            self._events.flush()
            self._flushed = time.monotonic()

    def sync(self) -> None:
        """Returns when the lines are on disk, for a checkpoint not to outlive those before it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._events.close()


def open_writer(
    workdir: str | os.PathLike, resume_step: int | None = None, epochs: int = 0
) -> SilentWriter:
    """A `MetricWriter` in the first process; in the others one that writes nothing."""
    if processes.is_first():
        return MetricWriter(workdir, resume_step, epochs)
    return SilentWriter()


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """The lines of a metrics.jsonl, oldest first; a last line torn by a kill is left out.

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
                f"{line[:40]!r}; mend or remove that line"
            ) from None
        records.append(record)
    return records


def _drop_after(path: Path, last_step: int, epochs: int) -> None:
    """Keeps the whole lines up to there. A kill in between leaves the old file or the new."""
    kept = [
        record
        for record in read_metrics(path)
        if record["step"] <= last_step and record.get("epoch", 0) <= epochs
    ]
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


class Progress(tqdm):
    """A tqdm bar with the loss, images per second and the time left; made by `progress`.

    Images per second are those of this session's training: the first update, which holds the
    compilation, and the time inside `paused` do not count. The time left does count the pauses.
    """

    def __init__(self, **options):
        self._loss = None
        self._images = 0
        self._first = None  # (seconds, steps) at the end of the first update
        self._paused_s = 0.0
        super().__init__(**options)

    def update(self, n: int = 1, loss: Any = None, images: int = 0) -> None:
        """Counts `n` steps over `images` images.

        `loss` may still be on the device: it is read only when the bar is drawn.
        """
        if loss is not None:
            self._loss = loss
        if self._first is None:
            self._first = (time.perf_counter(), self.n + n)
        else:
            self._images += images
        super().update(n)

    @property
    def images_per_s(self) -> float | None:
        """Training images per second of this session; None before the second update."""
        if not self._images:
            return None
        return self._images / (time.perf_counter() - self._first[0] - self._paused_s)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here, such as a validation, is not counted as training."""
        begin = time.perf_counter()
        yield
        if self._first is not None:
            self._paused_s += time.perf_counter() - begin

    @property
    def format_dict(self) -> dict:
        """What tqdm draws from, asked for only when it draws."""
        parts = []
        if self._loss is not None:
            parts.append(f"loss {float(self._loss):.4f}")
        if rate := self.images_per_s:
            parts.append(f"{rate:.3g} images/s")
        steps_per_s = 0  # not known: tqdm would take the compilation for the speed if None
        if self._first is not None and self.n > self._first[1]:
            steps_per_s = (self.n - self._first[1]) / (time.perf_counter() - self._first[0])
        return super().format_dict | {"rate": steps_per_s, "postfix": ", ".join(parts)}


def progress(
    total: int,
    initial: int = 0,
    desc: str = "",
    unit: str = "steps",
    file: TextIO | None = None,
) -> Progress:
    """A progress bar.

        with progress(total, initial=start_step, desc="train") as bar:
            ...
            bar.update(1, loss=loss, images=8)

    On a terminal a bar in place; elsewhere (a log file) a line every 30 seconds.

    Args:
        total: where the count ends.
        initial: where this session begins.
        desc: a word before the bar.
        unit: what is counted, in the plural.
        file: where to write; standard error if None, of the first process.
    """
    if file is None:
        file = sys.stderr if processes.is_first() else io.StringIO()
    terminal = file.isatty()
    return Progress(
        total=total,
        initial=initial,
        desc=desc,
        unit=unit,
        file=file if terminal else _Lines(file),
        dynamic_ncols=terminal,
        mininterval=0.5 if terminal else 30,
        miniters=1,
        bar_format="{desc}: {percentage:3.0f}%"
        + ("|{bar}|" if terminal else "")
        + " {n_fmt}/{total_fmt} {unit} [{elapsed}, {remaining} left{postfix}]",
    )


class _Lines:
    """Turns tqdm's overwriting of one line into whole lines, for a log file."""

    def __init__(self, file: TextIO):
        self._file = file
        self._last = ""
        self.encoding = getattr(file, "encoding", None)

    def write(self, text: str) -> None:
        text = text.strip()
        if text and text != self._last:
            self._file.write(text + "\n")
            self._last = text

    def flush(self) -> None:
        self._file.flush()

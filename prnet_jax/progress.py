"""A progress bar with the loss, images per second and the time left."""

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from tqdm import tqdm

from prnet_jax import processes
from prnet_jax.working import Ticker, quiet_s, said


class Progress(tqdm):
    """A tqdm bar that also shows the loss and images per second; made by `progress`.

    Images per second are those trained since this process started: the first update, which
    includes the compilation, and the time inside `paused` do not count. The time left includes
    pauses. While nothing is counted the bar is redrawn by a thread.
    """

    def __init__(self, doing: str, quiet_s: float, **options):
        self._doing = doing
        self._loss = None
        self._images = 0
        self._first = None  # (seconds, steps) at the end of the first update
        self._paused_s = 0.0
        self._drawn = time.perf_counter()
        self._quiet_s = quiet_s
        super().__init__(**options)
        self._ticker = Ticker(min(quiet_s, 1.0), self._show_life)

    def _show_life(self) -> None:
        if time.perf_counter() - self._drawn >= self._quiet_s:
            self.refresh()

    def display(self, *args, **options) -> bool:
        """Draws the bar; tqdm calls it."""
        self._drawn = time.perf_counter()
        said()
        return super().display(*args, **options)

    def close(self) -> None:
        """Draws the bar for the last time."""
        self._ticker.stop()
        super().close()

    def update(self, n: int = 1, loss: Any = None, images: int = 0) -> None:
        """Counts `n` steps on `images` images.

        `loss` may be an array on a device: it is read only when the bar is drawn.
        """
        self._doing = ""
        if loss is not None:
            self._loss = loss
        if self._first is None:
            self._first = (time.perf_counter(), self.n + n)
        else:
            self._images += images
        super().update(n)

    @property
    def images_per_s(self) -> float | None:
        """Images trained per second; None before the second update."""
        if not self._images:
            return None
        return self._images / (time.perf_counter() - self._first[0] - self._paused_s)

    @contextlib.contextmanager
    def paused(self, doing: str) -> Iterator[None]:
        """Does not count the time inside, such as that of a validation, as training.

        Args:
            doing: what the bar says meanwhile.
        """
        begin = time.perf_counter()
        self._doing = doing
        yield
        self._doing = ""
        if self._first is not None:
            self._paused_s += time.perf_counter() - begin

    @property
    def format_dict(self) -> dict:
        """The fields of the bar; tqdm reads them only when it draws."""
        parts = [self._doing] if self._doing else []
        if self._loss is not None:
            parts.append(f"loss {float(self._loss):.4f}")
        if not self._doing and (rate := self.images_per_s):
            parts.append(f"{rate:.3g} images/s")
        steps_per_s = 0  # unknown; for None tqdm would count the compilation
        if self._first is not None and self.n > self._first[1]:
            steps_per_s = (self.n - self._first[1]) / (time.perf_counter() - self._first[0])
        return super().format_dict | {"rate": steps_per_s, "postfix": ", ".join(parts)}


def progress(
    total: int,
    initial: int = 0,
    desc: str = "",
    unit: str = "steps",
    doing: str = "",
    file: TextIO | None = None,
) -> Progress:
    """A progress bar.

        with progress(total, initial=start_step, desc="train") as bar:
            ...
            bar.update(1, loss=loss, images=8)

    On a terminal the bar is redrawn in place, once a second; elsewhere, such as in a log file, it
    is a line every eight seconds. It shows that time passes also while nothing is counted.

    Args:
        total: the final count.
        initial: the count at the start.
        desc: a word before the bar.
        unit: what is counted, in the plural.
        doing: what is done before the first update.
        file: where to write; None: standard error, but only in the first process.
    """
    if file is None:
        file = sys.stderr if processes.is_first() else io.StringIO()
    terminal = file.isatty()
    return Progress(
        doing=doing if initial < total else "",
        quiet_s=quiet_s(terminal),
        mininterval=0.5 if terminal else quiet_s(terminal),
        total=total,
        initial=initial,
        desc=desc,
        unit=unit,
        file=file if terminal else _Lines(file),
        dynamic_ncols=terminal,
        miniters=1,
        bar_format="{desc}: {percentage:3.0f}%"
        + ("|{bar}|" if terminal else "")
        + " {n_fmt}/{total_fmt} {unit} [{elapsed}, {remaining} left{postfix}]",
    )


class _Lines:
    """Turns tqdm's redrawing of one line into separate lines, for a log file."""

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

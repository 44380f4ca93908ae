"""Signs of life during work that takes long and cannot be counted beforehand."""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

_last_said = time.monotonic()
_CLEAR = "\r\x1b[K"  # the line on a terminal, from its beginning


def quiet_s(terminal: bool) -> float:
    """The longest silence in seconds: a terminal redraws one line, elsewhere lines pile up."""
    return 1.0 if terminal else 8.0


@contextlib.contextmanager
def working(what: str) -> Iterator["Work"]:
    """Says on standard output, every few seconds, that `what` goes on, and for how long.

        with working("preparing lung_phantom") as work:
            ...

    On a terminal one line is redrawn, below what is printed meanwhile, and removed at the end;
    elsewhere, such as in a log file, it is a line every eight seconds. Short work is silent. A
    progress bar inside would be drawn over the line.

    Args:
        what: a few words.

    Yields:
        Its `images` may be counted up.
    """
    work = Work(what, sys.stdout)
    # Several that are short follow each other, so the silence of all of them counts.
    quiet = quiet_s(work.terminal)
    ticker = Ticker(min(quiet, 1.0), lambda: work.say() if _silence_s() >= quiet else None)
    try:
        with contextlib.redirect_stdout(_Printed(work, sys.stdout)):
            yield work
    finally:
        ticker.stop()
        work.close()


def said() -> None:
    """Notes that something was shown just now."""
    global _last_said
    _last_said = time.monotonic()


def _silence_s() -> float:
    return time.monotonic() - _last_said


class Ticker:
    """Calls `do` every `every_s` seconds, in a thread, until `stop`."""

    def __init__(self, every_s: float, do: Callable[[], None]):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(every_s, do), daemon=True)
        self._thread.start()

    def _run(self, every_s: float, do: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more
            while not self._over.wait(every_s):
                do()

    def stop(self) -> None:
        """Returns when the last call has ended."""
        self._over.set()
        self._thread.join()


class Work:
    """The line that `working` shows; `images` are those done so far."""

    def __init__(self, what: str, file: TextIO):
        self.images = 0
        self.terminal = file.isatty()  # otherwise every line stays
        self._what = what
        self._file = file
        self._begin = time.monotonic()
        self._lock = threading.Lock()
        self._shown = False
        self._other_line = False  # somebody has begun one and not ended it yet

    def __str__(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._begin), 60)
        images = f"{self.images} images, " if self.images else ""
        return f"{self._what}: {images}{minutes:02}:{seconds:02}"

    def say(self) -> None:
        """Shows how far it is."""
        with self._lock:
            if self._other_line:
                return
            if self.terminal:
                width = shutil.get_terminal_size().columns - 1
                self._file.write(_CLEAR + str(self)[:width])
                self._shown = True
            else:
                self._file.write(f"{self}\n")
            self._file.flush()
            said()

    def write(self, text: str) -> int:
        """Writes what is printed meanwhile in place of the line."""
        said()
        with self._lock:
            self._hide()
            if text:
                self._other_line = not text.endswith("\n")
            return self._file.write(text)

    def close(self) -> None:
        """Removes the line."""
        with self._lock:
            self._hide()
            self._file.flush()

    def _hide(self) -> None:
        if self._shown:
            self._file.write(_CLEAR)
            self._shown = False


class _Printed:
    """Standard output while a `Work` goes on."""

    def __init__(self, work: Work, file: TextIO):
        self.write = work.write
        self._file = file

    def __getattr__(self, name: str):
        return getattr(self._file, name)

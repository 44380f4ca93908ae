"""Ending a run from outside: SIGTERM, Ctrl-C, and JAX's preemption service on several hosts."""

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
from typing import Self

_ABORTED = 130  # the exit code that shells give Ctrl-C


class Stop:
    """Turns a signal into an orderly end. A context manager, for the main thread.

    The first SIGTERM or Ctrl-C asks for the end: `reached` becomes true, and what has not ended
    `within_s` seconds later is ended, with exit code 0, since the last checkpoint stands. A second
    Ctrl-C ends at once, with exit code 130. Before `reached` was asked for the first time nothing
    can be lost, and a signal ends the process.

    Under `jax.distributed` SIGTERM belongs to JAX's preemption service, which has all processes end
    at the same point, whichever got it; Ctrl-C is handed on to it. Call `share_sigterm` there.

    Attributes:
        within_s: seconds.
    """

    def __init__(self, within_s: float = 30.0):
        self.within_s = within_s
        self._lock = threading.Lock()
        self._requested = False
        self._agreed = False  # with the other processes, on where to end
        self._asked = 0
        self._over = False

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        # A handler in Python waits for a compilation to end. This thread does not.
        self._pipe, self._shared = os.pipe(), os.pipe()
        for end in (self._pipe[1], self._shared[1]):
            os.set_blocking(end, False)
        self._fd_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._over = True
        faulthandler.unregister(signal.SIGTERM)
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.write(self._pipe[1], b"\0")  # ends the thread

    def share_sigterm(self) -> None:
        """Hears of SIGTERM beside JAX's preemption service, which has taken it over; does nothing
        where there is none."""
        if _is_distributed():
            # Of Python's ways the only one that leaves the handler before it, JAX's, at work. A
            # signal in a thread that Python does not know is JAX's alone: then the message and
            # the bound come when all agree on where to end.
            faulthandler.register(signal.SIGTERM, self._shared[1], all_threads=False, chain=True)

    def reached(self) -> bool:
        """Whether the run shall save and end here.

        All processes must ask equally often, at the same points of their work.
        """
        self._asked += 1
        if not _is_distributed():
            return self._requested
        from jax.experimental import multihost_utils

        self._agreed = self._agreed or multihost_utils.reached_preemption_sync_point(self._asked)
        if self._agreed:
            self._request("SIGTERM")
        return self._agreed

    def _handle(self, number: int, frame) -> None:
        """Nothing: an exception raised anywhere could be taken for another, or be swallowed."""

    def _listen(self) -> None:
        interrupts = 0
        while number := self._next_signal():
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            if not self._asked:
                _say("Stopped before the training began. The same command begins it or goes on.")
                os._exit(0)
            interrupts += number == signal.SIGINT
            if number == signal.SIGINT and (interrupts > 1 or self._requested):
                _say("Stopped at once. The same command goes on from the last checkpoint.")
                os._exit(_ABORTED)
            if number == signal.SIGINT and _is_distributed():
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                self._request(signal.Signals(number).name)
        for end in (*self._pipe, *self._shared):
            os.close(end)

    def _next_signal(self) -> int:
        """Waits for one; 0 at the end."""
        ready, _, _ = select.select([self._pipe[0], self._shared[0]], [], [])
        if self._pipe[0] in ready:
            return os.read(self._pipe[0], 1)[0]
        os.read(self._shared[0], 1 << 16)  # where the program was; of no interest here
        return signal.SIGTERM

    def _request(self, name: str) -> None:
        with self._lock:
            if self._requested:
                return
            timer = threading.Timer(self.within_s, self._give_up)
            timer.daemon = True
            timer.start()
            again = " again" if name == "SIGINT" else ""
            _say(
                f"{name}: saving after the running step, then ending, within {self.within_s:g} s "
                f"(config.stop_within_s). Ctrl-C{again} ends at once."
            )
            self._requested = True  # last: a run may end at once

    def _give_up(self) -> None:
        if self._over:
            return
        _say(
            f"Not done within {self.within_s:g} s, and ended. The same command goes on from the "
            "last checkpoint."
        )
        os._exit(0)


def _is_distributed() -> bool:
    """Whether JAX's preemption service runs; asked without importing JAX, which takes a while."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be listening any more
        print(f"\n{text}", file=sys.stderr, flush=True)

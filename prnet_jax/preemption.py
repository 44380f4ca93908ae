"""Ending a run from outside: SIGTERM, Ctrl-C, and JAX's preemption service on several hosts."""

import os
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

    With several processes SIGTERM belongs to JAX's preemption service, which has all of them end
    at the same point, whichever got it; Ctrl-C is handed on to it.

    Attributes:
        within_s: seconds.
    """

    def __init__(self, within_s: float = 30.0):
        self.within_s = within_s
        self._requested = False
        self._asked = 0
        self._over = False

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        # A handler in Python waits for a compilation to end. This thread does not.
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._fd_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._over = True
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.write(self._pipe[1], b"\0")  # ends the thread

    def reached(self) -> bool:
        """Whether the run shall save and end here.

        All processes must ask equally often, at the same points of their work.
        """
        self._asked += 1
        if not self._requested and _several_processes():
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(self._asked):
                self._request("SIGTERM")
        return self._requested

    def _handle(self, number: int, frame) -> None:
        """Nothing: an exception raised anywhere could be taken for another, or be swallowed."""

    def _listen(self) -> None:
        interrupts = 0
        while number := os.read(self._pipe[0], 1)[0]:
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            if not self._asked:
                _say("Stopped before the training began. The same command begins it or goes on.")
                os._exit(0)
            interrupts += number == signal.SIGINT
            if number == signal.SIGINT and (interrupts > 1 or self._requested):
                _say("Stopped at once. The same command goes on from the last checkpoint.")
                os._exit(_ABORTED)
            if number == signal.SIGINT and _several_processes():
                os.kill(os.getpid(), signal.SIGTERM)
            elif not self._requested:
                self._request(signal.Signals(number).name)
        for end in self._pipe:
            os.close(end)

    def _request(self, name: str) -> None:
        self._requested = True
        timer = threading.Timer(self.within_s, self._give_up)
        timer.daemon = True
        timer.start()
        again = " again" if name == "SIGINT" else ""
        _say(
            f"{name}: saving after the running step, then ending, within {self.within_s:g} s "
            f"(config.stop_within_s). Ctrl-C{again} ends at once."
        )

    def _give_up(self) -> None:
        if self._over:
            return
        _say(
            f"Not done within {self.within_s:g} s, and ended. The same command goes on from the "
            "last checkpoint."
        )
        os._exit(0)


def _several_processes() -> bool:
    """Asked without importing JAX, which takes a while, and without starting its devices."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def _say(text: str) -> None:
    print(f"\n{text}", file=sys.stderr, flush=True)

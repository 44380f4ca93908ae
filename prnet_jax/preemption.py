"""Stopping a run from outside: SIGTERM, Ctrl-C, and JAX's preemption service on several hosts."""

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
from typing import Self

from prnet_jax.commands import ABORTED


class Stop:
    """Turns a signal into an orderly end. A context manager, for the main thread.

    The first SIGTERM or Ctrl-C asks the run to stop: `reached` returns True from then on, and if
    the process still runs `within_s` seconds later, it is ended with exit code 0, because the last
    checkpoint is kept. A second Ctrl-C ends the process at once, with exit code 130. Until
    `reached` is called for the first time there must be nothing to lose, and the first signal ends
    the process, also in the middle of a compilation.

    Under `jax.distributed` SIGTERM belongs to JAX's preemption service, which makes all processes
    stop at the same step, whichever of them was signalled; Ctrl-C is passed on to it. Call
    `share_sigterm` there.

    Attributes:
        within_s: seconds from the signal to the end.
    """

    def __init__(self, within_s: float = 30.0):
        self.within_s = within_s
        self._lock = threading.Lock()
        self._requested = False
        self._agreed = False  # with the other processes, on the step to stop at
        self._asked = 0
        self._over = False

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        # A Python handler runs only when a compilation has ended. This thread need not wait for it.
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
        """Listens to SIGTERM beside JAX's preemption service; does nothing without the service."""
        if _is_distributed():
            # faulthandler alone calls the handler before it, which is JAX's. A signal delivered to
            # a thread unknown to Python reaches only JAX: the message and the time limit then
            # follow once the processes have agreed on a step.
            faulthandler.register(signal.SIGTERM, self._shared[1], all_threads=False, chain=True)

    def reached(self) -> bool:
        """Whether the run should save and stop now.

        Every process must call this equally often, at the same points of its work.
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
        """Does nothing: an exception raised at an arbitrary line could be caught there."""

    def _listen(self) -> None:
        interrupts = 0
        while number := self._next_signal():
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            if not self._asked:
                _say(
                    "Stopped before the training began, so there was nothing to save. The same "
                    "command starts or resumes it."
                )
                os._exit(0)
            interrupts += number == signal.SIGINT
            if number == signal.SIGINT and (interrupts > 1 or self._requested):
                _say("Stopped at once. The same command resumes from the last checkpoint.")
                os._exit(ABORTED)
            if number == signal.SIGINT and _is_distributed():
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                self._request(signal.Signals(number).name)
        for end in (*self._pipe, *self._shared):
            os.close(end)

    def _next_signal(self) -> int:
        """Waits for a signal and returns its number; 0 after `__exit__`."""
        ready, _, _ = select.select([self._pipe[0], self._shared[0]], [], [])
        if self._pipe[0] in ready:
            return os.read(self._pipe[0], 1)[0]
        os.read(self._shared[0], 1 << 16)  # a stack trace, not needed
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
                f"{name}: stopping after this step and saving, within {self.within_s:g} s "
                f"(config.stop_within_s). Ctrl-C{again} stops at once."
            )
            self._requested = True  # last: the run may end before the next line

    def _give_up(self) -> None:
        if self._over:
            return
        _say(
            f"Not done within {self.within_s:g} s: stopped. The same command resumes from the last "
            "checkpoint."
        )
        os._exit(0)


def _is_distributed() -> bool:
    """Whether JAX's preemption service runs; does not import JAX, which takes a while."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # standard error may be closed
        print(f"\n{text}", file=sys.stderr, flush=True)

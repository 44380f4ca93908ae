"""The only file that knows Orbax: the checkpoints of a run, and a network's variables.

A checkpoint is one folder `checkpoints/<step>`, or `interim/<step>` for one between the ends of
epochs, that holds the state and the clock together. Orbax writes it beside the training and renames
it when it is whole; then a seal is written, see `prnet_jax.seals`.

The variables of a network without a run, such as imported weights, are a folder that holds
network.json (its name and fields) and variables/.
"""

import concurrent.futures
import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from prnet_jax import processes
from prnet_jax.errors import RunError
from prnet_jax.run import checksums
from prnet_jax.run.checksums import checkpoint_folders, checksums_of

_SCORE = "score"
_SUPERSEDED = "superseded"
_UNFINISHED = "*.orbax-checkpoint-tmp*"
_DAMAGED = "damaged"
_TRIES = 25


class Checkpoints:
    """The checkpoints of a run: the two newest, the one with the best score (newest of equals), and
    the newest of those without a score.

    A checkpoint that is not as it was written is reported by name and moved to RUN/damaged when
    the run is opened; those before it count.

    Args:
        workdir: the run directory.

    Raises:
        RunError: another process of this machine has them open.
    """

    def __init__(self, workdir: pathlib.Path):
        self._held = contextlib.ExitStack()

        def take_over() -> list[str]:
            self._held.enter_context(_held(workdir))
            return _set_damaged_aside(workdir)

        for line in processes.on_first(take_over):
            print(line, flush=True)
        policy = keep.AnyPreservationPolicy(
            [keep.LatestN(n=2), keep.BestN(get_metric_fn=_score, n=1)]
        )
        self._scored = _Folder(workdir / "checkpoints", policy)
        self._interim = _Folder(workdir / "interim", keep.LatestN(n=1))

    @property
    def last_step(self) -> int | None:
        """The newest checkpoint's step, or None where there is none."""
        steps = [folder.last_step for folder in (self._scored, self._interim)]
        return max((step for step in steps if step is not None), default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the best score, or None where there is none."""
        return self._scored.manager.best_step()

    def save(self, step: int, state: Any, clock: dict[str, Any], score: float | None) -> None:
        """Starts saving after `step` steps; `state` may be donated as soon as this returns.

        Args:
            step: the number of steps taken.
            state: a tree of arrays.
            clock: numbers and texts, kept as JSON.
            score: higher is better; None for a checkpoint to go on from only.

        Raises:
            RunError: this or the one before could not be written; those before are kept.
        """
        # Also of the other folder: two saves at once would meet at the same barriers of Orbax.
        self.wait()
        folder = self._interim if score is None else self._scored
        folder.save(step, state, clock, score)

    def restore(self, state: Any) -> tuple[Any, dict[str, Any]]:
        """The newest checkpoint: state and clock; of two of the same step the one with a score.

        `state` gives the structure, the dtypes and the placement.
        """
        scored = self.last_step == self._scored.last_step
        return (self._scored if scored else self._interim).restore(self.last_step, state)

    def restore_best(self, state: Any) -> Any:
        """The state with the best score, placed like `state`."""
        self.wait()
        return self._scored.restore(self.best_step, state)[0]

    def wait(self) -> None:
        """Returns when what was started is on disk and sealed.

        Raises:
            RunError: it could not be written.
        """
        for folder in (self._scored, self._interim):
            folder.wait()

    def __enter__(self) -> Self:
        # Threads of a save that failed would fill the screen after its error was told.
        sys.unraisablehook = _without_closed_loops
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Waits, and frees what Orbax holds; not where another process may be gone for good."""
        self._held.close()
        if isinstance(error, jax.errors.JaxRuntimeError):
            for folder in (self._scored, self._interim):
                folder.failed = True
            return
        failed = None
        for folder in (self._scored, self._interim):
            try:
                folder.wait()
            except RunError as raised:
                failed = raised
            with contextlib.suppress(Exception):  # Orbax tells again what it told before
                folder.manager.close()
        if failed is not None and error is None:
            raise failed


class _Folder:
    """The checkpoints in one folder, kept by an Orbax manager and sealed by the first process."""

    def __init__(self, path: pathlib.Path, policy: keep.PreservationPolicy):
        self._path = path.absolute()
        self.manager = ocp.CheckpointManager(
            self._path,
            options=ocp.CheckpointManagerOptions(
                best_fn=_score,
                preservation_policy=policy,
                # Renamed at once and removed by us: a kill leaves no half of a checkpoint.
                todelete_subdir=_SUPERSEDED,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=path.name
                ),
            ),
        )
        self._sealer = concurrent.futures.ThreadPoolExecutor(1)
        self._sealing: concurrent.futures.Future | None = None
        self.failed = False

    @property
    def last_step(self) -> int | None:
        return self.manager.latest_step()

    def save(self, step: int, state: Any, clock: dict[str, Any], score: float | None) -> None:
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), clock=ocp.args.JsonSave(clock)
        )
        metrics = None if score is None else {_SCORE: score}
        processes.on_first(lambda: self._check_room(state))
        with self._telling():
            self.manager.save(step, args=items, metrics=metrics, force=True)
        if processes.is_first():
            self._sealing = self._sealer.submit(self._seal, step)

    def restore(self, step: int, state: Any) -> tuple[Any, dict[str, Any]]:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), clock=ocp.args.JsonRestore()
        )
        try:
            restored = self.manager.restore(step, args=items)
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:
            raise RunError(
                f"the checkpoint {self._path / str(step)} cannot be read ({_reason(error)}): move "
                "it away, then repeat the command, which goes on from the one before it"
            ) from error
        return restored.state, restored.clock

    def wait(self) -> None:
        with self._telling():
            self.manager.wait_until_finished()
            sealing, self._sealing = self._sealing, None
            if sealing is not None:
                sealing.result()
        if processes.is_first():
            _remove_superseded(self._path)

    def _check_room(self, state: Any) -> None:
        """Refuses before anything is written, where the disk says that it is too full."""
        needed = sum(array.nbytes for array in jax.tree.leaves(state))
        disk = shutil.disk_usage(self._path)
        if disk.total and disk.free < needed:  # some network disks say nothing: 0 of 0
            raise RunError(
                f"a checkpoint of {needed / 1e6:,.1f} MB does not fit on the disk of {self._path} "
                f"({disk.free / 1e6:,.1f} MB free): make room, then repeat the command; the "
                "checkpoints before it are kept"
            )

    def _seal(self, step: int) -> None:
        """Seals a checkpoint as soon as it is committed."""
        folder = self._path / str(step)
        while not folder.exists():
            if self.failed:
                return
            time.sleep(0.01)
        checksums.write_checksums(folder)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Turns what Orbax raises into one line, and frees the space of what is not whole."""
        try:
            yield
        except jax.errors.JaxRuntimeError:
            self.failed = True
            raise  # of the devices or another process
        except Exception as error:
            self.failed = True
            if processes.is_first():
                _remove_unfinished(self._path)
            raise RunError(
                f"a checkpoint could not be written to {self._path} ({_reason(error)}): make room, "
                "then repeat the command; the checkpoints before it are kept"
            ) from error


def _without_closed_loops(unraisable: Any) -> None:
    """Python's own hook, but for what Orbax's writers say once their save has failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _score(metrics: Mapping[str, float]) -> float:
    return metrics[_SCORE]


def _set_damaged_aside(workdir: pathlib.Path) -> list[str]:
    """Leaves only whole checkpoints in a run; a line on each that was moved."""
    lines = []
    parents = (workdir / "checkpoints", workdir / "interim")
    for parent in parents:
        _remove_unfinished(parent)
        _remove_superseded(parent)
        for folder in checkpoint_folders(parent):
            if not checksums_of(folder).exists():  # its writer was killed in the moment before
                checksums.write_checksums(folder)
            found = checksums.damage(folder)
            if found is None:
                continue
            aside = workdir / _DAMAGED / f"{parent.name}_{folder.name}_{time.time_ns()}"
            aside.parent.mkdir(exist_ok=True)
            os.replace(folder, aside)
            checksums_of(folder).unlink()
            lines.append(f"Damaged checkpoint {folder}: {found}. Moved to {aside}.")
    if lines:
        left = [folder.name for parent in parents for folder in checkpoint_folders(parent)]
        newest = max(left, key=int, default=None)
        lines.append(
            f"The newest whole checkpoint is of step {newest}."
            if left
            else "No checkpoint is left: the run begins anew."
        )
    return lines


@contextlib.contextmanager
def _held(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps others on this machine away from a run; network disks mostly cannot do this.

    Raises:
        RunError: another has it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    folder = os.open(workdir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise RunError(
            f"another process is training in {workdir}: wait until it has ended, or stop it"
        ) from None
    except OSError:
        pass  # no such locks on this disk
    try:
        yield
    finally:
        os.close(folder)


def _remove_unfinished(parent: pathlib.Path) -> None:
    """Removes what a save left that failed or was killed; its threads may still be writing."""
    for _ in range(_TRIES):
        found = list(parent.glob(_UNFINISHED))
        if not found:
            return
        for folder in found:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.2)


def _remove_superseded(parent: pathlib.Path) -> None:
    shutil.rmtree(parent / _SUPERSEDED, ignore_errors=True)
    checksums.remove_stale_checksums(parent)


def _reason(error: BaseException) -> str:
    """What an error comes from, in a few words."""
    full = os.strerror(errno.ENOSPC)
    if full in "".join(traceback.format_exception(error)):
        return f"{full}: the disk is full"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__

"""The only file that knows Orbax: the checkpoints of a run, and arrays on disk.

A checkpoint is one folder, `checkpoints/<step>`, or `interim/<step>` between validations. It
holds the training state and the clock together. Orbax writes it while the training continues, and
renames it when it is complete; then its checksums are written, see `prnet_jax.run.checksums`.
"""

import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from prnet_jax import processes
from prnet_jax.errors import InputError, RunError
from prnet_jax.run import checksums, files
from prnet_jax.run.checksums import checkpoint_folders, checksums_of
from prnet_jax.run.directory import locked

_SCORE = "score"
_STEP = "step"
_SUPERSEDED = "superseded"
_UNFINISHED = "*.orbax-checkpoint-tmp*"
_TRIES = 25


class Checkpoints:
    """The checkpoints of a run: the two newest with a score, the one with the best score (the
    earliest of equals), and the newest without a score.

    When the run is opened, a checkpoint that has changed since it was written is reported by name
    and moved to RUN/damaged; those before it count.

    Args:
        workdir: the run directory.

    Raises:
        RunError: another process on this machine has them open.
    """

    def __init__(self, workdir: pathlib.Path):
        self._lock = contextlib.ExitStack()

        def take_over() -> list[str]:
            self._lock.enter_context(locked(workdir))
            return _set_damaged_aside(workdir)

        for line in processes.on_first(take_over):
            print(line, flush=True)
        policy = keep.AnyPreservationPolicy(
            [keep.LatestN(n=2), keep.BestN(get_metric_fn=_rank, n=1)]
        )
        self._scored = _Folder(workdir / files.CHECKPOINTS, policy)
        self._interim = _Folder(workdir / files.INTERIM, keep.LatestN(n=1))

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
        """Starts to save; `state` may be donated as soon as this returns.

        Args:
            step: the number of steps taken.
            state: a tree of arrays.
            clock: numbers and texts, kept as JSON.
            score: higher is better; None for a checkpoint that is only resumed from.

        Raises:
            RunError: this or the previous one could not be written; older ones are kept.
        """
        # For the other folder too: two saves at once would share Orbax's barriers.
        self.wait()
        folder = self._interim if score is None else self._scored
        folder.save(step, state, clock, score)

    def restore(self, state: Any) -> tuple[Any, dict[str, Any]]:
        """State and clock of the newest checkpoint; of two at one step, the one with a score.

        `state` gives the structure, the dtypes and the placement.
        """
        scored = self.last_step == self._scored.last_step
        return (self._scored if scored else self._interim).restore(self.last_step, state)

    def restore_best(self, state: Any) -> Any:
        """The state with the best score, placed like `state`."""
        self.wait()
        return self._scored.restore(self.best_step, state)[0]

    def wait(self) -> None:
        """Returns when every save that was started is on disk, checksums included.

        Raises:
            RunError: it could not be written.
        """
        for folder in (self._scored, self._interim):
            folder.wait()

    def __enter__(self) -> Self:
        # Threads of a failed save would fill the screen after its error was reported.
        sys.unraisablehook = _ignore_closed_loops
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Waits, and frees what Orbax holds, unless another process may be gone for good."""
        self._lock.close()
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
            with contextlib.suppress(Exception):  # Orbax repeats an error that was reported
                folder.manager.close()
        if failed is not None and error is None:
            raise failed


class _Folder:
    """The checkpoints in one folder: an Orbax manager, and checksums by the first process."""

    def __init__(self, path: pathlib.Path, policy: keep.PreservationPolicy):
        self._path = path.absolute()
        self.manager = ocp.CheckpointManager(
            self._path,
            options=ocp.CheckpointManagerOptions(
                best_fn=_rank,
                preservation_policy=policy,
                # Renamed at once, and removed by us: a kill leaves no part of a checkpoint.
                todelete_subdir=_SUPERSEDED,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=path.name
                ),
            ),
        )
        self._checksum_thread = concurrent.futures.ThreadPoolExecutor(1)
        self._checksums_pending: concurrent.futures.Future | None = None
        self.failed = False

    @property
    def last_step(self) -> int | None:
        return self.manager.latest_step()

    def save(self, step: int, state: Any, clock: dict[str, Any], score: float | None) -> None:
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), clock=ocp.args.JsonSave(clock)
        )
        metrics = None if score is None else {_SCORE: score, _STEP: step}
        processes.on_first(lambda: self._check_room(state))
        with self._one_line_errors():
            self.manager.save(step, args=items, metrics=metrics, force=True)
        if processes.is_first():
            self._checksums_pending = self._checksum_thread.submit(self._write_checksums, step)

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
                "it away, then repeat the command, which resumes from the one before it"
            ) from error
        return restored.state, restored.clock

    def wait(self) -> None:
        with self._one_line_errors():
            self.manager.wait_until_finished()
            pending, self._checksums_pending = self._checksums_pending, None
            if pending is not None:
                pending.result()
        if processes.is_first():
            _remove_superseded(self._path)

    def _check_room(self, state: Any) -> None:
        """Refuses before anything is written if the disk reports too little room."""
        needed = sum(array.nbytes for array in jax.tree.leaves(state))
        disk = shutil.disk_usage(self._path)
        if disk.total and disk.free < needed:  # some network disks report 0 of 0
            raise RunError(
                f"a checkpoint of {needed / 1e6:,.1f} MB does not fit on the disk of {self._path} "
                f"({disk.free / 1e6:,.1f} MB free): make room, then repeat the command; the "
                "checkpoints before it are kept"
            )

    def _write_checksums(self, step: int) -> None:
        """Records the checksums of a checkpoint as soon as it is committed."""
        folder = self._path / str(step)
        while not folder.exists():
            if self.failed:
                return
            time.sleep(0.01)
        checksums.write_checksums(folder)

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        """Turns what Orbax raises into one line, and removes an incomplete checkpoint."""
        try:
            yield
        except jax.errors.JaxRuntimeError:
            self.failed = True
            raise  # from the devices or another process
        except Exception as error:
            self.failed = True
            if processes.is_first():
                _remove_unfinished(self._path)
            raise RunError(
                f"a checkpoint could not be written to {self._path} ({_reason(error)}): make room, "
                "then repeat the command; the checkpoints before it are kept"
            ) from error


def _ignore_closed_loops(unraisable: Any) -> None:
    """Python's own hook, without what Orbax's writers say once their save has failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _rank(metrics: Mapping[str, float]) -> tuple[float, int]:
    """Higher is better. Earlier versions kept no step, and took the newest of equals."""
    return float(metrics[_SCORE]), -int(metrics.get(_STEP, 0))


def _set_damaged_aside(workdir: pathlib.Path) -> list[str]:
    """Moves damaged checkpoints out of a run; one line for each that was moved."""
    lines = []
    parents = (workdir / files.CHECKPOINTS, workdir / files.INTERIM)
    for parent in parents:
        _remove_unfinished(parent)
        _remove_superseded(parent)
        for folder in checkpoint_folders(parent):
            if not checksums_of(folder).exists():  # its writer was killed just before
                checksums.write_checksums(folder)
            found = checksums.damage(folder)
            if found is None:
                continue
            aside = workdir / files.DAMAGED / f"{parent.name}_{folder.name}_{time.time_ns()}"
            aside.parent.mkdir(exist_ok=True)
            os.replace(folder, aside)
            checksums_of(folder).unlink()
            lines.append(f"Damaged checkpoint {folder}: {found}. Moved to {aside}.")
    if lines:
        left = [folder.name for parent in parents for folder in checkpoint_folders(parent)]
        newest = max(left, key=int, default=None)
        lines.append(
            f"The newest complete checkpoint is that of step {newest}."
            if left
            else "No checkpoint is left: the run starts again."
        )
    return lines


def _remove_unfinished(parent: pathlib.Path) -> None:
    """Removes what a failed or killed save left; its threads may still be writing."""
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
    """The cause of an error in a few words."""
    full = os.strerror(errno.ENOSPC)
    if full in "".join(traceback.format_exception(error)):
        return f"{full}: the disk is full"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def write_arrays(path: pathlib.Path, tree: Any) -> None:
    """Writes a tree of NumPy arrays as a new folder."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), tree)


def read_arrays(path: pathlib.Path) -> Any:
    """A saved tree as NumPy arrays, without knowing the tree or the devices it was saved from.

    Raises:
        InputError: the folder is not a complete checkpoint.
    """
    path = path.absolute()
    handler = ocp.PyTreeCheckpointHandler()  # a checkpointer's metadata() warns of every run
    with contextlib.closing(handler), ocp.PyTreeCheckpointer() as checkpointer:
        try:
            tree = handler.metadata(path).tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            return checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=as_numpy))
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} is not a complete checkpoint ({type(error).__name__}): copy or make it "
                "again"
            ) from None


def read_rank(folder: pathlib.Path) -> tuple[float, int]:
    """The rank of a checkpoint, read without a manager, which would disturb a running one.

    The higher is the better; where two are the same, the newest.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / "metrics" / "metrics"
    try:
        return _rank(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}): the checkpoint is damaged; repeat "
            "the run's command, which sets it aside"
        ) from None

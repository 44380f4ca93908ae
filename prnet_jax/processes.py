"""The only file that knows of several processes: JAX's own distributed runtime, and who writes.

Every process runs the same program on the devices that it sees. What must be done once, such as
writing a file, is done by the first of them while the others wait: `on_first`.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from prnet_jax.errors import InputError, RunError

_EXPLICIT = ("coordinator", "num_processes", "process_id")
_ONE_PROCESS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")  # "1" there: nobody to wait for
# In what JAX says where it found no cluster, and in a program that computes already.
_NO_CLUSTER = ("coordinator_address should be defined", "must be called before any JAX")
_NOTEBOOKS = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")  # one machine, whatever its TPU says
_LONGEST_WAIT_MS = 7 * 24 * 3600 * 1000  # as for a data set that the first process makes
# In what JAX says when another process is gone; an error of this one's devices has other words.
_LOST = re.compile("gloo|unavailable|heartbeat|socket|connection|peer|barrier|coordination", re.I)
_LATE_S = 10.0  # a file on shared storage
_calls = itertools.count()


@contextlib.contextmanager
def joined(config: ml_collections.ConfigDict) -> Iterator[None]:
    """Joins the other processes of this run, where there are any, and sets the compilation cache.

    With `config.distributed` "auto" JAX looks for SLURM, Open MPI, a TPU pod or Kubernetes; the
    three explicit fields say it where none of these does. To be entered before anything is
    computed. Inside, only the first process prints.

    Of several processes one that fails ends here, with a line or a trace and exit code 1 or 2, and
    the others with it: at once where they are waiting for what it should have computed, else after
    `config.dead_after_s`.

    Raises:
        InputError: incomplete or contradicting fields, or other numbers of devices.
        RunError: processes that cannot be reached.
    """
    _set_cache(config.compilation_cache)
    _find_others(config)
    if jax.process_count() == 1:
        yield
        return
    try:
        if jax.device_count() != jax.process_count() * jax.local_device_count():
            raise InputError(
                f"every process must have as many devices as the others: here are "
                f"{jax.local_device_count()} of {jax.device_count()}, with {jax.process_count()} "
                "processes"
            )
        if is_first():
            yield
        else:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                yield
    except Exception as error:
        # Not raised further: at its exit JAX would wait minutes for processes that are no more.
        if isinstance(error, jax.errors.JaxRuntimeError) and _LOST.search(str(error)):
            error = RunError(
                f"another process ended or cannot be reached ({_first_line(error)}): start all "
                "again by the same command, which goes on from the last checkpoint"
            )
        if isinstance(error, (InputError, RunError)):
            print(f"error: process {jax.process_index()}: {error}", file=sys.stderr)
        else:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, InputError) else 1)


def is_first() -> bool:
    """Whether this is the process that writes files and talks."""
    return jax.process_index() == 0


def on_first(make: Callable[[], Any]) -> Any:
    """What `make()` returns in the first process, in all; the others wait meanwhile.

    Args:
        make: returns what JSON can hold.

    Raises:
        InputError, RunError: in every process, where the first raised it.
    """
    if jax.process_count() == 1:
        return make()
    value, error = None, None
    if is_first():
        try:
            value = make()
        except Exception as raised:
            error = raised
    _wait_for_all()
    told = {"value": value, "error": error and type(error).__name__, "text": str(error)}
    told = json.loads(_from_first(json.dumps(told)))
    if error is not None:
        raise error
    if told["error"] is not None:
        kind = InputError if told["error"] == "InputError" else RunError
        raise kind(told["text"])
    return told["value"]


def compile_together(step: Callable) -> Callable:
    """A jitted `step` that begins in all processes at once, after each has compiled it.

    A process that waits for another's data gives up after half a minute on CPUs, and compilations
    can be that far apart. To be called with arguments of the same shapes always.
    """
    if jax.process_count() == 1:
        return step
    compiled = None

    def run(*arguments):
        nonlocal compiled
        if compiled is None:
            compiled = step.lower(*arguments).compile()
            _wait_for_all()
        return compiled(*arguments)

    run.lower = step.lower
    return run


def check_same(what: str, value: str) -> None:
    """Refuses to go on where a process has another `value` than the first.

    Raises:
        InputError: in every process, naming those that differ.
    """
    if jax.process_count() == 1:
        return
    same = on_first(lambda: value) == value
    all_same = multihost_utils.process_allgather(np.array(same))
    if not all_same.all():
        raise InputError(
            f"{what} of process {', '.join(map(str, np.flatnonzero(~all_same)))} are not those of "
            "process 0: give all processes the same files and settings"
        )


def check_same_folder(folder: pathlib.Path) -> None:
    """Refuses to go on where a process sees another `folder` than the first.

    Raises:
        InputError: in every process, naming those that differ.
    """
    if jax.process_count() == 1:
        return
    mark = folder / "together"
    on_first(lambda: mark.write_text(secrets.token_hex(), "utf-8") and None)
    end = time.monotonic() + _LATE_S
    while not mark.exists() and time.monotonic() < end:
        time.sleep(0.1)
    found = mark.read_text("utf-8") if mark.exists() else "nothing"
    check_same("the run directories, which must be one on storage that all share,", found)
    on_first(lambda: mark.unlink())


def _find_others(config: ml_collections.ConfigDict) -> None:
    given = {name: config[name] for name in _EXPLICIT if config[name] is not None}
    if config.distributed == "off" or jax.distributed.is_initialized():
        return
    if given and len(given) < len(_EXPLICIT):
        missing = " and ".join(name for name in _EXPLICIT if name not in given)
        raise InputError(f"{missing} must be given too, so that the processes find each other")
    if given:
        _check_explicit(**given)
        line = "Looking for {num_processes} processes at {coordinator}.".format(**given)
        print(line, file=sys.stderr, flush=True)
    elif _is_alone():
        return
    try:
        jax.distributed.initialize(
            coordinator_address=given.get("coordinator"),
            num_processes=given.get("num_processes"),
            process_id=given.get("process_id"),
            # All devices of a machine, where the processes are told to JAX by hand.
            cluster_detection_method="deactivate" if given else None,
            initialization_timeout=max(300, config.dead_after_s),
            heartbeat_timeout_seconds=config.dead_after_s,
        )
    except Exception as error:
        if not given and any(text in str(error) for text in _NO_CLUSTER):
            return
        raise RunError(
            f"the processes of this run did not find each other ({_first_line(error)}): start all "
            "of them, say where they are by coordinator, num_processes and process_id, or set "
            "distributed to off for this machine alone"
        ) from error


def _wait_for_all() -> None:
    """Waits in JAX's coordination service, however long: on devices some runtimes would give up."""
    # Now, because importing it takes a while, which one process need not.
    from orbax.checkpoint import multihost

    barrier = multihost.get_barrier_sync_fn()
    barrier(key=f"prnet_jax.on_first.{next(_calls)}", timeout_ms=_LONGEST_WAIT_MS)


def _from_first(text: str) -> str:
    """The first process's `text`."""
    data = np.frombuffer(text.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(length, np.uint8)
    padded[: len(data)] = data[:length]
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).decode()


def _check_explicit(coordinator: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"coordinator must be host:port, found {coordinator!r}")
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise InputError(
            f"process_id must be from 0 to below num_processes {num_processes}, found {process_id}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _is_alone() -> bool:
    """Whether the environment says so; JAX would wait for nobody, or see one of several devices."""
    one = any(os.environ.get(name) == "1" for name in _ONE_PROCESS)
    outside_srun = "SLURM_JOB_ID" in os.environ and "SLURM_STEP_NODELIST" not in os.environ
    return one or outside_srun or any(name in os.environ for name in _NOTEBOOKS)


def _set_cache(folder: str) -> None:
    """Has compiled programs kept in `folder`; JAX's own variable, where set, goes before."""
    if folder and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(folder).expanduser()))

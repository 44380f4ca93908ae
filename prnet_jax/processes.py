"""The only file that knows of several processes: JAX's distributed runtime, and who writes.

Every process runs the same program on its own devices. What must be done once, such as writing a
file, is done by the first process while the others wait: `on_first`.
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
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from prnet_jax import commands
from prnet_jax.errors import InputError, RunError

if TYPE_CHECKING:
    import ml_collections

_EXPLICIT = ("coordinator", "num_processes", "process_id")
_ONE_PROCESS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")  # "1": there is no other process
# Parts of JAX's messages: no cluster was found, or this program has used JAX already.
_NO_CLUSTER = ("coordinator_address should be defined", "must be called before any JAX")
# One machine each, whatever the environment of its TPU says.
_NOTEBOOKS = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")
_LONGEST_WAIT_MS = 7 * 24 * 3600 * 1000  # for a data set that the first process prepares
# Words of JAX's messages about a lost process; errors of this process's devices have others.
_LOST = re.compile("gloo|unavailable|heartbeat|socket|connection|peer|barrier|coordination", re.I)
_LATE_S = 10.0  # for a file to appear on shared storage
_TOGETHER_S = 5.0  # in which all processes refuse what all must refuse
_calls = itertools.count()
_others_wait = False  # for what the first process makes, see `on_first`


@contextlib.contextmanager
def joined(config: "ml_collections.ConfigDict") -> Iterator[None]:
    """Connects the processes of a run, if there are several, and sets the compilation cache.

    With `config.distributed` "auto" JAX looks for SLURM, Open MPI, a TPU pod or Kubernetes; where
    none of these runs, `coordinator`, `num_processes` and `process_id` say it. Enter this before
    anything is computed. Inside, only the first process prints.

    If one of several processes fails, it exits here, with one line or a trace and exit code 1 or
    2, and the others exit too: at once if they are waiting for its results, otherwise within
    `config.dead_after_s`.

    Raises:
        InputError: fields that are incomplete or contradict each other, or processes with
            different numbers of devices.
        RunError: processes that cannot be reached.
    """
    use_cache(config.compilation_cache)
    _find_others(config)
    if jax.process_count() == 1:
        yield
        return
    try:
        if jax.device_count() != jax.process_count() * jax.local_device_count():
            raise InputError(
                f"every process must have the same number of devices: this one has "
                f"{jax.local_device_count()} of the {jax.device_count()} of "
                f"{jax.process_count()} processes; start them on machines of one kind"
            )
        if is_first():
            yield
        else:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                yield
    except Exception as error:
        # Not raised again: at exit JAX would wait minutes for the lost processes.
        if isinstance(error, jax.errors.JaxRuntimeError) and _LOST.search(str(error)):
            error = RunError(
                f"another process ended or cannot be reached ({_first_line(error)}): start all "
                "processes again with the same command, which resumes from the last checkpoint"
            )
        if isinstance(error, (InputError, RunError)):
            line = commands.one_line(error)
            print(f"error: process {jax.process_index()}: {line}", file=sys.stderr)
        else:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        if isinstance(error, InputError) and is_first():
            # Its end kills the others, which are about to say the same.
            time.sleep(_TOGETHER_S)
        os._exit(commands.exit_code(error))


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def on_first(make: Callable[[], Any]) -> Any:
    """Calls `make` in the first process only; returns its value in all of them.

    Args:
        make: returns a value that JSON can hold. Inside it, `on_first` calls its own `make` alone:
            the others are waiting already.

    Raises:
        InputError, RunError: in every process, if the first raised it. Any other exception of the
            first is a RunError in the others.
    """
    global _others_wait
    if jax.process_count() == 1 or _others_wait:
        return make()
    value, error = None, None
    if is_first():
        _others_wait = True
        try:
            value = make()
        except Exception as raised:
            error = raised
        finally:
            _others_wait = False
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
    """A jitted `step` that no process starts before all have compiled it.

    On CPUs a process gives up after waiting half a minute for another's data, and compilations can
    end further apart than that. Arguments of the same structure must have the same shapes.
    """
    if jax.process_count() == 1:
        return step
    compiled = {}

    def run(*arguments):
        structure = jax.tree.structure(arguments)
        if structure not in compiled:
            compiled[structure] = step.lower(*arguments).compile()
            _wait_for_all()
        return compiled[structure](*arguments)

    run.lower = step.lower
    return run


def check_same(what: str, value: str) -> None:
    """Checks that all processes have the same `value`; `what` names it in the message.

    Raises:
        InputError: in every process, naming those that differ from the first.
    """
    if jax.process_count() == 1:
        return
    same = on_first(lambda: value) == value
    all_same = multihost_utils.process_allgather(np.array(same))
    if not all_same.all():
        raise InputError(
            f"{what}: process {', '.join(map(str, np.flatnonzero(~all_same)))} differs from "
            "process 0; give all processes the same files and settings"
        )


def check_same_folder(folder: pathlib.Path) -> None:
    """Checks that `folder` is the same folder, on shared storage, for all processes.

    Raises:
        InputError: in every process, naming those that see another folder than the first.
    """
    if jax.process_count() == 1:
        return
    mark = folder / "together"
    on_first(lambda: mark.write_text(secrets.token_hex(), "utf-8") and None)
    end = time.monotonic() + _LATE_S
    while not mark.exists() and time.monotonic() < end:
        time.sleep(0.1)
    found = mark.read_text("utf-8") if mark.exists() else "nothing"
    check_same("--workdir must be the same folder on shared storage", found)
    on_first(lambda: mark.unlink())


def _find_others(config: "ml_collections.ConfigDict") -> None:
    given = {name: config[name] for name in _EXPLICIT if config[name] is not None}
    if config.distributed == "off" or jax.distributed.is_initialized():
        return
    if given and len(given) < len(_EXPLICIT):
        missing = " and ".join(name for name in _EXPLICIT if name not in given)
        raise InputError(f"{missing} must be given too, for the processes to find each other")
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
            # Each process then uses all devices of its machine.
            cluster_detection_method="deactivate" if given else None,
            initialization_timeout=max(300, config.dead_after_s),
            heartbeat_timeout_seconds=config.dead_after_s,
        )
    except Exception as error:
        if not given and any(text in str(error) for text in _NO_CLUSTER):
            return
        raise RunError(
            f"the processes of this run did not find each other ({_first_line(error)}): start all "
            "of them; set coordinator, num_processes and process_id; or set distributed to off to "
            "use this machine alone"
        ) from error


def _wait_for_all() -> None:
    """Waits in JAX's coordination service for any time; on devices some runtimes would give up."""
    # Imported here, because it takes a while and a single process does not need it.
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
    """Whether the environment describes one process, which JAX should not look for others of."""
    one = any(os.environ.get(name) == "1" for name in _ONE_PROCESS)
    outside_srun = "SLURM_JOB_ID" in os.environ and "SLURM_STEP_NODELIST" not in os.environ
    return one or outside_srun or any(name in os.environ for name in _NOTEBOOKS)


def use_cache(folder: str) -> None:
    """Keeps compiled programs in `folder`, unless JAX_COMPILATION_CACHE_DIR names another."""
    if folder and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(folder).expanduser()))

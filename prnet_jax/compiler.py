"""What a process sets up before its first computation on CPU.

The known miscompile of jaxlib 0.10.2 is switched off, and checked for.

YNN, a fusion library, makes that release compute some products over many rows wrongly
(https://github.com/jax-ml/jax/issues/39103). 0.10.1 and 0.12.0 are right.
"""

import ctypes
import importlib.metadata
import os
import sys

from prnet_jax.errors import RunError

_AFFECTED = "0.10.2"
_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def disable_ynn() -> None:
    """Adds the flag that switches YNN off to `XLA_FLAGS`, for jaxlib 0.10.2 only.

    XLA reads the flag at the first use of a backend (`jax.devices`, a key, a jit): call this
    before. Does nothing where `XLA_FLAGS` already names the flag, or names a file of flags.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    # Exactly this version: an older jaxlib aborts on a flag it does not know.
    if _jaxlib() != _AFFECTED or _FLAG in flags or (flags and not flags.startswith("-")):
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}".strip()


def keep_memory() -> None:
    """Has glibc keep the memory that is freed, for a process that repeats one step; Linux only.

    XLA frees a step's memory, hundreds of MiB, after each step. glibc would return it to Linux,
    which clears every page again in the next step: a tenth of PR-Net's time on CPU.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries of C have none
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def ynn() -> str | None:
    """What `XLA_FLAGS` and the version of jaxlib make of YNN, for a run's provenance.

    Returns:
        "off" or "on", or None where jaxlib is not 0.10.2 and `XLA_FLAGS` does not name it.
    """
    named = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag.startswith(_FLAG)]
    if named:
        return "off" if named[-1] == _FLAG else "on"
    return "on" if _jaxlib() == _AFFECTED else None


def self_check() -> None:
    """Repeats the public reproducer on CPU, in under a second; does nothing on accelerators.

    Uses the backend: call `disable_ynn`, and `jax.distributed.initialize`, before.

    Raises:
        RunError: the CPU compiler of this jaxlib computes wrongly.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    if jax.default_backend() != "cpu":
        return
    # 32,768 rows still come out right.
    rows = np.zeros((32_769, 3), np.float32)
    rows[:, 0] = np.arange(32_769)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=row.dtype) @ row) ** 2)))
    expected, found = float(rows[-1, 0]) ** 2, float(squares(rows)[-1])
    if found != expected:
        raise RunError(
            f"jaxlib {_jaxlib()} computes wrongly on this CPU: {expected:.0f} expected, "
            f"{found:.0f} found; install another version (pip install 'jax!={_AFFECTED}'), or "
            f"set XLA_FLAGS={_FLAG} before Python starts"
        )


def _jaxlib() -> str | None:
    """The installed version, without importing it."""
    try:
        return importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return None

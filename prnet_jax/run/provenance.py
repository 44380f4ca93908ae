"""What a run was made with, so that its results can be traced and repeated."""

import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

from prnet_jax import __version__, compiler

_PACKAGES = (
    "jax jaxlib flax optax orbax-checkpoint grain tensorflow-datasets clu ml_collections "
    "numpy scipy"
).split()


def provenance(split_hash: str, records: str, seed: int | None) -> dict[str, Any]:
    """A JSON-safe record of code, packages, devices and data.

    Args:
        split_hash: `prnet_jax.data.splits.manifest_hash` of the splits.
        records: the full name of the prepared data set.
        seed: the run's; None where there is none.
    """
    return {
        **software(),
        "records": records,
        "split_manifest_sha256": split_hash,
        "seed": seed,
    }


def software() -> dict[str, Any]:
    """A JSON-safe record of code, packages and devices.

    `ynn` is "off" or "on" where jaxlib has the fusion library of `prnet_jax.compiler`, else None.
    """
    return {
        "version": __version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": describe_devices(),
        "ynn": compiler.ynn(),
        "processes": jax.process_count(),
    }


def describe_devices() -> str:
    """For example "4 x NVIDIA H200 (gpu)" or "1 x cpu"."""
    device = jax.devices()[0]
    kind = device.device_kind
    platform_name = "" if kind == device.platform else f" ({device.platform})"
    return f"{jax.device_count()} x {kind}{platform_name}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The checkout's commit, with "+changes" where files differ from it; None outside one."""
    here = pathlib.Path(__file__)

    def git(*args):
        done = subprocess.run(["git", *args], cwd=here.parent, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        if git("ls-files", "--error-unmatch", here.name) is None:
            return None
        revision, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except OSError:
        return None
    return f"{revision}+changes" if changes else revision

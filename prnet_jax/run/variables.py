"""A network's variables on disk: in a run's checkpoints, or imported ones without a run.

Imported variables are a folder with network.json (name and fields of the network, and as far as it
is known how it saw images) and variables/.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.run import checksums, files
from prnet_jax.run.checkpoint import read_arrays, read_rank, write_arrays

_IMAGE_SETTINGS = ("image_size", "window_hu", "resize")  # of config.dataset


def save_variables(
    folder: str | os.PathLike,
    name: str,
    fields: Mapping[str, Any],
    variables: Mapping[str, Any],
    image_settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network's variables as a folder that `load_variables` reads.

    Args:
        folder: a new one.
        name: a name of `list_models()`.
        fields: overrides as for `create_model`, of types that JSON has, and tuples.
        variables: {"params": ..., "batch_stats": ...}.
        image_settings: what `image_settings_of` is to give.

    Raises:
        InputError: the folder exists.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        raise InputError(f"{folder} exists and is not overwritten: name a new folder")
    write_arrays(folder / files.VARIABLES, jax.tree.map(np.asarray, dict(variables)))
    # Last: a folder that has this file is complete.
    about = {"name": name, "fields": dict(fields), **(image_settings or {})}
    files.write_json(folder / files.NETWORK, about)


def load_variables(folder: str | os.PathLike, step: int | None = None) -> dict[str, Any]:
    """A network's variables: from `save_variables`, or from a run directory.

    Args:
        folder: one of the two.
        step: the step of a run's checkpoint; None for the best.

    Returns:
        {"params": ..., "batch_stats": ...} of NumPy arrays, whatever devices they were saved from;
        the averaged weights where the run averages them.

    Raises:
        InputError: a folder that holds neither, or a damaged checkpoint.
    """
    folder = pathlib.Path(folder)
    if (folder / files.NETWORK).is_file():
        return read_arrays(folder / files.VARIABLES)
    network_of(folder)  # refuses what is no run
    checkpoint = folder / files.CHECKPOINTS / str(best_step(folder) if step is None else step)
    if found := checksums.damage(checkpoint):
        raise InputError(
            f"the checkpoint {checkpoint} is damaged: {found}; copy it again, or repeat the "
            "run's command, which falls back to the one before it"
        )
    state = read_arrays(checkpoint / "state")
    params = state["params"] if state["ema_params"] is None else state["ema_params"]
    return {"params": params, "batch_stats": state["batch_stats"]}


def sha256_of(variables: Mapping[str, Any]) -> str:
    """SHA-256, in hex, over the names, shapes, dtypes and values of all arrays."""
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def best_step(workdir: str | os.PathLike) -> int:
    """The step of the run's checkpoint with the best score, the earliest of equals.

    Raises:
        InputError: there is none.
    """
    workdir = pathlib.Path(workdir)
    folders = checksums.checkpoint_folders(workdir / files.CHECKPOINTS)
    ranks = {int(folder.name): read_rank(folder) for folder in folders}
    if not ranks:
        raise InputError(f"{workdir} is a run without a checkpoint yet: let it train for an epoch")
    return max(ranks, key=lambda step: (ranks[step], step))


def network_of(folder: str | os.PathLike) -> tuple[str, dict[str, Any]]:
    """The name and the fields of the network whose variables `load_variables` reads.

    Raises:
        InputError: a folder that holds neither a run nor a network's variables.
    """
    folder = pathlib.Path(folder)
    try:
        if (folder / files.NETWORK).is_file():
            about = json.loads((folder / files.NETWORK).read_text(encoding="utf-8"))
            name, fields = about["name"], dict(about["fields"])
        else:
            about = json.loads((folder / files.CONFIG).read_text(encoding="utf-8"))
            fields = dict(about["model"])
            name = fields.pop("name")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} is neither a run directory ({files.CONFIG}) nor a folder of imported "
            f"weights ({files.NETWORK}): name one, or make one by python -m "
            "prnet_jax.torch_weights import"
        ) from None
    return name, {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def image_settings_of(folder: str | os.PathLike) -> dict[str, Any]:
    """How the network of a folder that `network_of` reads was trained to see an image.

    Returns:
        As far as they are known, `image_size`, `window_hu` and `resize` as in `config.dataset`,
        `unit`, "HU" or "grey", and `threshold`, of the probability.
    """
    folder = pathlib.Path(folder)

    def read(name: str) -> dict[str, Any]:
        path = folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    if about := read(files.NETWORK):
        return {k: about[k] for k in (*_IMAGE_SETTINGS, "unit", "threshold") if k in about}
    config = read(files.CONFIG)
    data = config.get("dataset", {})
    found = {key: data[key] for key in _IMAGE_SETTINGS if key in data}
    if "threshold" in config:
        found["threshold"] = config["threshold"]
    if data:
        found.setdefault("resize", "stretch")  # all that there was before the field
        found["unit"] = unit_of(found["window_hu"], read(files.PROVENANCE))
    return found


def unit_of(window_hu: Sequence[float], about: Mapping[str, Any]) -> str:
    """ "HU" or "grey": as `about` says under "unit", else as the window implies."""
    low, high = window_hu
    return about.get("unit") or ("grey" if 0 <= low and high <= 255 else "HU")

"""A network's variables on disk: those of a run's checkpoint, and imported ones without a run."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from prnet_jax.errors import InputError
from prnet_jax.run import checksums
from prnet_jax.run.checkpoint import _score
from prnet_jax.run.checksums import checkpoint_folders
from prnet_jax.run.files import NETWORK


def save_variables(
    folder: pathlib.Path, name: str, fields: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    """Writes a network's variables as a folder that `load_variables` reads.

    Args:
        folder: a new one.
        name: a name of `list_models()`.
        fields: overrides as for `create_model`, of types that JSON has, and tuples.
        variables: {"params": ..., "batch_stats": ...}.

    Raises:
        InputError: the folder exists.
    """
    if folder.exists():
        raise InputError(f"{folder} exists and is not overwritten: name a new folder")
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = jax.tree.map(np.asarray, dict(variables))
        checkpointer.save((folder / "variables").absolute(), arrays)
    # Last: a folder that has this file is whole.
    about = {"name": name, "fields": dict(fields)}
    (folder / NETWORK).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load_variables(folder: pathlib.Path, step: int | None = None) -> dict[str, Any]:
    """A network's variables: from `save_variables`, or of a run directory.

    Args:
        folder: one of the two.
        step: of a run directory's checkpoint; None: the best.

    Returns:
        {"params": ..., "batch_stats": ...} of NumPy arrays, whatever devices they were saved from;
        of a run that averages its weights the averaged ones.

    Raises:
        InputError: a folder that holds neither.
    """
    if (folder / NETWORK).is_file():
        return _read_arrays(folder / "variables")
    network_of(folder)  # refuses what is no run
    checkpoint = folder / "checkpoints" / str(best_step(folder) if step is None else step)
    if found := checksums.damage(checkpoint):
        raise InputError(
            f"the checkpoint {checkpoint} is damaged: {found}; copy it again, or repeat the "
            "run's command, which falls back to the one before it"
        )
    state = _read_arrays(checkpoint / "state")
    params = state["params"] if state["ema_params"] is None else state["ema_params"]
    return {"params": params, "batch_stats": state["batch_stats"]}


def best_step(workdir: pathlib.Path) -> int:
    """The step of the checkpoint of a run whose variables `load_variables` reads.

    Raises:
        InputError: there is none.
    """
    steps = checkpoint_folders(workdir / "checkpoints")
    scores = {int(path.name): read_score(path) for path in steps}
    if not scores:
        raise InputError(f"{workdir} is a run without a checkpoint yet: let it train for an epoch")
    return max(scores, key=lambda step: (scores[step], step))


def network_of(folder: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """The name and the fields of the network whose variables `load_variables` reads.

    Raises:
        InputError: a folder that holds neither a run nor a network's variables.
    """
    try:
        if (folder / NETWORK).is_file():
            about = json.loads((folder / NETWORK).read_text(encoding="utf-8"))
            name, fields = about["name"], dict(about["fields"])
        else:
            about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            fields = dict(about["model"])
            name = fields.pop("name")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} is neither a run directory (config.json) nor a folder of imported weights "
            f"({NETWORK}): name one, or make one by python -m prnet_jax.torch_weights import"
        ) from None
    return name, {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _read_arrays(path: pathlib.Path) -> Any:
    """A saved tree as NumPy arrays, without the tree or the devices it was saved from."""
    path = path.absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            tree = checkpointer.metadata(path).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            return checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=as_numpy))
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} is not a whole checkpoint ({type(error).__name__}): copy or make it again"
            ) from None


def read_score(folder: pathlib.Path) -> float:
    """The score of a checkpoint; read without a manager, which would meddle with a running one."""
    path = folder / "metrics" / "metrics"
    try:
        return float(_score(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}): the checkpoint is damaged; repeat "
            "the run's command, which sets it aside"
        ) from None

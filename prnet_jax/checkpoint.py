"""The only file that knows Orbax: the last and the best state of a run, and a network's variables.

A checkpoint is one folder `checkpoints/<step>` that holds the state, the position of the data
iterator and the clock together; Orbax writes it beside the training and renames it when whole.

The variables of a network without a run, such as imported weights, are a folder that holds
network.json (its name and fields) and variables/.
"""

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from prnet_jax.errors import InputError

_SCORE = "score"
_NETWORK_FILE = "network.json"


class Checkpoints:
    """The checkpoints of a run: the newest, and the one with the best score (newest of equals).

    Args:
        directory: where they lie; made where it does not exist.
    """

    def __init__(self, directory: pathlib.Path):
        def score(metrics):
            return metrics[_SCORE]

        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                best_fn=score,
                preservation_policy=keep.AnyPreservationPolicy(
                    [keep.LatestN(n=1), keep.BestN(get_metric_fn=score, n=1)]
                ),
            ),
        )

    @property
    def last_step(self) -> int | None:
        """The newest checkpoint's step, or None where there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the best score, or None where there is none."""
        return self._manager.best_step()

    def save(
        self,
        step: int,
        state: Any,
        iterator: grain.DatasetIterator,
        clock: dict[str, Any],
        score: float,
    ) -> None:
        """Starts saving after `step` steps; `state` may be donated as soon as this returns.

        Args:
            step: the number of steps taken.
            state: a tree of arrays.
            iterator: whose position is saved.
            clock: numbers and texts, kept as JSON.
            score: higher is better.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=grain.checkpoint.CheckpointSave(iterator),
            clock=ocp.args.JsonSave(clock),
        )
        self._manager.save(step, args=items, metrics={_SCORE: score})

    def restore(self, state: Any, iterator: grain.DatasetIterator) -> tuple[Any, dict[str, Any]]:
        """The newest checkpoint: state and clock; `iterator` is set to its position.

        `state` gives the structure, the dtypes and the placement.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(_abstract(state)),
            data=grain.checkpoint.CheckpointRestore(iterator),
            clock=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(self.last_step, args=items)
        return restored.state, restored.clock

    def restore_best(self, state: Any) -> Any:
        """The state with the best score, placed like `state`."""
        self.wait()
        items = ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(state)))
        return self._manager.restore(self.best_step, args=items).state

    def wait(self) -> None:
        """Returns when what was started is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees what Orbax holds."""
        self._manager.close()


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
    (folder / _NETWORK_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load_variables(folder: pathlib.Path) -> dict[str, Any]:
    """A network's variables: from `save_variables`, or the best of a run directory.

    Returns:
        {"params": ..., "batch_stats": ...} of NumPy arrays, whatever devices they were saved from;
        of a run that averages its weights the averaged ones.

    Raises:
        InputError: a folder that holds neither.
    """
    if (folder / _NETWORK_FILE).is_file():
        return _read_arrays(folder / "variables")
    network_of(folder)  # refuses what is no run
    state = _read_arrays(folder / "checkpoints" / str(best_step(folder)) / "state")
    params = state["params"] if state["ema_params"] is None else state["ema_params"]
    return {"params": params, "batch_stats": state["batch_stats"]}


def best_step(workdir: pathlib.Path) -> int:
    """The step of the checkpoint of a run whose variables `load_variables` reads.

    Raises:
        InputError: there is none.
    """
    checkpoints = workdir / "checkpoints"
    if checkpoints.is_dir():
        with contextlib.closing(Checkpoints(checkpoints)) as manager:
            if manager.best_step is not None:
                return manager.best_step
    raise InputError(f"{workdir} is a run without a checkpoint yet: let it train for an epoch")


def network_of(folder: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """The name and the fields of the network whose variables `load_variables` reads.

    Raises:
        InputError: a folder that holds neither a run nor a network's variables.
    """
    try:
        if (folder / _NETWORK_FILE).is_file():
            about = json.loads((folder / _NETWORK_FILE).read_text(encoding="utf-8"))
            name, fields = about["name"], dict(about["fields"])
        else:
            about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            fields = dict(about["model"])
            name = fields.pop("name")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} is neither a run directory (config.json) nor a folder of imported weights "
            f"({_NETWORK_FILE}): name one, or make one by python -m prnet_jax.torch_weights import"
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


def _abstract(state: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, state)

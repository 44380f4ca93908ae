"""The only file that knows Orbax: the last and the best state of a run.

A checkpoint is one folder `checkpoints/<step>` that holds the state, the position of the data
iterator and the clock together; Orbax writes it beside the training and renames it when whole.
"""

import pathlib
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

_SCORE = "score"


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


def _abstract(state: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, state)

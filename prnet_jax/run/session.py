"""A run between its first and its last step: what changes, and how it is logged and saved."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from prnet_jax.benchmark import machine
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.progress import Progress
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.log import SilentWriter, TrainLog


def new_clock() -> dict[str, Any]:
    """What a resumed run needs besides its state, before the first step; kept as JSON.

    `epochs` that have ended, `train_s` spent so far, the best score of a validation (`score_of`)
    and its epoch, the earliest of equals, and the training losses since the last line of the log.
    Once it is saved also `peak_mib`, the largest memory that the training has taken.
    """
    return {"epochs": 0, "train_s": 0.0, "best_dsc": -1.0, "best_epoch": 0, "losses": []}


def score_of(scores: Mapping[str, float]) -> float:
    """What the best checkpoint has most of: the DSC, or 1 / (1 + loss) if validation marks nothing.

    Args:
        scores: of a validation, see `prnet_jax.evaluate.scores.validate`.
    """
    return 1 / (1 + scores["loss"]) if math.isnan(scores["dsc"]) else scores["dsc"]


def next_validation(config: ml_collections.ConfigDict, epochs: int) -> int:
    """The epoch at whose end a validation is due, after so many; the last one if all are done."""
    return min(epochs + config.validate_every_epochs, config.num_epochs)


class Session:
    """Counts steps, logs them and saves checkpoints.

    Args:
        config: the run's.
        state: the training state at the start; assign the new one before each `add`.
        clock: see `new_clock`; changed in place.
        checkpoints: of the run.
        writer: of the run's metrics.
        bar: the progress bar.

    Attributes:
        step: the number of steps taken.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        state: Any,
        clock: dict[str, Any],
        checkpoints: Checkpoints,
        writer: SilentWriter,
        bar: Progress,
    ):
        self.state = state
        self.clock = clock
        self.step = self._saved = int(state.step)
        self._config = config
        self._checkpoints = checkpoints
        self._writer = writer
        self._bar = bar
        self._log = TrainLog(writer, bar, config, clock["losses"])
        self._begin = time.perf_counter() - clock["train_s"]

    @property
    def next_validation(self) -> int:
        """See the function of this name."""
        return next_validation(self._config, self.clock["epochs"])

    def validation_is_due(self, steps_per_epoch: int) -> bool:
        """Whether the steps taken end the epoch `next_validation`, which is not validated yet."""
        now = self.step == self.next_validation * steps_per_epoch
        return now and self.clock["epochs"] < self.next_validation

    @property
    def stopped_early(self) -> bool:
        """Whether validation has not improved for `config.early_stopping_epochs` epochs."""
        patience = self._config.early_stopping_epochs
        return bool(patience) and self.clock["epochs"] - self.clock["best_epoch"] >= patience

    @property
    def why_stopped_early(self) -> str:
        """One line for a person."""
        epochs, best = self.clock["epochs"], self.clock["best_epoch"]
        return (
            f"Stopped after epoch {epochs}: no better validation than that of epoch {best} for "
            f"{epochs - best} epochs."
        )

    def add(self, results: dict[str, jax.Array], ids: Sequence[str]) -> None:
        """Counts a step and logs its results; see `TrainLog.add`."""
        self.step += 1
        self._log.add(self.step, results, ids)

    def end_epochs(self, validate: Callable[[], tuple[dict[str, float], np.ndarray]]) -> None:
        """Validates after the epoch `next_validation`, logs and saves.

        Args:
            validate: gives the scores and a picture, see `prnet_jax.evaluate.scores.validate`.
        """
        epoch = self.next_validation
        self._log.flush()
        with self._bar.paused("validating"):
            scores, picture = validate()
            named = {f"val/{name}": score for name, score in scores.items()}
            self._writer.scalars(self.step, {"epoch": epoch, **named})
            self._writer.images(self.step, "validation", picture)
            score = score_of(scores)
            if score > self.clock["best_dsc"]:
                self.clock.update(best_dsc=score, best_epoch=epoch)
            self.clock["epochs"] = epoch
            self._save(score)
            dsc, iou = (METRIC_NAMED[name].text_with_unit(scores[name]) for name in ("dsc", "iou"))
            self._bar.write(
                f"epoch {epoch}/{self._config.num_epochs}: validation loss {scores['loss']:.4f}, "
                f"DSC {dsc}, IoU {iou}"
            )

    def save_between_epochs(self) -> None:
        """Saves every `config.save_every_steps` steps."""
        every = self._config.save_every_steps
        if every and self.step % every == 0:
            self.save()

    def save(self) -> None:
        """Saves a checkpoint to resume from, unless this step is saved already."""
        if self.step > self._saved:
            self._save(None)

    def _save(self, score: float | None) -> None:
        self.clock["losses"] = self._log.settle()
        self.clock["train_s"] = time.perf_counter() - self._begin
        peak = machine.peak_mib_of(jax.local_devices()[0]) or 0.0
        self.clock["peak_mib"] = max(self.clock.get("peak_mib") or 0.0, peak) or None
        self._writer.sync()
        self._checkpoints.save(self.step, self.state, self.clock, score)
        self._saved = self.step

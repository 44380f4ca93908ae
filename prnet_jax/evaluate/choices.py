"""What of a run is scored, and how: the options of an evaluation."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from prnet_jax.errors import InputError

AUTO = "auto-on-validation"
SPLITS = ("test", "validation", "train", "all")
TTA = ("none", "flips")
RESOLUTIONS = ("network", "native")
LOCAL = ("data_dir", "manual_dir")  # each process may have its own


@dataclasses.dataclass(frozen=True)
class Choices:
    """The options of `prnet_jax.evaluate.evaluate_run`; None stands for the run's own setting.

    Attributes:
        split: one of `SPLITS`.
        tta: test-time augmentation, one of `TTA`; flips averages over the mirror images.
        threshold: of the probability, between 0 and 1, or `AUTO`: the one with the highest mean
            DSC on the run's own validation split, see `prnet_jax.evaluate.scores.ThresholdTable`.
        empty_policy: what empty masks count for, a name of `prnet_jax.metrics.POLICIES`.
        dataset: a folder of `datasets/`.
        options: of that data set.
        mask: which mask of the records is the target.
        resolution: "network": masks are scored at the size that the network sees; "native": the
            probability is brought back to the size and spacing of the data as stored.
        window: (low, high), in HU or in grey values of 0 to 255.
        other_patients: the data set has other patients than the run's, even where ids are equal.
        manual_dir: what was downloaded by hand.
        data_dir: where prepared records are kept.
        batch_size: images at once over all devices.
        keep_masks: write the predicted masks too, in one file of some kB an image, so that
            `prnet_jax.compare` can say how far networks agree with each other.
        out: a new folder for the results; None for a folder of the run.
    """

    split: str = "test"
    tta: str = "none"
    threshold: float | str | None = None
    empty_policy: str = "penalise"
    dataset: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mask: str | None = None
    resolution: str = "network"
    window: tuple[float, float] | None = None
    other_patients: bool = False
    manual_dir: str | os.PathLike | None = None
    data_dir: str | os.PathLike | None = None
    batch_size: int | None = None
    keep_masks: bool = False
    out: str | os.PathLike | None = None

    def check(self) -> None:
        """Refuses values that no evaluation can have.

        Raises:
            InputError: naming the option, the value and what it must be.
        """
        # Here, because --help needs this module, and not NumPy.
        from prnet_jax.metrics import find_policy

        for name, allowed in (
            ("split", SPLITS),
            ("tta", TTA),
            ("resolution", RESOLUTIONS),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, found {getattr(self, name)!r}"
                )
        if self.threshold is not None and not is_threshold(self.threshold):
            raise InputError(
                f"threshold must lie between 0 and 1, or be {AUTO}; found {self.threshold!r}"
            )
        find_policy(self.empty_policy)

    def shared(self) -> str:
        """The choices that all processes must have in common, as text to compare."""
        fields = dataclasses.asdict(self)
        return repr(sorted((k, v) for k, v in fields.items() if k not in LOCAL))

    def is_other_data(self, own: str) -> bool:
        """Whether other data are chosen than those of a run on the data set `own`."""
        return self.dataset not in (None, own) or bool(self.options)

    def folder_name(self, own: str, records: str) -> str:
        """The folder of the run that holds this evaluation: `test`, or one for each other choice.

        Args:
            own: the data set of the run.
            records: the full name of the records that are scored.
        """
        parts = [self.split]
        if self.is_other_data(own):
            sets = (part.split("/")[:2] for part in records.split("+"))
            parts.insert(0, "+".join(f"{name}-{config}" for name, config in sets))
        if self.mask is not None:
            parts.append(self.mask)
        if self.resolution != "network":
            parts.append(self.resolution)
        if self.window is not None:
            parts.append("window{:g}to{:g}".format(*self.window))
        if self.tta != "none":
            parts.append(self.tta)
        if self.threshold is not None:
            auto = self.threshold == AUTO
            parts.append("auto-threshold" if auto else f"threshold{self.threshold:g}")
        if self.empty_policy != "penalise":
            parts.append(self.empty_policy)
        return "_".join(parts)


def is_threshold(value: Any) -> bool:
    """Whether a value is `AUTO` or a number between 0 and 1."""
    return value == AUTO or (isinstance(value, int | float) and 0 < value < 1)

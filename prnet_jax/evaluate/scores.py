"""Scores of a split, gathered one image at a time. No files."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.data.pipeline import Slices
from prnet_jax.figures.slices import sample_grid
from prnet_jax.metrics import (
    find_policy,
    mean_of_scored,
    merge_counts,
    overlap_from_counts,
    score_image,
    summarize,
)
from prnet_jax.metrics.agreement import PairwiseDice
from prnet_jax.metrics.calibration import (
    THRESHOLDS,
    Reliability,
    ThresholdScores,
    are_masks,
    best_threshold,
    calibration_error,
)
from prnet_jax.metrics.names import OF_PROBABILITIES
from prnet_jax.metrics.summary import PooledPixels, json_number
from prnet_jax.metrics.volumes import UNKNOWN, Stack, VolumeScores, summarize_volumes
from prnet_jax.predictor import Predictor

SPACING = ("spacing_row_mm", "spacing_column_mm")  # of the pixels that are scored
_UNITS = (
    "fractions; _px in pixels {of}, _mm in mm; hd95 the larger of the two directed 95th "
    "percentiles, hd95_pooled the percentile of both directions together; distances, also those in "
    "mm, are of masks {at}; padding to a square is left out"
)
_THRESHOLD_COLUMNS = ("dsc", "iou", "sen", "ppv")
_READER = "reader_"  # begins the names of masks that are outlines by several people
_IN_PICTURE = 4  # slices of a validation that TensorBoard shows


class SplitScores:
    """Every score of a split at one threshold. Images are added one at a time.

    Of an image only its scores are kept, not its probabilities. The exception is the AUC over all
    pixels together, see `prnet_jax.metrics.pooled_auc`: about half a gigabyte at most.

    Attributes:
        rows: of per_image.csv, without the pictures.
        thresholds, reliability, readers: of the images added so far.
        of_masks: whether they are masks, of which nothing is said that is of probabilities.

    Args:
        threshold: the predicted mask is `prob >= threshold`.
        policy: what empty masks count for, a name of `prnet_jax.metrics.POLICIES`.
        target_name: what the target is called beside the readers' outlines.
        native: whether the images are as stored, not at the size that the network sees.
        stack_of: from the name of a volume to how its slices lie.
    """

    def __init__(
        self,
        threshold: float,
        policy: str = "penalise",
        target_name: str = "mask",
        native: bool = False,
        stack_of: Callable[[str], Stack] = lambda volume: UNKNOWN,
    ):
        self.rows: list[dict[str, Any]] = []
        self.thresholds = ThresholdTable(policy)
        self.reliability = Reliability()
        self.readers: PairwiseDice | None = None
        self.of_masks = False
        self._threshold = threshold
        self._policy = policy
        self._target_name = target_name
        self._native = native
        self._volumes = VolumeScores(policy, stack_of)
        self._pooled = PooledPixels()

    def add(
        self,
        prob: np.ndarray,
        mask: np.ndarray,
        about: Mapping[str, Any],
        readers: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Scores one image.

        Args:
            prob: float32 [H, W] in 0..1; the images may differ in size.
            mask: bool [H, W], the target.
            about: `id`, `patient_id` and `spacing_mm` of the image.
            readers: outlines by other people, bool [H, W] each; the same names for all images.

        Returns:
            The row of per_image.csv without its picture.
        """
        row = {
            "id": about["id"],
            "patient_id": about["patient_id"],
            **score_image(prob, mask, self._threshold, about["spacing_mm"], self._policy),
            **dict(zip(SPACING, map(float, about["spacing_mm"]), strict=True)),
        }
        self.rows.append(row)
        self._pooled.add(prob, mask, self._threshold)
        self.thresholds.add(prob, mask)
        self.reliability.add(prob, mask)
        self._volumes.add(about, prob >= self._threshold, mask)
        if readers:
            outlines = {"network": prob >= self._threshold, self._target_name: mask, **readers}
            self.readers = self.readers or PairwiseDice()
            self.readers.add(outlines)
        return row

    def drop_probabilities_of_masks(self) -> None:
        """Takes away what is said of probabilities, if all that was added are masks."""
        self.of_masks = are_masks(*([row[name] for row in self.rows] for name in ("mae", "acc")))
        if self.of_masks:
            for row in self.rows:
                row |= dict.fromkeys(OF_PROBABILITIES, math.nan)

    def volumes(self) -> list[dict[str, Any]]:
        """One row for each volume of several slices: see `prnet_jax.metrics.volumes`."""
        return self._volumes.rows()

    def summary(self) -> dict[str, Any]:
        """What summary.json says of the scores."""
        pooled = self._pooled.result()
        dropped = dict.fromkeys(OF_PROBABILITIES if self.of_masks else ())
        size = "as stored" if self._native else "of image_size"
        summary = {
            "threshold": self._threshold,
            "units": _UNITS.format(of=size, at=size.replace("of", "at")),
            **summarize(self.rows, self._policy),
            "pooled": pooled["pooled"] | dropped,
            "calibration_error": calibration_error(self.reliability.table()),
        }
        if self.of_masks:
            summary |= {"of_masks": True, "calibration_error": None}
        elif pooled["auc_error_bound"]:  # too many pixels to be exact
            summary["pooled_auc_error_bound"] = pooled["auc_error_bound"]
        if volumes := self.volumes():
            summary["volumes"] = summarize_volumes(volumes)
        if self.readers:
            summary["readers"] = _reader_summary(self.readers.rows())
        return summary


class ThresholdTable:
    """Mean overlap of a split at every threshold of `calibration.THRESHOLDS`.

    `dsc`, `iou`, `sen` and `ppv` are what the split scores there. Thresholds are compared by
    `dsc_same_images`, because under `penalise` an image drops out of `dsc` at those thresholds
    where both of its masks are empty. It is the mean DSC over the same images at all thresholds: an
    image that marks nothing counts 1 where nothing is predicted and 0 where something is, so a
    false alarm costs as much as a missed image. A policy that does not score false alarms
    (`skip_empty`) leaves such images out of both.

    Args:
        policy: what empty masks count for, a name of `prnet_jax.metrics.POLICIES`.
    """

    def __init__(self, policy: str = "penalise"):
        self._policy = find_policy(policy)
        self._scores = ThresholdScores()

    def add(self, prob: np.ndarray, mask: np.ndarray) -> None:
        """Adds an image: prob, float32 [H, W] in 0..1; mask, bool [H, W], the target."""
        self._scores.add(prob, mask)

    def columns(self) -> dict[str, np.ndarray]:
        """`threshold`, the means `dsc`, `iou`, `sen`, `ppv` over the scored images, and
        `dsc_same_images`: float64 [T].

        NaN where the policy scores no image at a threshold.
        """
        scores = self._under_policy()
        means = {name: mean_of_scored(scores[name]) for name in _THRESHOLD_COLUMNS}
        same_images = mean_of_scored(self._of_same_images(scores))
        return {"threshold": THRESHOLDS, **means, "dsc_same_images": same_images}

    def best(self) -> float:
        """The threshold with the highest `dsc_same_images`; NaN where no image marks anything."""
        scores = self._under_policy()
        if scores["target_empty"].all():
            return math.nan
        return best_threshold(self._of_same_images(scores))

    def _of_same_images(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """The DSC [images, T] whose mean counts the same images at every threshold."""
        empty = self._policy
        if math.isnan(empty.false_alarm.dsc) or not math.isnan(empty.both_empty.dsc):
            return scores["dsc"]
        return np.where(scores["pred_empty"] & scores["target_empty"], 1.0, scores["dsc"])

    def _under_policy(self) -> dict[str, np.ndarray]:
        scores = self._scores.result()
        pred_empty, target_empty = scores["pred_empty"], scores["target_empty"]
        for state, where in {
            "both_empty": pred_empty & target_empty,
            "missed": pred_empty & ~target_empty,
            "false_alarm": ~pred_empty & target_empty,
        }.items():
            for name in _THRESHOLD_COLUMNS:
                scores[name][where] = getattr(getattr(self._policy, state), name)
        return scores


def reader_names(slices: Slices) -> list[str]:
    """The masks of a split that are outlines by several people."""
    return [name for name in slices.mask_names if name.startswith(_READER)]


def _reader_summary(rows: Sequence[Mapping]) -> dict[str, dict[str, float | None]]:
    """Mean Dice of the network with each reader, and of the readers with each other."""

    def mean(chosen):
        return {
            name: json_number(np.mean([row[name] for row in chosen]))
            for name in ("dice_both_marked", "dice_any_marked")
        }

    readers = [row for row in rows if row["second"].startswith(_READER)]
    return {
        "network_with_readers": mean([row for row in readers if row["first"] == "network"]),
        "readers_with_each_other": mean(
            [row for row in readers if row["first"].startswith(_READER)]
        ),
    }


def validate(
    predictor: Predictor, slices: Slices, stop: Callable[[], bool] = lambda: False
) -> tuple[dict[str, float], np.ndarray]:
    """The figures that steer a training, and a picture of the first slices.

    Args:
        predictor: the network as it is now.
        slices: the validation split.
        stop: asked before every batch.

    Returns:
        {loss, dsc, iou, dsc_pooled}: means over the images, where two empty masks have no DSC and
        IoU and are left out, and the DSC of all pixels together; but for the loss, NaN where no
        image marks anything. And uint8 [H, W, 3] from `figures.slices.sample_grid`.

    Raises:
        Stopped: `stop()` was true.
    """
    found: dict[str, list[np.ndarray]] = {}
    picture = None
    for results in predictor.run(slices, stop):
        if picture is None:
            few = [slices[i] for i in range(min(_IN_PICTURE, len(results["index"])))]
            image = np.stack([item["image"][..., 0] for item in few])
            mask = np.stack([item["mask"][..., 0] > 0.5 for item in few])
            picture = sample_grid(image, mask, results["prob"][: len(few)])
        for name in ("loss", "tp", "fp", "fn", "tn"):
            found.setdefault(name, []).append(results[name])
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    loss = arrays.pop("loss")
    scores = overlap_from_counts(**arrays)
    means = {name: mean_of_scored(scores[name]) for name in ("dsc", "iou")}
    means["dsc_pooled"] = overlap_from_counts(**merge_counts([arrays]))["dsc"]
    marked = (arrays["tp"] + arrays["fn"]).any()
    means = {name: float(mean) if marked else math.nan for name, mean in means.items()}
    return {"loss": float(loss.mean(dtype=np.float64)), **means}, picture

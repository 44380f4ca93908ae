"""Scores a split image by image, as probabilities come, and writes the results."""

import contextlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from prnet_jax import processes
from prnet_jax.data.pipeline import Slices
from prnet_jax.evaluate import masks
from prnet_jax.evaluate.files import open_folder, write_evaluation
from prnet_jax.evaluate.scores import SplitScores, reader_names
from prnet_jax.figures.gallery import Gallery
from prnet_jax.predictor import Predictor
from prnet_jax.working import working


def score_split(
    predictor: Predictor,
    slices: Slices,
    directory: pathlib.Path,
    about: Mapping[str, Any],
    policy: str = "penalise",
    native: bool = False,
    stop: Callable[[], bool] = lambda: False,
    keep_masks: bool = False,
) -> dict[str, Any]:
    """Predicts a split in all processes; the first scores each image as it comes, and writes.

    Padding is neither scored nor drawn.

    Args:
        predictor: its `config.threshold` makes the masks.
        slices: the split.
        directory: for the files, see `write_evaluation`; made where absent.
        about: entries for the summary to begin with.
        policy: what empty masks count for, a name of `prnet_jax.metrics.POLICIES`.
        native: scored at the size of the data as stored, not at the network's.
        stop: asked before every batch.
        keep_masks: write the masks too, see `prnet_jax.evaluate.masks`.

    Returns:
        What summary.json holds.

    Raises:
        Stopped: `stop()` was true.
    """
    probabilities = predicted(predictor, slices, native, stop)
    threshold = predictor.config.threshold
    return score(probabilities, slices, threshold, directory, about, policy, native, keep_masks)


def predicted(
    predictor: Predictor, slices: Slices, native: bool, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, np.ndarray]]:
    """(index, probability float32 [H, W] at the size of `Slices.picture`) of every slice."""
    for index, prob in predictor.predict_split(slices, stop):
        yield index, slices.prob_of(index, prob, native)


def score(
    probabilities: Iterable[tuple[int, np.ndarray]],
    slices: Slices,
    threshold: float,
    directory: pathlib.Path,
    about: Mapping[str, Any],
    policy: str,
    native: bool,
    keep_masks: bool = False,
) -> dict[str, Any]:
    """Scores probabilities of a split and writes the results; arguments as for `score_split`.

    Args:
        probabilities: (index, float32 [H, W] in 0..1) of every slice in the first process.
        threshold: of the probability.
    """
    scores = SplitScores(threshold, policy, slices.mask_name, native, slices.volumes.stack)
    with contextlib.ExitStack() as pictures:
        gallery = None
        if processes.is_first():
            open_folder(directory)
            gallery = pictures.enter_context(Gallery(directory, threshold))
            (directory / masks.FILE).unlink(missing_ok=True)
        kept = masks.MaskWriter() if keep_masks else None
        for index, prob in probabilities:
            picture = slices.picture(index, native)
            names = reader_names(slices)
            readers = {name: slices.outline(index, name, native) for name in names}
            row = scores.add(prob, picture["mask"], picture, readers)
            gallery.add(row, picture["image"], picture["mask"], prob)
            if kept:
                kept.add(row["id"], prob >= threshold)
        if "predictions" in about:  # of another program
            scores.drop_probabilities_of_masks()
        if kept and processes.is_first():
            kept.write(directory / masks.FILE)
        with working("intervals and pictures"):
            return processes.on_first(lambda: write_evaluation(scores, gallery, directory, about))

"""Scores masks or probabilities that any program wrote as files."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from prnet_jax import report
from prnet_jax.commands import check_new_folder
from prnet_jax.config import default_config
from prnet_jax.data.folders import files_below
from prnet_jax.data.integrity import listed_values
from prnet_jax.data.mixture import names_of
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import MANUAL_DIR_VARIABLE
from prnet_jax.data.scan import Scan, distance_mm
from prnet_jax.data.volumes import format_of, read_scan
from prnet_jax.datasets.image_folder import geometry, labels, pairs
from prnet_jax.errors import InputError
from prnet_jax.evaluate import cost
from prnet_jax.evaluate.choices import AUTO, Choices
from prnet_jax.evaluate.files import emptied_on_failure
from prnet_jax.evaluate.source import chosen_data, open_for_others
from prnet_jax.evaluate.split import score
from prnet_jax.evaluate.values import as_probability, is_probability, labels_in
from prnet_jax.metrics.volumes import volume_and_number
from prnet_jax.progress import progress
from prnet_jax.run.provenance import provenance
from prnet_jax.working import working

_ENDS = ("", "_mask", "_seg", "_segmentation", "_pred", "_prediction", "_label")


def evaluate_predictions(
    folder: str | os.PathLike, choices: Choices, name: str | None = None
) -> dict[str, Any]:
    """Scores files of masks or probabilities at the size of the data, into `choices.out`.

        choices = Choices(dataset="image_folder", manual_dir="mine", split="all", out="scores")
        summary = evaluate_predictions("their_masks", choices, name="lungmask 0.2.20")

    Args:
        folder: holds a file for every image, at any depth, under the image's name or id; one file
            for a volume. Floats from 0 to 1 are probabilities; in all others, everything above 0
            is the mask, or the labels of the data set's option `label` where the files hold
            several. A `cost.json` in it is read, see `prnet_jax.evaluate.cost`.
        choices: what is scored, and the threshold of probabilities (0.5 by default).
        name: of the program, for tables; the folder's name by default.

    Returns:
        The content of summary.json.

    Raises:
        InputError: an option, a missing or unreadable file, or one of another size or place than
            its image; nothing was overwritten.
    """
    folder = pathlib.Path(folder)
    choices.check()
    if choices.threshold == AUTO or choices.tta != "none":
        raise InputError("predictions are scored as they are: leave out auto threshold and tta")
    if jax.process_count() > 1:
        raise InputError("predictions are scored by one process: leave out --num-processes")
    if choices.dataset is None:
        raise InputError("predictions of which data? Name the data set by --dataset")
    if choices.out is None:
        raise InputError("predictions have no folder for results: name a new one by --out")
    directory = pathlib.Path(choices.out)
    check_new_folder("--out", directory)
    data = chosen_data(default_config("prnet").dataset, choices)
    data.cache = False
    source = open_for_others(data, choices, "predictions of another program")
    found = PredictedFiles(folder, source.slices, data.options, _images_of(data))
    parameters, costs = cost.of_predictions(folder)
    threshold = 0.5 if choices.threshold is None else float(choices.threshold)
    about = {
        "network": name or folder.resolve().name,
        "parameters": parameters,
        "predictions": str(folder),
        "dataset": data.name,
        "mask": data.mask,
        "resolution": "native",
        "window_hu": list(data.window_hu),
        "tta": "none",
        "threshold_from": "given",
        "predicted_labels": found.label,
        "cost": costs,
        "records": source.records,
        "split": choices.split,
        "split_manifest_sha256": source.manifest,
        "leakage": source.leaks,
        "provenance": provenance(source.manifest, source.records, None),
    }
    print(f"leakage    {source.leaks}", flush=True)
    if found.label:
        print(f"labels     {', '.join(map(str, found.label))} of the predictions count", flush=True)
    with emptied_on_failure(directory):
        summary = score(
            found.probabilities(),
            source.slices,
            threshold,
            directory,
            about,
            choices.empty_policy,
            native=True,
            keep_masks=choices.keep_masks,
        )
    print(report.evaluated(summary, directory), flush=True)
    return summary


class PredictedFiles:
    """Files of predictions, one for each picture or volume of a split.

    Args:
        folder: of the files.
        slices: the split.
        options: of the data set: `axes` of NumPy volumes, and `label`. Chosen labels count alone
            where the files hold several; files are read twice until that is known.
        images: the files of pictures by id, whose orientation is compared where they are here.

    Raises:
        InputError: the folder holds none, not one for every image, one for two images, or several
            labels of which none is chosen.

    Attributes:
        label: the labels that count; None where everything above 0 does.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        slices: Slices,
        options: Mapping[str, Any] | None = None,
        images: Mapping[str, pairs.Source] | None = None,
    ):
        by_stem: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
        by_name: dict[str, list[str]] = collections.defaultdict(list)
        for file in files_below(folder):
            known = format_of(file)
            if known is not None:
                stem = file.relative_to(folder).with_name(known[0]).as_posix()
                by_stem[stem].append(file)
                by_name[known[0]].append(stem)
        if not by_stem:
            raise InputError(f"{folder} holds no masks: name the folder that a program wrote")
        options = options or {}
        self._slices, self._axes, self._images = slices, options.get("axes"), images or {}
        found = {id: _find(id, by_stem, by_name) for id in slices.ids}
        self._file_of = {id: file for id, file in found.items() if file is not None}
        if missing := [id for id in slices.ids if found[id] is None]:
            raise InputError(
                f"{folder} has no prediction for {len(missing)} of {len(slices.ids)} images, such "
                f"as {missing[0]}: a missing mask is no empty one, so write it, or score less data"
            )
        served: dict[tuple[pathlib.Path, int | None], str] = {}
        for id, file in self._file_of.items():
            if (other := served.setdefault(file, id)) != id:
                raise InputError(
                    f"{file[0]} could be the prediction for both {other} and {id}: put predictions "
                    "into folders as the images lie"
                )
        with working("reading labels"):
            self.label = self._chosen(labels.checked_label(options.get("label")))
        self._opened: tuple[pathlib.Path, Scan, np.ndarray] | None = None

    def probabilities(self) -> Iterator[tuple[int, np.ndarray]]:
        """(index, float32 [H, W] in 0..1) of every slice, file by file, with a progress bar.

        Raises:
            InputError: a file cannot be read, or has another size or place than its image.
        """
        ids = self._slices.ids
        with progress(len(ids), desc="read", unit="images") as bar:
            # Records are in no order, and each volume is to be read once.
            for index in sorted(range(len(ids)), key=lambda i: self._place(ids[i])):
                file, z = self._file_of[ids[index]]
                scan, prob = self._read(file)
                shape = self._slices.picture(index, native=True)["mask"].shape
                if z is not None and (prob.ndim != 3 or z >= prob.shape[2]):
                    raise InputError(
                        f"{file} is {_size(prob)}; expected a volume with a slice {z} for "
                        f"{ids[index]}"
                    )
                prob = prob if z is None else prob[..., z]
                if prob.shape != shape:
                    raise InputError(
                        f"{file} is {_size(prob)}; expected {shape[0]}x{shape[1]}, the size of the "
                        f"image {ids[index]}: write masks in the size of the data"
                    )
                if z is not None:
                    self._check_place(file, scan, volume_and_number(ids[index])[0])
                else:
                    self._check_turned(file, scan, ids[index])
                yield index, prob.astype(np.float32)
                bar.update(1)

    def _place(self, id: str) -> tuple[str, int]:
        """Sorts slices by volume, then from the lowest on."""
        return volume_and_number(id) or (id, 0)

    def _chosen(self, label: labels.Label) -> tuple[int, ...] | None:
        """The chosen labels if the files hold several; None where all above 0 counts."""
        if not isinstance(label, tuple):
            return None
        found, chosen = set[float](), False
        for file in dict.fromkeys(file for file, _ in self._file_of.values()):
            pixels = read_scan([file], mask=True, axes=self._axes).pixels
            if is_probability(pixels, whole=False):
                continue
            here = labels_in(labels.as_labels(pixels, str(file)), str(file))
            found.update(here)
            chosen |= not set(labels.with_equals(label, [here])).isdisjoint(here)
            if chosen and not labels.is_one_label(found):
                return label
        if labels.is_one_label(found):
            return None
        raise InputError(
            f"the predictions hold the labels {listed_values([0, *sorted(found)])}; expected "
            f"{', '.join(map(str, label))}, the option label: number them like the data's masks"
        )

    def _read(self, file: pathlib.Path) -> tuple[Scan, np.ndarray]:
        """A file and its values as probabilities; a volume is kept for its next slice."""
        if self._opened is None or self._opened[0] != file:
            self._opened = None  # frees the last one first
            scan = read_scan([file], mask=True, axes=self._axes)
            self._opened = file, scan, as_probability(scan.pixels, str(file), self.label)
        return self._opened[1:]

    def _check_turned(self, file: pathlib.Path, scan: Scan, id: str) -> None:
        """Refuses a picture if only it or its image states an orientation that turned it."""
        image = self._images.get(id)
        if image is None or (scan.affine is None and image.format not in ("NIfTI", "DICOM")):
            return
        own = read_scan(image.files, image.name, axes=self._axes, rescale_required=False)
        half = (own.affine is None) != (scan.affine is None)
        if half and (problem := geometry.misfit(image.name, own, str(file), scan)):
            raise InputError(problem)

    def _check_place(self, file: pathlib.Path, scan: Scan, volume: str) -> None:
        """Refuses a volume that lies elsewhere in the patient, as far as records and file say."""
        placed = self._slices.volumes.placed(volume)
        if placed is None:
            return
        if (placed.affine is None) != (scan.affine is None):
            raise InputError(
                f"{file} may be oriented otherwise than its image {volume}, since only one of them "
                "states its orientation in the patient: write masks in the format of the images"
            )
        if scan.pixels.shape[2] != placed.slices:
            raise InputError(
                f"{file} has {scan.pixels.shape[2]} slices; expected {placed.slices}, as its image "
                f"{volume} has: write masks in the size of the data"
            )
        if placed.affine is None:
            return
        away = distance_mm(scan, dataclasses.replace(scan, affine=np.array(placed.affine)))
        if away > 0.5 * min(scan.spacing_mm):
            raise InputError(
                f"{file} is up to {away:.3g} mm away from its image {volume}: write masks with the "
                "image's header, or resample them to the image"
            )


def _images_of(data: ml_collections.ConfigDict) -> dict[str, pairs.Source]:
    """The images of `image_folder` by id; none of other data, or where no folder is named."""
    folder = data.manual_dir or os.environ.get(MANUAL_DIR_VARIABLE)
    if not folder or "image_folder" not in names_of(data.name):
        return {}
    return {pair.id: pair.image for pair in pairs.find_pairs(os.path.expanduser(folder)).pairs}


def _find(
    id: str, by_stem: Mapping[str, Sequence[pathlib.Path]], by_name: Mapping[str, Sequence[str]]
) -> tuple[pathlib.Path, int | None] | None:
    """The file of an image, and which slice of it, or None.

    `by_stem` has the files by their path without suffix, `by_name` these paths by their last part.

    Raises:
        InputError: several files fit equally well.
    """
    wanted: list[tuple[str, int | None]] = [(id, None)]
    if found := volume_and_number(id):
        wanted.append(found)
    for stem, z in wanted:
        for path in (stem + end for end in _ENDS):
            files = by_stem.get(path) or [
                file
                for other in by_name.get(path.rpartition("/")[2], ())
                if _may_be(path, other)
                for file in by_stem[other]
            ]
            if files:
                if len(files) > 1:
                    raise InputError(
                        f"{files[0]} and {files[1]} could both be the prediction for {id}: keep "
                        "one, or put them into folders as the images lie"
                    )
                return files[0], z
    return None


def _may_be(path: str, other: str) -> bool:
    """Whether one path is the end of the other: `p1/a` may be `a` or `out/p1/a`, not `p2/a`.

    The folder of a split may be missing or have another name, but not that of another split.
    """
    if pairs.split_of(other) in ("", pairs.split_of(path)):
        path, other = pairs.within_split(path), pairs.within_split(other)
    return f"/{path}".endswith(f"/{other}") or f"/{other}".endswith(f"/{path}")


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))

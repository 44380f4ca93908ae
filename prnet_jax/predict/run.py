"""Predicts files one after the other; a bad one does not stop the others."""

import collections
import itertools
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from prnet_jax.commands import one_line
from prnet_jax.data.scan import Scan
from prnet_jax.data.volumes import read_as_trained
from prnet_jax.errors import InputError
from prnet_jax.predict import dicomseg, masks, outputs, page, preview
from prnet_jax.predict.inputs import Input, find_inputs
from prnet_jax.predict.options import Options
from prnet_jax.predict.report import Report, digest_of_files
from prnet_jax.predict.shown import Shown
from prnet_jax.predict.tiles import tiled_probabilities
from prnet_jax.predictor import Prediction, Predictor
from prnet_jax.progress import Progress, progress

_NEARLY_EMPTY = 1e-3  # share of the pixels


def predict_files(
    predictors: Sequence[Predictor],
    paths: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    about: dict[str, Any],
    options: Options | None = None,
) -> dict[str, dict[str, Any]]:
    """Writes a mask for every input, and `report.json` and `predictions.csv` about them.

    Results that exist are kept, so a prediction that was stopped goes on where it was.

    Args:
        predictors: networks trained on one unit; the probabilities of several are averaged.
        paths: files, folders, zips and patterns, see `find_inputs`.
        out: the folder of the results; made where absent.
        about: what the report begins with: weights and versions.
        options: how masks are made.

    Returns:
        The report's rows by name; `error` is None where all was written, `mask` where no mask was.

    Raises:
        InputError: an option that cannot be used, nothing to predict, or a folder that holds
            results of other weights or settings; nothing was overwritten.
    """
    options = options or Options()
    options.check()
    out = pathlib.Path(out)
    threshold = options.threshold
    if threshold is None:
        threshold = float(np.mean([one.config.threshold for one in predictors]))
    settings = {**options.settings(), "threshold": threshold}
    about = {**about, "settings": settings}
    report = Report(out, about, options.overwrite)

    unit = predictors[0].unit
    with tempfile.TemporaryDirectory(prefix="prnet-predict-") as scratch:
        found = find_inputs(paths, pathlib.Path(scratch), out)
        found.check(out)
        report.write()
        for name, problem in found.problems.items():
            _fail(report, name, name, problem)
        if found.skipped:
            number = len(found.skipped)
            print(f"skipped    {number} files of other formats, such as {found.skipped[0]}")
        if found.left_out:
            number = len(found.left_out)
            print(f"left out   {number} files in the results' folder, such as {found.left_out[0]}")
        with progress(len(found.inputs), desc="predict", unit="slices") as bar:
            opened = collections.deque()  # inputs whose slices are on their way

            def slices():
                for source in found.inputs:
                    try:
                        digest, scan = _open(source, out, unit, report, options)
                    except (InputError, OSError, MemoryError) as error:
                        _fail(report, source.stem, source.name, one_line(error))
                        scan = None
                    if scan is None:
                        bar.update(1)
                        continue
                    opened.append((source, digest, scan))
                    volume = np.atleast_3d(scan.pixels)
                    bar.total += volume.shape[2] - 1
                    yield from (volume[..., z] for z in range(volume.shape[2]))

            growing = None
            for prob in _mean_probabilities(predictors, slices(), options):
                if growing is None:
                    source, digest, scan = opened.popleft()
                    growing = _Growing(scan, threshold, options, predictors)
                growing.add(prob)
                bar.update(1)
                if growing.complete:
                    try:
                        row = _write(out, source, growing, predictors[0], about, options)
                        report.add(
                            source.stem, {"input": source.name, "input_sha256": digest, **row}
                        )
                    except (InputError, OSError, MemoryError) as error:
                        _fail(report, source.stem, source.name, one_line(error))
                    except Exception as error:  # of a library: the next input may do
                        what = f"{type(error).__name__}: {one_line(error)}"
                        problem = f"{source.name}: no results, since a library failed ({what})"
                        _fail(report, source.stem, source.name, problem)
                    growing = scan = None
    report.write()
    return report.rows


def _mean_probabilities(
    predictors: Sequence[Predictor], slices: Iterable[np.ndarray], options: Options
) -> Iterator[np.ndarray]:
    """The probability of every slice, averaged over the networks."""
    streams = itertools.tee(slices, len(predictors))
    results = (
        tiled_probabilities(one, stream) if options.tile else one.probabilities(stream)
        for one, stream in zip(predictors, streams, strict=True)
    )
    for found in zip(*results, strict=True):
        yield found[0] if len(found) == 1 else np.mean(found, axis=0)


class _Growing:
    """A result that is completed slice by slice.

    Attributes:
        scan: what is predicted.
        embedded: where a page is wanted, the probability of each slice as the page holds it.
    """

    def __init__(
        self, scan: Scan, threshold: float, options: Options, predictors: Sequence[Predictor]
    ):
        self.scan = scan
        self.embedded: list[str | None] = []
        self._threshold = threshold
        self._options = options
        self._predictors = predictors
        rows, columns, depth = np.atleast_3d(scan.pixels).shape
        # Slices first, so that each is written in one piece.
        self._mask = np.empty((depth, rows, columns), bool)
        self._prob = np.empty(self._mask.shape, np.float32) if options.prob else None
        self._next = 0

    def add(self, prob: np.ndarray) -> None:
        self._mask[self._next] = prob >= self._threshold
        if self._prob is not None:
            self._prob[self._next] = prob
        if self._options.page:
            self.embedded.append(page.embedded_prob(prob))
        self._next += 1

    @property
    def complete(self) -> bool:
        return self._next == len(self._mask)

    def result(self) -> Prediction:
        """The mask, processed as the options say; the probability stays as it is."""
        mask, options = self._in_place(self._mask), self._options
        if options.keep_largest is not None:
            mask = masks.keep_largest(mask, options.keep_largest)
        if options.fill_holes:
            mask = masks.fill_holes(mask)
        prob = None if self._prob is None else self._in_place(self._prob)
        volume = np.moveaxis(np.atleast_3d(self.scan.pixels), -1, 0)
        doubts = [
            doubt
            for predictor in self._predictors
            for doubt in predictor.doubts(volume, self.scan.spacing_mm, options.tile)
        ]
        said = [*self.scan.notes, *doubts, *_too_little(mask)]
        return Prediction(mask, prob, list(dict.fromkeys(said)))

    def _in_place(self, array: np.ndarray) -> np.ndarray:
        """[D, H, W] -> the scan's shape."""
        return np.moveaxis(array, 0, -1).reshape(self.scan.pixels.shape)


def _too_little(mask: np.ndarray) -> list[str]:
    marked = np.count_nonzero(mask)
    if marked == 0:
        return ["nothing is marked: it shows none, or differs from what the network was trained on"]
    if marked < _NEARLY_EMPTY * mask.size:
        return [f"only {marked} of {mask.size} pixels are marked: look at the mask"]
    return []


def _open(
    source: Input, out: pathlib.Path, unit: str, report: Report, options: Options
) -> tuple[str, Scan | None]:
    """The digest of an input and what is in it, None where its results are there already.

    Raises:
        InputError: it cannot be read, or a file of another origin has the name of a result.
    """
    digest = digest_of_files(source.files)
    files = [out / name for name in _names(source, options).values()]
    if report.done(source, digest) and all(file.is_file() for file in files):
        return digest, None
    existing = [file for file in files if file.exists()]
    if existing and not (options.overwrite or report.goes_on):
        raise InputError(f"{existing[0]} exists and is not overwritten: see --overwrite")
    return digest, read_as_trained(source.files, source.name, unit, options.axes)


def _names(source: Input, options: Options) -> dict[str, str]:
    """The files to write for an input, by the option that asks for them, and its mask."""
    suffix = outputs.suffix_of(source)
    names = {
        "prob": f"{source.stem}_prob{suffix}",
        "preview": f"{source.stem}_preview.png",
        "page": f"{source.stem}.html",
    }
    if source.format == "DICOM":
        names["dicomseg"] = source.stem + dicomseg.SUFFIX
    asked = {option: name for option, name in names.items() if getattr(options, option)}
    return {"mask": source.stem + suffix, **asked}


def _write(
    out: pathlib.Path,
    source: Input,
    growing: _Growing,
    network: Predictor,
    about: dict[str, Any],
    options: Options,
) -> dict[str, Any]:
    """Writes the files of one input; returns its row."""
    scan, result = growing.scan, growing.result()
    names = _names(source, options)
    row = {"mask": names["mask"], "warnings": result.warnings, **masks.measure(scan, result.mask)}
    window = tuple(network.config.dataset.window_hu)
    shown = Shown(source, scan, result.mask, row, window, network.unit)
    if "preview" in names:
        preview.write_preview(out / names["preview"], shown)
    if "page" in names:
        page.write_page(out / names["page"], shown, growing.embedded, about)
    if "prob" in names:
        outputs.write_prob(out / names["prob"], source, scan, result.prob)
    if "dicomseg" in names:
        try:
            dicomseg.write_segmentation(out / names["dicomseg"], source, scan, result.mask)
        except InputError as error:  # the mask is written all the same
            row["error"] = _said(source.name, one_line(error))
    # Last: it says that all is there.
    outputs.write_mask(out / names["mask"], source, scan, result.mask)
    return row


def _fail(report: Report, stem: str, name: str, problem: str) -> None:
    report.add(stem, {"input": name, "error": _said(name, problem)})


def _said(name: str, problem: str) -> str:
    """Prints what is wrong with an input, and returns it."""
    problem = problem if name in problem else f"{name}: {problem}"
    Progress.write(f"error: {problem}", file=sys.stderr)
    return problem

"""One network with its weights on the devices: images in, probabilities out.

What a training validates with, what evaluation scores and what `prnet_jax.load` returns is a
`Predictor`.
"""

import dataclasses
import datetime
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from prnet_jax import compiler, processes, sharding, steps
from prnet_jax.data import appearance, preprocess
from prnet_jax.data.arrays import as_volume, check_spacing, other_axes
from prnet_jax.data.folders import files_below
from prnet_jax.data.pipeline import Slices, eval_batches, step_arrays
from prnet_jax.data.volumes import read_as_trained
from prnet_jax.errors import InputError, Stopped
from prnet_jax.export.folder import check_new, write_export
from prnet_jax.export.origin import origin_of
from prnet_jax.export.program import flat_weights
from prnet_jax.progress import progress
from prnet_jax.run import files
from prnet_jax.run.directory import read_run
from prnet_jax.run.variables import load_variables, unit_of
from prnet_jax.torch_weights.network import images_of, load_weights
from prnet_jax.weights import find_weights

EvalStep = Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network says of one array.

    Attributes:
        mask: bool, of the array's shape: where the probability reaches the threshold.
        prob: float32 0..1, of the array's shape, the probability of foreground.
        warnings: one line for each reason to doubt the result.
    """

    mask: np.ndarray
    prob: np.ndarray
    warnings: list[str]


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A network, its variables and how it was trained to see an image.

    Attributes:
        config: a run's settings: those of the data, `threshold` and `eval_batch_size` are used.
        step: a compiled step of `prnet_jax.steps.make_eval_step`.
        variables: {"params": ..., "batch_stats": ...}, replicated over the mesh.
        mesh: the devices.
        unit: "HU" or "grey", what the network was trained on.
        seen: what the images of its training looked like, of `Appearance.facts`; {} if unknown.
        flips: whether the step averages over an image and its mirror images.
        source: the run or the weights that it was loaded from, if any.
        published: where `source` is a download, "user/repo@commit" of the Hugging Face Hub.
    """

    config: ml_collections.ConfigDict
    step: EvalStep
    variables: Any
    mesh: Mesh
    unit: str
    seen: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flips: bool = False
    source: pathlib.Path | None = None
    published: str | None = None

    def with_variables(self, variables: Any) -> Self:
        """The same compiled network with other weights."""
        return dataclasses.replace(self, variables=sharding.replicate(self.mesh, variables))

    def run(
        self, slices: Slices, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[dict[str, np.ndarray]]:
        """The results of the step for every slice once, in order, one batch at a time.

        The devices compute a batch while the caller works with the results of the one before.
        Padding is removed. See `prnet_jax.steps.make_eval_step` for the names of the results. With
        several processes all must call this; each reads its part of a batch and gets the results
        of the complete batch.

        Args:
            slices: one split.
            stop: asked before every batch.

        Raises:
            Stopped: `stop()` was true.
        """
        threads = self.config.dataset.num_threads
        results = None
        for batch in eval_batches(slices, self.config.eval_batch_size, threads):
            if stop():
                raise Stopped("Stopped during an evaluation.")
            arrays = sharding.shard_batch(self.mesh, step_arrays(batch))
            computed = self.step(self.variables, arrays)
            if results is not None:
                yield results
            results = _without_padding(computed)  # waits for the devices
        if results is not None:
            yield results

    def predict_split(
        self, slices: Slices, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(index, probability float32 [S, S]) of every slice, in order, with a progress bar.

        Where slices are padded to a square, so are the probabilities; see `Slices.inside`.

        Arguments and errors as for `run`. With several processes all must iterate; only the first
        gets anything.
        """
        with progress(len(slices), desc="predict", unit="images", doing="first batch") as bar:
            for results in self.run(slices, stop):
                if not processes.is_first():
                    continue
                for index, prob in zip(results["index"], results["prob"], strict=True):
                    yield int(index), prob
                    bar.update(1)

    def predict(
        self,
        array: np.ndarray,
        spacing_mm: Sequence[float] | None = None,
        axes: str = "DHW",
    ) -> Prediction:
        """The mask of one slice or volume of any size.

        Each slice is windowed and resized as in training, and padded or stretched as the run was;
        its probability is resized back. A run of the middle of slices looks at the middle, and the
        warnings say so.

            predictor = prnet_jax.load("runs/prnet_quick")
            mask = predictor.predict(slice_hu).mask

        Args:
            array: real numbers [H, W], or a volume whose axes `axes` names; axial slices as they
                are displayed, in Hounsfield units, or in the unit that the network was trained on.
            spacing_mm: distance of pixel centres, one number for each axis of `array`; only for
                the warnings, since the network sees images of one size.
            axes: "DHW" or "HWD", which axis of a volume counts its slices.

        Raises:
            InputError: another shape or type, or a value that is not finite.
        """
        volume = as_volume(array, axes)
        check_spacing(spacing_mm, np.ndim(array))
        prob = self._predict_volume(volume)
        if np.ndim(array) == 2:
            prob = prob[0]
        elif axes == "HWD":
            prob = np.moveaxis(prob, 0, -1)
        in_plane = None
        if spacing_mm is not None:
            in_plane = spacing_mm[:2] if axes == "HWD" else spacing_mm[-2:]
        turned = other_axes(np.shape(array), axes)
        doubts = self.doubts(volume, in_plane)
        return self._prediction(prob, [turned, *doubts] if turned else doubts)

    def predict_file(self, file: str | os.PathLike, axes: str | None = None) -> Prediction:
        """The mask of a file, in the order of its own pixels.

        Volumes are turned so that the network sees axial slices as they are displayed, whichever
        way they are stored, and the result is turned back.

        Args:
            file: PNG, JPEG, TIFF, NumPy, NIfTI or DICOM, or the folder of one DICOM series.
            axes: "HWD" or "DHW", which axis of a NumPy volume counts its slices; None where its
                shape tells.

        Raises:
            InputError: a file that cannot be read, or a value that is not finite.
        """
        path = pathlib.Path(file)
        parts = files_below(path) if path.is_dir() else [path]
        if not parts:
            raise InputError(f"{path} holds no files")
        scan = read_as_trained(parts, str(path), self.unit, axes)
        volume = np.moveaxis(np.atleast_3d(scan.pixels), -1, 0)
        prob = np.moveaxis(self._predict_volume(volume), 0, -1).reshape(scan.pixels.shape)
        warnings = [*scan.notes, *self.doubts(volume, scan.spacing_mm)]
        return self._prediction(scan.as_stored(prob), warnings)

    def export(self, path: str | os.PathLike, released: datetime.date | None = None) -> None:
        """Writes one program that predicts slices of any size without this package.

        Args:
            path: a new file `*.stablehlo`; its weights and its description lie beside it.
            released: the day of this jaxlib's release, if it is known.

        Raises:
            InputError: there is such a file, or `flatbuffers` is not installed.
        """
        about = {"unit": self.unit, "flips": self.flips, "seen": dict(self.seen)}
        about |= origin_of(self.source) if self.source else {}
        about |= {"weights_from": self.published} if self.published else {}
        path = pathlib.Path(path)
        check_new(path)
        write_export(path, self.config, flat_weights(self.variables), about, released)

    def _predict_volume(self, volume: np.ndarray) -> np.ndarray:
        """[D, H, W] -> its probability."""
        prob = np.empty(volume.shape, np.float32)
        for z, found in enumerate(self.probabilities(volume)):
            prob[z] = found
        return prob

    def _prediction(self, prob: np.ndarray, warnings: list[str]) -> Prediction:
        return Prediction(prob >= self.config.threshold, prob, warnings)

    def doubts(
        self, volume: np.ndarray, spacing_mm: Sequence[float] | None, tiled: bool = False
    ) -> list[str]:
        """One line for each reason why the mask of these pixels may not be what is wanted.

        Args:
            volume: real numbers [D, H, W], all finite.
            spacing_mm: of a slice, (row, column); None where it is not known.
            tiled: whether windows were laid over the whole slices, see `prnet_jax.predict.tiles`.
        """
        unseen = [] if tiled else self._unseen(volume.shape[1:])
        if doubt := preprocess.implausible(volume, self.unit):
            return [*unseen, doubt]
        resized = not tiled and self.config.dataset.resize != "middle"
        return unseen + appearance.unlike(volume, spacing_mm, self.unit, self.seen, resized)

    def _unseen(self, shape: tuple[int, ...]) -> list[str]:
        data = self.config.dataset
        rows, columns = preprocess.seen(shape, data.image_size, data.resize)
        part = rows.stop - rows.start, columns.stop - columns.start
        if part == shape:
            return []
        return [
            f"only the middle {part[0]}x{part[1]} of {shape[0]}x{shape[1]} pixels were looked at, "
            "as in training: nothing else is marked"
        ]

    def probabilities(self, slices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The probability of each slice, float32 [H, W] in 0..1.

        Slices are windowed and resized as in training, and their probabilities resized back, in
        threads, while the devices compute another batch. No more than two batches are kept.

        Args:
            slices: real numbers [H, W], each of any size, in the unit that the network was
                trained on.
        """
        slices, batch = iter(slices), 0
        waiting = None  # a batch that the devices compute, and the sizes of its slices
        with ThreadPoolExecutor(self.config.dataset.num_threads) as threads:

            def resized_back(computed, shapes):
                how = itertools.repeat(self.config.dataset.resize)
                yield from threads.map(preprocess.resize_prob, np.asarray(computed), shapes, how)

            while chunk := list(itertools.islice(slices, batch or self.config.eval_batch_size)):
                # One slice must not cost a full batch.
                batch = batch or -(-len(chunk) // self.mesh.size) * self.mesh.size
                images = list(threads.map(self._as_input, chunk))
                images += [np.zeros_like(images[0])] * (batch - len(chunk))
                computed = self.prob(np.stack(images))
                if waiting:
                    yield from resized_back(*waiting)
                waiting = computed[: len(chunk)], [pixels.shape for pixels in chunk]
            if waiting:
                yield from resized_back(*waiting)

    def prob(self, images: np.ndarray) -> jax.Array:
        """The probability float32 [N, S, S] of images [N, S, S, 1] in 0..1; it may not be ready."""
        index = np.arange(len(images), dtype=np.int32)
        arrays = {"image": images, "mask": np.zeros_like(images), "index": index}
        return self.step(self.variables, sharding.shard_batch(self.mesh, arrays))["prob"]

    def _as_input(self, pixels: np.ndarray) -> np.ndarray:
        data = self.config.dataset
        image = preprocess.window(pixels, *data.window_hu)
        return preprocess.resize_image(image, data.image_size, data.resize)[..., None]


def _without_padding(results: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """The results of the images of a batch, in the order of the split."""
    index = np.asarray(results["index"])
    real = np.flatnonzero(index >= 0)
    order = real[np.argsort(index[real])]
    return {name: np.asarray(array)[order] for name, array in results.items()}


def make_predictor(
    config: ml_collections.ConfigDict, variables: Any, mesh: Mesh, unit: str, flips: bool = False
) -> Predictor:
    """A `Predictor` of the network that `config` describes.

    Args:
        config: a run's settings; a copy is kept.
        variables: {"params": ..., "batch_stats": ...}.
        mesh: the devices.
        unit: "HU" or "grey", of the images that the network was trained on.
        flips: average over an image and its mirror images.

    Raises:
        InputError: a batch that the devices cannot share evenly.
    """
    sharding.check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    step = steps.make_eval_step(config, steps.make_model(config), flips=flips)
    return Predictor(
        config=config.copy_and_resolve_references(),
        step=sharding.jit_eval_step(mesh, step),
        variables=sharding.replicate(mesh, variables),
        mesh=mesh,
        unit=unit,
        flips=flips,
    )


def load(
    path: str | os.PathLike, *, flips: bool = False, batch_size: int | None = None, **weights: Any
) -> Predictor:
    """`prnet_jax.loading.load` of anything but an exported program, with the same arguments."""
    compiler.disable_ynn()
    compiler.self_check()
    path = find_weights(path)
    if path.is_file() or (path / files.NETWORK).is_file():
        config, variables, unit = load_weights(path, **weights)
        seen: Mapping[str, Any] = images_of(path)
    elif chosen := ", ".join(sorted(weights.keys() - {"tell"})):
        raise InputError(f"{path} is no file of weights, so {chosen} cannot be chosen")
    else:
        config, about = read_run(path)
        variables, unit = load_variables(path), unit_of(config.dataset.window_hu, about)
        seen = about.get("images") or {}
    mesh = sharding.make_mesh()
    batch_size = batch_size or config.eval_batch_size
    config.eval_batch_size = -(-batch_size // mesh.size) * mesh.size
    made = make_predictor(config, variables, mesh, unit, flips)
    return dataclasses.replace(made, seen=seen, source=path)

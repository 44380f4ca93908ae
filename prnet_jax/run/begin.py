"""The start of a run: what its data share and mark is searched for, printed, drawn and kept."""

import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from prnet_jax import processes, steps
from prnet_jax.data import foreground, leakage
from prnet_jax.data.appearance import Appearance
from prnet_jax.data.foreground import Foreground
from prnet_jax.data.pipeline import Slices, step_arrays, train_batches
from prnet_jax.figures.first_batch import draw_first_batch, first_of
from prnet_jax.progress import progress
from prnet_jax.run import directory, files, seen
from prnet_jax.run.provenance import provenance
from prnet_jax.run.variables import sha256_of
from prnet_jax.working import working


def begin(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    slices: Mapping[str, Slices],
    manifest: str,
    records: str,
    initial: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The provenance of a run: as it was begun, or new after a search of its data.

    The first process calls this.

    Args:
        workdir: the run directory.
        config: the run's.
        slices: its splits.
        manifest: their hash.
        records: the full name of the records.
        initial: the variables that it starts from; None: those of its seed.

    Raises:
        InputError: splits share a patient or a picture, the weights to start from have seen one of
            validation or test, no mask can be learnt from, or the run was begun with other images.
    """
    about = provenance(manifest, records, config.seed) | {"unit": slices["train"].unit}
    if not directory.is_run(workdir):
        about |= _look_through(config, slices)
        if initial is not None:
            origin = seen.origin_of(config.init_from)
            found, complete = seen.check_start(origin, workdir, config, slices, records, manifest)
            print(f"leakage    {found}", flush=True)
            about["init_from"] = origin | {
                "weights_sha256": sha256_of(initial),
                "leakage": found,
                "complete": complete,
            }
    return directory.open_run(workdir, config, about)


def training_batches(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, slices: Slices, start: int
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a training from step `start` on, see `train_batches`.

    Before the first step of a run, the first process draws its part of the first batch, as read and
    augmented, and prints where; a picture that exists stays.
    """
    batches = train_batches(
        slices, config.batch_size, config.seed, config.dataset.num_threads, start
    )
    if start:
        return batches
    first = next(batches)
    if processes.is_first():
        path = workdir / files.FIRST_BATCH
        if not path.exists():
            _draw_first(config, first, path)
        print(f"batch      {path}: as read, and augmented", flush=True)
    return itertools.chain([first], batches)


@working("drawing the first batch")
def _draw_first(
    config: ml_collections.ConfigDict, batch: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    read = first_of(batch)
    seen = jax.jit(steps.make_augment(config))(step_arrays(read))
    draw_first_batch(read, [np.asarray(part) for part in seen], path)


def _look_through(
    config: ml_collections.ConfigDict, slices: Mapping[str, Slices]
) -> dict[str, Any]:
    """Reads every record once, for leaks and for what the masks mark."""
    data = config.dataset
    looks = Appearance(slices["train"].unit)
    marks = {split: Foreground(data.image_size, data.resize) for split in slices}
    with progress(sum(map(len, slices.values())), desc="leakage", unit="images") as bar:

        def passing(split: str):
            for item, mask, spacing in slices[split].stored_in_full():
                marks[split].add(mask)
                if split == "train":
                    looks.add(item[2], spacing)
                yield item
                bar.update(1)

        leaks = leakage.check({split: passing(split) for split in slices})
    rows = [f"foreground {split}: {found}" for split, found in marks.items()]
    print("\n".join([f"leakage    {leaks}", *rows]), flush=True)
    for doubt in foreground.check(marks, lambda split: slices[split].stored_masks()):
        print(f"warning    {doubt}", flush=True)
    return {
        "leakage": str(leaks),
        "images": looks.facts(),
        "foreground": {split: found.facts() for split, found in marks.items()},
        "checkpoint_chosen_by": f"validation {'DSC' if marks['validation'].marked else 'loss'}",
    }

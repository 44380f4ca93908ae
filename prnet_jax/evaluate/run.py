"""Scores a run on any split of any data set."""

import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from prnet_jax import processes, report, sharding
from prnet_jax.commands import check_new_folder
from prnet_jax.data.pipeline import Slices
from prnet_jax.errors import InputError
from prnet_jax.evaluate.choices import AUTO, Choices
from prnet_jax.evaluate.files import open_folder, write_evaluation, write_thresholds
from prnet_jax.evaluate.scores import SplitScores, ThresholdTable, reader_names
from prnet_jax.evaluate.source import Source, chosen_data, open_source
from prnet_jax.figures.gallery import Gallery
from prnet_jax.predictor import Predictor, make_predictor, trained_unit
from prnet_jax.run import files
from prnet_jax.run.directory import epoch_of, epochs_run, read_run
from prnet_jax.run.provenance import provenance
from prnet_jax.run.variables import best_step, load_variables
from prnet_jax.working import working

__all__ = ["Choices", "about_test", "evaluate_run", "score_split"]


def evaluate_run(run: str | os.PathLike, choices: Choices | None = None) -> dict[str, Any]:
    """Scores the best checkpoint of a run and writes the results into a folder of the run.

        from prnet_jax.evaluate import Choices, evaluate_run

        summary = evaluate_run("runs/prnet_lungs", Choices(split="validation", tta="flips"))

    With several processes all call this; they predict together, and the first scores and writes.

    Args:
        run: a run directory.
        choices: what is scored and how; by default the test split as the run's end scored it.

    Returns:
        The content of summary.json.

    Raises:
        InputError: a run, a data set or an option that cannot be used; nothing was overwritten.
    """
    choices = choices or Choices()
    workdir = pathlib.Path(run)
    # ---- what can be refused before anything is computed
    config, trained_on = read_run(workdir)
    config.dataset.cache = False  # each slice is read only a few times, so none is kept
    choices.check()
    processes.check_same("the options", choices.shared())
    if choices.out is not None:
        processes.on_first(lambda: check_new_folder("--out", pathlib.Path(choices.out)))
    predictor, step = _load(workdir, config, trained_on, choices)
    own, data = config.dataset, predictor.config.dataset
    source = open_source(workdir, own, data, trained_on, choices)
    processes.check_same("the images or splits", f"{source.records} {source.manifest}")
    print(f"leakage    {source.leaks}", flush=True)
    directory = pathlib.Path(choices.out or workdir / choices.folder_name(own.name, source.records))

    # ---- the threshold, where the validation split is to choose it
    table = None
    if choices.threshold == AUTO:
        table = _tune(predictor, source, choices)
    processes.on_first(lambda: _begin(workdir, directory, table, predictor.config.threshold))

    # ---- scores
    about = {
        **_about_network(predictor),
        "records": source.records,
        "split": choices.split,
        "split_manifest_sha256": source.manifest,
        "leakage": source.leaks,
        "checkpoint_step": step,
        "checkpoint_epoch": epoch_of(workdir, step),
        "tta": choices.tta,
        "threshold_from": "validation" if choices.threshold == AUTO else "given",
        "provenance": provenance(source.manifest, source.records, config.seed),
    }
    if directory.parent != workdir:  # an evaluation that lies elsewhere says what it is of
        about |= {"trained_on": trained_on, "epochs_run": epochs_run(workdir)}
    summary = score_split(predictor, source.slices, directory, about, choices.empty_policy)
    print(report.evaluated(summary, directory), flush=True)
    return summary


def about_test(
    predictor: Predictor, trained_on: Mapping[str, Any], records: str, step: int, epoch: int
) -> dict[str, Any]:
    """What the summary of a run's own test split says besides the scores.

    Args:
        predictor: with the weights of the best checkpoint.
        trained_on: the run's provenance.
        records: the full name of the records.
        step: of that checkpoint.
        epoch: likewise.
    """
    return {
        **_about_network(predictor),
        "records": records,
        "split": "test",
        "split_manifest_sha256": trained_on["split_manifest_sha256"],
        "leakage": "the run's own splits",
        "checkpoint_step": step,
        "checkpoint_epoch": epoch,
        "provenance": dict(trained_on),
    }


def _about_network(predictor: Predictor) -> dict[str, Any]:
    """What a summary says of the network and of how it was used."""
    config = predictor.config
    return {
        "network": config.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(predictor.variables["params"])),
        "seed": config.seed,
        "dataset": config.dataset.name,
        "mask": config.dataset.mask,
        "window_hu": list(config.dataset.window_hu),
        "tta": "none",
        "threshold_from": "given",
    }


def score_split(
    predictor: Predictor,
    slices: Slices,
    directory: pathlib.Path,
    about: Mapping[str, Any],
    policy: str = "penalise",
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Predicts a split in all processes; the first scores each image as it comes, and writes.

    Args:
        predictor: its `config.threshold` makes the masks.
        slices: the split.
        directory: for the files, see `write_evaluation`; made where absent.
        about: entries for the summary to begin with.
        policy: what empty masks count for, a name of `prnet_jax.metrics.POLICIES`.
        stop: asked before every batch.

    Returns:
        What summary.json holds.

    Raises:
        Stopped: `stop()` was true.
    """
    threshold = predictor.config.threshold
    scores = SplitScores(threshold, policy, slices.mask_name)
    with contextlib.ExitStack() as pictures:
        gallery = None
        if processes.is_first():
            open_folder(directory)
            gallery = pictures.enter_context(Gallery(directory, threshold))
        for index, prob in predictor.predict_split(slices, stop):
            item = slices[index]
            mask = item["mask"][..., 0] > 0.5
            readers = {name: slices.mask(index, name) for name in reader_names(slices)}
            row = scores.add(prob, mask, item, readers)
            gallery.add(row, item["image"][..., 0], mask, prob)
        with working("intervals and pictures"):
            return processes.on_first(lambda: write_evaluation(scores, gallery, directory, about))


@working("restoring the network")
def _load(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    trained_on: Mapping[str, Any],
    choices: Choices,
) -> tuple[Predictor, int]:
    """The network of the best checkpoint, set up as chosen, and the step of that checkpoint."""
    step = processes.on_first(lambda: best_step(workdir))  # a training may be going on
    chosen = config.copy_and_resolve_references()
    chosen.dataset = chosen_data(config.dataset, choices)
    if choices.batch_size is not None:
        chosen.eval_batch_size = choices.batch_size
    if choices.threshold not in (None, AUTO):
        chosen.threshold = float(choices.threshold)
    predictor = make_predictor(
        chosen,
        load_variables(workdir, step),
        sharding.make_mesh(),
        trained_unit(config, trained_on),
        flips=choices.tta == "flips",
    )
    return predictor, step


def _tune(predictor: Predictor, source: Source, choices: Choices) -> ThresholdTable:
    """Sets the predictor's threshold to the best one on the run's own validation split.

    Raises:
        InputError: no image of that split is scored.
    """
    print("threshold  from the validation split of the run's own data", flush=True)
    table, slices = ThresholdTable(choices.empty_policy), source.validation
    for index, prob in predictor.predict_split(slices):
        table.add(prob, slices[index]["mask"][..., 0] > 0.5)
    best = processes.on_first(table.best)
    if math.isnan(best):
        raise InputError(
            f"no image of the validation split is scored under {choices.empty_policy}: give "
            "--threshold a number"
        )
    predictor.config.threshold = best
    return table


def _begin(
    workdir: pathlib.Path, directory: pathlib.Path, table: ThresholdTable | None, threshold: float
) -> None:
    """Makes the folder, with what does not depend on the scores."""
    open_folder(directory)
    if directory.parent != workdir:  # an evaluation that lies elsewhere says what it is of
        config = (workdir / files.CONFIG).read_text(encoding="utf-8")
        files.write_whole(directory / files.CONFIG, config)
    if table is not None:
        stem = directory / f"{files.THRESHOLDS}_validation"
        write_thresholds(table, "validation", threshold, stem)

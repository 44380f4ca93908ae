"""Scores a run, or imported weights, on any split of any data set."""

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from prnet_jax import processes, report, sharding, steps
from prnet_jax.commands import check_new_folder
from prnet_jax.errors import InputError
from prnet_jax.evaluate import cost
from prnet_jax.evaluate.choices import AUTO, Choices
from prnet_jax.evaluate.files import emptied_on_failure, open_folder, write_thresholds
from prnet_jax.evaluate.scores import ThresholdTable
from prnet_jax.evaluate.source import Source, chosen_data, open_for_others, open_source
from prnet_jax.evaluate.split import predicted, score_split
from prnet_jax.predictor import Predictor, make_predictor
from prnet_jax.run import files
from prnet_jax.run.directory import epoch_of, epochs_run, read_run
from prnet_jax.run.provenance import provenance
from prnet_jax.run.variables import best_step, load_variables, unit_of
from prnet_jax.torch_weights.network import load_weights
from prnet_jax.weights import find_weights

__all__ = ["Choices", "about_test", "evaluate_run", "evaluate_weights"]

# Of a config, what is known of imported weights
_KNOWN = ("seed", "init_from", "model", "dataset", "dtype")


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
    _check(choices)
    predictor, step = _load(workdir, config, trained_on, choices)
    source = open_source(workdir, config, predictor.config.dataset, trained_on, choices)
    directory = pathlib.Path(
        choices.out or workdir / choices.folder_name(config.dataset.name, source.records)
    )
    origin, of = {"checkpoint_step": step, "checkpoint_epoch": epoch_of(workdir, step)}, None
    origin["cost"] = cost.of_training(workdir)
    if directory.parent != workdir:  # an evaluation that lies elsewhere says what it is of
        origin |= {"trained_on": trained_on, "epochs_run": epochs_run(workdir)}
        of = (workdir / files.CONFIG).read_text(encoding="utf-8")
    return _evaluate(predictor, source, choices, directory, origin, of, trained_on)


def evaluate_weights(
    weights: str | os.PathLike,
    choices: Choices,
    model: str | None = None,
    fields: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    resize: str | None = None,
    entry: str | None = None,
) -> dict[str, Any]:
    """Scores imported weights and writes the results into `choices.out`.

        choices = Choices(dataset="finding_lungs", manual_dir="downloads", out="theirs")
        summary = evaluate_weights("unet.pth", choices, model="unet", image_size=512)

    What such weights were trained on is not known, so leaks cannot be searched for. A threshold
    from validation is tuned on the validation split of the data that are scored.

    Args:
        weights: a file of weights, a folder that `prnet_jax.torch_weights import` made, or the name
            of released weights, see `prnet_jax.weights`.
        choices: what is scored and how; a data set that is not named is that of the default config,
            the phantom.
        model: a name of `list_models()`; None where the weights say it.
        fields: overrides as for `create_model`.
        image_size: side of the images, in pixels; None as the weights say it, else the default.
        resize: "pad", "stretch" or "middle", likewise.
        entry: where in the file the weights are, see `read_state_dict`.

    Returns:
        The content of summary.json.

    Raises:
        InputError: weights, a data set or an option that cannot be used; nothing was overwritten.
    """
    if choices.out is None:
        raise InputError("imported weights have no folder for results: name a new one by --out")
    _check(choices, model, dict(fields or {}), image_size, resize, entry)
    config, variables, unit = load_weights(
        find_weights(weights), model, fields, image_size, choices.window, resize, entry, print
    )
    config.dataset.cache = False
    predictor = _predictor(config, variables, unit, choices)
    config = predictor.config
    steps.check_shapes(config, steps.make_model(config))
    source = open_for_others(config.dataset, choices, "imported weights")
    of = ml_collections.ConfigDict({k: config[k] for k in _KNOWN}).to_json(indent=1) + "\n"
    origin = {"checkpoint_step": None, "checkpoint_epoch": None, "weights": str(weights)}
    return _evaluate(predictor, source, choices, pathlib.Path(choices.out), origin, of, {})


def _check(choices: Choices, *more: Any) -> None:
    """Refuses options that are wrong for every network, or differ between the processes."""
    choices.check()
    processes.check_same("the options", f"{choices.shared()} {more}")
    if choices.out is not None:
        processes.on_first(lambda: check_new_folder("--out", pathlib.Path(choices.out)))


def _evaluate(
    predictor: Predictor,
    source: Source,
    choices: Choices,
    directory: pathlib.Path,
    origin: Mapping[str, Any],
    of: str | None,
    trained_on: Mapping[str, Any],
) -> dict[str, Any]:
    """Scores a source and writes the results.

    Args:
        predictor: set up as chosen.
        source: what is scored.
        choices: the options.
        directory: for the results.
        origin: entries of the summary: what the weights are.
        of: the content of a config.json beside the results; None where the folder above has it.
        trained_on: the run's provenance; empty for imported weights.
    """
    processes.check_same("the images or splits", f"{source.records} {source.manifest}")
    if choices.window is None and predictor.unit != source.slices.unit:
        raise InputError(
            f"the network was trained on images in {predictor.unit}, and {source.records} holds "
            f"{source.slices.unit}: to score it all the same, give the window by --window LOW HIGH"
        )
    print(f"leakage    {source.leaks}", flush=True)

    # ---- the threshold, where the validation split is to choose it
    table = None
    if choices.threshold == AUTO:
        whose = "the same" if "weights" in origin else "the run's own"
        print(f"threshold  from the validation split of {whose} data", flush=True)
        table = _tune(predictor, source, choices)

    # ---- scores
    about = {
        **_about_network(predictor, trained_on),
        "records": source.records,
        "split": choices.split,
        "split_manifest_sha256": source.manifest,
        "leakage": source.leaks,
        **origin,
        "resolution": choices.resolution,
        "tta": choices.tta,
        "threshold_from": "validation" if choices.threshold == AUTO else "given",
        "cost": cost.of_network(predictor) | origin.get("cost", {}),
        "provenance": provenance(source.manifest, source.records, predictor.config.seed),
    }
    with emptied_on_failure(directory):
        processes.on_first(lambda: _begin(directory, of, table, predictor.config.threshold))
        summary = score_split(
            predictor,
            source.slices,
            directory,
            about,
            choices.empty_policy,
            choices.resolution == "native",
            keep_masks=choices.keep_masks,
        )
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
    started = trained_on.get("init_from")
    return {
        **_about_network(predictor, trained_on),
        "records": records,
        "split": "test",
        "resolution": "network",
        "split_manifest_sha256": trained_on["split_manifest_sha256"],
        "leakage": "the run's own splits" + (f"; {started['leakage']}" if started else ""),
        "checkpoint_step": step,
        "checkpoint_epoch": epoch,
        "provenance": dict(trained_on),
    }


def _about_network(predictor: Predictor, trained_on: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary says of the network and of how it was used."""
    config = predictor.config
    return {
        "network": config.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(predictor.variables["params"])),
        "checkpoint_chosen_by": trained_on.get("checkpoint_chosen_by", "validation DSC"),
        "seed": config.seed,
        "dataset": config.dataset.name,
        "mask": config.dataset.mask,
        "image_size": config.dataset.image_size,
        "resize": config.dataset.resize,
        "window_hu": list(config.dataset.window_hu),
        "tta": "none",
        "threshold_from": "given",
    }


def _load(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    trained_on: Mapping[str, Any],
    choices: Choices,
) -> tuple[Predictor, int]:
    """The network of the best checkpoint, set up as chosen, and the step of that checkpoint."""
    step = processes.on_first(lambda: best_step(workdir))  # a training may be going on
    unit = unit_of(config.dataset.window_hu, trained_on)
    return _predictor(config, load_variables(workdir, step), unit, choices), step


def _predictor(
    config: ml_collections.ConfigDict, variables: Any, unit: str, choices: Choices
) -> Predictor:
    """A network set up as chosen."""
    chosen = config.copy_and_resolve_references()
    chosen.dataset = chosen_data(config.dataset, choices)
    if choices.batch_size is not None:
        chosen.eval_batch_size = choices.batch_size
    if choices.threshold not in (None, AUTO):
        chosen.threshold = float(choices.threshold)
    mesh, flips = sharding.make_mesh(), choices.tta == "flips"
    return make_predictor(chosen, variables, mesh, unit, flips)


def _tune(predictor: Predictor, source: Source, choices: Choices) -> ThresholdTable:
    """Sets the predictor's threshold to the best one on the source's validation split.

    Raises:
        InputError: no image of that split marks anything.
    """
    table, slices = ThresholdTable(choices.empty_policy), source.validation
    native = choices.resolution == "native"
    for index, prob in predicted(predictor, slices, native):
        table.add(prob, slices.picture(index, native)["mask"])
    best = processes.on_first(table.best)
    if math.isnan(best):
        raise InputError(
            "the validation split marks nothing, so no threshold is better than another: give "
            "--threshold a number"
        )
    predictor.config.threshold = best
    return table


def _begin(
    directory: pathlib.Path, of: str | None, table: ThresholdTable | None, threshold: float
) -> None:
    """Makes the folder, with what does not depend on the scores."""
    open_folder(directory)
    if of is not None:
        files.write_whole(directory / files.CONFIG, of)
    if table is not None:
        stem = directory / f"{files.THRESHOLDS}_validation"
        write_thresholds(table, "validation", threshold, stem)

"""Scores a run on any split of any data set."""

import argparse
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from prnet_jax import processes, report, steps
from prnet_jax.commands import check_new_folder
from prnet_jax.data.pipeline import Slices
from prnet_jax.errors import InputError
from prnet_jax.evaluate.files import write_evaluation
from prnet_jax.evaluate.source import AUTO, chosen_dataset, is_other, open_source
from prnet_jax.predictor import EvalStep, predict_split

# Of these every process may have its own.
_LOCAL = ("data_dir", "manual_dir", "distributed", "coordinator", "num_processes", "process_id")


def evaluate_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Does what the command line asks for; returns the content of summary.json.

    Several processes predict together; the first scores and writes.

    Raises:
        InputError: a run, a data set or an option that cannot be used; nothing was overwritten.
    """
    from prnet_jax import processes, sharding
    from prnet_jax.evaluate.files import write_evaluation, write_thresholds
    from prnet_jax.evaluate.scores import threshold_table
    from prnet_jax.metrics import find_policy
    from prnet_jax.predictor import predict_split
    from prnet_jax.run.directory import epoch_of, read_run
    from prnet_jax.run.files import write_whole
    from prnet_jax.run.provenance import provenance
    from prnet_jax.run.variables import best_step, load_variables
    from prnet_jax.steps import make_model

    # ---- what can be refused before anything is computed
    workdir = arguments.workdir
    config, trained_on = read_run(workdir)
    choices = {k: v for k, v in vars(arguments).items() if k not in _LOCAL}
    processes.check_same("the arguments", repr(sorted(choices.items())))
    find_policy(arguments.empty_policy)
    if arguments.out is not None:
        processes.on_first(lambda: check_new_folder("--out", arguments.out))
    step = processes.on_first(lambda: best_step(workdir))  # a training may be going on
    variables = load_variables(workdir, step)
    if arguments.batch_size is not None:
        config.eval_batch_size = arguments.batch_size
    mesh = sharding.make_mesh()
    sharding.check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    if isinstance(arguments.threshold, float):
        config.threshold = arguments.threshold
    own, data = config.dataset, chosen_dataset(config.dataset, arguments)
    opened = open_source(workdir, own, data, trained_on, arguments)
    processes.check_same("the images or splits", f"{opened.records} {opened.manifest}")
    print(f"leakage    {opened.leaks}", flush=True)

    # ---- the network, and the threshold where the validation split is to choose it
    model = make_model(config)
    eval_step = sharding.jit_eval_step(
        mesh, steps.make_eval_step(config, model, flips=arguments.tta == "flips")
    )
    variables = sharding.replicate(mesh, variables)

    def predict(slices):
        return predict_split(eval_step, variables, slices, config, mesh)

    table = None
    if arguments.threshold == AUTO:
        print("threshold  from the validation split of the run's own data", flush=True)
        predictions = predict(opened.validation)

        def tune() -> float:
            nonlocal table
            table = threshold_table(predictions, arguments.empty_policy)
            return float(table["best"])

        config.threshold = processes.on_first(tune)
        if math.isnan(config.threshold):
            raise InputError(
                f"no image of the validation split is scored under {arguments.empty_policy}: give "
                "--threshold a number"
            )

    # ---- scores
    config.dataset = data
    about = {
        **about_run(config, variables),
        "records": opened.records,
        "split": arguments.split,
        "split_manifest_sha256": opened.manifest,
        "leakage": opened.leaks,
        "checkpoint_step": step,
        "checkpoint_epoch": epoch_of(workdir, step),
        "tta": arguments.tta,
        "threshold_from": "validation" if arguments.threshold == AUTO else "given",
        "provenance": provenance(opened.manifest, opened.records, config.seed),
    }
    predictions = predict(opened.slices)
    directory = arguments.out or workdir / _folder_name(arguments, own, data, opened.records)

    def write() -> dict[str, Any]:
        directory.mkdir(parents=True, exist_ok=True)
        # An evaluation that lies elsewhere says itself what it is of.
        if directory.parent != workdir:
            write_whole(directory / "config.json", (workdir / "config.json").read_text("utf-8"))
        if table is not None:
            stem = directory / "thresholds_validation"
            write_thresholds(table, "validation", config.threshold, stem)
        return write_evaluation(
            predictions, directory, about, config.threshold, arguments.empty_policy
        )

    summary = processes.on_first(write)
    print(report.evaluated(summary, directory), flush=True)
    return summary


def _folder_name(
    arguments: argparse.Namespace,
    own: ml_collections.ConfigDict,
    data: ml_collections.ConfigDict,
    records: str,
) -> str:
    """Where an evaluation lies in its run: one folder for each way of making it; `test` plainly."""
    parts = [arguments.split]
    if is_other(own, arguments):
        parts.insert(0, f"{data.name}-{records.split('/')[1]}")
    if arguments.mask is not None:
        parts.append(arguments.mask)
    if arguments.window is not None:
        parts.append("window{:g}to{:g}".format(*arguments.window))
    if arguments.tta != "none":
        parts.append(arguments.tta)
    if arguments.threshold is not None:
        parts.append(
            "auto-threshold" if arguments.threshold == AUTO else f"threshold{arguments.threshold:g}"
        )
    if arguments.empty_policy != "penalise":
        parts.append(arguments.empty_policy)
    return "_".join(parts)


def about_run(config: ml_collections.ConfigDict, variables: Any) -> dict[str, Any]:
    """What a summary says of the network and of how it was used, as the config has it."""
    return {
        "network": config.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "seed": config.seed,
        "dataset": config.dataset.name,
        "mask": config.dataset.mask,
        "window_hu": list(config.dataset.window_hu),
        "tta": "none",
        "threshold_from": "given",
    }


def evaluate_split(
    eval_step: EvalStep,
    variables: Any,
    slices: Slices,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    directory: pathlib.Path,
    about: dict[str, Any],
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Predicts a split in all processes and scores it at `config.threshold` in the first.

    Arguments and errors as for `predict_split` and `write_evaluation`.
    """
    predictions = predict_split(eval_step, variables, slices, config, mesh, stop)
    return processes.on_first(
        lambda: write_evaluation(predictions, directory, about, config.threshold)
    )

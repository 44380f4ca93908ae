"""The command that scores a run on any split of any data set: python -m prnet_jax.evaluate

    python -m prnet_jax.evaluate --workdir RUN
    python -m prnet_jax.evaluate --workdir RUN --tta flips --threshold auto-on-validation
    python -m prnet_jax.evaluate --workdir RUN --dataset image_folder --manual-dir DIR --split all
"""

import argparse
import math
import pathlib
import signal
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
from absl import logging

from prnet_jax.arguments import check_new_folder, name_and_value
from prnet_jax.errors import InputError, RunError

AUTO = "auto-on-validation"
TTA = ("none", "flips")
# Of these every process may have its own.
_LOCAL = ("data_dir", "manual_dir", "distributed", "coordinator", "num_processes", "process_id")
_SPLITS = ("test", "validation", "train", "all")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 2 for a person's mistake, 1 where the other processes were not found."""
    arguments = _parser().parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    try:
        # Now, because importing JAX takes a while, which --help need not.
        from prnet_jax import processes
        from prnet_jax.config import default_config

        where = default_config("prnet")  # not the run's: where it was trained does not matter here
        for field in ("distributed", "coordinator", "num_processes", "process_id"):
            where[field] = getattr(arguments, field)
        with processes.joined(where):
            # JAX's preemption service, which an evaluation does not need, would swallow it.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            evaluate_run(arguments)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def evaluate_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Does what the command line asks for; returns the content of summary.json.

    Several processes predict together; the first scores and writes.

    Raises:
        InputError: a run, a data set or an option that cannot be used; nothing was overwritten.
    """
    from prnet_jax import processes, report, sharding, steps
    from prnet_jax.checkpoint import best_step, load_variables
    from prnet_jax.evaluate import (
        about_run,
        threshold_table,
        write_evaluation,
        write_thresholds,
    )
    from prnet_jax.inference import predict_split
    from prnet_jax.metrics import find_policy
    from prnet_jax.provenance import provenance
    from prnet_jax.run_directory import epoch_of, read_run, write_whole
    from prnet_jax.train import make_model

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
    own, data = config.dataset, _data(config.dataset, arguments)
    opened = _open(workdir, own, data, trained_on, arguments)
    processes.check_same("the images or splits", f"{opened.records} {opened.manifest}")
    print(f"leakage    {opened.leaks}", flush=True)

    # ---- the network, and the threshold where the validation split is to choose it
    model = make_model(config)
    eval_step = sharding.jit_eval_step(
        mesh, steps.make_eval_step(config, model, flips=arguments.tta == "flips")
    )
    variables = sharding.whole(mesh, variables)

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


class _Opened(NamedTuple):
    """What is scored.

    Attributes:
        slices: of the split.
        records: the name of their records.
        manifest: the hash of their splits.
        leaks: what they share with the images that the run has seen, in words.
        validation: the validation split of the run's own data; None where these are not here.
    """

    slices: Any
    records: str
    manifest: str
    leaks: str
    validation: Any


def _open(
    workdir: pathlib.Path,
    own: ml_collections.ConfigDict,
    data: ml_collections.ConfigDict,
    trained_on: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> _Opened:
    """Opens what is to be scored, and looks for images in it that the run has seen.

    Raises:
        InputError: the data cannot be used, or hold what the network was trained or chosen on.
    """
    from prnet_jax.data import leakage
    from prnet_jax.data.pipeline import Slices, open_splits, splits_hash
    from prnet_jax.data.prepare import prepare

    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    splits = open_splits(builder, data)
    if arguments.split == "all":
        slices = Slices(builder, "+".join(splits), data)
    else:
        slices = splits[arguments.split]
    records, manifest = builder.info.full_name, splits_hash(splits)

    def result(leaks, validation):
        return _Opened(slices, records, manifest, leaks, validation)

    if _is_same(records, manifest, trained_on):
        if arguments.threshold == AUTO and arguments.split in ("validation", "all"):
            raise InputError(
                f"--threshold {AUTO} would be tuned on images that it scores: take --split test"
            )
        seen = {
            "train": f"{len(splits['train'])} images were trained on",
            "validation": f"{len(splits['validation'])} images chose the checkpoint",
        }
        named = [seen[name] for name in seen if arguments.split in (name, "all")]
        return result("; ".join(["the run's own splits", *named]), splits["validation"])
    if not _is_other(own, arguments):
        raise _other_records(workdir, trained_on, records)
    try:
        own_splits = _own_splits(workdir, own, trained_on)
    except InputError as error:
        if arguments.threshold == AUTO:
            raise
        return result(f"not looked for, the run's own data are not here: {error}", None)
    here = f"{arguments.split} of {data.name}"
    scored = slices.stored()
    about_patients = ""
    if arguments.other_patients or data.name != own.name:
        # Ids of another source that happen to be the same are no leak; pictures still are.
        scored = ((id, f"{here}: {patient}", image) for id, patient, image in scored)
        about_patients = "; patients of another source, their ids are not compared"
    seen = {name: own_splits[name].stored() for name in ("train", "validation")}
    leaks = f"{leakage.check({**seen, here: scored})}{about_patients}"
    return result(leaks, own_splits["validation"])


def _own_splits(
    workdir: pathlib.Path, own: ml_collections.ConfigDict, trained_on: Mapping[str, Any]
) -> dict[str, Any]:
    """The splits that the run was made with.

    Raises:
        InputError: they are not here, or are others now.
    """
    from prnet_jax.data.pipeline import open_splits, splits_hash
    from prnet_jax.data.prepare import prepare

    builder = prepare(own.name, own.data_dir, own.manual_dir, **own.options)
    splits = open_splits(builder, own)
    if not _is_same(builder.info.full_name, splits_hash(splits), trained_on):
        raise _other_records(workdir, trained_on, builder.info.full_name)
    return splits


def _is_same(records: str, manifest: str, trained_on: Mapping[str, Any]) -> bool:
    """Whether these are the run's own images; the manifest alone knows only their names."""
    now = {"records": records, "split_manifest_sha256": manifest}
    return all(trained_on[name] == value for name, value in now.items())


def _other_records(
    workdir: pathlib.Path, trained_on: Mapping[str, Any], records: str
) -> InputError:
    return InputError(
        f"{workdir} was trained on {trained_on['records']}, other images or splits than {records} "
        "has now: give --manual-dir and options as in training"
    )


def _is_other(own: ml_collections.ConfigDict, arguments: argparse.Namespace) -> bool:
    """Whether the command line asks for other data than the run's own."""
    return arguments.dataset not in (None, own.name) or bool(arguments.option)


def _data(
    own: ml_collections.ConfigDict, arguments: argparse.Namespace
) -> ml_collections.ConfigDict:
    """`config.dataset` as the command line changes it."""
    from prnet_jax.data.prepare import dataset_options

    data = own.copy_and_resolve_references()
    with data.unlocked():
        if arguments.dataset not in (None, own.name):
            data.name = arguments.dataset
            data.options = ml_collections.ConfigDict(dataset_options(arguments.dataset))
            data.mask = "mask"
            data.manual_dir = None
        # Unknown options are refused by `prepare`.
        data.options = ml_collections.ConfigDict({**data.options, **dict(arguments.option)})
        for field in ("manual_dir", "data_dir", "mask"):
            if getattr(arguments, field) is not None:
                data[field] = getattr(arguments, field)
        if arguments.window is not None:
            data.window_hu = tuple(arguments.window)
    return data


def _folder_name(
    arguments: argparse.Namespace,
    own: ml_collections.ConfigDict,
    data: ml_collections.ConfigDict,
    records: str,
) -> str:
    """Where an evaluation lies in its run: one folder for each way of making it; `test` plainly."""
    parts = [arguments.split]
    if _is_other(own, arguments):
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


def _threshold(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, or be {AUTO}; found {text!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.evaluate",
        description="Scores the best checkpoint of a run: per_image.csv, summary.json, overlays "
        "(worst first), calibration and threshold curves.",
        epilog="The files go into RUN/test, or for other choices into a folder of RUN named after "
        "them, such as RUN/test_flips. The same evaluation again replaces its files.",
    )
    parser.add_argument(
        "--workdir", type=pathlib.Path, required=True, metavar="RUN", help="a run directory"
    )
    parser.add_argument("--split", choices=_SPLITS, default="test", help="default: test")
    parser.add_argument(
        "--tta", choices=TTA, default="none", help="flips: mean over image and mirror images"
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        metavar=f"T|{AUTO}",
        help="of the probability (default: the run's); auto: the one with the highest mean DSC on "
        "the run's own validation split",
    )
    parser.add_argument(
        "--empty-policy",
        default="penalise",
        metavar="NAME",
        help="what empty masks count for: penalise (default), perfect_if_both_empty, skip_empty; "
        "see prnet_jax/metrics/policy.py",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="a new folder for all")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the run's")
    several = parser.add_argument_group("several processes, see the README")
    several.add_argument("--distributed", choices=("auto", "off"), default="auto")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    several.add_argument("--num-processes", type=int, metavar="N")
    several.add_argument("--process-id", type=int, metavar="I", help="from 0")
    data = parser.add_argument_group("data, where it is not the run's own")
    data.add_argument("--dataset", metavar="NAME", help="a folder of datasets/")
    data.add_argument(
        "--option",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the data set, such as fold=2/5; may be repeated",
    )
    data.add_argument("--mask", metavar="NAME", help="which mask of the records is the target")
    data.add_argument(
        "--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help="HU or grey values of 0..1"
    )
    data.add_argument(
        "--other-patients",
        action="store_true",
        help="its patients are others than those trained on, even where their ids are the same",
    )
    data.add_argument("--manual-dir", metavar="DIR", help="what was downloaded by hand")
    data.add_argument("--data-dir", metavar="DIR", help="where prepared records lie")
    return parser

"""The command that scores a run on any split of any data set: python -m prnet_jax.evaluate

    python -m prnet_jax.evaluate --workdir RUN
    python -m prnet_jax.evaluate --workdir RUN --tta flips --threshold auto-on-validation
    python -m prnet_jax.evaluate --workdir RUN --dataset image_folder --manual-dir DIR --split all
"""

import argparse
import pathlib
import sys
from typing import Any

import ml_collections
from absl import logging

from prnet_jax.arguments import name_and_value
from prnet_jax.errors import InputError

AUTO = "auto-on-validation"
TTA = ("none", "flips")
_SPLITS = ("test", "validation", "train", "all")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 for a person's mistake."""
    arguments = _parser().parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    try:
        evaluate_run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def evaluate_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Does what the command line asks for; returns the content of summary.json.

    Raises:
        InputError: a run, a data set or an option that cannot be used; nothing was overwritten.
    """
    # Now, because importing JAX takes a while, which --help need not.
    from prnet_jax import report, sharding, steps
    from prnet_jax.checkpoint import best_step, load_variables
    from prnet_jax.data import leakage
    from prnet_jax.data.pipeline import Slices, open_splits, splits_hash
    from prnet_jax.data.prepare import prepare
    from prnet_jax.evaluate import (
        about_run,
        threshold_table,
        write_evaluation,
        write_thresholds,
    )
    from prnet_jax.inference import predict_split
    from prnet_jax.metrics import POLICIES
    from prnet_jax.provenance import provenance
    from prnet_jax.run_directory import epoch_of, read_run, write_whole
    from prnet_jax.train import make_model

    # ---- what can be refused before anything is computed
    workdir = arguments.workdir
    config, trained_on = read_run(workdir)
    if arguments.empty_policy not in POLICIES:
        raise InputError(
            f"--empty-policy must be one of {', '.join(POLICIES)}, found {arguments.empty_policy!r}"
        )
    variables = load_variables(workdir)
    step = best_step(workdir)
    if arguments.batch_size is not None:
        config.eval_batch_size = arguments.batch_size
    mesh = sharding.make_mesh()
    sharding.check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    if isinstance(arguments.threshold, float):
        config.threshold = arguments.threshold

    if arguments.threshold == AUTO and arguments.split in ("validation", "all"):
        raise InputError(
            f"--threshold {AUTO} would be tuned on the split that it scores: score --split test"
        )
    if arguments.out is not None and arguments.out.exists() and any(arguments.out.iterdir()):
        raise InputError(
            f"--out {arguments.out} holds files and is not overwritten: name a new folder"
        )

    # ---- data: the run's own, or another data set, which must not hold what the run trained on
    own = config.dataset
    data, other = _data(own, arguments)
    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    split = "train+validation+test" if arguments.split == "all" else arguments.split
    slices = Slices(builder, split, data)
    manifest = splits_hash(open_splits(builder, data))
    if manifest != trained_on["split_manifest_sha256"]:
        if not other:
            raise InputError(
                f"{workdir} was trained on {trained_on['records']} with other splits or images "
                f"than {builder.info.full_name} now has: give the same --manual-dir and options"
            )
        try:
            own_builder = prepare(own.name, own.data_dir, own.manual_dir, **own.options)
        except InputError as error:
            checked = f"not done, the training data are not here: {error}"
        else:
            training = Slices(own_builder, "train", own)
            here = f"{arguments.split} of {data.name}"
            scored = slices.stored()
            if arguments.other_patients or data.name != own.name:
                # Ids of another source that happen to be the same are no leak; pictures still are.
                scored = ((id, f"{here}: {patient}", image) for id, patient, image in scored)
            checked = str(leakage.check({"train": training.stored(), here: scored}))
        print(f"leakage    {checked}", flush=True)
    else:
        checked = "the run's own splits"

    # ---- the network, and the threshold where the validation split is to choose it
    model = make_model(config)
    eval_step = sharding.jit_step(
        mesh, steps.make_eval_step(config, model, flips=arguments.tta == "flips"), False
    )

    def predict(slices):
        return predict_split(eval_step, variables, slices, config, mesh)

    table = None
    if arguments.threshold == AUTO:
        own_builder = prepare(own.name, own.data_dir, own.manual_dir, **own.options)
        print("threshold  from the validation split of the run's own data", flush=True)
        table = threshold_table(
            predict(Slices(own_builder, "validation", own)), arguments.empty_policy
        )
        config.threshold = float(table["best"])

    # ---- scores
    about = {
        **about_run(config, variables),
        "dataset": data.name,
        "mask": data.mask,
        "records": builder.info.full_name,
        "split": arguments.split,
        "split_manifest_sha256": manifest,
        "leakage": checked,
        "checkpoint_step": step,
        "checkpoint_epoch": epoch_of(workdir, step),
        "tta": arguments.tta,
        "threshold_from": "given" if table is None else "validation",
        "provenance": provenance(manifest, builder.info.full_name, config.seed),
    }
    directory = arguments.out or workdir / _folder_name(arguments, other, data, builder.info)
    summary = write_evaluation(
        predict(slices), directory, about, config.threshold, arguments.empty_policy
    )
    # An evaluation that lies elsewhere says itself what it is of.
    if directory.parent != workdir:
        write_whole(directory / "config.json", (workdir / "config.json").read_text("utf-8"))
    if table is not None:
        write_thresholds(
            table, "validation", config.threshold, directory / "thresholds_validation"
        )
    print(report.evaluated(summary, directory), flush=True)
    return summary


def _data(
    own: ml_collections.ConfigDict, arguments: argparse.Namespace
) -> tuple[ml_collections.ConfigDict, bool]:
    """`config.dataset` as the command line changes it, and whether the images may be others."""
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
    return data, data.name != own.name or bool(arguments.option)


def _folder_name(
    arguments: argparse.Namespace, other: bool, data: ml_collections.ConfigDict, info: Any
) -> str:
    """Where an evaluation lies in its run: one folder for each way of making it; `test` plainly."""
    parts = [arguments.split]
    if other:
        parts.insert(0, f"{data.name}-{info.config_name}")
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
    parser.add_argument("--workdir", type=pathlib.Path, required=True, metavar="RUN")
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
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="a new folder for them")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the run's")
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

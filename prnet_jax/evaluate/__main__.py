"""The command that scores a network on any split of any data set: python -m prnet_jax.evaluate

python -m prnet_jax.evaluate --workdir RUN
python -m prnet_jax.evaluate --workdir RUN --tta flips --threshold auto-on-validation
python -m prnet_jax.evaluate --workdir RUN --dataset image_folder --manual-dir DIR --split all
python -m prnet_jax.evaluate --weights unet.pth --model unet --image-size 512 --out DIR
python -m prnet_jax.evaluate --predictions MASKS --dataset image_folder --manual-dir DIR --out OUT
"""

import argparse
import pathlib
import signal
import sys

from prnet_jax.commands import Help, add_weights_options, examples, name_and_value, run_command
from prnet_jax.errors import InputError
from prnet_jax.evaluate.choices import AUTO, RESOLUTIONS, SPLITS, TTA, Choices, is_threshold

_PROCESSES = ("distributed", "coordinator", "num_processes", "process_id")
_OF_WEIGHTS = ("model", "fields", "image_size", "resize", "entry")


def main(argv: list[str] | None = None) -> int:
    """The exit code: see `prnet_jax.commands`."""
    arguments = vars(_parser().parse_args(argv))
    return run_command(lambda: _evaluate(arguments))


def _evaluate(arguments: dict) -> None:
    # Here, because importing JAX takes a while, which --help need not.
    from absl import logging

    from prnet_jax import compiler, processes
    from prnet_jax.config import default_config
    from prnet_jax.evaluate.predictions import evaluate_predictions
    from prnet_jax.evaluate.run import evaluate_run, evaluate_weights

    logging.set_verbosity(logging.ERROR)
    compiler.disable_ynn()
    compiler.keep_memory()
    where = default_config("prnet")  # where the run was trained does not matter here
    for field in _PROCESSES:
        where[field] = arguments.pop(field)
    run, weights, predictions, name = (
        arguments.pop(field) for field in ("workdir", "weights", "predictions", "name")
    )
    network = {name: arguments.pop(name) for name in _OF_WEIGHTS}
    if not weights and (given := [name for name, value in network.items() if value]):
        flags = ", ".join(
            f"--{name}".replace("fields", "field").replace("_", "-") for name in given
        )
        raise InputError(f"{flags}: only with --weights; a run has its own settings")
    if name and not predictions:
        raise InputError("--name: only with --predictions")
    choices = Choices(**arguments | {"options": dict(arguments["options"])})
    with processes.joined(where):
        # JAX's preemption service, which an evaluation does not need, would swallow it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        compiler.self_check()
        if run:
            evaluate_run(run, choices)
        elif predictions:
            evaluate_predictions(predictions, choices, name)
        else:
            evaluate_weights(weights, choices, **network | {"fields": dict(network["fields"])})


def _threshold(text: str) -> float | str:
    try:
        value = text if text == AUTO else float(text)
    except ValueError:
        value = None
    if not is_threshold(value):
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, or be {AUTO}; found {text!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.evaluate",
        description="Scores the best checkpoint of a run, or imported weights: per_image.csv, "
        "summary.json, overlays (worst first), calibration and threshold curves.",
        epilog="The files go into RUN/test, or for other choices into a folder of RUN named after "
        "them, such as RUN/test_flips. The same evaluation again replaces its files."
        f"\n\n{examples(__doc__)}",
        formatter_class=Help,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", type=pathlib.Path, metavar="RUN", help="a run directory")
    what.add_argument(
        "--weights",
        type=pathlib.Path,
        metavar="FILE",
        help="the name of weights in the package (lungs), PyTorch weights, or a folder of "
        "prnet_jax.torch_weights import; needs --out",
    )
    what.add_argument(
        "--predictions",
        type=pathlib.Path,
        metavar="DIR",
        help="masks or probabilities of any program, as files named like the images; needs "
        "--dataset and --out",
    )
    parser.add_argument("--name", metavar="NAME", help="of that program, for tables")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
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
    parser.add_argument(
        "--resolution",
        choices=RESOLUTIONS,
        default="network",
        help="at which masks are scored: the network's (default), or native, as the data are "
        "stored; predictions always are",
    )
    parser.add_argument(
        "--keep-masks",
        action="store_true",
        help="write the predicted masks too, for the agreement of networks in prnet_jax.compare",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="a new folder for all")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the run's")
    weights = parser.add_argument_group("imported weights: as they were trained, and --window")
    add_weights_options(weights)
    several = parser.add_argument_group("several processes, see docs/guides/devices.md")
    several.add_argument("--distributed", choices=("auto", "off"), default="auto")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    several.add_argument("--num-processes", type=int, metavar="N")
    several.add_argument("--process-id", type=int, metavar="I", help="from 0")
    data = parser.add_argument_group("data, where it is not the run's own")
    data.add_argument("--dataset", metavar="NAME", help="a folder of datasets/")
    data.add_argument(
        "--option",
        dest="options",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the data set, such as fold=2/5; may be repeated",
    )
    data.add_argument("--mask", metavar="NAME", help="which mask of the records is the target")
    data.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="in HU, or in grey values of 0 to 255",
    )
    data.add_argument(
        "--other-patients",
        action="store_true",
        help="its patients are others than those trained on, even where their ids are the same",
    )
    data.add_argument("--manual-dir", metavar="DIR", help="what was downloaded by hand")
    data.add_argument("--data-dir", metavar="DIR", help="where prepared records lie")
    return parser


if __name__ == "__main__":
    sys.exit(main())

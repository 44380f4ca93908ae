"""The command that writes masks: python -m prnet_jax.predict

python -m prnet_jax.predict ct.nii.gz --out masks
python -m prnet_jax.predict ct.nii.gz --out masks --workdir runs/prnet_lungs
python -m prnet_jax.predict scans/ more.zip "series/*.dcm" --out masks --workdir RUN --prob
python -m prnet_jax.predict ct/ --out masks --workdir RUN --workdir OTHER_RUN --flips
python -m prnet_jax.predict ct/ --out masks --weights unet.pth --model unet --image-size 512
"""

import argparse
import pathlib
import sys

from prnet_jax.commands import MISTAKE, Help, add_flips, add_weights_options, examples, run_command
from prnet_jax.predict.options import Options

DEFAULT = "lungs"  # of the weights in the package
_OF_WEIGHTS = ("model", "fields", "image_size", "window", "resize", "entry")


def main(argv: list[str] | None = None) -> int:
    """The exit code: see `prnet_jax.commands`; 2 after all others where an input was bad."""
    arguments = vars(_parser().parse_intermixed_args(argv))
    return run_command(lambda: _predict(arguments))


def _predict(arguments: dict) -> int:
    # Here, because importing JAX takes a while, which --help need not.
    from absl import logging

    from prnet_jax import processes
    from prnet_jax.config import default_config
    from prnet_jax.predict.run import predict_files
    from prnet_jax.predict.weights import load_all

    logging.set_verbosity(logging.ERROR)
    paths, out, runs = (arguments.pop(name) for name in ("inputs", "out", "workdir"))
    file = arguments.pop("weights") or (None if runs else pathlib.Path(DEFAULT))
    given = {name: arguments.pop(name) for name in _OF_WEIGHTS}
    given = {name: value for name, value in given.items() if value}
    if "model" in given:
        given["name"] = given.pop("model")
    if file is not None:
        runs, given = [file], given | {"fields": dict(given.get("fields", ())), "tell": print}
    options = Options(**arguments)
    options.check()
    processes.use_cache(default_config("prnet").compilation_cache)
    predictors, about = load_all(runs, options, **given)
    rows = predict_files(predictors, paths, out, about, options)
    bad = sum(row["error"] is not None for row in rows.values())
    doubted = sum(bool(row["warnings"]) for row in rows.values())
    written = sum(row["mask"] is not None for row in rows.values())
    text = f"{written} masks in {out}"
    text += f", {doubted} with warnings" * bool(doubted) + f", {bad} inputs failed" * bool(bad)
    print(f"{text}; see predictions.csv there", flush=True)
    return MISTAKE if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.predict",
        description="Writes a mask for every picture and volume, in its own size and geometry: "
        "NIfTI for NIfTI and DICOM, NumPy for NumPy, PNG for pictures; and predictions.csv and "
        "report.json with volumes, areas and warnings.",
        epilog="The same command again goes on where it was stopped: what is there is kept."
        f"\n\n{examples(__doc__)}",
        formatter_class=Help,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="files (PNG, JPEG, TIFF, NumPy, NIfTI, DICOM), folders, zips of them, or quoted "
        "patterns; the DICOM files of a series are one volume",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, metavar="DIR", help="for the results"
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--workdir",
        type=pathlib.Path,
        action="append",
        metavar="RUN",
        help="a run directory; of several the mean probability counts",
    )
    network.add_argument(
        "--weights",
        type=pathlib.Path,
        metavar="FILE",
        help="the name of weights in the package, PyTorch weights, a program of "
        "prnet_jax.export, or a folder of prnet_jax.torch_weights import; without --weights and "
        f"--workdir: {DEFAULT}, see docs/guides/segment.md",
    )
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="of the probability (default: the run's)"
    )
    add_flips(parser)
    parser.add_argument(
        "--tile",
        action="store_true",
        help="windows at the input's own resolution, for networks that were trained at it; by "
        "default slices are resized as in training",
    )
    parser.add_argument(
        "--keep-largest", type=int, metavar="N", help="keep the N largest components"
    )
    parser.add_argument(
        "--fill-holes", action="store_true", help="fill what the mask encloses in a slice"
    )
    parser.add_argument("--prob", action="store_true", help="write probabilities too")
    parser.add_argument(
        "--preview", action="store_true", help="a picture of some slices with the mask's contour"
    )
    parser.add_argument(
        "--page", action="store_true", help="an HTML page that shows every slice, without network"
    )
    parser.add_argument(
        "--dicomseg",
        action="store_true",
        help="a DICOM segmentation of each DICOM series too (extra: dicomseg)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument(
        "--axes", choices=("HWD", "DHW"), help="which axis of NumPy volumes counts their slices"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the run's")
    weights = parser.add_argument_group("weights, where they do not say it themselves")
    add_weights_options(weights)
    weights.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="in HU, or in grey values of 0 to 255",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

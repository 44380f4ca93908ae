"""The command that writes a network as a program: python -m prnet_jax.export

python -m prnet_jax.export --workdir runs/prnet_own --out exported
python -m prnet_jax.export --workdir lungs --out program
python -m prnet_jax.export --refresh program
"""

import argparse
import datetime
import pathlib
import sys

from prnet_jax.commands import Help, add_flips, check_new_folder, examples, run_command
from prnet_jax.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """The exit code: see `prnet_jax.commands`."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if (arguments.workdir is None) != (arguments.out is None):
        parser.error("--workdir and --out belong together")
    return run_command(lambda: _export(arguments))


def _export(arguments: argparse.Namespace) -> None:
    # Here, because importing JAX takes a while, which --help need not.
    from prnet_jax.export.folder import MODEL, read_header, refresh

    if arguments.refresh is not None:
        if arguments.flips:
            raise InputError("--flips is chosen with --workdir: --refresh keeps what there is")
        path = arguments.refresh / MODEL
        refresh(path, arguments.jaxlib_date)
    else:
        from prnet_jax.predictor import load

        check_new_folder("--out", arguments.out)
        path = arguments.out / MODEL
        load(arguments.workdir, flips=arguments.flips).export(path, arguments.jaxlib_date)
    if arguments.onnx:
        from prnet_jax.export.onnx import write_onnx

        print(f"onnx       differs by {write_onnx(path):.1e} at most in the probability")
    readable = read_header(path)[1]["readable"]
    print(f"written    {path}, *.npz and *.json beside it")
    print(
        f"readable   by jaxlib released from {readable['jaxlib_from']} to "
        f"{readable['jaxlib_until']}, counted from {readable['derived_from']}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.export",
        description="Writes the best checkpoint of a run as one StableHLO program for CPU, CUDA "
        "and TPU: slices of any number and size in, probabilities out. JAX, flatbuffers and NumPy "
        "are all that it needs; its weights and a description lie beside it.",
        epilog="JAX reads a program for half a year: --refresh makes it again."
        f"\n\n{examples(__doc__)}",
        formatter_class=Help,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--workdir",
        type=pathlib.Path,
        metavar="RUN",
        help="a run directory, a file of weights, or the name of released ones",
    )
    source.add_argument(
        "--refresh",
        type=pathlib.Path,
        metavar="DIR",
        help="an exported folder, whose program is made again from the weights there",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="a new folder")
    add_flips(parser)
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="model.onnx too, of the network alone; jax2onnx needs an environment of its own, see "
        "docs/guides/export.md",
    )
    parser.add_argument(
        "--jaxlib-date",
        type=datetime.date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="the day of release of the jaxlib here, which the dates are counted from",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Compares evaluated runs: python -m prnet_jax.compare RUN... --out DIR

python -m prnet_jax.compare runs/prnet runs/unet --out comparison
python -m prnet_jax.compare runs/*_lungs_* --out comparison --reference unet
"""

import argparse
import pathlib
import sys

from prnet_jax.commands import Help, examples, run_command


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = _parser().parse_args(argv)

    def compare() -> None:
        # Here, because --help needs none of it.
        from prnet_jax.compare.files import write_comparison

        write_comparison(
            arguments.runs, arguments.out, arguments.reference, arguments.paper, arguments.strict
        )

    return run_command(compare)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.compare",
        description="Compares evaluated runs in a table like the paper's Table 1, as Markdown, CSV "
        "and LaTeX, with paired tests against a reference, and in an HTML page with plots and "
        "pictures.",
        epilog="Runs that differ only in the seed become one row with their spread. Runs on "
        "different data sets, masks, splits, image sizes or policies for empty masks are refused; "
        "other settings that differ are listed above the table."
        f"\n\n{examples(__doc__)}",
        formatter_class=Help,
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=pathlib.Path,
        metavar="RUN",
        help="a run directory, or a folder written by python -m prnet_jax.evaluate",
    )
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, metavar="DIR", help="a new or an empty folder"
    )
    parser.add_argument(
        "--reference",
        metavar="NETWORK",
        help="the network, such as unet, or the label of the row that the others are tested "
        "against (default: prnet, or the first row if there is none)",
    )
    parser.add_argument(
        "--paper",
        action="store_true",
        help="show the paper's rows also for data other than finding_lungs",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse runs that differ in more than the network, its own fields and the seed",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

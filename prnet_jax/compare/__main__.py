"""Evaluated runs beside each other: python -m prnet_jax.compare RUN... --out DIR

python -m prnet_jax.compare runs/prnet runs/unet --out comparison
python -m prnet_jax.compare runs/*_lungs_* --out comparison --reference unet
"""

import argparse
import pathlib
import sys

from prnet_jax.commands import check_new_folder
from prnet_jax.compare import tables
from prnet_jax.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 for a person's mistake."""
    arguments = _parser().parse_args(argv)
    try:
        compare(arguments.runs, arguments.out, arguments.reference, arguments.paper)
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def compare(
    paths: list[pathlib.Path],
    out: pathlib.Path,
    reference: str | None = None,
    paper: bool = False,
) -> None:
    """Writes the comparison of runs as tables, statistics and a page, and prints its table.

    Args:
        paths: run directories, or folders that evaluate wrote.
        out: a new or an empty folder.
        reference: the network, or the label of the row, that the others are tested against; by
            default prnet, or the first row where that is not there.
        paper: show the paper's rows for a data set that is not of its kind, too.

    Raises:
        InputError: the runs cannot be read or compared, or `out` holds files.
    """
    check_new_folder("--out", out)
    from prnet_jax.compare.page import page
    from prnet_jax.compare.rows import find_row, group
    from prnet_jax.compare.runs import read_runs
    from prnet_jax.metrics import METRICS

    rows = group(read_runs(paths, METRICS))
    against = find_row(rows, reference)
    paper = paper or rows[0].runs[0].summary["dataset"] == "finding_lungs"
    table = tables.main_table(rows, paper)
    _, metrics = tables.shown_metrics(rows, paper)
    results = tables.compare_to(against, rows, metrics)
    text = tables.markdown(table)
    # All is made before anything is written: a refusal leaves no half of a comparison.
    files = {
        "table.md": text,
        "table.csv": tables.table_csv(rows, metrics, paper),
        "table.tex": tables.latex(table),
        "statistics.csv": tables.statistics_csv(results),
        "report.html": page(rows, against, table, metrics, results),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error}): name another folder") from None

    print(text)
    print(f"page        {out / 'report.html'}")
    print(f"tables      {out / 'table.md'}, {out / 'table.csv'}, {out / 'table.tex'}")
    tested = f"against {against.title}" if len(rows) > 1 else "none: one row alone"
    print(f"tests       {out / 'statistics.csv'} ({tested})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.compare",
        description="Evaluated runs beside each other as in the paper's Table 1: Markdown, CSV, "
        "LaTeX and one HTML page with plots and pictures; paired tests against a reference.",
        epilog="Runs that differ in nothing but the seed are one row with their spread. Runs on "
        "another data set, mask, split, image size or policy for empty masks are refused.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=pathlib.Path,
        metavar="RUN",
        help="a run directory, or a folder that python -m prnet_jax.evaluate wrote",
    )
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, metavar="DIR", help="a new or an empty folder"
    )
    parser.add_argument(
        "--reference",
        metavar="NETWORK",
        help="what the others are tested against: a network such as unet, or the label of a row "
        "(default: prnet, or the first row where there is none)",
    )
    parser.add_argument(
        "--paper",
        action="store_true",
        help="show the paper's rows even for other data than finding_lungs",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The files of a comparison: tables, tests and a page."""

import pathlib
from collections.abc import Sequence

from prnet_jax.commands import check_new_folder
from prnet_jax.compare import tables
from prnet_jax.compare.page import page
from prnet_jax.compare.rows import find_row, group
from prnet_jax.compare.runs import read_runs
from prnet_jax.compare.statistics import compare_to, statistics_csv
from prnet_jax.errors import InputError
from prnet_jax.run.files import write_whole


def write_comparison(
    paths: Sequence[pathlib.Path],
    out: pathlib.Path,
    reference: str | None = None,
    paper: bool = False,
) -> None:
    """Writes a comparison of runs as tables, tests and a page, and prints the main table.

    Args:
        paths: run directories, or folders that evaluate wrote.
        out: a new or an empty folder.
        reference: the network, or the label of the row, that the others are tested against; by
            default prnet, or the first row if there is none.
        paper: show the paper's rows even if the data are not of the paper's kind.

    Raises:
        InputError: the runs cannot be read or compared, or `out` holds files or cannot be written.
    """
    check_new_folder("--out", out)
    rows = group(read_runs(paths))
    against = find_row(rows, reference)
    paper = paper or rows[0].runs[0].summary["dataset"] == "finding_lungs"
    table = tables.main_table(rows, paper)
    _, metrics = tables.shown_metrics(rows, paper)
    results = compare_to(against, rows, metrics)
    text = tables.markdown(table)
    # Everything is made before anything is written, so a refusal leaves no partial comparison.
    content = {
        out / "table.md": text,
        out / "table.csv": tables.table_csv(rows, metrics, paper),
        out / "table.tex": tables.latex(table),
        out / "statistics.csv": statistics_csv(results),
        out / "report.html": page(rows, against, table, metrics, results),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text_of_file in content.items():
            write_whole(path, text_of_file)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error}): name another folder") from None

    print(text)
    print(f"page        {out / 'report.html'}")
    print(f"tables      {out / 'table.md'}, {out / 'table.csv'}, {out / 'table.tex'}")
    tested = f"against {against.title}" if len(rows) > 1 else "none: there is only one row"
    print(f"tests       {out / 'statistics.csv'} ({tested})")

"""The files of a comparison: tables, tests and a page."""

import pathlib
from collections.abc import Sequence

from prnet_jax.commands import check_new_folder
from prnet_jax.compare import cost, limits, tables, terminal
from prnet_jax.compare.differences import differences, refuse
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
    strict: bool = False,
) -> None:
    """Writes a comparison of runs as tables, tests and a page, and prints what a person wants.

    Args:
        paths: run directories, or folders that evaluate wrote.
        out: a new or an empty folder.
        reference: the network, or the label of the row, that the others are tested against; by
            default prnet, or the first row if there is none.
        paper: show the paper's rows even if the data are not of the paper's kind.
        strict: refuse runs that were not trained and evaluated alike.

    Raises:
        InputError: the runs cannot be read or compared, differ where `strict` forbids it, or `out`
            holds files or cannot be written.
    """
    check_new_folder("--out", out)
    rows = group(read_runs(paths))
    against = find_row(rows, reference)
    found = differences(rows)
    if strict:
        refuse(found)
    paper = paper or rows[0].runs[0].summary["dataset"] == "finding_lungs"
    table = tables.main_table(rows, found, paper)
    _, metrics = tables.shown_metrics(rows, paper)
    results = compare_to(against, rows, metrics)
    picture = cost.draw_cost(rows)
    # Everything is made before anything is written, so a refusal leaves no partial comparison.
    content: dict[pathlib.Path, str | bytes] = {
        out / "table.md": tables.markdown(table),
        out / "table.csv": tables.table_csv(rows, metrics, paper),
        out / "table.tex": tables.latex(table),
        out / "statistics.csv": statistics_csv(results),
        out / "report.html": page(rows, against, table, metrics, results, picture),
    }
    if costs := cost.cost_markdown(rows):
        content |= {out / "cost.md": costs, out / "cost.csv": cost.cost_csv(rows)}
    if picture:
        content[out / "cost.png"] = picture
    if len(rows) > 1:
        pairs = limits.agreement(rows)
        content[out / "limits.md"] = limits.limits_markdown(rows, against, pairs)
        content[out / "agreement.csv"] = limits.agreement_csv(pairs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text_of_file in content.items():
            write_whole(path, text_of_file)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error}): name another folder") from None

    print(terminal.text(rows, table, results), end="\n\n")
    tested = "of all metrics" if len(rows) > 1 else "none: there is only one row"
    print(f"tables      {out / 'table.md'}, table.csv, table.tex")
    print(f"tests       {out / 'statistics.csv'} ({tested})")
    if costs:
        drawn = ", cost.png" if picture else ""
        print(f"cost        {out / 'cost.md'}, cost.csv{drawn}")
    if len(rows) > 1:
        print(f"limits      {out / 'limits.md'}, agreement.csv: what the images can tell apart")
    print(f"page        {out / 'report.html'}, with plots and pictures. Open it in a browser:")
    print(f"            {(out / 'report.html').resolve().as_uri()}")

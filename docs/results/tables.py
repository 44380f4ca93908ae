"""Fills in the tables of the documentation from the results beside this file.

    python docs/results/tables.py            writes them into docs/results.md and the README files
    python docs/results/tables.py --check    fails where one of them is out of date

A folder beside this file is a protocol; in it are the folders that `launch/table1.sh --results`
makes, NETWORK_SEED_foldKofN, and evaluations of all images, such as of masks made without a
network. What stands between `<!-- results: PROTOCOL -->` and `<!-- end of results -->` is the
table; after PROTOCOL, `brief` leaves out all but the scores. Folds of a network that is not
complete are listed, and stay out of the table, unless all have the same folds, as after
`launch/ablations.sh`. A folder of `docs/results/nodules.py` has a table of its own, and so has one
of a single evaluation: all its metrics. Where a document links results/PROTOCOL/report.html, that
page of prnet_jax.compare and its picture of cost are made too; and `agreement.csv` of a comparison
of the runs themselves, where a protocol's folder has it, is a table.
"""

import argparse
import contextlib
import csv
import json
import pathlib
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax import report
from prnet_jax.commands import Help, run_command
from prnet_jax.compare import cost, limits, tables
from prnet_jax.compare.differences import differences
from prnet_jax.compare.evaluation import Run
from prnet_jax.compare.files import write_comparison
from prnet_jax.compare.rows import Row, find_row, group, method_of
from prnet_jax.compare.runs import read_runs
from prnet_jax.compare.statistics import compare_to, p_text, signed
from prnet_jax.errors import InputError
from prnet_jax.metrics import mean_of_scored
from prnet_jax.metrics.calibration import calibration_error
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.paper import TABLE_1
from prnet_jax.report import markdown_table, markdown_text
from prnet_jax.run.files import SUMMARY, write_whole

HERE = pathlib.Path(__file__).resolve().parent
FILES = [HERE.parent / "results.md", *sorted(HERE.parents[1].glob("README*.md"))]
_PLACE = re.compile(
    r"(<!-- results: ([\w-]+)( brief)? -->\n).*?(<!-- end of results -->)", re.DOTALL
)
_FOLD = re.compile(r"(.+)_(\d+)_fold(\d+)of(\d+)")
PAGE = "report.html"
_LINKED = re.compile(r"results/([\w-]+)/report\.html")
_AGREEMENT = "agreement.csv"
_NODULES = "detection.csv"  # in the folder of docs/results/nodules.py
_CALIBRATION = "calibration.csv"  # likewise
_PAPERS = ("iou", "hd_px", "dsc", "mae_binary", "acc", "spe")
_TESTED = ("dsc", "iou")


def table(folder: pathlib.Path, brief: bool = False) -> str:
    """The table of a protocol as Markdown; a sentence where nothing is complete yet.

    Args:
        folder: of the protocol; it need not exist.
        brief: only the scores, without counts, costs and tests.

    Raises:
        InputError: results that are damaged or do not belong together.
    """
    if (folder / _NODULES).is_file():
        return _nodules(folder)
    if (folder / SUMMARY).is_file():
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        of_paper = summary["dataset"] == "finding_lungs"
        return report.table(summary, TABLE_1.get(summary["network"]), of_paper) + "\n"
    complete, partial = _evaluations(folder)
    parts = [_scores(complete, brief)] if complete else []
    if (folder / _AGREEMENT).is_file() and not brief:
        lines = _lines(folder / _AGREEMENT)
        pairs = [line | {"dsc_mean": float(line["dsc_mean"])} for line in lines]
        parts.append(limits.agreement_markdown(pairs))
    if not complete and not partial:
        parts.append("No results yet.")
    if partial:
        parts.append(_partial(partial))
    return "\n\n".join(parts) + "\n"


def _lines(path: pathlib.Path) -> list[dict[str, str]]:
    """The lines of a CSV file, by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _nodules(folder: pathlib.Path) -> str:
    """The tables of `docs/results/nodules.py`."""
    about = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))

    def cells(found: Mapping[str, Any]) -> list[str]:
        if found["mean"] is None:
            return ["-", "-", "0"]
        low, high = (100 * found[f"ci95_{end}"] for end in ("low", "high"))
        return [f"{100 * found['mean']:.2f}", f"{low:.2f} to {high:.2f}", str(found["n"])]

    header = ["mean Dice %", "both marked", "95 % interval", "pairs"]
    header += ["one or both marked, a blank counts 0", "95 % interval", "pairs"]
    body = [
        [name, *cells(found["both_marked"]), *cells(found["any_marked"])]
        for name, found in about["agreement"].items()
    ]
    less = about["network_less_readers"]
    bins = _lines(folder / _CALIBRATION)
    above = {name: np.array([float(row[name] or "nan") for row in bins[1:]]) for name in bins[0]}
    blank = about["slices"] - about["with_nodule"]
    seeds = len(about["seeds"])
    mean = [f"{seeds} seeds"] * (seeds > 1) + ["a slice and its mirror images"] * about["flips"]
    masks = f"The network's masks are those of the mean probability of {' and of '.join(mean)}. "
    text = (masks if mean else "") + (
        f"Threshold {about['threshold']:g}. "
        f"{about['slices']} slices of {about['patients']} patients; {about['with_nodule']} of them "
        f"with a nodule by consensus. Of these {about['missed']} have nothing marked, and "
        f"{about['not_found']} have nothing of the nodule marked. Of the {blank} without, "
        f"{about['false_alarms']} are marked. The network with a reader less a reader with another,"
        f" over the {less['n']} slices that the network and two readers mark: {cells(less)[0]} "
        f"({cells(less)[1]}). Expected calibration "
        f"error over pixels: {about['calibration_error']:.4f}; over those that are not in the "
        f"lowest of {len(bins)} bins: {calibration_error(above):.3f}."
    )
    rows = _lines(folder / _NODULES)[::3]
    curve = [
        ["threshold", *(f"{float(row['threshold']):g}" for row in rows)],
        ["slices with a nodule of which it is found, %"],
        ["false positives a slice"],
    ]
    curve[1] += [f"{100 * float(row['sensitivity']):.1f}" for row in rows]
    curve[2] += [f"{float(row['false_positives_per_slice']):.2f}" for row in rows]
    tables_ = [markdown_table(header, body), [text], markdown_table(curve[0], curve[1:])]
    return "\n\n".join("\n".join(lines) for lines in tables_) + "\n"


def _evaluations(
    folder: pathlib.Path,
) -> tuple[list[pathlib.Path], dict[tuple[str, str, int], list[tuple[int, pathlib.Path]]]]:
    """Evaluations that score the same images; and, of other networks, {name: their folds}."""
    folds: dict[tuple[str, str, int], list[tuple[int, pathlib.Path]]] = {}
    complete = []
    for path in sorted(folder.glob("*")):
        found = next((p for p in (path / "test_native", path) if (p / SUMMARY).is_file()), None)
        if found is None:
            continue
        if fold := _FOLD.fullmatch(path.name):
            key = fold[1], fold[2], int(fold[4])
            folds.setdefault(key, []).append((int(fold[3]), found))
        else:
            complete.append(found)
    # Of one network's changes, that as it is stated comes first: the others are compared with it.
    folds = dict(sorted(folds.items(), key=lambda item: not item[0][0].endswith("-stated")))
    # On which folds the networks are compared: on all, or if none has all of them, on those that
    # every one has.
    alike = len({(key[2], *(fold for fold, _ in there)) for key, there in folds.items()}) == 1
    same = alike and len(folds) > 1 and not complete
    whole = [key for key, there in folds.items() if same or len(there) == key[2]]
    joined = [path for key in whole for _, path in folds.pop(key)]
    return joined + complete, folds  # a network in folds is the one that others are compared with


def _scores(paths: Sequence[pathlib.Path], brief: bool) -> str:
    rows = group(read_runs(paths))
    of_paper = rows[0].runs[0].summary["dataset"] == "finding_lungs" and tables.paper_rows(rows)
    main = tables.main_table(rows, differences(rows), bool(of_paper))
    if brief:
        labels = [METRIC_NAMED[name].label for name in _PAPERS]
        shown = [0, *(main.header.index(label) for label in labels if label in main.header)]
        body = [[line[i] for i in shown] for line in [*main.body, *main.paper]]
        header = [main.header[i] for i in shown]
        about = f"{main.subject[0].upper()}{main.subject[1:]}."
        return "\n".join([*markdown_table(header, body), "", about])
    parts = [tables.markdown(main).rstrip()]
    reference = find_row(rows, None)
    if len(rows) > 1:
        metrics = [METRIC_NAMED[name] for name in _TESTED]
        header = [
            "minus " + markdown_text(reference.label),
            "metric",
            "difference",
            "95 % interval",
            "p (Holm)",
        ]
        header.append("smallest seen")
        body = []
        by_label = {row.label: row for row in rows}
        for result in compare_to(reference, rows, metrics):
            metric = METRIC_NAMED[result["metric"]]
            low, high = (signed(metric, result[f"ci95_{end}"]) for end in ("low", "high"))
            least = limits.detectable(by_label[result["network"]], reference)
            seen = f"{100 * least:.3f}" if metric.name == "dsc" and least == least else "-"
            cells = [
                markdown_text(result["network"]),
                metric.label,
                signed(metric, result["mean_difference"]),
            ]
            body.append([*cells, f"{low} to {high}", p_text(result["p_holm"]), seen])
        note = (
            "Paired over patients: bootstrap interval of the mean, Wilcoxon's test of the ranks "
            "with Holm's correction; one image can move the mean, and the two then disagree. "
            "Smallest seen: the difference that one test at 5 %, without Holm's correction, would "
            "show on these images with 80 % power."
        )
        parts.append("\n".join([*markdown_table(header, body), "", note]))
    if costs := cost.cost_markdown(rows):
        parts.append(costs.rstrip())
    if spread := _spread(rows):
        parts.append(spread)
    return "\n\n".join(parts)


def _spread(rows: Sequence[Row]) -> str:
    """The spread between networks beside that of training one again; "" where nothing is known."""
    found = limits.spread(rows)
    meaning = {
        "sd_networks": "between networks",
        "sd_by_chance": "between networks by chance, if none were better",
        "sd_rest": "of a network from fold to fold, beyond the folds' own",
        "sd_seeds": "between seeds of a network",
    }
    parts = [f"{100 * found[k]:.3f} {v}" for k, v in meaning.items() if found[k] == found[k]]
    if not parts:
        return ""
    tested = f"F-test that none of the {found['networks']} networks is better: p "
    p = p_text(found["p_value"])
    tested = f" {tested}{p if p[0] == '<' else '= ' + p}." if p != "-" else ""
    return f"Standard deviation of the mean DSC, % points: {'; '.join(parts)}.{tested}"


def _partial(folds: dict[tuple[str, str, int], list[tuple[int, pathlib.Path]]]) -> str:
    """The networks of which folds are lacking: which are there, and their own scores."""
    body = []
    for (network, seed, k), there in sorted(folds.items()):
        numbers, paths = zip(*sorted(there), strict=True)
        (run,) = _joined(paths)
        names = f"{', '.join(map(str, numbers))} of {k}"
        means = [METRIC_NAMED[name].text(_mean(run, name)) for name in _PAPERS]
        body.append(
            [f"{markdown_text(method_of(network))}, seed {seed}", names, str(len(run.ids)), *means]
        )
    header = ["not complete", "folds", "images", *(METRIC_NAMED[name].label for name in _PAPERS)]
    about = "Folds that are not complete score other images, so these lines compare nothing."
    return "\n".join([*markdown_table(header, body), "", about])


def _joined(paths: Sequence[pathlib.Path]) -> list[Run]:
    runs = read_runs(paths)
    if len(runs) != 1:
        raise InputError(f"{paths[0].parent} and its other folds are not of one training: see them")
    return runs


def _mean(run: Run, name: str) -> float | None:
    return float(mean_of_scored(run.scores[name])) if name in run.scores else None


def filled(text: str, results: pathlib.Path = HERE) -> str:
    """A document with its tables as the results make them."""

    def make(place: re.Match) -> str:
        begin, protocol, brief, end = place.groups()
        return f"{begin}\n{table(results / protocol, bool(brief))}\n{end}"

    return _PLACE.sub(make, text)


def draw(folder: pathlib.Path) -> None:
    """Writes the page and the picture of cost of a protocol's complete evaluations beside them."""
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "comparison"
        # By names that are the same in every checkout, since the page states them
        with contextlib.redirect_stdout(None), contextlib.chdir(folder):
            write_comparison([p.relative_to(folder) for p in _evaluations(folder)[0]], out)
        for path in (out / PAGE, out / "cost.png"):
            if path.is_file():
                write_whole(folder / path.name, path.read_bytes())


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python docs/results/tables.py",
        description="Fills in the tables of the documentation from the committed results.",
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=Help,
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args(argv).check

    def fill() -> None:
        for path in FILES:
            text = path.read_text(encoding="utf-8")
            now = filled(text)
            if check and now != text:
                raise InputError(f"{path} is out of date: run python docs/results/tables.py")
            if now != text:
                write_whole(path, now)
                print(f"written    {path}")
            for protocol in set(_LINKED.findall(now)) if not check else ():
                draw(HERE / protocol)
                print(f"written    {HERE / protocol / PAGE}")

    return run_command(fill)


if __name__ == "__main__":
    sys.exit(main())

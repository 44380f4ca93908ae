"""How far a set of images can tell networks apart: agreement, spread, smallest differences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from prnet_jax.compare.evaluation import Run
from prnet_jax.compare.rows import Row
from prnet_jax.compare.statistics import p_text
from prnet_jax.evaluate import masks
from prnet_jax.metrics import mean_of_scored
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.report import markdown_table, markdown_text
from prnet_jax.run.files import csv_text

_DSC = METRIC_NAMED["dsc"]
_POWER = 0.8
_AGREEMENT_COLUMNS = ("first", "second", "what", "dsc_mean", "n_images")
TARGET = "the masks of the data set"


def agreement(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The mean DSC of every two rows with each other, and of each row with the data set's masks.

    Where networks agree more with each other than with the masks, what they lack is in the masks.

    Args:
        rows: of the comparison. Those whose evaluations kept their masks (`--keep-masks`) are
            compared with each other, by their first seed; and two seeds of a row, where there are.

    Returns:
        `first`, `second` (labels), `what` ("networks", "seeds" or "target"), `dsc_mean` over the
        images that either marks, and `n_images`; nothing of two rows where no two kept masks.

    Raises:
        InputError: a file of masks is damaged.
    """
    found = []
    kept = [(row, [_masks_of(run) for run in row.runs[:2]]) for row in rows]
    kept = [(row, [mask for mask in of_runs if mask]) for row, of_runs in kept]
    ids = rows[0].runs[0].ids
    for (first, a), (second, b) in itertools.combinations(kept, 2):
        if a and b:
            found.append(_pair(first.label, second.label, "networks", _dice(ids, a[0], b[0])))
    for row, of_runs in kept:
        if len(of_runs) == 2:
            found.append(_pair(row.label, row.label, "seeds", _dice(ids, *of_runs)))
    for row in rows:
        found.append(_pair(row.label, TARGET, "target", row.scores.get("dsc", np.array([]))))
    return found


def _pair(first: str, second: str, what: str, dice: np.ndarray) -> dict[str, Any]:
    mean = float(mean_of_scored(dice)) if len(dice) else math.nan
    number = int(np.count_nonzero(~np.isnan(dice)))
    labels = {"first": first, "second": second, "what": what}
    return labels | {"dsc_mean": mean, "n_images": number}


def _masks_of(run: Run) -> dict[str, masks.KeptMasks] | None:
    """{id: the file that holds its mask} of all images; None where one is lacking."""
    place: dict[str, masks.KeptMasks] = {}
    for part in run.parts or (run,):
        path = part.folder / masks.FILE
        if not path.is_file():
            return None
        kept = masks.KeptMasks(path)
        place |= {id: kept for id in part.ids if id in kept}
    return place if len(place) == len(run.ids) else None


def _dice(
    ids: Sequence[str],
    first: Mapping[str, masks.KeptMasks],
    second: Mapping[str, masks.KeptMasks],
) -> np.ndarray:
    """Of each image, NaN where both masks are empty or differ in size."""
    scores = []
    for id in ids:
        a, b = first[id][id], second[id][id]
        total = int(a.sum()) + int(b.sum()) if a.shape == b.shape else 0
        scores.append(2 * int((a & b).sum()) / total if total else math.nan)
    return np.array(scores)


def spread(rows: Sequence[Row]) -> dict[str, float]:
    """The spread of the mean DSC between networks, beside that of training one again.

    With folds: the fold means are taken as network + fold + rest, and the rest is what changes from
    training to training (and from part to part of the images). Only rows with folds take part.

    Returns:
        `networks`, `folds`: numbers; `sd_networks`: of the rows' means; `sd_rest`: of the rest;
        `sd_by_chance`: what `sd_networks` would be if no network were better, `sd_rest` over the
        root of the number of folds; `p_value` of the F-test that none is; `sd_seeds`: pooled over
        the rows with several seeds. NaN where there is too little.
    """
    folds = [row for row in rows if len(row.runs[0].parts) > 1]
    count = {len(row.runs[0].parts) for row in folds}
    found = dict.fromkeys(("sd_networks", "sd_rest", "sd_by_chance", "p_value"), math.nan)
    found |= {"networks": len(folds), "folds": max(count, default=0)}
    if len(folds) > 1 and len(count) == 1:
        means = np.array(
            [[mean_of_scored(part.scores["dsc"]) for part in row.runs[0].parts] for row in folds]
        )
        r, k = means.shape
        of_row, of_fold = means.mean(axis=1, keepdims=True), means.mean(axis=0, keepdims=True)
        rest = means - of_row - of_fold + means.mean()
        variance = float((rest**2).sum() / ((r - 1) * (k - 1)))
        between = float(of_row.var(ddof=1))
        by_chance = variance / k
        found |= {"sd_networks": between**0.5, "sd_rest": variance**0.5}
        found["sd_by_chance"] = by_chance**0.5
        if by_chance > 0:
            ratio = between / by_chance
            found["p_value"] = float(stats.f.sf(ratio, r - 1, (r - 1) * (k - 1)))
    seeds = [row.sd_seeds["dsc"] for row in rows if len(row.runs) > 1 and "dsc" in row.sd_seeds]
    found["sd_seeds"] = float(np.sqrt(np.mean(np.square(seeds)))) if seeds else math.nan
    return found


def detectable(row: Row, reference: Row) -> float:
    """The difference in mean DSC that these images would show with 80 % power, at 5 %, two-sided.

    From the standard deviation of the patients' mean differences, by the normal approximation; NaN
    with fewer than two patients.
    """
    if "dsc" not in row.paired or "dsc" not in reference.paired:
        return math.nan
    difference = row.paired["dsc"] - reference.paired["dsc"]
    patients = np.array(reference.runs[0].patients)
    scored = ~np.isnan(difference)
    names, index = np.unique(patients[scored], return_inverse=True)
    if len(names) < 2:
        return math.nan
    of_patient = np.bincount(index, difference[scored]) / np.bincount(index)
    factor = stats.norm.ppf(0.975) + stats.norm.ppf(_POWER)
    return float(factor * of_patient.std(ddof=1) / math.sqrt(len(names)))


def limits_markdown(rows: Sequence[Row], reference: Row, pairs: Sequence[Mapping]) -> str:
    """The three tables of this module, with what they say.

    Args:
        rows: of the comparison, two or more.
        reference: that the others are tested against.
        pairs: the result of `agreement`.
    """
    parts = ["## Agreement\n\n" + agreement_markdown(pairs), "## Spread\n\n" + _spread_text(rows)]
    body = [
        [markdown_text(row.label), _percent(detectable(row, reference))]
        for row in rows
        if row is not reference
    ]
    header = ["network", "smallest difference in DSC, % points"]
    about = (
        f"A difference of the mean DSC from {markdown_text(reference.label)} of at least this "
        f"size would be found with {100 * _POWER:.0f} % power by a two-sided test at 5 % on these "
        "images."
    )
    parts.append(
        "\n".join(["## Smallest difference", "", *markdown_table(header, body), "", about])
    )
    return "\n\n".join(parts) + "\n"


def agreement_markdown(pairs: Sequence[Mapping]) -> str:
    """The result of `agreement` as a table."""
    header = ["of", "with", "mean DSC %", "images"]
    body = [
        [
            markdown_text(pair["first"]),
            _second(pair),
            _DSC.text(pair["dsc_mean"]),
            str(pair["n_images"]),
        ]
        for pair in pairs
    ]
    lines = markdown_table(header, body)
    among = [pair["dsc_mean"] for pair in pairs if pair["what"] == "networks"]
    if not among:
        lines += ["", "Rows are compared with each other where evaluate was given --keep-masks."]
    return "\n".join(lines)


def _second(pair: Mapping) -> str:
    return "itself, another seed" if pair["what"] == "seeds" else markdown_text(pair["second"])


def _spread_text(rows: Sequence[Row]) -> str:
    found = spread(rows)
    body = [
        ["between networks", _percent(found["sd_networks"])],
        ["by chance, if none were better", _percent(found["sd_by_chance"])],
        ["of a network from fold to fold, beyond the folds' own", _percent(found["sd_rest"])],
        ["between seeds of a network", _percent(found["sd_seeds"])],
    ]
    table = markdown_table(["standard deviation of the mean DSC", "% points"], body)
    about = (
        f"{found['networks']} networks with {found['folds']} folds each; F-test that none is "
        f"better: p = {p_text(found['p_value'])}. A dash: too few networks, folds or seeds."
    )
    return "\n".join([*table, "", about])


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.3f}"


def agreement_csv(pairs: Sequence[Mapping]) -> str:
    """The result of `agreement`, one line each."""
    return csv_text(pairs, _AGREEMENT_COLUMNS)

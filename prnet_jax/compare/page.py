"""The comparison as one HTML page that needs no network and no other file.

Words and tables are in the page itself; page.js draws the plots from embedded JSON. Text from runs
is not trusted: it is escaped here, and page.js inserts it as text.
"""

import dataclasses
import html
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from prnet_jax.compare.cost import cost_note, cost_table
from prnet_jax.compare.differences import HEADING
from prnet_jax.compare.rows import Row
from prnet_jax.compare.statistics import STATISTICS_NOTE, p_text, signed
from prnet_jax.compare.tables import BEST, SECOND, Table, interval, n_scored
from prnet_jax.figures import slices
from prnet_jax.figures.pages import facts_table, fill_page, photo_uri, png_uri
from prnet_jax.metrics.names import Metric
from prnet_jax.report import scored_at

_PANEL_PX = 384  # longest side of an embedded picture
_MAX_PANELS = 160  # in all: about 20 kB each
_MAX_IMAGES, _MIN_IMAGES = 24, 8


def page(
    rows: Sequence[Row],
    reference: Row,
    table: Table,
    metrics: Sequence[Metric],
    statistics: Sequence[Mapping[str, Any]],
    cost_picture: bytes | None = None,
) -> str:
    """The page as text.

    Args:
        rows: of the comparison.
        reference: the row that the others were tested against.
        table: the main table.
        metrics: those that the reader can choose.
        statistics: the result of `prnet_jax.compare.statistics.compare_to`.
        cost_picture: of `prnet_jax.compare.cost.draw_cost`.

    Raises:
        InputError: an overlay that per_image.csv names is damaged.
    """
    first = rows[0].runs[0]
    embedded = largest_differences(rows, _number_of_images(len(rows)))
    data = {
        "metrics": [
            {**dataclasses.asdict(m), "label": m.label, "factor": m.factor} for m in metrics
        ],
        "rows": [
            {
                "label": row.title,
                "reference": row is reference,
                "scores": {m.name: _json_numbers(row.scores.get(m.name)) for m in metrics},
                "paired_dsc": _json_numbers(row.paired.get("dsc")),
                # A picture is of one seed, and so are the scores below it.
                "shown_seed": row.runs[0].seed,
                "shown": {m.name: _json_numbers(row.runs[0].scores.get(m.name)) for m in metrics},
                "shown_empty": row.runs[0].both_empty.tolist(),
                "pictures": _pictures(row, embedded),
            }
            for row in rows
        ],
        "ids": first.ids,
        "embedded": embedded,
    }
    summary = first.summary
    subject = f"{summary['dataset']}, {summary['split']} split, {len(first.ids)} images"
    subject = html.escape(f"{subject} {scored_at(summary)}")
    return fill_page(
        pathlib.Path(__file__).parent,
        data,
        title=f"Comparison: {subject}",
        subject=subject,
        differences=_differences(table.differences),
        table=_table(table),
        notes="".join(f"<p>{html.escape(note)}</p>" for note in table.below),
        every=_every_metric(rows, metrics),
        statistics=_statistics(statistics, metrics),
        cost=_cost(rows, cost_picture),
        gallery_note=html.escape(_gallery_note(embedded, len(first.ids))),
        provenance="".join(_provenance(row) for row in rows),
    )


def largest_differences(rows: Sequence[Row], count: int) -> list[int]:
    """Indices of the images whose DSC differs most between the networks, largest first.

    Only images with a picture count; ties keep their order. An image on which a network rightly
    marks nothing has the DSC of `Row.paired`.
    """
    if not all("dsc" in row.paired for row in rows):
        return []
    scores = np.array([row.paired["dsc"] for row in rows])
    spread = scores.max(axis=0) - scores.min(axis=0)
    shown = [
        i
        for i in range(len(spread))
        if not math.isnan(spread[i]) and any(_overlay(row, i) is not None for row in rows)
    ]
    return sorted(shown, key=lambda i: -spread[i])[:count]


def _number_of_images(rows: int) -> int:
    return max(_MIN_IMAGES, min(_MAX_IMAGES, _MAX_PANELS // rows))


def _overlay(row: Row, index: int) -> pathlib.Path | None:
    path = row.runs[0].overlays[index]
    return path if path and path.is_file() else None


def _pictures(row: Row, indices: Sequence[int]) -> dict[int, str]:
    """{index of the image: data URI} for every overlay that exists."""
    paths = {i: _overlay(row, i) for i in indices}
    return {i: _data_uri(slices.marked_panel(path)) for i, path in paths.items() if path}


def _data_uri(picture: Image.Image) -> str:
    picture = picture.copy()
    picture.thumbnail((_PANEL_PX, _PANEL_PX), Image.Resampling.LANCZOS)
    return photo_uri(picture, quality=80)


def _gallery_note(embedded: Sequence[int], images: int) -> str:
    if not embedded:
        return "No pictures: the evaluations have no overlays of images that all networks score."
    return (
        f"{len(embedded)} of {images} images are in this page: those whose DSC differs most "
        "between the networks. Of several seeds the first is shown, with its own scores. The green "
        "contour is the target, the magenta one the prediction; what only one of them holds is "
        "tinted."
    )


def _differences(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<div id="differences"><p>{HEADING}</p><ul>{items}</ul></div>' if lines else ""


def _table(table: Table) -> str:
    tags = {BEST: ("<strong>", "</strong>"), SECOND: ("<u>", "</u>"), "": ("", "")}

    def line(cells: Sequence[str], marks: Sequence[str]) -> str:
        name, *others = cells
        tds = "".join(
            f"<td{_long(cell)}>{tags[mark][0]}{html.escape(cell)}{tags[mark][1]}</td>"
            for cell, mark in zip(others, marks[1:], strict=True)
        )
        return f'<tr><th scope="row"{_long(name)}>{html.escape(name)}</th>{tds}</tr>'

    body = "".join(line(*pair) for pair in zip(table.body, table.marks, strict=True))
    paper = "".join(line(cells, [""] * len(cells)) for cells in table.paper)
    return _sortable("table-main", table.header, body, paper)


def _every_metric(rows: Sequence[Row], metrics: Sequence[Metric]) -> str:
    header = ["metric", "network", "mean", "95 % interval", "sd over seeds", "sd over images"]
    header += ["images scored"]
    body = []
    for metric in metrics:
        for row in rows:
            mean, *spreads = (
                metric.text(values.get(metric.name))
                for values in (row.mean, row.sd_seeds, row.sd_images)
            )
            cells = [row.title, mean, interval(row, metric), *spreads]
            body.append(_line(metric, cells + [str(n_scored(row, metric.name))]))
    return _sortable("table-every", header, "".join(body))


def _statistics(results: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> str:
    if not results:
        return "<p>There is only one row: nothing to test it against.</p>"
    header = ["metric", "network", "difference", "95 % interval", "p", "p (Holm)", "effect size"]
    header += ["better mean", "images", "patients"]
    by_name = {metric.name: metric for metric in metrics}
    body = []
    for result in results:
        metric = by_name[result["metric"]]
        low, high = (signed(metric, result[f"ci95_{end}"]) for end in ("low", "high"))
        cells = [
            result["network"],
            signed(metric, result["mean_difference"]),
            "-" if "-" in (low, high) else f"{low} to {high}",
            p_text(result["p_value"]),
            p_text(result["p_holm"]),
            "-" if math.isnan(result["effect_size"]) else f"{result['effect_size']:+.2f}",
            (result["better"] or "equal") if result["n_images"] else "-",
            str(result["n_images"]),
            str(result["n_units"]),
        ]
        body.append(_line(metric, cells))
    about = f"Reference: {results[0]['reference']}. {STATISTICS_NOTE}"
    table = _sortable("table-statistics", header, "".join(body))
    return f'{table}<div class="notes"><p>{html.escape(about)}</p></div>'


def _cost(rows: Sequence[Row], picture: bytes | None) -> str:
    """The section of the costs; nothing where none is known."""
    header, body = cost_table(rows)
    if not body:
        return ""
    lines = "".join(
        f'<tr><th scope="row"{_long(name)}>{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in body
    )
    drawn = ""
    if picture:
        source = png_uri(Image.open(io.BytesIO(picture)).convert("RGB"))
        drawn = f'<p><img class="cost" src="{source}" alt="Mean DSC against GFLOP an image"></p>'
    return (
        f'<section id="cost"><h2>Cost</h2>{_sortable("table-cost", header, lines)}{drawn}'
        f'<div class="notes"><p>{html.escape(cost_note(header, body))}</p></div></section>'
    )


def _line(metric: Metric, cells: Sequence[str]) -> str:
    tds = "".join(f"<td{_long(cell)}>{html.escape(cell)}</td>" for cell in cells)
    name, label = html.escape(metric.name), html.escape(metric.label)
    return f'<tr data-metric="{name}"><th scope="row">{label}</th>{tds}</tr>'


def _long(cell: str) -> str:
    """The attribute of a cell whose text may wrap."""
    return ' class="long"' if len(cell) > 30 else ""


def _sortable(id: str, header: Sequence[str], body: str, fixed: str = "") -> str:
    """A table whose columns page.js can sort; `fixed` rows stay at the bottom."""
    heads = "".join(
        f'<th scope="col"><button type="button">{html.escape(name)}</button></th>'
        for name in header
    )
    below = f'<tbody class="paper">{fixed}</tbody>' if fixed else ""
    return (
        f'<div class="scroll" tabindex="0"><table id="{id}" class="sortable"><thead><tr>{heads}'
        f"</tr></thead><tbody>{body}</tbody>{below}</table></div>"
    )


def _provenance(row: Row) -> str:
    parts = []
    for run in row.trainings:
        facts = {
            "folder": str(run.folder),
            **{k: v for k, v in run.summary.items() if k not in ("metrics", "pooled", "counts")},
        }
        facts["provenance"] = run.provenance
        facts["settings"] = "unknown" if run.settings is None else run.settings
        fold = (run.settings or {}).get("dataset.options.fold")
        name = row.label + (f", fold {fold}" if fold else "")
        name += "" if run.seed is None else f", seed {run.seed}"
        parts.append(
            f"<details><summary>{html.escape(name)}</summary>{facts_table(facts)}</details>"
        )
    return "".join(parts)


def _json_numbers(scores: np.ndarray | None) -> list[float | None]:
    """Scores for the embedded JSON, which has no NaN, with seven digits."""
    if scores is None:
        return []
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in scores]

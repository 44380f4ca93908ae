"""The columns of cost, and the picture beside the accuracy."""

import csv
import io
import math
import re

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from prnet_jax.compare.__main__ import main
from prnet_jax.compare.cost import cost_markdown, cost_of, cost_table, draw_cost
from prnet_jax.compare.rows import group
from prnet_jax.compare.runs import read_runs
from tests.compare.folders import write_run

COST = {"gflop": 3.25, "train_minutes": 12.0, "peak_mib": 1500.0, "seconds_per_slice": 0.02}


def rows_of(*folders):
    return group(read_runs(folders))


@pytest.fixture
def folders(tmp_path):
    more = COST | {"train_minutes": 18.0, "peak_mib": 1400.0, "seconds_per_slice": 0.04}
    return [
        write_run(tmp_path / "a", "prnet", 0, overlays=False, parameters=2_500_000, cost=COST),
        write_run(tmp_path / "b", "prnet", 1, overlays=False, parameters=2_500_000, cost=more),
        write_run(tmp_path / "c", "unet", 0, 0.6, overlays=False, parameters=7, cost={"gflop": 9}),
    ]


def test_the_costs_of_a_row(folders):
    """Means over its trainings, and the largest memory."""
    unet, prnet = rows_of(*folders)
    assert cost_of(prnet) == {
        **{"parameters": 2.5e6, "gflop": 3.25, "train_minutes": 15.0, "peak_mib": 1500.0},
        "seconds_per_slice": pytest.approx(0.03),
    }
    assert cost_of(unet)["gflop"] == 9 and math.isnan(cost_of(unet)["train_minutes"])


def test_a_cost_that_one_training_lacks_is_not_known(tmp_path):
    folders = [
        write_run(tmp_path / "a", seed=0, overlays=False, cost=COST),
        write_run(tmp_path / "b", seed=1, overlays=False, cost={"gflop": "many", "peak_mib": -1}),
    ]
    (row,) = rows_of(*folders)
    cost = cost_of(row)
    assert cost.pop("gflop") == 3.25  # of the network
    assert all(math.isnan(value) for value in cost.values())


def test_operations_that_trainings_disagree_on_are_not_known(tmp_path):
    for name, gflop in (("a", 3.25), ("b", 3.5)):
        write_run(tmp_path / name, seed=ord(name), overlays=False, cost={"gflop": gflop})
    (row,) = rows_of(tmp_path / "a", tmp_path / "b")
    assert math.isnan(cost_of(row)["gflop"])


def test_the_table(folders):
    header, body = cost_table(rows_of(*folders))
    assert header[2:] == [
        *("parameters", "GFLOP / image", "training min", "memory MiB", "s / slice")
    ]
    assert body[1][2:] == ["2,500,000", "3.25", "15.0", "1,500", "0.030"]
    assert body[0][2:] == ["7", "9.00", "-", "-", "-"]


def test_a_name_cannot_leave_its_cell(tmp_path):
    run = write_run(tmp_path / "a", "<b>x|y</b>", 0, overlays=False, parameters=7)
    assert "| &lt;b&gt;x\\|y&lt;/b&gt; |" in cost_markdown(rows_of(run))


def test_the_note_is_of_the_columns_that_there_are(folders, tmp_path):
    every = cost_markdown(rows_of(*folders))
    assert "GFLOP: operations" in every and "on the machine" in every and "A dash" in every
    for name in ("d", "e"):
        write_run(tmp_path / name, name, overlays=False, parameters=7)
    alone = cost_markdown(rows_of(tmp_path / "d", tmp_path / "e"))
    assert re.search(r"\| +7 \|", alone) and alone.rstrip().endswith("|")


def test_the_bar_is_the_interval_of_the_table(folders, monkeypatch):
    """Also where there is none, because the seeds scored different images."""
    drawn = []
    monkeypatch.setattr(Axes, "errorbar", lambda *args, **_: drawn.append(args[1:]))
    monkeypatch.setattr(Figure, "legend", lambda *_, **__: None)
    unet, prnet = rows_of(*folders)
    prnet.ci95.pop("dsc")
    draw_cost([unet, prnet])
    place = {x: (y, float(y - low[0]), float(y + high[0])) for x, y, (low, high) in drawn}
    assert place[9][1:] == pytest.approx([100 * end for end in unet.ci95["dsc"]])
    assert place[3.25] == pytest.approx([100 * prnet.mean["dsc"]] * 3)


def test_the_picture_is_of_what_most_rows_have(folders, tmp_path, monkeypatch):
    """And names the others."""
    places, labels = [], []
    real = Axes.errorbar

    def errorbar(axes, x, *args, **fields):
        places.append(x)
        return real(axes, x, *args, **fields)

    def legend(figure, **_):
        labels.extend(figure.axes[0].get_legend_handles_labels()[1])

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    monkeypatch.setattr(Figure, "legend", legend)
    unknown = write_run(tmp_path / "d", "awsnet", 0, 0.7, overlays=False)
    assert draw_cost(rows_of(*folders, unknown))
    assert sorted(places) == [3.25, 9]
    assert [label.endswith("AwsNet (left out)") for label in labels].count(True) == 1
    places.clear()
    more = [
        write_run(tmp_path / name, name, 0, overlays=False, parameters=10 + i)
        for i, name in enumerate(("unetpp", "anamnet"))
    ]
    assert draw_cost(rows_of(*folders, *more))
    assert sorted(places) == [7, 10, 11, 2_500_000]


def test_nothing_where_nothing_is_known(tmp_path):
    rows = rows_of(write_run(tmp_path / "a", overlays=False))
    assert cost_table(rows) == ([], []) and cost_markdown(rows) == "" and draw_cost(rows) is None


def test_the_files_of_a_comparison(folders, tmp_path, capsys):
    folders.append(
        write_run(tmp_path / "d", "HU $threshold$", 0, 0.7, overlays=False, parameters=0)
    )
    out = tmp_path / "out"
    assert main([*map(str, folders), "--out", str(out)]) == 0
    assert "cost.png" in capsys.readouterr().out
    assert "| PR-Net (2 seeds)" in (out / "cost.md").read_text(encoding="utf-8")
    with open(out / "cost.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["gflop"] for line in lines] == ["9.0", "3.25", ""]
    picture = Image.open(io.BytesIO((out / "cost.png").read_bytes())).convert("L")
    assert picture.size == (1200, 675) and picture.getextrema() != (255, 255)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert 'id="table-cost"' in page and 'src="data:image/png;base64,' in page

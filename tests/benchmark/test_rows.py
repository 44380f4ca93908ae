"""What a row says, and how it is written."""

import json

import pytest

from prnet_jax.benchmark.compare import Measured
from prnet_jax.benchmark.rows import line, make_row, table, write_rows
from prnet_jax.benchmark.task import Task
from prnet_jax.benchmark.timing import Timing

REQUIRED = {
    *("model", "part", "device", "batch", "size", "dtype", "ours_ms", "peer", "peer_ms"),
    *("ratio", "peak_mib", "gflop", "of_ceiling"),
}
TASK = Task("train", "unet", 4, 64, "float32", {"widths": (4, 8)})
CEILINGS = {"matmul_gflop_s": 100.0, "copy_gb_s": 10.0}
OURS = Measured(
    Timing((400.0, 500.0, 600.0)),
    {"gflop": 25.0, "gbytes": 1.5, "peak_mib": 321.0, "compile_s": 9.0, "idle_cores": 0.01},
)
THEIRS = Measured(Timing((1000.0, 1000.0, 500.0)), {"peak_mib": 456.0, "idle_cores": 0.0})


def test_a_row_beside_a_peer():
    row = make_row(TASK, "a device", OURS, CEILINGS, "torch", THEIRS)
    assert row.keys() >= REQUIRED
    assert (row["ours_ms"], row["peer_ms"], row["ratio"]) == (500.0, 1000.0, 0.5)
    assert row["of_ceiling"] == 0.5  # 25 GFLOP in half a second, of 100 GFLOP/s
    assert row["of_copy_ceiling"] == pytest.approx(0.3)
    assert row["images_per_s"] == 8.0
    assert (row["ratio_low"], row["ratio_high"]) == (0.45, 0.85)
    assert (row["peak_mib"], row["peer_peak_mib"]) == (321.0, 456.0)
    assert line(row) == "train unet: 500 ms, torch 1000 ms, ratio 0.50"


def test_a_row_without_a_peer_and_without_counts():
    facts = {"images": 30, "peak_mib": None}
    row = make_row(TASK, "a device", Measured(Timing((100.0,)), facts), CEILINGS)
    assert row.keys() >= REQUIRED
    assert (row["peer"], row["peer_ms"], row["ratio"]) == (None, None, None)
    assert (row["gflop"], row["of_ceiling"], row["peak_mib"]) == (None, None, None)
    assert row["images_per_s"] == 300.0
    assert line(row) == "train unet: 100 ms"


def test_the_file_is_a_list_and_the_table_shows_the_same(tmp_path):
    rows = [
        make_row(TASK, "a device", OURS, CEILINGS, "torch", THEIRS),
        make_row(TASK, "a device", OURS, CEILINGS),
    ]
    path = tmp_path / "rows.json"
    write_rows(path, rows)
    assert [row["peer"] for row in json.loads(path.read_text())] == ["torch", None]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]
    lines = table(rows).splitlines()
    assert len({text.count("|") for text in lines}) == 1
    assert "| 0.50 | 321 | 25 | 50% |" in lines[2]
    assert "| - | - | - | 321 |" in lines[3]


def test_a_task_survives_json():
    assert Task.from_json(json.loads(json.dumps(TASK.as_json()))) == TASK

"""`python -m tests.accelerator`, on the CPU."""

import json
import math
from types import SimpleNamespace

import pytest

from tests import accelerator, accelerator_steps

GOLDEN = "lightunet_light"


def rows_of(path, part):
    return json.loads(path.read_text())[part]["rows"]


def test_a_golden_and_a_layer(tmp_path, monkeypatch, capsys):
    small = ("Conv", {"features": 4, "dilation": 2}, (1, 8, 8, 3))
    monkeypatch.setattr(accelerator, "LAYERS", {"small": small})
    path = tmp_path / "found.json"
    assert (
        accelerator.main(["--only", "parity,gradients", "--models", GOLDEN, "--json", str(path)])
        == 0
    )
    (golden,) = rows_of(path, "parity")
    assert golden["golden is met"] == "PASS" and golden["evaluation, bfloat16"] > 1e-3
    (layer,) = rows_of(path, "gradients")
    assert all(
        layer[f"{of}, highest"] < 1e-5 < layer[f"{of}, bfloat16"] for of in ("value", "kernel")
    )
    assert f"| {GOLDEN} |" in capsys.readouterr().out


@pytest.mark.parametrize("found", [1e-4, math.nan, RuntimeError("no such device")])
def test_a_golden_that_is_not_met(tmp_path, monkeypatch, found):
    def golden(*_):
        if isinstance(found, Exception):
            raise found
        return {"evaluation": found, "training": 0.0}

    monkeypatch.setattr(accelerator, "golden", golden)
    path = tmp_path / "found.json"
    assert accelerator.main(["--only", "parity", "--models", GOLDEN, "--json", str(path)]) == 1
    (row,) = rows_of(path, "parity")
    assert row.get("golden is met") == "FAIL" or "no such device" in row["error"]


def event(name, ms, **stats):
    return SimpleNamespace(name=name, duration_ns=1e6 * ms, stats=list(stats.items()))


def test_the_operations_of_a_trace():
    """Of a GPU's streams alone; a kernel that names no operation stands for itself."""
    stream = [
        *(event("sm90_gemm", 10, hlo_op="dot.1"), event("sm90_gemm", 20, hlo_op="dot.1")),
        *(event("split_k", 5, hlo_op="dot.1"), event("memset", 1)),
    ]
    planes = {
        "/device:GPU:0": {"Stream #1": stream, "XLA Ops": [event("dot.1", 35, hlo_op="dot.1")]},
        "/host:CPU": {"python": [event("wait", 50)], "worker": [event("add", 2, hlo_op="add.1")]},
    }

    def operations(*names):
        lines = {
            p: [SimpleNamespace(name=n, events=e) for n, e in planes[p].items()] for p in names
        }
        found = [SimpleNamespace(name=p, lines=lines[p]) for p in names]
        return accelerator_steps.operations(SimpleNamespace(planes=found))

    ms, kernels = operations("/device:GPU:0", "/host:CPU")
    assert ms == {"dot.1": 7.0, "memset": 0.2}
    assert kernels == {"dot.1": "sm90_gemm", "memset": "memset"}
    assert operations("/host:CPU")[0] == {"add.1": 0.4}


def test_a_part_that_cannot_be_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "ONE_BY_ONE", "--no_such_flag")
    path = tmp_path / "found.json"
    assert accelerator.main(["--only", "profile", "--json", str(path)]) == 1
    (row,) = rows_of(path, "profile")
    assert "exit code" in row["error"]


def test_arguments_that_do_not_exist(capsys):
    for arguments in (["--only", "speed"], ["--models", "resnet"]):
        with pytest.raises(SystemExit):
            accelerator.main(arguments)
    assert "found resnet" in capsys.readouterr().err

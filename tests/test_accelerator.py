"""`python -m tests.accelerator`, on the CPU."""

import json
import math

import pytest

from tests import accelerator

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


def test_arguments_that_do_not_exist(capsys):
    for arguments in (["--only", "speed"], ["--models", "resnet"]):
        with pytest.raises(SystemExit):
            accelerator.main(arguments)
    assert "found resnet" in capsys.readouterr().err

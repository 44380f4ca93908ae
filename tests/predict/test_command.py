"""python -m prnet_jax.predict with a run."""

import json
import subprocess
import sys

import numpy as np
import pytest

import prnet_jax
from prnet_jax.commands import MISTAKE
from prnet_jax.predict.__main__ import main

HU = np.random.default_rng(0).integers(-1000, 400, (40, 50, 3)).astype(np.int16)


def test_a_run_predicts_a_file_as_it_does_an_array(finished_run, tmp_path, capsys):
    np.save(tmp_path / "ct.npy", HU)
    command = [str(tmp_path / "ct.npy"), "--out", str(tmp_path / "out"), "--prob"]
    command += ["--preview", "--page"]
    assert main([*command, "--workdir", str(finished_run)]) == 0
    assert "1 masks in" in capsys.readouterr().out
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"ct.npy", "ct_prob.npy", "ct_preview.png", "ct.html"} < names
    predictor = prnet_jax.load(finished_run)
    expected = predictor.predict(HU, axes="HWD")
    found = np.load(tmp_path / "out" / "ct_prob.npy")
    np.testing.assert_allclose(found, expected.prob, atol=1e-6)
    from_file = predictor.predict_file(tmp_path / "ct.npy")
    np.testing.assert_array_equal(from_file.prob, expected.prob)
    # Bad inputs are named after the others are done.
    (tmp_path / "bad.npy").write_text("nonsense")
    code = main([*command, str(tmp_path / "bad.npy"), "--workdir", str(finished_run)])
    captured = capsys.readouterr()
    assert code == MISTAKE and "1 inputs failed" in captured.out
    assert captured.err.count("error: ") == 1


def test_weights_predict_as_the_run_that_they_are_of(finished_run, tmp_path, capsys):
    from prnet_jax.torch_weights.__main__ import main as torch_weights

    weights = tmp_path / "w.safetensors"
    assert torch_weights(["export", str(finished_run), str(weights)]) == 0
    np.save(tmp_path / "ct.npy", HU)
    for name, network in (("a", ["--workdir", finished_run]), ("b", ["--weights", weights])):
        command = [tmp_path / "ct.npy", "--out", tmp_path / name, "--prob", *network]
        assert main([str(part) for part in command]) == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "a" / "ct_prob.npy"), np.load(tmp_path / "b" / "ct_prob.npy")
    )
    command = ["a.npy", "--out", str(tmp_path / "c"), "--workdir", str(finished_run)]
    assert main([*command, "--model", "unet"]) == MISTAKE
    assert "is no file of weights, so name cannot be chosen" in capsys.readouterr().err


def test_without_a_network_the_released_weights_predict(tmp_path):
    np.save(tmp_path / "ct.npy", HU[..., 0])
    for name, network in (("a", []), ("b", ["--weights", "lungs"])):
        command = [str(tmp_path / "ct.npy"), "--out", str(tmp_path / name), *network]
        assert main(command) == 0
    reports = [json.loads((tmp_path / x / "report.json").read_text()) for x in ("a", "b")]
    assert reports[0]["weights"] == reports[1]["weights"] != []
    assert reports[0]["weights"][0]["from"] == "lungs"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--workdir", "none"], "none does not exist and is no name of released weights"),
        (["--workdir", "none", "--threshold", "2"], "--threshold must lie between 0 and 1"),
    ],
)
def test_mistakes(arguments, message, tmp_path, capsys):
    assert main(["a.png", "--out", str(tmp_path / "out"), *arguments]) == MISTAKE
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_help(root):
    command = [sys.executable, "-m", "prnet_jax.predict", "--help"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "--keep-largest" in done.stdout

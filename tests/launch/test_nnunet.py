"""nnU-Net's network under our protocol: its plan, its loss, and tiny trainings where torch is."""

import argparse
import json
import subprocess
import sys

import ml_collections
import numpy as np
import pytest

from prnet_jax.data.pipeline import open_splits
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError
from prnet_jax.evaluate import Choices
from prnet_jax.evaluate.predictions import evaluate_predictions
from prnet_jax.losses import bce_dice
from tests.runs import tiny_config


@pytest.fixture
def scripts(root, monkeypatch):
    """The two modules of launch/, as the script itself imports them."""
    monkeypatch.syspath_prepend(str(root / "launch"))
    import nnunet
    import nnunet_training

    return nnunet, nnunet_training


@pytest.fixture
def torch():
    pytest.importorskip("dynamic_network_architectures")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # more would wait for each other where cores are few
    return torch


@pytest.mark.parametrize(
    "size, features",
    [
        (32, [32, 64, 128, 256]),  # 4x4 at the lowest
        (96, [32, 64, 128, 256, 512]),  # 6x6
        (256, [32, 64, 128, 256, 512, 512, 512]),
        (512, [32, 64, 128, 256, 512, 512, 512, 512]),  # as nnU-Net plans for such slices
    ],
)
def test_the_plan(scripts, size, features):
    plan = scripts[1].plan(size)
    assert plan["features_per_stage"] == features
    assert plan["n_stages"] == len(features) == len(plan["strides"])
    assert plan["strides"] == [1] + [2] * (len(features) - 1)


def test_a_size_that_cannot_be_halved(scripts):
    with pytest.raises(InputError, match="100x100 .* multiple of 16"):
        scripts[1].plan(100)


def test_the_network(scripts, torch):
    network = scripts[1].make_network(32, 4, seed=0)
    image = torch.zeros(2, 1, 32, 32)
    assert network(image).shape == (2, 1, 32, 32)
    assert network.encoder.output_channels == [4, 8, 16, 32]
    again, other = (scripts[1].make_network(32, 4, seed=seed) for seed in (0, 1))
    first, same, differ = (next(n.parameters()) for n in (network, again, other))
    assert torch.equal(first, same) and not torch.equal(first, differ)


@pytest.mark.parametrize("padded", [False, True])
def test_the_loss_is_ours(scripts, torch, padded):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 8, 8, 1)).astype(np.float32) * 3
    mask = (rng.random((3, 8, 8, 1)) < 0.3).astype(np.float32)
    valid = np.arange(8)[None, :, None, None] * np.ones_like(mask) < 6 if padded else None
    config = argparse.Namespace(bce_weight=0.7, dice_weight=1.3)
    expected = float(bce_dice(logits, mask, 0.7, 1.3, valid).mean())

    def tensor(array):
        return torch.from_numpy(np.float32(array)).permute(0, 3, 1, 2)

    given = tensor(logits), tensor(mask), None if valid is None else tensor(valid)
    assert float(scripts[1].loss_of(*given, config)) == pytest.approx(expected, rel=1e-5)


def test_an_interrupted_training_is_that_of_one_that_was_not(scripts, torch, records_dir, tmp_path):
    """And its probabilities are a row of the test images, with what it cost."""
    nnunet, training = scripts
    config = tiny_config(records_dir, ema_decay=0.9, augment__noise=0.05, learning_rate=1e-2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = nnunet.train_fold(config, whole / "fold", whole / "predictions", 4, "cpu")
    assert done["epoch"] == 2 and done["parameters"] > 1000 and done["gflop"] > 0
    files = sorted(path.name for path in (whole / "predictions").rglob("*.npy"))
    assert len(files) == 3

    class Killed(Exception):
        pass

    def killed(self):
        save(self)
        raise Killed

    save, training.Training.save = training.Training.save, killed
    try:
        with pytest.raises(Killed):
            nnunet.train_fold(config, parts / "fold", parts / "predictions", 4, "cpu")
    finally:
        training.Training.save = save
    assert not (parts / "predictions").exists()
    again = nnunet.train_fold(config, parts / "fold", parts / "predictions", 4, "cpu")
    assert (again["best_dsc"], again["best_epoch"]) == (done["best_dsc"], done["best_epoch"])
    for one, other in zip(sorted(whole.rglob("*.npy")), sorted(parts.rglob("*.npy")), strict=True):
        np.testing.assert_array_equal(np.load(one), np.load(other))

    # What is lost of the predictions of a finished fold is written again.
    lost = parts / "predictions" / files[0]
    before = lost.read_bytes()
    lost.unlink()
    assert nnunet.train_fold(config, parts / "fold", parts / "predictions", 4, "cpu") == again
    assert lost.read_bytes() == before
    lost.unlink()
    (parts / "fold" / training.CHECKPOINT).unlink()
    with pytest.raises(InputError, match="no checkpoint.pt: remove that folder"):
        nnunet.train_fold(config, parts / "fold", parts / "predictions", 4, "cpu")

    config.learning_rate = 1e-3
    with pytest.raises(InputError, match="learning_rate was 0.01, is 0.001"):
        nnunet.train_fold(config, parts / "fold", parts / "predictions", 4, "cpu")

    data = config.dataset
    choices = Choices(
        dataset=data.name,
        options=data.options.to_dict(),
        data_dir=records_dir,
        split="test",
        out=tmp_path / "scores",
    )
    summary = evaluate_predictions(whole / "predictions", choices, "nnU-Net")
    assert summary["counts"]["n_images"] == 3
    builder = prepare(data.name, data.data_dir, **data.options)
    ids = open_splits(builder, data)["test"].ids
    assert files == sorted(f"{id}.npy" for id in ids)


def test_it_learns(scripts, torch):
    """The loss of one batch falls to less than half in thirty steps."""
    _, training = scripts
    network = training.make_network(32, 4, seed=0)
    y, x = np.mgrid[:32, :32]
    mask = np.stack([(y - 16) ** 2 + (x - 10 - i) ** 2 < 60 for i in range(4)])[:, None]
    mask = torch.from_numpy(mask.astype(np.float32))
    config = argparse.Namespace(bce_weight=1.0, dice_weight=1.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = training.loss_of(network(1 - mask), mask, None, config)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_the_costs_of_folds_are_those_of_one_training(scripts):
    one = {"parameters": 5, "gflop": 1.5, "train_minutes": 2.0, "seconds_per_slice": 0.1}
    two = one | {"train_minutes": 4.0, "seconds_per_slice": 0.3}
    found = scripts[0].cost_of([one | {"peak_mib": 10.0}, two | {"peak_mib": 30.0}])
    assert found == {
        **{"parameters": 5, "gflop": 1.5, "train_minutes": 3.0, "peak_mib": 30.0},
        "seconds_per_slice": pytest.approx(0.2),
    }


def test_the_protocol_is_that_of_a_run(scripts, finished_run, monkeypatch):
    """Its settings, but for the seed and the network."""
    given = argparse.Namespace(like=finished_run, manual_dir=None, data_dir=None, epochs=3, seed=4)
    with pytest.raises(InputError, match="lung_phantom has no folds"):
        scripts[0].protocol(given)
    given = argparse.Namespace(
        like=None, variant="table1_small", manual_dir="x", data_dir=None, epochs=None, seed=4
    )
    config = scripts[0].protocol(given)
    assert (config.seed, config.dataset.manual_dir, config.dataset.image_size) == (4, "x", 96)
    changed = ml_collections.ConfigDict(json.loads(config.to_json()) | {"loss": "infnet"})
    monkeypatch.setattr("prnet_jax.run.directory.read_run", lambda _: (changed, {}))
    given.like = "runs/infnet"
    with pytest.raises(InputError, match="config.loss is 'infnet'; this training knows 'bce_dice'"):
        scripts[0].protocol(given)


def test_help_and_mistakes(root, tmp_path):
    def run(*arguments):
        command = [sys.executable, "launch/nnunet.py", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True)

    assert "--base-features" in run("--help").stdout
    wrong = run("--root", str(tmp_path), "--like", str(tmp_path / "no"))
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1, wrong.stderr
    assert "is not a run directory" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folds", ""], "--folds is ''; expected folds of one division"),
        (["--folds", "1/5 1/4"], "expected folds of one division"),  # one image twice
        (["--folds", "1/5,1/5"], "expected folds of one division"),
        (["--base-features", "0"], "--base-features is 0; expected 1 or more"),
    ],
)
def test_wrong_words_leave_nothing(scripts, tmp_path, capsys, words, message):
    root = tmp_path / "new"
    assert scripts[0].main(["--root", str(root), "--manual-dir", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not root.exists()


def test_without_pytorch(scripts, tmp_path, capsys, monkeypatch):
    """One line before anything is written, so that the command can be corrected."""
    monkeypatch.setitem(sys.modules, "torch", None)
    root = tmp_path / "new"
    assert scripts[0].main(["--root", str(root), "--manual-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "torch is not installed: pip install" in error and error.count("\n") == 1
    assert not root.exists()


def test_a_device_that_is_not_there(scripts, torch):
    scripts[1].check_device("cpu")
    with pytest.raises(InputError, match="--device foo cannot be used by PyTorch here: [^\n]+$"):
        scripts[1].check_device("foo")


def test_a_fold_from_before_a_field_goes_on(scripts, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"seed": 0, "dataset": {"resize": "pad"}}))
    now = {"seed": 0, "dataset": {"resize": "pad", "soft_mask": False}, "validate_every_epochs": 1}
    scripts[0]._check_same(path, now)
    now["dataset"]["soft_mask"] = True
    with pytest.raises(InputError, match="dataset.soft_mask was False, is True"):
        scripts[0]._check_same(path, now)

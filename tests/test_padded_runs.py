"""Complete runs on slices that are not square, and runs from before padding."""

import json

import numpy as np
import pytest
from PIL import Image

import prnet_jax
from prnet_jax import steps, train
from prnet_jax.data.preprocess import resize_image, resize_prob
from prnet_jax.evaluate import Choices, evaluate_run
from prnet_jax.run import files
from tests.fakes.pixelwise import Pixelwise

SHAPE = (20, 32)


@pytest.fixture
def config(tiny_config, tmp_path, monkeypatch):
    """One epoch of a network that sees single pixels, on ten grey pictures of 20x32."""
    monkeypatch.setattr(steps, "make_model", lambda config: Pixelwise())
    monkeypatch.setattr(train.estimate, "cpu_hours", lambda *_: 0.0)
    generator = np.random.default_rng(0)
    lines = ["id,split"]
    for number in range(10):
        pixels = generator.integers(0, 256, SHAPE).astype(np.uint8)
        mask = np.uint8(255) * (np.arange(32) % (number + 2) > 0) * np.ones((20, 1), np.uint8)
        for folder, picture in (("images", pixels), ("masks", mask)):
            path = tmp_path / "own" / folder / f"c{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        lines.append(f"c{number},{('train', 'train', 'train', 'validation', 'test')[number % 5]}")
    (tmp_path / "own/metadata.csv").write_text("\n".join(lines))
    data = tiny_config.dataset
    with data.unlocked():
        data.name, data.options = "image_folder", {}
    data.manual_dir, data.data_dir = str(tmp_path / "own"), str(tmp_path / "records")
    data.image_size, data.window_hu = 16, (0.0, 255.0)
    tiny_config.num_epochs = 1
    return tiny_config


def without_the_field(run):
    """Makes of a run one that was begun before config.dataset.resize was there."""
    settings = json.loads((run / files.CONFIG).read_text())
    assert settings["dataset"].pop("resize") == "stretch"
    (run / files.CONFIG).write_text(json.dumps(settings))


def test_a_padded_run(config, tmp_path):
    run = tmp_path / "run"
    summary = train.train_and_evaluate(config, run)
    assert (summary["image_size"], summary["resize"]) == (16, "pad")
    again = evaluate_run(run, Choices(out=tmp_path / "again"))
    assert again["metrics"] == summary["metrics"] and again["resize"] == "pad"
    # No distance exceeds the diagonal of 10x16 pixels.
    assert again["metrics"]["hd_px"]["mean"] <= np.hypot(10, 16)
    picture = np.asarray(Image.open(tmp_path / "own/images/c4.png"))
    network = prnet_jax.load(run)
    found = network.predict(picture)
    assert found.prob.shape == found.mask.shape == SHAPE
    # Of 10x16, which fit the network's square as they are
    small = network.predict(resize_image(picture, 16, "pad")[3:13]).prob
    np.testing.assert_allclose(found.prob, resize_prob(small, SHAPE), atol=1e-6)


def test_a_run_from_before_the_field_stretches(config, tmp_path, capsys):
    config.dataset.resize = "stretch"
    run = tmp_path / "run"
    before = train.train_and_evaluate(config, run)
    rows = (run / "test/per_image.csv").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "own/images/c4.png"))
    prob = prnet_jax.load(run).predict(picture).prob
    without_the_field(run)

    summary = evaluate_run(run)
    assert summary["metrics"] == before["metrics"] and summary["resize"] == "stretch"
    assert (run / "test/per_image.csv").read_bytes() == rows
    np.testing.assert_array_equal(prnet_jax.load(run).predict(picture).prob, prob)

    # The same command resumes it, although the default is another now.
    config.dataset.resize = "pad"
    capsys.readouterr()
    assert train.train_and_evaluate(config, run)["metrics"] == before["metrics"]
    said = "config.dataset.resize stays 'stretch': the run was begun before this field was there"
    assert said in capsys.readouterr().out
    assert config.dataset.resize == "pad"

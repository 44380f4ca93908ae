"""The first batch of a run is drawn once, and no batch is lost by it."""

import itertools

import numpy as np
import pytest
from PIL import Image

from prnet_jax import processes
from prnet_jax.data.pipeline import train_batches
from prnet_jax.run import begin


class Slices:
    """Item i is a picture with a square of its own brightness on the left, which is its mask."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        mask = np.zeros((16, 16, 1), np.float32)
        mask[4:12, 2:6] = 1
        return {"image": mask * (i + 1) / 6, "mask": mask, "id": f"n{i}"}


@pytest.fixture
def config(tiny_config):
    tiny_config.augment.flip_horizontal = 1.0
    return tiny_config


def batches(config, workdir, start=0, number=3):
    found = begin.training_batches(workdir, config, Slices(), start)
    return list(itertools.islice(found, number))


def test_the_picture_shows_each_image_before_and_after(config, tmp_path, capsys):
    first = batches(config, tmp_path)[0]
    path = tmp_path / "first_batch.png"
    assert f"batch      {path}: " in capsys.readouterr().out
    sheet = np.asarray(Image.open(path).convert("RGB"))
    # Four columns of 256 pixels, 6 between them; the second row is mirrored.
    assert sheet.shape[1] == 4 * 256 + 3 * 6
    top = sheet.shape[0] - 2 * 256 - 6
    for column, image in enumerate(first["image"]):
        above, below = (sheet[y + 128, column * 262 : column * 262 + 256] for y in (top, top + 262))
        grey = np.full(3, round(255 * image.max()))
        for row, inside, outside in ((above, 64, 192), (below, 192, 64)):
            assert (row[inside] == grey).all() and (row[outside] == 0).all()
        for row, border in ((above, 32), (below, 255 - 32)):  # of the mask, green
            assert any((row[border + shift] == (0, 214, 90)).all() for shift in (-1, 0, 1))


def test_no_batch_is_lost(config, tmp_path):
    expected = train_batches(Slices(), config.batch_size, config.seed, 1)
    for found, other in zip(batches(config, tmp_path), expected, strict=False):
        assert found["draw"].tolist() == other["draw"].tolist()
        assert found["id"].tolist() == other["id"].tolist()


def test_a_picture_that_exists_stays(config, tmp_path):
    path = tmp_path / "first_batch.png"
    path.write_bytes(b"before")
    batches(config, tmp_path)
    assert path.read_bytes() == b"before"


def test_a_resumed_run_goes_on_without_it(config, tmp_path, capsys):
    (third,) = batches(config, tmp_path, start=2, number=1)
    assert third["draw"].tolist() == [8, 9, 10, 11]
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def test_the_first_process_alone_draws(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    first = batches(config, tmp_path)[0]
    assert first["draw"].tolist() == [0, 1, 2, 3]
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""

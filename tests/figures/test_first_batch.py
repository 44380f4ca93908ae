import numpy as np
from PIL import Image

from prnet_jax.figures.first_batch import draw_first_batch, first_of


def batch(number, valid=None):
    image = np.full((number, 32, 32, 1), 0.5, np.float32)
    found = {
        "image": image,
        "mask": np.zeros_like(image),
        "id": np.array([f"{i}" * 60 for i in range(number)]),
    }
    return found if valid is None else {**found, "valid": valid}


def test_of_a_large_batch_the_first_eight(tmp_path):
    read = first_of(batch(100))
    assert {len(array) for array in read.values()} == {8}
    draw_first_batch(read, [read["image"], read["mask"]], tmp_path / "a.png")
    width, height = Image.open(tmp_path / "a.png").size
    assert width == 4 * 256 + 3 * 6 and 4 * 256 < height < 4 * 256 + 150


def test_padding_is_blue_before_and_after(tmp_path):
    valid = np.ones((1, 32, 32, 1), bool)
    valid[:, 24:] = False
    read = batch(1, valid)
    moved = np.roll(valid, 8, axis=1)
    draw_first_batch(read, [read["image"], read["mask"], moved], tmp_path / "a.png")
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    top = sheet.shape[0] - 2 * 256 - 6
    above, below = sheet[top : top + 256, 128], sheet[top + 262 :, 128]
    blue = (above == (40, 60, 120)).all(-1), (below == (40, 60, 120)).all(-1)
    assert np.flatnonzero(blue[0]).tolist() == list(range(192, 256))
    assert np.flatnonzero(blue[1]).tolist() == list(range(64))

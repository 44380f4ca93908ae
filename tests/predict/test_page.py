"""What a page holds: slices, masks and probabilities that can be read back, and how many bytes."""

import base64
import html.parser
import io
import json

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.scan import NOT_ORIENTED
from prnet_jax.predict import page
from prnet_jax.predict.page import embedded_prob, write_page
from tests.predict.shown import ABOUT, box, shown

HOSTILE = "</script><script>document.title='broken'</script><!-- $title ${data} \udcff"


class Parsed(html.parser.HTMLParser):
    """The names of the elements, all text, and the embedded data."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.links = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, text):
        self.texts.append(text)
        if self.tags[-1:] == ["script"] and text.startswith("{"):
            self.data = json.loads(text)


def written(tmp_path, prediction, probs=None):
    path = tmp_path / "new" / "a.html"
    probs = [None] * prediction.row["slices"] if probs is None else probs
    write_page(path, prediction, probs, ABOUT)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return Parsed(path.read_text(encoding="utf-8"))


def picture(uri):
    kind, _, content = uri.partition(";base64,")
    assert kind.startswith("data:image/")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"))


def volume(shape=(40, 50, 6)):
    """A ramp from -1000 to 1000 HU across the columns, and a box."""
    pixels = np.broadcast_to(np.linspace(-1000, 1000, shape[1])[None, :, None], shape)
    return np.round(pixels).astype(np.int16), box(shape, (10, 30), (5, 25), (2, 5))


def test_slices_masks_and_areas_can_be_read_back(tmp_path):
    pixels, mask = volume()
    data = written(tmp_path, shown(pixels, mask, (0.8, 0.5, 2.0))).data
    assert data["areas"] == pytest.approx([0, 0, 160, 160, 160, 0])  # 400 pixels of 0.4 mm²
    assert (data["area_unit"], data["start"], data["oriented"]) == ("mm²", 2, True)
    assert data["aspect"] == pytest.approx(50 * 0.5 / (40 * 0.8))
    assert [uri is not None for uri in data["masks"]] == [False, False, True, True, True, False]
    np.testing.assert_array_equal(picture(data["masks"][2]) == 255, mask[..., 2])
    values, levels = np.transpose(data["levels"])
    for z, uri in enumerate(data["slices"]):
        found = np.interp(picture(uri), levels, values)
        # What a level is wide: 8 HU in the lung, 4 in soft tissue, 40 in bone.
        width = np.select([pixels[0, :, z] < -200, pixels[0, :, z] < 300], [8.24, 4], 40)
        error = np.abs(found - pixels[..., z]).mean(axis=0) / width
        assert error.max() < 5
    assert [window["name"] for window in data["windows"]] == ["lung", "soft tissue", "network"]
    assert (data["windows"][2]["low"], data["windows"][2]["high"]) == (-1000, 400)


def test_a_grey_picture(tmp_path):
    pixels = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
    mask = box(pixels.shape, (0, 3), (0, 5))
    parsed = written(tmp_path, shown(pixels, mask, unit="grey", window=(0, 255)))
    data = parsed.data
    assert data["windows"] == [] and len(data["slices"]) == 1 and not data["oriented"]
    assert (data["areas"], data["area_unit"]) == ([15], "px")
    np.testing.assert_allclose(picture(data["slices"][0]).astype(int), pixels, atol=6)
    assert "15 pixels" in " ".join(parsed.texts)


def test_no_side_is_claimed_of_a_file_without_orientation(tmp_path):
    pixels, mask = volume()
    prediction = shown(pixels, mask, (1.0, 1.0, 2.0), notes=[NOT_ORIENTED])
    assert written(tmp_path, prediction).data["oriented"] is False


def test_facts_and_warnings(tmp_path):
    pixels, mask = volume()
    warnings = ["look <b>twice</b>", "and again"]
    parsed = written(tmp_path, shown(pixels, mask, (1.0, 1.0, 2.0), warnings=warnings))
    for text in (*warnings, "2.4 ml", "3 of 6", "1 x 1 mm", "2 mm", "40 x 50 x 6"):
        assert text in parsed.texts, text
    assert {"sha256: ab", "threshold: 0.5"} < {
        line for text in parsed.texts for line in text.splitlines()
    }
    mean = pixels[mask].mean()
    assert f"{mean:.1f} HU" in parsed.texts
    assert "Warnings" not in written(tmp_path, shown(pixels, mask)).texts


def test_a_name_is_only_text(tmp_path):
    pixels, mask = volume()
    honest = written(tmp_path, shown(pixels, mask))
    hostile = written(tmp_path, shown(pixels, mask, stem=HOSTILE))
    assert hostile.tags == honest.tags and hostile.tags.count("script") == 2
    assert hostile.data == honest.data
    assert HOSTILE.replace("\udcff", "?") in hostile.texts
    # Nothing is fetched from anywhere.
    assert hostile.links == []


def test_probabilities_are_coarse_and_right():
    assert embedded_prob(np.zeros((9, 9), np.float32)) is None
    prob = np.float32(np.linspace(0, 1, 384))[:, None] * np.ones((1, 192), np.float32)
    found = picture(embedded_prob(prob))
    assert found.shape == (192, 96) and len(np.unique(found)) == 32
    expected = prob[:, 0].reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(
        found / 255, np.broadcast_to(expected[:, None], found.shape), atol=0.02
    )


def noisy(depth, side=512):
    """A body full of noise, which compresses badly."""
    rng = np.random.default_rng(0)
    across = np.linspace(-1, 1, side)
    body = (across[:, None] ** 2 + across**2 < 0.8) * 1000 - 1000
    noise = rng.normal(0, 40, (side, side, depth))
    mask = np.repeat((body == 0)[..., None], depth, axis=2)
    return (body[..., None] + noise).astype(np.int16), mask


def test_a_page_of_many_slices_stays_small(tmp_path, monkeypatch):
    """A tenth of 300 slices in a tenth of the bytes."""
    monkeypatch.setattr(page, "_PAGE_BYTES", page._PAGE_BYTES // 10)
    pixels, mask = noisy(30)
    rng = np.random.default_rng(1)
    probs = [embedded_prob(rng.random((512, 512), np.float32)) for _ in range(30)]
    data = written(tmp_path, shown(pixels, mask), probs).data
    assert (tmp_path / "new" / "a.html").stat().st_size < 1_500_000
    sides = {picture(uri).shape for uri in data["slices"]}
    assert len(sides) == 1 and min(sides) >= (256, 256)


def test_few_slices_keep_their_pixels(tmp_path):
    pixels, mask = noisy(2)
    data = written(tmp_path, shown(pixels, mask)).data
    assert {picture(uri).shape for uri in data["slices"]} == {(512, 512)}


@pytest.mark.parametrize(
    "mm, area, size",
    [
        ((0.1, 0.1, 1.0), (4, "mm²"), "0.012 ml"),
        ((1.0, 1.0, 1.0), (400, "mm²"), "1.2 ml"),
        ((2.0, 2.0, 50.0), (16, "cm²"), "240 ml"),
        ((2.0, 2.0, 500.0), (16, "cm²"), "2,400 ml"),
        (None, (400, "px"), "1,200 pixels"),
    ],
)
def test_units_suit_the_size(tmp_path, mm, area, size):
    prediction = shown(*volume(), mm)
    data = written(tmp_path, prediction).data
    assert (max(data["areas"]), data["area_unit"]) == (pytest.approx(area[0]), area[1])
    assert prediction.size == size
    areas = {4: "4 mm²", 400: "400 mm²", 16: "16.0 cm²"}
    pixels, mask = (array[..., 2] for array in volume())
    if mm is not None:
        assert shown(pixels, mask, mm).size == areas[area[0]]

"""Slices of a data set, and that every slice comes exactly as often as it should."""

import collections
import gc
import weakref

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data import pipeline, preprocess
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError


class Numbers:
    """In place of `Slices`: item i is a picture of value i."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        image = np.full((2, 2, 1), i, np.float32)
        return {"image": image, "mask": image + 1, "id": f"n{i}"}


def test_each_pass_draws_every_slice_once_across_batch_borders():
    batches = pipeline.train_batches(Numbers(7), batch_size=3, seed=5, num_threads=2)
    drawn = [next(batches) for _ in range(7)]
    ids = np.concatenate([batch["id"] for batch in drawn])
    first, second, third = np.split(ids, 3)
    assert set(first) == set(second) == set(third) == {f"n{i}" for i in range(7)}
    assert list(first) != list(second)
    np.testing.assert_array_equal(np.concatenate([b["draw"] for b in drawn]), np.arange(21))


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_training_ends_at_no_batch_size(batch_size):
    late = pipeline.train_batches(Numbers(7), batch_size, 5, num_threads=1, start_step=10**6)
    assert len(next(late)["id"]) == batch_size


def test_order_follows_from_the_seed_and_can_be_resumed():
    def draws(seed, number=6, iterator=None):
        iterator = iterator or pipeline.train_batches(Numbers(7), 2, seed, num_threads=1)
        return [tuple(next(iterator)["id"]) for _ in range(number)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    iterator = pipeline.train_batches(Numbers(7), 2, 1, num_threads=1)
    for _ in range(2):
        next(iterator)
    state = iterator.get_state()
    later = pipeline.train_batches(Numbers(7), 2, 1, num_threads=2)
    later.set_state(state)
    assert draws(1, 4, later) == draws(1)[2:]


def test_processes_share_the_same_batches(monkeypatch):
    whole = pipeline.train_batches(Numbers(7), 4, 3, num_threads=1)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    parts = []
    for process in range(2):
        monkeypatch.setattr("jax.process_index", lambda process=process: process)
        parts.append(pipeline.train_batches(Numbers(7), 4, 3, num_threads=1))
    for _ in range(5):
        batch, shares = next(whole), [next(part) for part in parts]
        assert [len(share["id"]) for share in shares] == [2, 2]
        pairs = zip(batch["draw"].tolist(), batch["id"].tolist(), strict=True)
        shared = [
            pair
            for share in shares
            for pair in zip(share["draw"].tolist(), share["id"].tolist(), strict=True)
        ]
        assert sorted(shared) == sorted(pairs)


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_sees_every_slice_once(monkeypatch, processes):
    monkeypatch.setattr("jax.process_count", lambda: processes)
    seen = collections.Counter()
    padding = 0
    for process in range(processes):
        monkeypatch.setattr("jax.process_index", lambda process=process: process)
        for batch in pipeline.eval_batches(Numbers(9), batch_size=4, num_threads=2):
            assert batch["image"].shape == (4 // processes, 2, 2, 1)
            for index, image, mask in zip(
                batch["index"], batch["image"], batch["mask"], strict=True
            ):
                if index < 0:
                    padding += 1
                    assert not image.any() and not mask.any()
                else:
                    seen[int(index)] += 1
                    assert (image == index).all()
    assert seen == collections.Counter(range(9))
    assert padding == 3


def test_a_window_of_hu_on_grey_values_is_refused(tiny_config, tmp_path):
    data = tiny_config.dataset
    pixels = np.arange(32 * 32).reshape(32, 32) % 251
    for number in range(3):
        for folder, picture in (("images", pixels + number), ("masks", (pixels > 100) * 255)):
            path = tmp_path / folder / f"p{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(path)
    builder = prepare("image_folder", data.data_dir, tmp_path)
    with pytest.raises(InputError, match=r"grey values from 0 to 255, not HU, .* \(-1000, 400\)"):
        pipeline.open_splits(builder, data)
    data.window_hu = (0.0, 255.0)
    slices = pipeline.open_splits(builder, data)
    assert {split.unit for split in slices.values()} == {"grey"}
    number = int(slices["test"].ids[0][1:])
    np.testing.assert_allclose(slices["test"][0]["image"][0, :3, 0] * 255, number + np.arange(3))
    ((id, patient_id, stored),) = slices["test"].stored()
    assert id == patient_id == f"p{number}"
    np.testing.assert_array_equal(stored, pixels + number)
    np.testing.assert_array_equal(slices["test"].outline(0, "mask"), pixels > 100)


def test_slices_of_the_phantom(tiny_config):
    data = tiny_config.dataset
    builder = prepare(data.name, data.data_dir, **data.options)
    slices = pipeline.Slices(builder, "train", data)
    assert len(slices) == len(slices.ids) == len(set(slices.ids)) == 8
    assert slices.unit == "HU"
    item = slices[3]
    assert item["image"].shape == item["mask"].shape == (32, 32, 1)
    assert item["image"].dtype == item["mask"].dtype == np.float32
    assert item["image"].min() >= 0 and item["image"].max() <= 1
    assert set(np.unique(item["mask"])) == {0.0, 1.0}
    assert item["id"] == slices.ids[3]
    data.image_size = 16
    half = pipeline.Slices(builder, "train", data)[3]
    np.testing.assert_allclose(half["spacing_mm"], 2 * item["spacing_mm"])
    np.testing.assert_allclose(
        half["image"][..., 0], preprocess.resize_image(item["image"][..., 0], 16), atol=1e-6
    )
    data.mask = "lungs"
    with pytest.raises(InputError, match="no mask 'lungs': .* one of mask, nodule_mask"):
        pipeline.Slices(builder, "train", data)


def test_slices_are_kept_only_with_the_cache(tiny_config):
    data = tiny_config.dataset
    builder = prepare(data.name, data.data_dir, **data.options)
    data.cache = True
    kept = pipeline.Slices(builder, "test", data)
    assert kept[0]["image"] is kept[0]["image"]
    data.cache = False
    fresh = pipeline.Slices(builder, "test", data)
    item = fresh[0]
    image = weakref.ref(item["image"])
    for name in ("image", "mask"):
        np.testing.assert_array_equal(item[name], kept[0][name])
    del item
    gc.collect()
    assert image() is None

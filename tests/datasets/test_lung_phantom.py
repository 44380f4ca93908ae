"""The lung phantom: what is in a slice, and what a build of it holds."""

import collections
import hashlib
import sys

import numpy as np
import pytest
from scipy import ndimage

from prnet_jax.datasets.lung_phantom import lung_phantom_dataset_builder as lung_phantom
from prnet_jax.datasets.lung_phantom.phantom import PADDING, make_slice
from prnet_jax.errors import InputError
from tests.datasets.prepared import read

SIZE = 128  # the chest does not depend on it


@pytest.fixture(scope="module")
def slices():
    return [make_slice(index, size=SIZE) for index in range(40)]


def _bytes(made):
    return made.hu.tobytes() + made.lung.tobytes() + made.nodule.tobytes()


def test_a_slice_depends_on_seed_and_index_alone(slices):
    np.random.seed(1)  # the global generator must not matter
    assert _bytes(make_slice(7, size=SIZE)) == _bytes(slices[7])
    assert _bytes(make_slice(7, seed=1, size=SIZE)) != _bytes(slices[7])
    assert len({_bytes(made) for made in slices}) == len(slices)


def test_the_data_of_this_version(slices):
    """Where the drawing is changed on purpose, raise Builder.VERSION and put the new sum here."""
    assert lung_phantom.Builder.VERSION == "1.1.0"
    digest = hashlib.sha256(b"".join(map(_bytes, slices))).hexdigest()
    assert digest.startswith("2fbe4a8533905234")


def test_full_size_slice():
    made = make_slice(0)
    assert made.hu.shape == made.lung.shape == made.nodule.shape == (512, 512)
    assert (made.hu.dtype, made.lung.dtype, made.nodule.dtype) == (np.int16, bool, bool)
    assert _bytes(make_slice(0)) == _bytes(made)
    small = make_slice(0, size=SIZE)
    assert small.spacing_mm[0] == pytest.approx(made.spacing_mm[0] * 512 / SIZE)
    assert small.hu.min() == made.hu.min()  # the padding
    assert small.nodule.any() == made.nodule.any()
    halves = made.lung.reshape(SIZE, 4, SIZE, 4).mean((1, 3)) > 0.5
    both = (halves & small.lung).sum() * 2 / (halves.sum() + small.lung.sum())
    assert both > 0.98


def test_share_of_lung_is_that_of_the_real_set(slices):
    share = np.array([made.lung.mean() for made in slices])
    assert 0.20 < share.mean() < 0.28  # 0.233 in the 264 real slices
    assert 0.03 < share.std() < 0.08
    assert share.min() > 0.05 and share.max() < 0.45


def test_hounsfield_units(slices):
    for made in slices:
        inner = ndimage.binary_erosion(made.lung, iterations=2)
        assert -930 < np.median(made.hu[inner]) < -700
        lower = inner & (np.arange(SIZE)[:, None] > np.nonzero(inner)[0].mean())
        assert np.median(made.hu[lower]) > np.median(made.hu[inner & ~lower]) - 15
        ring = ndimage.binary_dilation(made.lung, iterations=3)
        ring &= ~ndimage.binary_dilation(made.lung)
        assert -60 < np.median(made.hu[ring]) < 300  # soft tissue, and ribs close by
        assert made.hu.max() > 400  # bone


def test_two_lungs(slices):
    counts = []
    for made in slices:
        labels, count = ndimage.label(made.lung)
        areas = np.bincount(labels.ravel())[1:] * np.prod(made.spacing_mm)
        assert areas.min() >= 249  # no crumbs
        counts.append(count)
    assert np.mean(np.array(counts) == 2) > 0.8


def test_nodules_lie_in_the_lungs_and_are_seen(slices):
    diameters = []
    for made in slices:
        assert not (made.nodule & ~made.lung).any()
        labels, count = ndimage.label(made.nodule)
        areas = np.bincount(labels.ravel())[1:] * np.prod(made.spacing_mm)
        diameters += list(2 * np.sqrt(areas / np.pi))
        core = ndimage.binary_erosion(made.nodule)
        if core.sum() > 5:
            inner = ndimage.binary_erosion(made.lung, iterations=2)
            assert made.hu[core].mean() > np.median(made.hu[inner & ~made.nodule]) + 100
    with_nodule = np.mean([made.nodule.any() for made in slices])
    assert 0.4 < with_nodule < 0.9
    assert max(diameters) < 40 and max(diameters) > 12  # two may touch


def test_padding_and_spacing_vary(slices):
    corners = {int(made.hu[0, 0]) for made in slices}
    assert {value for value in PADDING if value is not None} <= corners
    spacing = np.array([made.spacing_mm for made in slices]) * SIZE / 512
    assert (spacing[:, 0] == spacing[:, 1]).all()
    assert spacing.min() >= 0.55 and spacing.max() <= 0.95
    assert np.ptp(spacing) > 0.15


def test_build_and_read_back(tmp_path):
    config = lung_phantom.make_config(size=64, num_slices=(3, 1, 2), seed=5)
    builder = lung_phantom.Builder(data_dir=tmp_path, config=config, file_format="array_record")
    builder.download_and_prepare()
    found = read(builder)
    splits = collections.Counter(record["split"] for record in found.values())
    assert splits == {"train": 3, "validation": 1, "test": 2}
    for id, record in found.items():
        assert record["patient"] == id
        made = make_slice(int(id.removeprefix("phantom5_")), seed=5, size=64)
        np.testing.assert_array_equal(record["pixels"], made.hu)
        np.testing.assert_array_equal(record["mask"], made.lung)
        np.testing.assert_array_equal(record["nodule_mask"], made.nodule)
        np.testing.assert_array_equal(record["spacing"], np.float32(made.spacing_mm))
    assert sorted(found) == [f"phantom5_{index:04d}" for index in range(6)]
    assert "tensorflow" not in sys.modules


def test_default_config_is_264_slices(tmp_path):
    builder = lung_phantom.Builder(data_dir=tmp_path, config=lung_phantom.make_config())
    assert builder.builder_config.num_slices == (211, 26, 27)
    assert builder.builder_config.size == 512
    assert builder.info.citation.startswith("@misc")  # the folder's own files are found


def test_options_name_the_directory():
    names = [
        lung_phantom.make_config(**options).name
        for options in ({}, {"seed": 1}, {"size": 64}, {"num_slices": [8, 2, 2]})
    ]
    assert names == [
        "default",
        "seed1_size512_n211-26-27",
        "seed0_size64_n211-26-27",
        "seed0_size512_n8-2-2",
    ]


@pytest.mark.parametrize(
    "options",
    [{"size": 8}, {"seed": -1}, {"num_slices": (3, 1)}, {"num_slices": (3, 0, 1)}],
)
def test_bad_options_are_refused_in_one_line(options):
    with pytest.raises(InputError) as error:
        lung_phantom.make_config(**options)
    assert "\n" not in str(error.value) and next(iter(options)) in str(error.value)

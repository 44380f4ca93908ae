"""The lung phantom: what is in a slice, what a switch changes, and what a build of it holds."""

import collections
import hashlib
import sys

import numpy as np
import pytest
from scipy import ndimage

from prnet_jax.datasets.lung_phantom import lung_phantom_dataset_builder as lung_phantom
from prnet_jax.datasets.lung_phantom.person import FEATURES, Person
from prnet_jax.datasets.lung_phantom.phantom import cut, make_slice
from prnet_jax.datasets.lung_phantom.scanner import PADDING, Scan
from prnet_jax.errors import InputError
from tests.datasets.prepared import read

SIZE = 96  # the person does not depend on it
PLAIN = dict.fromkeys(FEATURES, False)


@pytest.fixture(scope="module")
def slices():
    return [make_slice(index, size=SIZE) for index in range(48)]


@pytest.fixture(scope="module")
def chests(slices):
    """Those with much lung."""
    return [made for made in slices if made.lung.mean() > 0.05]


def _bytes(made):
    return made.hu.tobytes() + made.lung.tobytes() + made.nodule.tobytes()


def test_a_slice_depends_on_seed_and_index_alone(slices):
    np.random.seed(1)  # the global generator must not matter
    assert _bytes(make_slice(7, size=SIZE)) == _bytes(slices[7])
    assert _bytes(make_slice(7, seed=1, size=SIZE)) != _bytes(slices[7])
    assert len({_bytes(made) for made in slices}) == len(slices)


def test_the_data_of_this_version(slices):
    """Where the drawing is changed on purpose, raise Builder.VERSION and put the new sum here."""
    assert lung_phantom.Builder.VERSION == "2.1.0"
    digest = hashlib.sha256(b"".join(map(_bytes, slices))).hexdigest()
    assert digest.startswith("074a2c2c208ab3ff")


def test_full_size_slice(slices):
    index = next(i for i, made in enumerate(slices) if made.lung.mean() > 0.2)
    made = make_slice(index)
    assert made.hu.shape == made.lung.shape == made.nodule.shape == (512, 512)
    assert (made.hu.dtype, made.lung.dtype, made.nodule.dtype) == (np.int16, bool, bool)
    small = make_slice(index, size=128)
    assert small.spacing_mm[0] == pytest.approx(made.spacing_mm[0] * 4)
    assert small.hu[0, 0] == made.hu[0, 0] or abs(small.hu[0, 0] - made.hu[0, 0]) < 500
    halves = made.lung.reshape(128, 4, 128, 4).mean((1, 3)) > 0.5
    both = (halves & small.lung).sum() * 2 / (halves.sum() + small.lung.sum())
    assert both > 0.98


def test_share_of_lung_is_that_of_the_real_set(chests):
    share = np.array([made.lung.mean() for made in chests])
    assert 0.16 < share.mean() < 0.27  # 0.233 in the 264 real slices, none of them at apex or base
    assert 0.04 < share.std() < 0.12
    assert share.max() < 0.5


def test_slices_without_lung(slices):
    empty = [made for made in slices if not made.lung.any()]
    assert 0.12 < len(empty) / len(slices) < 0.45
    for made in empty:
        assert not made.nodule.any()
        assert made.body.any()


def test_the_lungs_lie_in_the_body(slices):
    for made in slices:
        assert not (made.lung & ~made.body).any()
        assert not (made.nodule & ~made.lung).any()


def test_hounsfield_units():
    for index in range(8):
        person = Person.draw(3, index, PLAIN)
        made = cut(person, -0.5 * person.height, SIZE)
        inner = ndimage.binary_erosion(made.lung, iterations=2)
        assert -930 < np.median(made.hu[inner]) < -700
        ring = ndimage.binary_dilation(made.lung, iterations=3)
        ring &= ~ndimage.binary_dilation(made.lung)
        assert -100 < np.median(made.hu[ring]) < 300  # soft tissue, and ribs close by
        assert made.hu.max() > 300  # bone
        outside = ~ndimage.binary_dilation(made.body, iterations=2)
        assert np.median(made.hu[outside]) < -900


@pytest.mark.parametrize("number", range(2))
def test_lungs_only_between_their_top_and_base(number):
    person = Person.draw(5, number, {"one_lung": False, "effusion": False})
    for level in (-0.7, -0.2, -0.01, 1.01, 1.3, 2.0):
        assert not cut(person, -level * person.height, SIZE).lung.any()
    areas = [cut(person, -level * person.height, SIZE).lung.sum() for level in (0.04, 0.5, 0.97)]
    assert 0 < areas[0] < areas[1] > 2 * areas[2]


def _pair(feature, number=0, level=0.5, size=SIZE):
    """The same slice of a person with a feature and without."""
    persons = [Person.draw(8, number, PLAIN | {feature: on}) for on in (True, False)]
    return [cut(person, -level * person.height, size) for person in persons]


def test_two_lungs_and_one():
    for number in range(3):
        both, one = _pair("one_lung", number, level=0.28)[::-1]
        assert ndimage.label(both.lung)[1] == 2
        labels, count = ndimage.label(one.lung)
        largest = np.bincount(labels.ravel())[1:].max()
        assert largest > 0.9 * one.lung.sum() and one.lung.sum() < 0.75 * both.lung.sum()


def test_the_windpipe_is_no_lung():
    for number in range(4):
        person = Person.draw(7, number, PLAIN)
        made = cut(person, -0.12 * person.height, 192)
        inner = ndimage.binary_erosion(made.body, iterations=6)
        air = (made.hu < -600) & inner & ~ndimage.binary_dilation(made.lung, iterations=2)
        _, count = ndimage.label(ndimage.binary_opening(air))
        assert count == 1


@pytest.mark.parametrize("feature", ["table", "blanket", "cushion", "clothes"])
def test_things_around_the_person(feature):
    found = [_pair(feature, number) for number in range(4)]
    denser = [(on.hu > off.hu + 60) & ~off.body for on, off in found]
    assert sum(mask.any() for mask in denser) >= 2
    for on, off in found:
        np.testing.assert_array_equal(on.lung, off.lung)
        inner = ndimage.binary_erosion(off.body, iterations=3)
        np.testing.assert_array_equal(on.hu[inner], off.hu[inner])


def test_arms_lie_beside_the_trunk_or_over_the_head():
    down, up = _pair("arms_down", level=0.6)
    assert down.body.sum() > up.body.sum()
    down, up = _pair("arms_down", level=-0.5)
    assert up.body.sum() > down.body.sum()


@pytest.mark.parametrize("feature", ["breasts", "implants"])
def test_breasts_change_the_body_alone(feature):
    on, off = _pair(feature)
    assert on.body.sum() > off.body.sum()
    np.testing.assert_array_equal(on.lung, off.lung)


def test_an_effusion_is_no_lung():
    left = []
    for number in range(4):
        on, off = _pair("effusion", number, level=0.75)
        assert not (on.lung & ~off.lung).any()
        left.append(on.lung.sum() / off.lung.sum())
        fluid = ndimage.binary_erosion(off.lung & ~on.lung, iterations=2)
        assert not fluid.any() or -30 < np.median(on.hu[fluid]) < 80
    assert min(left) < 0.95


@pytest.mark.parametrize(
    ("feature", "darker"), [("emphysema", True), ("fibrosis", False), ("consolidation", False)]
)
def test_diseases_of_the_lung_tissue(feature, darker):
    change = []
    for number in range(6):
        on, off = _pair(feature, number, level=0.7)
        np.testing.assert_array_equal(on.lung, off.lung)
        change.append(on.hu[off.lung].mean() - off.hu[off.lung].mean())
    assert (np.mean(change) < -1) if darker else (np.mean(change) > 3)


@pytest.mark.parametrize("feature", ["nodules", "mass"])
def test_nodules_are_marked_and_seen(feature):
    seen = 0
    for number in range(3):
        person = Person.draw(8, number, PLAIN | {feature: True})
        for level in (0.25, 0.4, 0.55, 0.7):
            made = cut(person, -level * person.height, SIZE)
            core = ndimage.binary_erosion(made.nodule)
            if core.any():
                seen += 1
                rest = ndimage.binary_erosion(made.lung, iterations=2) & ~made.nodule
                assert made.hu[core].mean() > np.median(made.hu[rest]) + 80
    assert seen >= 2
    assert not cut(Person.draw(8, 0, PLAIN), -100.0, 64).nodule.any()


@pytest.mark.parametrize(
    ("feature", "level"), [("stomach_gas", 0.95), ("bowel_gas", 1.5), ("gullet_air", 0.2)]
)
def test_air_that_is_no_lung(feature, level):
    more = []
    for number in range(5):
        on, off = _pair(feature, number, level, size=160)
        inner = ndimage.binary_erosion(on.body, iterations=8) & ~on.lung
        more.append((on.hu[inner] < -600).sum() - (off.hu[inner] < -600).sum())
        np.testing.assert_array_equal(on.lung, off.lung)
    assert max(more) > 2 and min(more) >= 0


def test_contrast_medium_and_metal():
    on, off = _pair("contrast", level=0.55)
    assert np.percentile(on.hu[on.body], 90) > np.percentile(off.hu[off.body], 90) + 20
    changed = []
    for number in range(6):
        with_metal, without = _pair("metal", number, level=0.4)
        changed.append(np.abs(with_metal.hu - without.hu).max())
    assert max(changed) > 500


def test_position_and_reading():
    prone, supine = _pair("prone", level=0.5)
    assert (prone.lung[::-1, ::-1] & supine.lung).sum() > 0.7 * supine.lung.sum()
    assert (prone.lung & supine.lung).sum() < 0.95 * supine.lung.sum()
    found = set()
    for number in range(12):
        turned, straight = _pair("rotated_picture", number, size=48)
        for quarters in range(4):
            for flipped in (False, True):
                picture = np.rot90(straight.hu, quarters)
                if np.array_equal(turned.hu, picture[:, ::-1] if flipped else picture):
                    found.add((quarters, flipped))
    assert len(found) >= 5


def test_scaled_hounsfield_units_and_padding():
    slopes = []
    for number in range(4):
        on, off = _pair("scaled_hu", number, size=64)
        soft = (off.hu > -900) & (off.hu < 1500)
        slopes.append(np.polyfit(off.hu[soft], on.hu[soft], 1)[0])
        assert slopes[-1] == pytest.approx(_scan(number, "scaled_hu").gain, abs=0.02)
    assert len(set(slopes)) == 4
    gains = [_scan(number, "scaled_hu").gain for number in range(200)]
    assert 0.7 < min(gains) < 0.76 and 1.02 < max(gains) < 1.15
    found = {_scan(number, "padding").padding for number in range(200)}
    assert found == set(PADDING)
    corners = [int(_pair("padding", number, size=32)[0].hu[0, 0]) for number in range(3)]
    assert corners == [_scan(number, "padding").padding for number in range(3)]


def _scan(number, feature):
    return Scan.draw(Person.draw(8, number, PLAIN | {feature: True}))


def test_thick_slices_are_the_mean_of_thin_ones():
    for number in range(3):
        thick, thin = _pair("thick", number, level=0.75)
        both = (thick.lung & thin.lung).sum() * 2 / (thick.lung.sum() + thin.lung.sum())
        assert both > 0.95
        detail = [
            np.abs(np.diff(made.hu[thin.lung].astype(float))).mean() for made in (thick, thin)
        ]
        assert detail[0] < detail[1]


def test_an_unknown_feature_is_refused():
    with pytest.raises(InputError, match="tail"):
        make_slice(0, size=32, features={"tail": True})


def test_slices_of_one_person_agree():
    first, second = (make_slice(index, size=64, per_person=3) for index in (6, 7))
    assert first.spacing_mm == second.spacing_mm
    assert not np.array_equal(first.hu, second.hu)
    assert make_slice(9, size=64, per_person=3).spacing_mm != first.spacing_mm


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


def test_a_person_with_several_slices_is_in_one_split(tmp_path):
    config = lung_phantom.make_config(size=32, num_slices=(5, 2, 1), slices_per_person=2)
    builder = lung_phantom.Builder(data_dir=tmp_path, config=config, file_format="array_record")
    builder.download_and_prepare()
    found = read(builder)
    of_split = collections.defaultdict(set)
    for record in found.values():
        of_split[record["split"]].add(record["patient"])
    train = {f"phantom_{number:04d}" for number in range(3)}
    assert of_split == {"train": train, "validation": {"phantom_0003"}, "test": {"phantom_0004"}}
    np.testing.assert_array_equal(
        found["phantom_0001_001"]["pixels"], make_slice(3, size=32, per_person=2).hu
    )


def test_default_config_is_264_slices(tmp_path):
    builder = lung_phantom.Builder(data_dir=tmp_path, config=lung_phantom.make_config())
    assert builder.builder_config.num_slices == (211, 26, 27)
    assert builder.builder_config.size == 512
    assert builder.info.citation.startswith("@misc")  # the folder's own files are found


def test_options_name_the_directory():
    names = [
        lung_phantom.make_config(**options).name
        for options in (
            {},
            {"seed": 1},
            {"size": 64},
            {"num_slices": [8, 2, 2]},
            {"slices_per_person": 4},
        )
    ]
    assert names == [
        "default",
        "seed1_size512_n211-26-27",
        "seed0_size64_n211-26-27",
        "seed0_size512_n8-2-2",
        "seed0_size512_n211-26-27_each4",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8},
        {"seed": -1},
        {"num_slices": (3, 1)},
        {"num_slices": (3, 0, 1)},
        {"slices_per_person": 0},
    ],
)
def test_bad_options_are_refused_in_one_line(options):
    with pytest.raises(InputError) as error:
        lung_phantom.make_config(**options)
    assert "\n" not in str(error.value) and next(iter(options)) in str(error.value)

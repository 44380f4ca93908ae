"""Surface distances against hand-computed cases, SciPy and brute force."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial import distance

from prnet_jax import metrics
from prnet_jax.metrics.surface import surface, surface_distances

masks = hnp.arrays(bool, (9, 7))
spacings = st.tuples(*[st.floats(0.25, 4)] * 2)


def brute_force(pred, target, spacing):
    """Surfaces pixel by pixel, then all pairs of distances: from pred, from target."""

    def points(mask):
        padded = np.pad(mask, 1)
        found = []
        for row, column in np.argwhere(padded):
            neighbours = [
                (row - 1, column),
                (row + 1, column),
                (row, column - 1),
                (row, column + 1),
            ]
            if not all(padded[neighbour] for neighbour in neighbours):
                found.append(((row - 1) * spacing[0], (column - 1) * spacing[1]))
        return np.array(found)

    pairs = distance.cdist(points(pred), points(target))
    return pairs.min(axis=1), pairs.min(axis=0)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_surface_is_what_an_erosion_takes_away(mask):
    np.testing.assert_array_equal(surface(mask), mask & ~ndimage.binary_erosion(mask))


@given(
    pred=hnp.arrays(bool, (4, 5, 3)),
    target=hnp.arrays(bool, (4, 5, 3)),
    spacing=st.tuples(*[st.floats(0.25, 4)] * 3),
)
def test_a_volume_has_the_surface_of_an_erosion_and_scipys_distances(pred, target, spacing):
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (pred, target)]
    np.testing.assert_array_equal(surface(pred), edges[0])
    assume(pred.any() and target.any())
    there, back = (
        ndimage.distance_transform_edt(~goal, sampling=spacing)[start]
        for start, goal in (edges, edges[::-1])
    )
    found = surface_distances(pred, target, spacing)
    for distances, expected in zip(found, (there, back), strict=True):
        np.testing.assert_allclose(distances, expected, atol=1e-9)
    expected = max(there.max(), back.max())
    assert metrics.hausdorff(pred, target, spacing) == pytest.approx(expected, abs=1e-9)


def test_surface_by_hand():
    mask = np.zeros((5, 6), bool)
    mask[0:4, 0:4] = True
    expected = mask.copy()
    expected[1:3, 1:3] = False  # rows 0 and column 0 lie on the picture's edge: surface
    np.testing.assert_array_equal(surface(mask), expected)
    assert not surface(np.zeros((3, 3), bool)).any()


def test_hausdorff_by_hand():
    pred, target = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    pred[1, 1] = True
    target[1, 1] = target[4, 5] = True
    assert metrics.hausdorff(pred, target) == 5.0  # 3 rows and 4 columns apart
    assert metrics.hausdorff(pred, target, spacing=(4.0, 1.25)) == 13.0  # 12 and 5
    # From pred: {0}. From target: {0, 5}. Together: {0, 0, 5}.
    assert metrics.hausdorff(pred, target, percentile=50) == 2.5
    assert metrics.hausdorff(pred, target, percentile=50, definition="pooled") == 0.0
    assert metrics.hausdorff(pred, target, percentile=75, definition="pooled") == 2.5


def test_assd_and_surface_dice_by_hand():
    pred, target = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    pred[1, 1] = True
    target[1, 1] = target[4, 5] = True
    # From pred: {0}. From target: {0, 5}. The mean of the two means would be 1.25.
    assert metrics.assd(pred, target) == pytest.approx(5 / 3, abs=1e-15)
    assert metrics.assd(pred, target, (4.0, 1.25)) == pytest.approx(13 / 3, abs=1e-15)
    assert metrics.surface_dice(pred, target, 0) == pytest.approx(2 / 3)
    assert metrics.surface_dice(pred, target, 4.999) == pytest.approx(2 / 3)
    assert metrics.surface_dice(pred, target, 5) == 1.0
    assert metrics.surface_dice(pred, target, 12.9, (4.0, 1.25)) == pytest.approx(2 / 3)


def test_a_tolerance_forgives_the_rounding_of_a_spacing():
    pred, target = np.zeros((1, 30), bool), np.zeros((1, 30), bool)
    pred[0, 0] = target[0, 20] = True
    spacing = (1.0, float(np.float32(0.1)))
    assert metrics.hausdorff(pred, target, spacing) > 2
    assert metrics.surface_dice(pred, target, 2, spacing) == 1.0
    assert metrics.surface_dice(pred, target, 1.9999, spacing) == 0.0


def test_a_hole_counts_because_the_surface_does():
    solid = np.zeros((11, 11), bool)
    solid[1:10, 1:10] = True
    hollow = solid.copy()
    hollow[5, 5] = False
    # The pixels around the hole are 3 from the solid's surface, and the solid has none within.
    assert metrics.hausdorff(hollow, solid) == 3.0


@given(pred=masks, target=masks, spacing=spacings, percentile=st.sampled_from([100, 95, 50, 12.5]))
def test_hausdorff_equals_brute_force(pred, target, spacing, percentile):
    assume(pred.any() and target.any())
    from_pred, from_target = brute_force(pred, target, spacing)
    both = np.concatenate([from_pred, from_target])
    expected = {
        "max": max(np.percentile(from_pred, percentile), np.percentile(from_target, percentile)),
        "pooled": np.percentile(both, percentile),
    }
    for definition, value in expected.items():
        found = metrics.hausdorff(pred, target, spacing, percentile, definition)
        assert found == pytest.approx(value, abs=1e-9)
    assert metrics.assd(pred, target, spacing) == pytest.approx(np.mean(both), abs=1e-9)
    for tolerance in (0, 0.9, 2.1):
        within = np.mean(both <= tolerance * (1 + 1e-6))
        assert metrics.surface_dice(pred, target, tolerance, spacing) == within


@pytest.mark.parametrize("seed", range(3))
def test_hausdorff_equals_scipy_on_large_blobs(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :120]
    pred, target = (
        ((rows - rng.uniform(30, 60)) / 20) ** 2 + ((columns - rng.uniform(40, 80)) / 30) ** 2 < 1
        for _ in range(2)
    )
    spacing = (0.7, 0.9)
    points = [np.argwhere(surface(mask)) * spacing for mask in (pred, target)]
    directed = [distance.directed_hausdorff(*order)[0] for order in (points, points[::-1])]
    assert metrics.hausdorff(pred, target, spacing) == pytest.approx(max(directed), abs=1e-9)


@given(
    pred=masks,
    target=masks,
    spacing=spacings,
    factor=st.floats(0.5, 2),
    q=st.floats(0, 100),
    tolerance=st.floats(0, 5),
)
def test_symmetry_identity_scale_and_translation(pred, target, spacing, factor, q, tolerance):
    assume(pred.any() and target.any())
    for definition in ("max", "pooled"):
        value = metrics.hausdorff(pred, target, spacing, q, definition)
        assert metrics.hausdorff(target, pred, spacing, q, definition) == value
        assert metrics.hausdorff(pred, pred, spacing, q, definition) == 0
        scaled = tuple(factor * step for step in spacing)
        assert metrics.hausdorff(pred, target, scaled, q, definition) == pytest.approx(
            factor * value, abs=1e-9
        )
        moved = [np.pad(mask, ((3, 1), (2, 5))) for mask in (pred, target)]
        assert metrics.hausdorff(*moved, spacing, q, definition) == pytest.approx(value, abs=1e-12)
    mean = metrics.assd(pred, target, spacing)
    assert metrics.assd(target, pred, spacing) == mean
    assert metrics.assd(pred, pred, spacing) == 0
    assert metrics.assd(pred, target, scaled) == pytest.approx(factor * mean, abs=1e-9)
    assert metrics.assd(*moved, spacing) == pytest.approx(mean, abs=1e-12)
    share = metrics.surface_dice(pred, target, tolerance, spacing)
    assert metrics.surface_dice(target, pred, tolerance, spacing) == share
    assert metrics.surface_dice(pred, pred, 0, spacing) == 1
    assert metrics.surface_dice(pred, target, factor * tolerance, scaled) == share
    assert metrics.surface_dice(*moved, tolerance, spacing) == share
    assert metrics.surface_dice(pred, target, tolerance + 0.5, spacing) >= share
    assert metrics.surface_dice(pred, target, 1e3, spacing) == 1


def test_empty_masks():
    empty, full = np.zeros((4, 5), bool), np.ones((4, 5), bool)
    assert math.isnan(metrics.hausdorff(empty, empty))
    assert (
        metrics.hausdorff(empty, full) == metrics.hausdorff(full, empty, percentile=5) == math.inf
    )
    assert math.isnan(metrics.assd(empty, empty))
    assert metrics.assd(empty, full) == metrics.assd(full, empty) == math.inf
    assert math.isnan(metrics.surface_dice(empty, empty, 1))
    assert metrics.surface_dice(empty, full, 100) == metrics.surface_dice(full, empty, 100) == 0
    with pytest.raises(ValueError, match="no surface"):
        surface_distances(full, empty)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": (1.0, 0.0)}, "spacing"),
        ({"spacing": (1.0, math.nan)}, "spacing"),
        ({"spacing": (1.0,)}, "spacing"),
        ({"percentile": 101}, "percentile"),
        ({"definition": "mean"}, "definition"),
        ({"spacing": (1.0, 1.0, 1.0)}, "2 positive numbers"),
        ({"pred": np.ones((5, 4), bool)}, "same shape"),
        ({"pred": np.ones((4, 5, 1), bool)}, "same shape"),
        ({"pred": np.full((4, 5), 0.5)}, "0 and 1"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"pred": np.ones((4, 5), bool), "target": np.ones((4, 5), bool)} | change
    with pytest.raises(ValueError, match=message):
        metrics.hausdorff(**arguments)
    if message not in ("percentile", "definition"):
        for empty in (False, True):
            arguments["target"] = np.full((4, 5), not empty)
            with pytest.raises(ValueError, match=message):
                metrics.assd(**arguments)
            with pytest.raises(ValueError, match=message):
                metrics.surface_dice(**arguments, tolerance=1)


@pytest.mark.parametrize("tolerance", [-1, -1e-9, math.nan])
@pytest.mark.parametrize("pred", [np.ones((4, 5), bool), np.zeros((4, 5), bool)])
def test_bad_tolerances_are_refused(pred, tolerance):
    with pytest.raises(ValueError, match="tolerance must be 0 or more"):
        metrics.surface_dice(pred, np.ones((4, 5), bool), tolerance)


def test_a_large_pair_costs_two_transforms_of_the_box_around_both(monkeypatch):
    """They are the cost: 10 ms for two lungs of 512x512, 45 ms where the box is the picture."""
    calls = []
    transform = ndimage.distance_transform_edt

    def recorded(image, **how):
        calls.append((image.shape, how["return_distances"]))
        return transform(image, **how)

    monkeypatch.setattr(ndimage, "distance_transform_edt", recorded)
    pred, target = np.zeros((2, 512, 512), bool)
    pred[100:150, 200:260] = True
    target[110:170, 190:240] = True
    there, back = surface_distances(pred, target)
    assert calls == [((70, 70), False)] * 2
    assert max(there.max(), back.max()) == math.hypot(10, 20)  # the corner (100, 259) to (110, 239)

"""Scores of volumes: by hand on cuboids, against brute force, and where they cannot be measured."""

import math

import numpy as np
import pytest
from scipy.spatial import distance

from prnet_jax.metrics import POLICIES
from prnet_jax.metrics.names import VOLUME_METRIC_NAMED
from prnet_jax.metrics.volumes import (
    UNKNOWN,
    VOLUME_METRICS,
    Stack,
    VolumeScores,
    summarize_volumes,
    volume_and_number,
)

DISTANCES = VOLUME_METRICS[4:]
SPACING = (0.5, 0.8, 3.0)  # row, column, slice


def scored(pred, target, spacing=SPACING, policy="penalise", order=None, stack=None):
    """The row of a volume [H, W, D], given slice by slice."""
    depth = pred.shape[2]
    scores = VolumeScores(policy, lambda name: stack or Stack(depth, spacing[2]))
    for z in range(depth) if order is None else order:
        about = {"id": f"v_z{z:04d}", "patient_id": "p", "spacing_mm": spacing[:2]}
        scores.add(about, pred[..., z], target[..., z])
    (row,) = scores.rows()
    return row


def cuboid(rows, columns, slices):
    mask = np.zeros((12, 10, 8), bool)
    mask[slice(*rows), slice(*columns), slice(*slices)] = True
    return mask


def surface_points(mask, spacing):
    padded = np.pad(mask, 1)
    steps = [*np.eye(3, dtype=int), *-np.eye(3, dtype=int)]
    inner = [all(padded[tuple(v + s)] for s in steps) for v in np.argwhere(padded)]
    return (np.argwhere(padded)[~np.array(inner)] - 1) * spacing


def test_names():
    assert VOLUME_METRICS == (
        *("dsc_3d", "iou_3d", "sen_3d", "ppv_3d"),
        *("hd_mm_3d", "hd95_mm_3d", "hd95_pooled_mm_3d", "assd_mm_3d", "surface_dice_2mm_3d"),
    )
    labels = [VOLUME_METRIC_NAMED[name].label for name in ("dsc_3d", "hd95_mm_3d")]
    assert labels == ["3-D DSC %", "3-D HD95 mm"]
    assert volume_and_number("a/b_z0042") == ("a/b", 42)
    assert volume_and_number("a_z042") is None


@pytest.mark.parametrize(
    ("shift", "hd"),
    [((0, 0, 1), 3.0), ((0, 2, 0), 1.6), ((3, 0, 0), 1.5), ((0, 1, 1), math.hypot(0.8, 3.0))],
)
def test_a_moved_cuboid_by_hand(shift, hd):
    """4 x 3 x 3 voxels; every voxel of it is as far from the moved one as it was moved, at most."""
    target = cuboid((2, 6), (2, 5), (1, 4))
    row = scored(np.roll(target, shift, (0, 1, 2)), target)
    left = [(n - abs(k)) / n for n, k in zip((4, 3, 3), shift, strict=True)]
    assert row["dsc_3d"] == pytest.approx(np.prod(left))
    assert row["hd_mm_3d"] == pytest.approx(hd)
    assert row["no_distances"] == "" and row["spacing_slice_mm"] == 3.0


def test_two_voxels_by_hand():
    """From pred: {0}. From target: {0, 6}, two slices above. The mean of all three is 2."""
    target = cuboid((1, 2), (1, 2), (1, 2)) | cuboid((1, 2), (1, 2), (3, 4))
    row = scored(cuboid((1, 2), (1, 2), (1, 2)), target)
    found = [row[name] for name in DISTANCES]
    expected = [6.0, 5.7, 5.4, 2.0, 2 / 3]  # hd, hd95 of {0, 6} and of {0, 0, 6}, assd, surface
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_distances_equal_brute_force_in_any_order_of_slices(seed):
    generator = np.random.default_rng(seed)
    spacing = tuple(generator.uniform(0.4, 4, 3))
    pred, target = (
        cuboid(*np.sort(generator.choice(9, (3, 2), replace=False), 1) + [0, 1])
        & (generator.random((12, 10, 8)) < share)
        for share in (0.9, 0.7)
    )
    pred[0, 0, 0] = target[5, 5, 5] = True
    points = [surface_points(mask, spacing) for mask in (pred, target)]
    pairs = distance.cdist(*points)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    both = np.concatenate([there, back])
    row = scored(pred, target, spacing, order=generator.permutation(8))
    expected = {
        "hd_mm_3d": both.max(),
        "hd95_mm_3d": max(np.percentile(there, 95), np.percentile(back, 95)),
        "hd95_pooled_mm_3d": np.percentile(both, 95),
        "assd_mm_3d": both.mean(),
        "surface_dice_2mm_3d": np.mean(both <= 2),
    }
    assert {name: row[name] for name in DISTANCES} == pytest.approx(expected, abs=1e-9)
    assert row == scored(pred, target, spacing)


@pytest.mark.parametrize("policy", POLICIES)
def test_empty_masks_follow_the_policy(policy):
    empty, some = cuboid((0, 0), (0, 0), (0, 0)), cuboid((2, 6), (2, 5), (1, 4))
    diagonal = math.hypot(12 * 0.5, 10 * 0.8, 8 * 3.0)
    for state, pred, target in (
        ("both_empty", empty, empty),
        ("missed", empty, some),
        ("false_alarm", some, empty),
    ):
        scores = getattr(POLICIES[policy], state)
        row = scored(pred, target, policy=policy)
        expected = [scores.dsc, scores.iou, scores.sen, scores.ppv]
        expected += [diagonal * scores.distance] * 4 + [scores.surface_dice]
        found = [row[name] for name in VOLUME_METRICS]
        assert found == pytest.approx(expected, nan_ok=True), state


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stack": UNKNOWN}, "the data do not state how far apart slices lie"),
        ({"stack": Stack(8, None, "tilted")}, "tilted"),
        ({"spacing": (math.nan, math.nan, 3.0)}, "the data do not state the size of pixels"),
        ({"order": [0, 1, 2, 4, 5, 6, 7]}, "not all slices of the volume are scored"),
        ({"order": range(7)}, "not all slices of the volume are scored"),
    ],
)
def test_distances_that_cannot_be_measured_are_left_out(change, why):
    target = cuboid((2, 6), (2, 5), (1, 4))
    row = scored(np.roll(target, 1, 0), target, **change)
    assert all(math.isnan(row[name]) for name in DISTANCES)
    assert row["no_distances"] == why
    measured = scored(target, target)
    summary = summarize_volumes([row, measured, row])
    assert summary["no_distances"] == {why: 2}
    assert (summary["n"], summary["dsc_3d"]["n"], summary["assd_mm_3d"]["n"]) == (3, 3, 1)


def test_one_slice_and_a_picture_are_no_volume():
    scores = VolumeScores(stack_of=lambda name: Stack(1, 1.0))
    for id in ("a_z0000", "b"):
        about = {"id": id, "patient_id": "p", "spacing_mm": (1.0, 1.0)}
        scores.add(about, np.ones((2, 2), bool), np.ones((2, 2), bool))
    assert scores.rows() == []

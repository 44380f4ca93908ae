"""Every metric of 200 random pairs against an implementation that shares nothing with ours."""

import math

import numpy as np
import pytest

from prnet_jax import metrics

# state -> what each policy gives: iou, dsc, sen, ppv, surface dice, distances in diagonals
NAN = math.nan
EMPTY_SCORES = {
    "penalise": {
        "both_empty": (NAN, NAN, NAN, NAN, NAN, NAN),
        "missed": (0, 0, 0, 0, 0, 1),
        "false_alarm": (0, 0, NAN, 0, 0, 1),
    },
    "perfect_if_both_empty": {
        "both_empty": (1, 1, 1, 1, 1, 0),
        "missed": (0, 0, 0, 0, 0, 1),
        "false_alarm": (0, 0, NAN, 0, 0, 1),
    },
    "skip_empty": {
        "both_empty": (NAN, NAN, NAN, NAN, NAN, NAN),
        "missed": (0, 0, 0, NAN, 0, NAN),
        "false_alarm": (NAN, NAN, NAN, 0, NAN, NAN),
    },
}


def ratio(numerator, denominator):
    return numerator / denominator if denominator else NAN


def quantile(values, share):
    """Linear between the two neighbours in the sorted list."""
    values = sorted(values)
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def border(mask):
    height, width = len(mask), len(mask[0])

    def outside(row, column):
        return not (0 <= row < height and 0 <= column < width and mask[row][column])

    return [
        (row, column)
        for row in range(height)
        for column in range(width)
        if mask[row][column]
        and any(outside(row + i, column + j) for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    ]


def nearest(starts, goals, spacing):
    return [
        min(math.hypot((r - i) * spacing[0], (c - j) * spacing[1]) for i, j in goals)
        for r, c in starts
    ]


def distances(pred, target, spacing, unit, tolerance):
    one, other = border(pred), border(target)
    there, back = nearest(one, other, spacing), nearest(other, one, spacing)
    both = there + back
    return {
        f"hd_{unit}": max(both),
        f"hd95_{unit}": max(quantile(there, 0.95), quantile(back, 0.95)),
        f"hd95_pooled_{unit}": quantile(both, 0.95),
        f"assd_{unit}": math.fsum(both) / len(both),
        f"surface_dice_{tolerance}{unit}": sum(d <= tolerance for d in both) / len(both),
    }


def brute_force(prob, target, threshold, spacing, policy):
    """All metrics from Python lists, one pixel at a time."""
    pixels = [(float(p), bool(t)) for p, t in zip(prob.ravel(), target.ravel(), strict=True)]
    tp = sum(p >= threshold and t for p, t in pixels)
    fp = sum(p >= threshold and not t for p, t in pixels)
    fn = sum(p < threshold and t for p, t in pixels)
    tn = sum(p < threshold and not t for p, t in pixels)
    row = {
        "iou": ratio(tp, tp + fp + fn),
        "dsc": ratio(2 * tp, 2 * tp + fp + fn),
        "acc": (tp + tn) / len(pixels),
        "spe": ratio(tn, tn + fp),
        "sen": ratio(tp, tp + fn),
        "ppv": ratio(tp, tp + fp),
        "mae": math.fsum(abs(p - t) for p, t in pixels) / len(pixels),
        "mae_binary": sum((p >= threshold) != t for p, t in pixels) / len(pixels),
        "brier": math.fsum((p - t) ** 2 for p, t in pixels) / len(pixels),
    }
    yes, no = [p for p, t in pixels if t], np.array([p for p, t in pixels if not t])
    won = sum(np.sum(p > no) + np.sum(p == no) / 2 for p in yes)
    row["auc"] = ratio(won, len(yes) * len(no))
    if (tp or fp) and (tp or fn):
        pred = (prob >= threshold).tolist()
        row |= distances(pred, target.tolist(), (1, 1), "px", 1)
        row |= distances(pred, target.tolist(), spacing, "mm", 2)
        return row | {"empty": ""}
    state = "both_empty" if not (fp or fn) else "missed" if fn else "false_alarm"
    *shares, surface_dice, diagonals = EMPTY_SCORES[policy][state]
    row |= dict(zip(("iou", "dsc", "sen", "ppv"), shares, strict=True))
    for unit, (height, width), tolerance in (("px", (1, 1), 1), ("mm", spacing, 2)):
        diagonal = math.hypot(prob.shape[0] * height, prob.shape[1] * width)
        for name in ("hd", "hd95", "hd95_pooled", "assd"):
            row[f"{name}_{unit}"] = diagonals * diagonal
        row[f"surface_dice_{tolerance}{unit}"] = surface_dice
    return row | {"empty": state}


def random_pair(rng):
    """Masks from single pixels to noise and blobs; about a third have an empty one."""
    shape = rng.integers(1, 25, size=2)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    masks = []
    for kind in rng.choice(["noise", "blob", "empty"], size=2, p=[0.4, 0.4, 0.2]):
        if kind == "noise":
            masks.append(rng.random(shape) < rng.choice([0.02, 0.3, 0.9]))
        elif kind == "blob":
            row, column, radius = rng.uniform((0, 0, 1), (*shape, 9))
            masks.append(np.hypot(rows - row, columns - column) < radius)
        else:
            masks.append(np.zeros(shape, bool))
    pred, target = masks
    # Ten levels, so that probabilities are tied.
    prob = (np.where(pred, 5, 0) + rng.integers(0, 5, size=shape)) / 9
    spacing = rng.uniform(0.3, 3, size=2) if rng.random() < 0.7 else [rng.uniform(0.3, 3)] * 2
    return prob, target, tuple(spacing)


def test_200_random_pairs_equal_brute_force():
    rng = np.random.default_rng(2023)
    worst = dict.fromkeys(metrics.METRICS, 0.0)
    compared = dict.fromkeys(metrics.METRICS, 0)
    states = dict.fromkeys(("", "both_empty", "missed", "false_alarm"), 0)
    for number in range(200):
        prob, target, spacing = random_pair(rng)
        policy = list(metrics.POLICIES)[number % 3]
        expected = brute_force(prob, target, 0.5, spacing, policy)
        found = metrics.score_image(prob, target, 0.5, spacing, policy)
        assert set(found) == set(expected)
        assert found["empty"] == expected["empty"]
        states[found["empty"]] += 1
        for name in metrics.METRICS:
            assert math.isnan(found[name]) == math.isnan(expected[name]), (number, name)
            if not math.isnan(found[name]):
                worst[name] = max(worst[name], abs(found[name] - expected[name]))
                compared[name] += 1
    print(states, *(f"{n}: {worst[n]:.1e} of {compared[n]}" for n in worst), sep="\n")
    assert all(count >= 5 for count in states.values())
    assert all(count >= 100 for count in compared.values())
    assert max(worst.values()) <= 1e-9, worst


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (0.7, 1.1)])
def test_functions_of_one_pair_give_what_the_summary_of_it_gives(spacing):
    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 20, 30)) < 0.2
    row = metrics.score_image(pred.astype(np.float32), target, spacing_mm=spacing)
    assert row["hd_mm"] == pytest.approx(metrics.hausdorff(pred, target, spacing), abs=1e-12)
    for definition, name in (("max", "hd95_mm"), ("pooled", "hd95_pooled_mm")):
        hd95 = metrics.hausdorff(pred, target, spacing, 95, definition)
        assert row[name] == pytest.approx(hd95, abs=1e-12)
    assert row["assd_mm"] == pytest.approx(metrics.assd(pred, target, spacing), abs=1e-12)
    assert row["surface_dice_2mm"] == metrics.surface_dice(pred, target, 2, spacing)
    assert row["surface_dice_1px"] == metrics.surface_dice(pred, target, 1)

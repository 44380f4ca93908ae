"""What a set of images can tell apart: agreement, spread and smallest differences."""

import csv
import math

import numpy as np
import pytest
from scipy import stats

from prnet_jax.compare.__main__ import main
from prnet_jax.compare.limits import TARGET, agreement, detectable, spread
from prnet_jax.compare.rows import group
from prnet_jax.compare.runs import read_runs
from prnet_jax.errors import InputError
from prnet_jax.evaluate.masks import FILE, KeptMasks, MaskWriter
from tests.compare.folders import IMAGES, masks, probs, write_run

K = 3


def keep(folder, prob, ids):
    writer = MaskWriter()
    for id, one in zip(ids, prob, strict=True):
        writer.add(id, one >= 0.5)
    writer.write(folder / "test" / FILE)


def folds(home, network, seed, quality):
    """Three folds with their masks, and the masks of all images."""
    prob, folders = probs(quality, seed), []
    for number in range(1, K + 1):
        part = slice((number - 1) * IMAGES // K, number * IMAGES // K)
        ids = [f"slice_{i:02d}" for i in range(IMAGES)][part]
        folder = write_run(
            home / f"{network}_{seed}_{number}",
            network,
            seed,
            prob=prob[part],
            target=masks()[part],
            ids=ids,
            overlays=False,
            config={"dataset": {"name": "finding_lungs", "options": {"fold": f"{number}/{K}"}}},
            records=f"finding_lungs/fold{number}of{K}-1a2b3c4d/1.1.0",
        )
        keep(folder, prob[part], ids)
        folders.append(folder)
    return folders, prob >= 0.5


def dice(a, b):
    return np.mean([2 * (x & y).sum() / (x.sum() + y.sum()) for x, y in zip(a, b, strict=True)])


def test_masks_are_kept_exactly(tmp_path):
    rng = np.random.default_rng(0)
    given = {f"a/{i}": rng.random((5 + i, 7)) < 0.5 for i in range(3)}
    writer = MaskWriter()
    for id, mask in given.items():
        writer.add(id, mask)
    writer.write(tmp_path / FILE)
    kept = KeptMasks(tmp_path / FILE)
    for id, mask in given.items():
        np.testing.assert_array_equal(kept[id], mask)
    assert "a/3" not in kept and kept["a/0"].dtype == bool
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-40])
    with pytest.raises(InputError, match="is damaged"):
        KeptMasks(tmp_path / FILE)


def test_agreement(tmp_path):
    prnet, ours = folds(tmp_path, "prnet", 0, 0.8)
    more, again = folds(tmp_path, "prnet", 1, 0.8)
    unet, theirs = folds(tmp_path, "unet", 0, 0.6)
    found = agreement(group(read_runs([*prnet, *more, *unet])))
    by = {(pair["first"], pair["second"], pair["what"]): pair["dsc_mean"] for pair in found}
    assert by[("UNet", "PR-Net", "networks")] == pytest.approx(dice(ours, theirs))
    assert by[("PR-Net", "PR-Net", "seeds")] == pytest.approx(dice(ours, again))
    assert by[("UNet", TARGET, "target")] == pytest.approx(dice(theirs, masks()))
    assert {pair["n_images"] for pair in found} == {IMAGES}


def test_rows_without_masks_agree_with_the_target_only(tmp_path):
    folders = [write_run(tmp_path / n, n, overlays=False) for n in ("prnet", "unet")]
    found = agreement(group(read_runs(folders)))
    assert [pair["what"] for pair in found] == ["target", "target"]


def test_spread_is_that_of_a_two_way_table(tmp_path):
    networks = {"prnet": 0.8, "unet": 0.78, "unetpp": 0.6}
    folders = [
        f for name, quality in networks.items() for f in folds(tmp_path, name, 0, quality)[0]
    ]
    rows = group(read_runs(folders))
    means = np.array([[p.scores["dsc"].mean() for p in row.runs[0].parts] for row in rows])
    found = spread(rows)
    assert (found["networks"], found["folds"]) == (3, 3)
    assert found["sd_networks"] == pytest.approx(means.mean(axis=1).std(ddof=1))
    # By hand: sums of squares of a two-way table without repetition.
    total = ((means - means.mean()) ** 2).sum()
    of_rows = 3 * ((means.mean(axis=1) - means.mean()) ** 2).sum()
    of_folds = 3 * ((means.mean(axis=0) - means.mean()) ** 2).sum()
    rest = (total - of_rows - of_folds) / 4
    assert found["sd_rest"] == pytest.approx(math.sqrt(rest))
    assert found["sd_by_chance"] == pytest.approx(math.sqrt(rest / 3))
    assert found["p_value"] == pytest.approx(stats.f.sf(of_rows / 2 / rest, 2, 4))
    assert math.isnan(found["sd_seeds"])


def test_spread_between_seeds(tmp_path):
    folders = [write_run(tmp_path / str(s), seed=s, overlays=False) for s in range(3)]
    (row,) = group(read_runs(folders))
    found = spread([row])
    assert found["sd_seeds"] == pytest.approx(row.sd_seeds["dsc"])
    assert math.isnan(found["sd_networks"]) and found["networks"] == 0


def test_the_smallest_difference(tmp_path):
    """2.802 standard errors of the patients' mean differences."""
    folders = [
        write_run(tmp_path / "a", "prnet", overlays=False),
        write_run(tmp_path / "b", "unet", quality=0.6, overlays=False),
    ]
    unet, prnet = group(read_runs(folders))
    of_patient = (unet.scores["dsc"] - prnet.scores["dsc"]).reshape(6, 2).mean(axis=1)
    expected = 2.801585 * of_patient.std(ddof=1) / math.sqrt(6)
    assert detectable(unet, prnet) == pytest.approx(expected, rel=1e-6)


def test_the_files_of_a_comparison(tmp_path, capsys):
    prnet, _ = folds(tmp_path, "prnet", 0, 0.8)
    unet, _ = folds(tmp_path, "unet", 0, 0.6)
    out = tmp_path / "out"
    assert main([*map(str, prnet + unet), "--out", str(out)]) == 0
    assert "limits.md" in capsys.readouterr().out
    text = (out / "limits.md").read_text(encoding="utf-8")
    assert "## Agreement" in text and "2 networks with 3 folds each" in text
    with open(out / "agreement.csv", newline="", encoding="utf-8") as file:
        assert [line["what"] for line in csv.DictReader(file)] == ["networks", "target", "target"]

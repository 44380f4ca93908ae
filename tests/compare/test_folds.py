"""Folds of a cross-validation become one row over all images."""

import json

import numpy as np
import pytest

from prnet_jax.compare.folds import records_without_split
from prnet_jax.compare.rows import group
from prnet_jax.compare.runs import read_runs
from prnet_jax.compare.tables import main_table
from prnet_jax.errors import InputError
from tests.compare.folders import IMAGES, masks, probs, write_run

K = 3


@pytest.fixture
def fold(tmp_path):
    """Writes fold `number` of K, with a third of 12 images."""

    def make(number, network="prnet", seed=0, name="", data="1a2b3c4d", **summary):
        part = slice((number - 1) * IMAGES // K, number * IMAGES // K)
        return write_run(
            tmp_path / (name or f"{network}_{seed}_{number}"),
            network,
            seed,
            prob=probs(0.8, seed)[part],
            target=masks()[part],
            ids=[f"slice_{i:02d}" for i in range(IMAGES)][part],
            patients=[f"patient_{i // 2}" for i in range(IMAGES)][part],
            config={"dataset": {"name": "finding_lungs", "options": {"fold": f"{number}/{K}"}}},
            records=f"finding_lungs/fold{number}of{K}-{data}/1.1.0",
            split_manifest_sha256=f"{number}" * 64,
            **summary,
        )

    return make


def everything(path, **summary):
    """A run that was scored on all images, with other records."""
    return write_run(path, "threshold", split="all", split_manifest_sha256="9" * 64, **summary)


def test_all_folds_score_each_image_once(fold, tmp_path):
    """Scores are those of one evaluation over the twelve images, whatever the order of folds."""
    whole = read_runs([everything(tmp_path / "whole", overlays=False)])[0]
    (row,) = group(read_runs([fold(2), fold(3), fold(1)]))
    (run,) = row.runs
    assert run.ids == whole.ids and len(row.trainings) == K
    np.testing.assert_array_equal(run.scores["dsc"], whole.scores["dsc"])
    np.testing.assert_array_equal(run.both_empty, whole.both_empty)
    assert row.mean["dsc"] == pytest.approx(np.mean(whole.scores["dsc"]), abs=1e-12)
    summaries = [
        json.loads((tmp_path / f"prnet_0_{n}/test/summary.json").read_text()) for n in (1, 2, 3)
    ]
    missed = sum(summary["counts"]["missed"] for summary in summaries)
    assert row.counts["missed"] == missed
    assert row.title == "PR-Net (3 folds)"
    assert [path.parent.parent.parent.name for path in run.overlays] == [
        f"prnet_0_{n}" for n in (1, 2, 3) for _ in range(IMAGES // K)
    ]


def test_folds_and_an_evaluation_of_all_images_share_a_table(fold, tmp_path):
    """Such as that of another program's masks, or of a network that saw none of the images."""
    folders = [fold(1), fold(2), fold(3), everything(tmp_path / "all", overlays=False)]
    rows = group(read_runs(folders))
    assert [row.title for row in rows] == ["PR-Net (3 folds)", "threshold"]
    table = main_table(rows, [], paper=False)
    assert table.subject.startswith("all split of finding_lungs")
    assert any("without its patient" in note for note in table.notes)
    other = everything(tmp_path / "other", records="finding_lungs/default-99999999/1.1.0")
    with pytest.raises(InputError, match="records is"):
        read_runs([*folders, other])


def test_seeds_of_folds(fold):
    folders = [fold(number, seed=seed) for seed in (0, 1) for number in (1, 2, 3)]
    (row,) = group(read_runs(folders))
    assert row.title == "PR-Net (3 folds, 2 seeds)"
    assert [len(run.ids) for run in row.runs] == [IMAGES, IMAGES]
    assert row.sd_seeds["dsc"] > 0


def test_thresholds_of_folds(fold):
    """Each fold has its own from validation; the row shows their range."""
    folders = [fold(n, threshold=0.3 + n / 10, threshold_from="validation") for n in (1, 2, 3)]
    (row,) = group(read_runs(folders))
    assert row.threshold == "0.4 to 0.6 (validation)"


def test_some_folds(fold):
    """Two of three are the row of their images, and are compared with nothing else."""
    folders = [fold(1), fold(3)]
    (row,) = group(read_runs(folders))
    assert len(row.runs[0].ids) == 8 and row.runs[0].summary["split"] == "test"
    with pytest.raises(InputError, match="records is"):
        read_runs([*folders, fold(1, "unet"), fold(2, "unet")])


def test_one_fold_of_each_network_is_compared_as_it_is(fold):
    rows = group(read_runs([fold(1), fold(1, "unet")]))
    assert [row.title for row in rows] == ["UNet", "PR-Net"]


def test_what_cannot_be_joined_is_refused(fold):
    with pytest.raises(InputError, match="are both fold 1/3 .* seed \\(0\\): leave one"):
        read_runs([fold(1), fold(1, name="again")])
    first, twice = fold(1, name="first"), fold(2, name="twice")
    table = twice / "test/per_image.csv"
    table.write_text(table.read_text().replace("slice_04", "slice_00"))
    with pytest.raises(InputError, match="test the image 'slice_00' twice"):
        read_runs([first, twice])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"resolution": "native"}, "resolution is 'network' and 'native'"),
        ({"empty_policy": "skip_empty"}, "empty_policy is 'penalise' and 'skip_empty'"),
        ({"image_size": 64}, "image_size is 32 and 64"),
        ({"data": "99999999"}, "records is .*-1a2b3c4d.* and .*-99999999"),
    ],
)
def test_folds_that_were_not_scored_alike_are_not_joined(fold, other, message):
    with pytest.raises(InputError, match=f"cannot be joined: {message}"):
        read_runs([fold(1), fold(2, **other), fold(3)])


@pytest.mark.parametrize(
    "records, expected",
    [
        ("finding_lungs/fold1of5-1a2b3c4d/1.2.0", "finding_lungs/default-1a2b3c4d/1.2.0"),
        ("finding_lungs/seed1_fold1of5_leaking-1a2b3c4d/1", "finding_lungs/leaking-1a2b3c4d/1"),
        ("image_folder/default_label1_with_mask/1.0", "image_folder/label1_with_mask/1.0"),
        ("lung_phantom/default/1.3.0", "lung_phantom/default/1.3.0"),
        (None, None),
    ],
)
def test_records_without_their_split(records, expected):
    assert records_without_split(records) == expected


def test_a_table_of_few_images_says_so(fold):
    rows = group(read_runs([fold(1), fold(1, "unet")]))
    assert "Only 4 images are scored" in " ".join(main_table(rows, [], paper=False).cautions)

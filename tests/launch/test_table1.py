"""table1.sh with a stand-in for main, and evaluations that are there already."""

import json
import shutil

from tests.compare.folders import IMAGES, masks, probs, write_run
from tests.launch.scripts import PYTHON, launch

NETWORKS = ("prnet", "unet")


def table1(root, fake, tmp_path, *arguments, **more):
    given = ("--networks", ",".join(NETWORKS), "--folds", "1/3 2/3 3/3", "--root", tmp_path / "t 1")
    data = ("--manual-dir", tmp_path)
    return launch(root, fake, "table1.sh", *data, *given, *arguments, PYTHON=PYTHON, **more)


def evaluated(tmp_path, network, fold):
    """What main and evaluate leave of a fold."""
    part = slice((fold - 1) * IMAGES // 3, fold * IMAGES // 3)
    run = write_run(
        tmp_path / "t 1" / f"{network}_0_fold{fold}of3",
        network,
        prob=probs(0.8, NETWORKS.index(network))[part],
        target=masks()[part],
        ids=[f"slice_{i:02d}" for i in range(IMAGES)][part],
        overlays=False,
        config={"dataset": {"name": "finding_lungs", "options": {"fold": f"{fold}/3"}}},
        records=f"finding_lungs/fold{fold}of3-1a2b3c4d/1.1.0",
    )
    (run / "test").rename(run / "test_native")
    (run / "provenance.json").write_text("{}")


def test_trains_scores_and_compares(root, fake, tmp_path):
    for network in NETWORKS:
        for fold in (1, 2, 3):
            evaluated(tmp_path, network, fold)
    results = tmp_path / "results"
    extra = ("--variant", "table1_small", "--results", results, "--", "--config.note=a b")
    done = table1(root, fake, tmp_path, *extra)
    assert done.returncode == 0, done.stderr
    mains = (fake / "mains").read_text().splitlines()
    assert mains[0] == (
        "--config|configs/prnet.py:table1_small|--config.seed=0|--config.dataset.options.fold=1/3|"
        f"--workdir|{tmp_path}/t 1/prnet_0_fold1of3|--config.dataset.manual_dir={tmp_path}|"
        "--config.note=a b|"
    )
    assert [line.split("/")[1].split(".")[0] for line in mains] == ["prnet"] * 3 + ["unet"] * 3
    table = (tmp_path / "t 1/comparison/table.md").read_text()
    assert "PR-Net (3 folds)" in table and "UNet (3 folds)" in table and "12 images" in table
    copied = sorted(path.relative_to(results).as_posix() for path in results.rglob("*.*"))
    assert len(copied) == 6 * 4 and "unet_0_fold2of3/test_native/per_image.csv" in copied
    assert json.loads((results / "prnet_0_fold1of3/config.json").read_text())["seed"] == 0

    again = table1(root, fake, tmp_path, *extra)
    assert again.returncode == 0 and "finished before" in again.stdout
    assert len((fake / "mains").read_text().splitlines()) == 6


def test_other_rows_stand_beside_the_networks(root, fake, tmp_path):
    """Such as masks made without a network: in the table, and with the results."""
    for network in NETWORKS:
        for fold in (1, 2, 3):
            evaluated(tmp_path, network, fold)
    patients = [f"patient_{i // 2}" for i in range(4)] * 3  # as the folds have them
    other = write_run(tmp_path / "o", "HU threshold", split="all", patients=patients)
    (other / "test").rename(tmp_path / "threshold_scores")
    given = ("--results", tmp_path / "results", "--with", tmp_path / "threshold_scores")
    done = table1(root, fake, tmp_path, *given)
    assert done.returncode == 0, done.stderr
    assert "| HU threshold " in (tmp_path / "t 1/comparison/table.md").read_text()
    copied = tmp_path / "results" / "threshold_scores"
    assert sorted(path.name for path in copied.iterdir()) == ["per_image.csv", "summary.json"]
    wrong = table1(root, fake, tmp_path, "--with", tmp_path)
    assert wrong.returncode == 2 and "has no summary.json" in wrong.stderr


def test_a_failed_training_does_not_end_the_others(root, fake, tmp_path):
    """Such as one that main refuses, because the folder has a run of another protocol."""
    for network in NETWORKS:
        for fold in (1, 2, 3):
            evaluated(tmp_path, network, fold)
    for run in (tmp_path / "t 1").glob("prnet_*"):
        shutil.copytree(run / "test_native", run / "test")
    results = tmp_path / "results"
    done = table1(root, fake, tmp_path, "--results", results, FAKE_FAILS="prnet")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    table = (tmp_path / "t 1/comparison/table.md").read_text()
    assert "UNet (3 folds)" in table and "PR-Net (" not in table
    assert {path.name.partition("_")[0] for path in results.iterdir()} == {"unet"}


def test_data_are_asked_for(root, fake, tmp_path):
    done = launch(root, fake, "table1.sh", "--networks", "prnet", PYTHON=PYTHON)
    assert done.returncode == 2 and "give --manual-dir" in done.stderr

"""ablations.sh with a stand-in for main, and evaluations that are there already."""

from tests.compare.folders import IMAGES, masks, probs, write_run
from tests.launch.scripts import PYTHON, launch


def ablations(root, fake, tmp_path, *arguments):
    given = ("--manual-dir", tmp_path, "--root", tmp_path / "a 1")
    return launch(root, fake, "ablations.sh", *given, *arguments, PYTHON=PYTHON)


def evaluated(tmp_path, change, fold, model):
    """What main and evaluate leave of a fold."""
    part = slice((fold - 1) * IMAGES // 5, fold * IMAGES // 5)
    run = write_run(
        tmp_path / "a 1" / change / f"prnet_0_fold{fold}of5",
        "prnet",
        prob=probs(0.8, bool(model))[part],
        target=masks()[part],
        ids=[f"slice_{i:02d}" for i in range(IMAGES)][part],
        overlays=False,
        config={
            "model": {"name": "prnet", **model},
            "dataset": {"name": "finding_lungs", "options": {"fold": f"{fold}/5"}},
        },
        records=f"finding_lungs/fold{fold}of5-1a2b3c4d/1.1.0",
    )
    (run / "test").rename(run / "test_native")
    (run / "provenance.json").write_text("{}")


def test_each_change_is_trained_and_compared_with_the_network_as_stated(root, fake, tmp_path):
    for fold in (1, 2):
        evaluated(tmp_path, "stated", fold, {})
        evaluated(tmp_path, "no-pam", fold, {"pam": False})
    results = tmp_path / "results"
    done = ablations(root, fake, tmp_path, "--changes", "no-pam", "--results", results)
    assert done.returncode == 0, done.stderr
    mains = (fake / "mains").read_text().splitlines()
    assert len(mains) == 4 and all("prnet.py:table1_small" in line for line in mains)
    assert ["pam=False" in line for line in mains] == [False, False, True, True]
    table = (tmp_path / "a 1/comparison/table.md").read_text()
    assert table.count("(2 folds)") >= 2 and "no folds" not in table
    assert sorted(path.name for path in results.iterdir()) == [
        f"prnet-{change}_0_fold{fold}of5" for change in ("no-pam", "stated") for fold in (1, 2)
    ]
    assert (results / "prnet-no-pam_0_fold2of5/test_native/per_image.csv").is_file()


def test_an_unknown_change_is_refused_before_anything_is_trained(root, fake, tmp_path):
    done = ablations(root, fake, tmp_path, "--changes", "no-pam no-pan")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no change 'no-pan'" in done.stderr and not (fake / "mains").exists()

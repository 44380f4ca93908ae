"""A run with damaged checkpoints ends as an undamaged one, or refuses."""

import itertools
import pathlib
import shutil

import pytest

from prnet_jax import train
from prnet_jax.errors import Stopped
from prnet_jax.evaluate import __main__
from prnet_jax.run import variables
from tests.run.damage import flip, truncate
from tests.runs import PRNET, differences, steps_in, tiny_config, what_is_left


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, records_dir):
    """What an undisturbed PR-Net leaves; one stopped in its second epoch, with steps 2 and 3."""
    config = tiny_config(records_dir, "prnet", **PRNET, ema_decay=0.9, augment__noise=0.05)
    root = tmp_path_factory.mktemp("stopped")
    train.train_and_evaluate(config, root / "straight")
    # `stop` is called before step 2, in the validation, and before steps 3 and 4.
    asked = itertools.count(1)

    def stop():
        return next(asked) == 4

    with pytest.raises(Stopped, match="Stopped after step 3 of 4, saved"):
        train.train_and_evaluate(config, root / "run", stop)
    assert steps_in(root / "run" / "checkpoints") == [2]
    assert steps_in(root / "run" / "interim") == [3]
    return config, what_is_left(root / "straight"), root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "begin"),
    [
        ([], 3),
        ([("interim/3", "state/manifest.ocdbt", flip)], 2),
        ([("checkpoints/2", "state/_METADATA", truncate)], 3),
        (
            [
                ("interim/3", "commit_success.txt", pathlib.Path.unlink),
                ("checkpoints/2", "metrics/metrics", flip),
            ],
            0,
        ),
    ],
    ids=["none", "newest", "the one before", "all"],
)
def test_a_run_ends_the_same_after_damage(stopped, tmp_path, capsys, broken, begin):
    config, expected, root = stopped
    workdir = shutil.copytree(root / "run", tmp_path / "run")
    for folder, name, damage in broken:
        damage(workdir / folder / name)
    train.train_and_evaluate(config, workdir)
    printed = capsys.readouterr().out
    assert printed.count("Damaged checkpoint") == len(broken)
    assert f"Resuming after step {begin} of 4" in printed if begin else "Resuming" not in printed
    assert ("No checkpoint is left: the run starts again." in printed) == (not begin)
    left = what_is_left(workdir)
    if begin == 3 and broken:  # a damaged checkpoint is not written again, were it the best
        assert left["summary"]["checkpoint_step"] == 4
        scored = {name: left[name] for name in ("summary", "per_image")}
        expected = {**expected, **scored, "checkpoints": ["checkpoints/4"]}
        for name in ("arrays", "clocks"):
            expected[name] = {"checkpoints/4": expected[name]["checkpoints/4"]}
    assert differences(left, expected) == []


@pytest.mark.slow
def test_evaluate_refuses_a_damaged_best_checkpoint(stopped, tmp_path, capsys):
    _, _, root = stopped
    workdir = shutil.copytree(root / "straight", tmp_path / "run")
    best = workdir / "checkpoints" / str(variables.best_step(workdir))
    flip(best / "state" / "manifest.ocdbt")
    capsys.readouterr()
    assert __main__.main(["--workdir", str(workdir)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert str(best / "state" / "manifest.ocdbt") in printed.err

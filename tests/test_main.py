"""The command line as a person meets it."""

import subprocess
import sys

import pytest

from tests.programs import PATIENCE_S, running
from tests.runs import PRNET, tiny_flags

QUICK = "--config=configs/prnet.py:quick"


def main(*arguments, env=None):
    with running([sys.executable, "-m", "prnet_jax.main", *arguments], env=env) as (process,):
        out, err = process.communicate(timeout=PATIENCE_S)
    # What jax 0.10 says of every program that it loads from the cache on some processors
    err = "".join(line for line in err.splitlines(True) if "cpu_aot_loader" not in line)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config is missing"),
        (("--config=nope.py",), "--config nope.py is not a file"),
        (("--config", "prnt:quick"), "--config prnt is not a file: did you mean prnet?"),
        (("--config=prnet:fast",), "no variant 'fast': choose one of quick, "),
        (("--config=prnet:bset",), "own_small, best, or none"),
        (("--config=configs/prnet.py:fast",), "no variant 'fast': choose one of quick, "),
        ((QUICK, "--config.num_epoch=3"), "no field 'num_epoch': did you mean num_epochs"),
        (
            (QUICK, "--config.dataset.windowhu=3"),
            "no field 'dataset.windowhu': did you mean dataset.window_hu",
        ),
        (
            ("--config=configs/prnet.py:nodules", "--config.dataset.options.folds=1/5"),
            "no field 'dataset.options.folds': did you mean dataset.options.fold",
        ),
        ((QUICK, "--config.num_epochs=many"), "--config.num_epochs=many: invalid literal"),
        ((QUICK, "--worcdir=x"), "Unknown command line flag 'worcdir'. Did you mean: workdir"),
        ((QUICK, "train"), "unexpected 'train'"),
        ((QUICK, "--config.model.name=prnett"), "unknown network 'prnett': choose one of "),
        ((QUICK, "--config.dataset.image_size=100"), "sides divisible by 16, found 100x100"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, arguments, message):
    done = main(*arguments, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help():
    done = main("--help")
    assert done.returncode == 0
    for text in ("--config", "--workdir", "--describe"):
        assert text in done.stdout + done.stderr


def test_a_run_its_repetition_and_another_config(tmp_path, records_dir):
    tiny = tiny_flags(tmp_path / "run", records_dir, "prnet", **PRNET, num_epochs=1)
    first = main(*tiny)
    assert first.returncode == 0, first.stderr
    for text in ("| IoU %", "PR-Net in its Table 1, on other images", "curves.png", "worst first"):
        assert text in first.stdout
    again = main(*tiny)
    assert again.returncode == 0
    assert "Resuming after step 2 of 2" in again.stdout
    assert "This run is finished: 1 epoch, trained for " in again.stdout
    other = main(*tiny, "--config.num_epochs=2")
    assert other.returncode == 2
    assert "another config (num_epochs was 1, is 2)" in other.stderr


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_with_1(tmp_path, records_dir):
    tiny = tiny_flags(tmp_path / "run", records_dir, learning_rate=1e30, clip_norm=0.0)
    done = main(*tiny)
    assert done.returncode == 1
    assert "error: the loss is" in done.stderr and "Traceback" not in done.stderr

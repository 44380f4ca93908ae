"""sweep.sh with a stand-in for main."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from tests.launch.scripts import PATIENCE_S, PYTHON, launch, start


def sweep(root, fake, tmp_path, *arguments, **more):
    given = ("--root", tmp_path / "my sweep", "--networks", "unet,prnet", "--seeds", "0 1")
    return launch(root, fake, "sweep.sh", *given, *arguments, PYTHON=PYTHON, **more)


def test_sweep_continues_after_a_failure_and_skips_what_is_finished(root, fake, tmp_path):
    finished = tmp_path / "finished runs"
    finished.write_text("of an earlier sweep\n")
    extra = ("--variant", "quick", "--list", finished, "--", "--config.note=a b")
    first = sweep(root, fake, tmp_path, *extra, FAKE_FAILS="prnet")
    assert first.returncode == 1
    runs = [str(tmp_path / "my sweep" / f"unet_{seed}") for seed in (0, 1)]
    assert finished.read_text().splitlines() == runs
    lines = first.stdout.splitlines()
    good = r"unet            seed {}   DSC  90\.00 %  IoU  81\.23 %  {}"
    assert re.fullmatch(good.format(0, r"\d+\.\d min"), lines[0])
    assert re.fullmatch(good.format(1, r"\d+\.\d min"), lines[2])
    assert "prnet           seed 0   FAILED  exit code 1: error: the loss is nan" in lines[1]
    assert "my sweep/prnet_0.log" in lines[1]
    assert re.fullmatch(r"2 finished, 2 failed, \d+ minutes\.", lines[4])
    log = (tmp_path / "my sweep" / "prnet_0.log").read_text()
    assert "and a last line" in log
    again = sweep(root, fake, tmp_path, *extra)
    assert again.returncode == 0, again.stderr
    assert re.fullmatch(good.format(0, "finished before"), again.stdout.splitlines()[0])
    mains = (fake / "mains").read_text().splitlines()
    assert len(mains) == 6  # four, and two again
    run = tmp_path / "my sweep" / "prnet_1"
    last = f"--config|configs/prnet.py:quick|--config.seed=1|--workdir|{run}|--config.note=a b|"
    assert mains[-1] == last
    compare = again.stdout.splitlines()[-1].removeprefix("Compare them: ")
    words = subprocess.run(["bash", "-c", f'printf "%s\\n" {compare}'], capture_output=True)
    words = words.stdout.decode().splitlines()
    assert words[1:4] == ["-m", "prnet_jax.compare", str(tmp_path / "my sweep" / "unet_0")]
    assert words[-2:] == ["--out", str(tmp_path / "my sweep_comparison")]
    assert all(pathlib.Path(word, "test").is_dir() for word in words[3:-2]) and len(words) == 9


def test_a_list_that_cannot_be_written_is_said_at_once(root, fake, tmp_path):
    done = sweep(root, fake, tmp_path, "--list", tmp_path / "missing" / "list")
    assert done.returncode == 2 and "missing/list cannot be written" in done.stderr
    assert not (fake / "mains").exists()


def test_sweep_over_folds(root, fake, tmp_path):
    done = sweep(root, fake, tmp_path, "--networks", "unet", "--folds", "1/5,2/5")
    assert done.returncode == 0, done.stderr
    assert [line[:31] for line in done.stdout.splitlines()[:4]] == [
        f"unet            seed {seed} fold {fold}" for seed in (0, 1) for fold in ("1/5", "2/5")
    ]
    run = tmp_path / "my sweep" / "unet_1_fold2of5"
    last = "--config|configs/unet.py|--config.seed=1|--config.dataset.options.fold=2/5|"
    assert (fake / "mains").read_text().splitlines()[-1] == f"{last}--workdir|{run}|"
    option = ("--", "--config.dataset.options.fold=1/5")
    assert "use --folds" in sweep(root, fake, tmp_path, "--folds", "1/5", *option).stderr
    assert "found '6'" in sweep(root, fake, tmp_path, "--folds", "6").stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sweep_is_stopped_once_and_saves(root, fake, tmp_path, number):
    names = ("--root", tmp_path / "s", "--networks", "unet,prnet", "--seeds", "0")
    running = start(root, fake, "sweep.sh", *names, FAKE_SLOW="prnet")
    os.killpg(running.pid, number)  # the terminal's whole foreground group, as Ctrl-C does
    said, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 128 + number
    assert "prnet           seed 0   stopped; the same command resumes it" in said
    assert (fake / "saved").read_text() == "saved\n"


def test_sweep_names_a_damaged_summary(root, fake, tmp_path):
    assert sweep(root, fake, tmp_path).returncode == 0
    for path in (tmp_path / "my sweep").glob("*/test/summary.json"):
        path.write_text("{")
    done = sweep(root, fake, tmp_path)
    assert done.returncode == 1 and "0 finished, 4 failed" in done.stdout
    assert "unet_0/test/summary.json cannot be read (JSONDecodeError): delete it" in done.stderr


def test_sweep_asks_main_where_another_command_finished_the_run(root, fake, tmp_path):
    def mains(*arguments, **more):
        before = len((fake / "mains").read_text().splitlines()) if (fake / "mains").exists() else 0
        sweep(root, fake, tmp_path, "--seeds", "0", *arguments, **more)
        return len((fake / "mains").read_text().splitlines()) - before

    assert mains("--", "--config.note=a b") == 2
    assert mains("--", "--config.note=a b") == 0
    assert mains("--", "--config.note=a", "b") == 2
    assert mains("--variant", "quick", "--", "--config.note=a", "b") == 2
    # The marks of the first command are still in the logs, but no longer the last ones.
    assert mains("--", "--config.note=a b") == 2
    assert mains("--", "--config.note=c", FAKE_FAILS="unet prnet") == 2
    assert mains("--", "--config.note=a b") == 0


def test_sweep_gives_this_attempts_reason(root, fake, tmp_path):
    (tmp_path / "my sweep").mkdir()
    old = "error: of another time\n" + "much\n" * 100_000
    (tmp_path / "my sweep" / "unet_0.log").write_text(old)
    given = ("--seeds", "0", "--networks", "unet")
    done = sweep(root, fake, tmp_path, *given, FAKE_FAILS="unet")
    assert "exit code 1: error: the loss is nan at step 3 (" in done.stdout
    done = sweep(root, fake, tmp_path, *given, FAKE_STOPPED="1")  # ends with 0, says nothing
    assert "exit code 0: --- " in done.stdout and "0 finished, 1 failed" in done.stdout

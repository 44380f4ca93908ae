"""The tables at the end of a run and of an evaluation, as text."""

import importlib
import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from prnet_jax import report
from prnet_jax.commands import interpreter
from prnet_jax.config import make_config
from prnet_jax.metrics.names import ALL_METRICS, PIXEL_METRICS
from prnet_jax.metrics.policy import PENALISE
from prnet_jax.paper import TABLE_1
from prnet_jax.report import beginning, end, evaluated, scored_at, table
from tests.programs import ROOT


def statistics(mean, sd, n, low=None, high=None):
    found = {"mean": mean, "sd": sd, "median": mean, "n": n}
    return found | {"ci95_low": low, "ci95_high": high}


SUMMARY = {
    "metrics": {
        "iou": statistics(0.98012, 0.0061, 27, 0.9775, 0.98256),
        "dsc": statistics(0.98996, 0.0031, 27, 0.9887, 0.9912),
        "acc": statistics(0.99557, 0.0012, 28),
        "spe": statistics(0.99774, None, 28),
        "auc": statistics(0.99991, 0.00004, 27),
        "mae": statistics(0.00912, 0.00121, 28, 0.0088, 0.0095),
        "mae_binary": statistics(0.004512, 0.00121, 28, 0.0041, 0.00499),
        "hd_px": statistics(3.456, 1.2, 27, 2.999, 3.95),
        "hd_mm": statistics(None, None, 0),
        "hd95_mm": statistics(None, None, 0),
    },
    "pooled": {"iou": 0.98234, "dsc": 0.99109, "mae": 0.00909, "mae_binary": 0.00449, "auc": None},
    "counts": {"n_images": 28, "both_empty": 1, "missed": 2, "false_alarm": 3},
    "empty_policy": "penalise",
    "empty_rule": "both empty: not scored",
}


def test_table_beside_the_paper():
    assert table(SUMMARY, TABLE_1["prnet"]) == (
        """\
| metric     |       mean ± sd | 95 % interval |  n | pooled |  paper |
| ---------- | --------------: | ------------: | -: | -----: | -----: |
| IoU %      |    98.01 ± 0.61 |   97.75–98.26 | 27 |  98.23 |  97.71 |
| HD px      |     3.46 ± 1.20 |     3.00–3.95 | 27 |      - |      - |
| DSC %      |    99.00 ± 0.31 |   98.87–99.12 | 27 |  99.11 |  98.84 |
| MAE        | 0.0091 ± 0.0012 | 0.0088–0.0095 | 28 | 0.0091 |      - |
| MAE binary | 0.0045 ± 0.0012 | 0.0041–0.0050 | 28 | 0.0045 | 0.0049 |
| ACC %      |    99.56 ± 0.12 |             - | 28 |      - |  99.51 |
| SPE %      |           99.77 |             - | 28 |      - |  99.78 |
| AUC %      |    99.99 ± 0.00 |             - | 27 |      - |      - |

paper: PR-Net in its Table 1. It states an HD of 5.07 mm, and no pixel spacing.
28 images: 2 missed (mask, but nothing predicted), 3 false alarms (no mask, but
something predicted), 1 both empty.
Empty masks, policy 'penalise': both empty: not scored."""
    )


def test_where_masks_were_scored():
    summary = {"image_size": 64, "resize": "middle", "resolution": "network"}
    assert scored_at(summary) == "in the middle 64x64"
    assert scored_at({**summary, "resize": "pad"}) == "at 64x64"
    assert scored_at({"image_size": 64}) == "at 64x64"
    assert scored_at({**summary, "resolution": "native"}) == "as stored"


def test_phantom_is_not_compared():
    lines = table(SUMMARY, TABLE_1["unet"], comparable=False).splitlines()
    assert lines[0].endswith(" paper |")
    assert "paper: UNet in its Table 1, on other images: not comparable." in lines


def test_without_the_paper():
    lines = table(SUMMARY).splitlines()
    assert lines[0].replace("  ", "").startswith("| metric | mean ± sd |")
    assert lines[0].endswith("| pooled |")
    assert "paper" not in "\n".join(lines)


def test_the_rule_for_empty_masks_is_said_where_one_is_empty():
    counts = {"n_images": 28, "both_empty": 0, "missed": 0, "false_alarm": 0}
    text = table(SUMMARY | {"counts": counts})
    assert "28 images: no mask is empty, neither drawn nor predicted." in text
    assert "policy" not in text
    for state in ("both_empty", "missed", "false_alarm"):
        text = table(SUMMARY | {"counts": counts | {state: 1}})
        assert "Empty masks, policy 'penalise': both empty: not scored." in text


HOW = {
    **{"network": "unet", "dataset": "lidc_nodules", "mask": "mask", "split": "test"},
    **{"image_size": 64, "checkpoint_epoch": 7, "threshold": 0.43, "tta": "flips"},
    "threshold_from": "validation",
}
READERS = {
    "network_with_readers": {"dice_both_marked": 0.7, "dice_any_marked": 0.5},
    "readers_with_each_other": {"dice_both_marked": 0.78125, "dice_any_marked": None},
}


def test_an_evaluation_says_how_it_was_made():
    text = evaluated(SUMMARY | HOW | {"readers": READERS}, pathlib.Path("runs/a/test"))
    assert text.startswith("\nDSC 99.00 %, IoU 98.01 %, HD 3.46 px (mean of 28 test images)\n")
    assert (
        "Test split of lidc_nodules (mask 'mask') at 64x64, unet of epoch 7 (best validation DSC), "
        "threshold 0.43 (the best on validation), test-time augmentation by flips: "
    ) in " ".join(text.split())
    assert "not comparable" in text
    assert "| network with readers    |              70.00 |                     50.00 |" in text
    assert "| readers with each other |              78.12 |                         - |" in text


def test_the_headline_gives_mm_where_they_are_known():
    metrics = SUMMARY["metrics"] | {"hd_mm": statistics(2.5, 1.0, 27)}
    text = evaluated(SUMMARY | HOW | {"metrics": metrics}, pathlib.Path("test"))
    assert text.splitlines()[1] == "DSC 99.00 %, IoU 98.01 %, HD 2.50 mm (mean of 28 test images)"


def full(**changes):
    """A summary with every metric at its widest, and images with empty masks."""
    metrics = {
        metric.name: statistics(0.98765, 0.12345, 1312, 0.98, 1.0)
        if metric.unit == "%" or metric.decimals == 4
        else statistics(126.934, 101.356, 1312, 100.001, 126.934)
        for metric in ALL_METRICS
    }
    pooled = {name: 0.98765 for name in PIXEL_METRICS}
    rule = {"empty_policy": PENALISE.name, "empty_rule": PENALISE.rule}
    counts = {"n_images": 1312, "both_empty": 411, "missed": 123, "false_alarm": 210}
    about = {"metrics": metrics, "pooled": pooled, "counts": counts, "readers": READERS}
    return SUMMARY | HOW | rule | about | changes


@pytest.mark.parametrize("dataset", ["finding_lungs", "lidc_nodules", "image_folder"])
def test_it_fits_a_terminal_of_80_columns(dataset):
    summary = full(dataset=dataset, network="attention_unet")
    text = end(pathlib.Path("runs/attention_unet_lungs_small"), summary, CLOCK)
    result, commands = text.split("\nnext:\n")
    assert max(map(len, result.splitlines())) <= 80
    assert result.count("| surf. Dice ") == 2
    assert ("paper" in result) == (dataset != "image_folder")
    # A terminal folds a command, which stays one when it is copied.
    assert all(line.startswith("  ") for line in commands.splitlines())


CLOCK = {"train_s": 90.0, "epochs": 20}


def test_a_finished_run_says_so():
    workdir = pathlib.Path("runs/a")
    assert end(workdir, full(), CLOCK).startswith("\nTrained for 1.5 min.\n")
    lines = end(workdir, full(), CLOCK, trained=False).splitlines()
    assert lines[1:4] == [
        "This run is finished: 20 epochs, trained for 1.5 min.",
        "To train longer, start from its weights: --config.init_from=runs/a",
        "and another --workdir.",
    ]


@pytest.mark.parametrize("there", [False, True])
def test_the_next_commands_run_as_they_are_printed(monkeypatch, tmp_path, finished_run, there):
    monkeypatch.chdir(tmp_path)
    workdir = pathlib.Path("my run")
    shutil.copytree(finished_run, workdir)
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: there or None)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for new in ("comparison", "comparison_2"):
        text = end(workdir, full(), CLOCK)
        scored, compared, *others = text.split("\nnext:\n")[1].splitlines()
        done = subprocess.run(compared, shell=True, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / new / "report.html").exists()
    _, _, module, *arguments = shlex.split(scored)
    assert module == "prnet_jax.evaluate"
    parsed = importlib.import_module(f"{module}.__main__")._parser().parse_args(arguments)
    assert (parsed.workdir, parsed.tta) == (workdir, "flips")
    assert len(others) == there
    for command in others:
        assert command.endswith(" -m tensorboard.main --logdir 'my run/events'")


def test_the_interpreter_is_named_as_a_person_types_it(monkeypatch, tmp_path):
    for folder in (tmp_path / ".venv" / "bin", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "python").write_text("#!/bin/sh\n")
        (folder / "python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    ours, other = tmp_path / ".venv" / "bin" / "python", tmp_path / "other" / "python"
    monkeypatch.setattr(sys, "executable", str(ours))
    monkeypatch.setenv("PATH", str(other.parent))
    assert interpreter() == ".venv/bin/python"
    monkeypatch.chdir(other.parent)
    assert interpreter() == str(ours)
    monkeypatch.setenv("PATH", str(ours.parent))
    assert interpreter() == "python"


def test_the_plan_fits_80_columns_too():
    config = make_config("attention_unet", "nodules_small")
    params = {f"module_{i}": {"kernel": np.zeros((3, 1000 * i))} for i in range(1, 4)}
    sizes = {"train": 1058, "validation": 134, "test": 120}
    text = beginning(config, pathlib.Path("runs/unet_nodules_small"), sizes, 132, params)
    assert "network    attention_unet, float32: 18,000 parameters" in text
    assert [line.split() for line in text.splitlines()[1:4]] == [
        *(["module_1", "3,000"], ["module_2", "6,000"], ["module_3", "9,000"])
    ]
    assert "images     1058 train, 134 validation, 120 test" in text
    lines = [line for line in text.splitlines() if "all arrays" not in line]
    assert max(map(len, lines)) <= 80
    assert "-m prnet_jax.models runs/unet_nodules_small" in text


# As printed: method, IoU %, HD mm, DSC %, MAE, ACC %, SPE %.
PRINTED = """
UNet           | 97.16 | 5.62 | 98.55 | 0.0061 | 99.38 | 99.71
UNet++         | 97.18 | 5.54 | 98.56 | 0.0058 | 99.41 | 99.52
Attention-UNet | 97.47 | 5.37 | 98.72 | 0.0054 | 99.45 | 99.72
AnamNet        | 97.01 | 5.65 | 98.48 | 0.0063 | 99.37 | 99.65
AwsNet         | 97.38 | 5.39 | 98.67 | 0.0056 | 99.44 | 99.68
LightUNet      | 97.47 | 5.32 | 98.72 | 0.0054 | 99.46 | 99.70
Inf-Net        | 97.18 | 5.43 | 98.57 | 0.0060 | 99.38 | 99.65
PR-Net         | 97.71 | 5.07 | 98.84 | 0.0049 | 99.51 | 99.78
"""


def test_paper_rows_are_those_printed():
    rows = [
        f"{r['method']:<14} | {100 * r['iou']:.2f} | {r['hd_mm']:.2f} | {100 * r['dsc']:.2f} | "
        f"{r['mae_binary']:.4f} | {100 * r['acc']:.2f} | {100 * r['spe']:.2f}"
        for r in TABLE_1.values()
    ]
    assert rows == PRINTED.strip().split("\n")
    assert list(TABLE_1) == [
        *("unet", "unetpp", "attention_unet", "anamnet", "awsnet", "lightunet", "infnet", "prnet")
    ]

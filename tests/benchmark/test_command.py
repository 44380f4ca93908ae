"""The command: what it refuses, and a small measurement from end to end."""

import json
import subprocess
import sys

import pytest

from tests.benchmark.test_rows import REQUIRED


def benchmark(root, *flags):
    command = [sys.executable, "-m", "prnet_jax.benchmark", *map(str, flags)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--repetitions", 6], "--repetitions must be 7 or more, found 6: fewer say too little"),
        (["--model", "vnet"], "--model must be among anamnet, attention_unet, "),
        (["--parts", "train,dance"], "; found 'dance'"),
        (["--against", "keras"], "--against must be among torch, torch-compile; found 'keras'"),
        (["--batch", 0], "--batch must be 1 or more, found 0"),
        (["--against", "torch", "--torch-python", "none/python"], "none/python is not a file"),
        (["--json", "no/folder/rows.json"], "there is no folder no/folder"),
    ],
)
def test_refusals_are_one_line(root, flags, said):
    done = benchmark(root, *flags)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert said in done.stderr


def test_a_python_without_torch_is_refused_before_anything_is_measured(root, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without its packages
    python.chmod(0o755)
    done = benchmark(root, "--against", "torch", "--torch-python", python)
    assert done.returncode == 2
    assert f"error: {python} has no torch, which the torch side needs: install it" in done.stderr
    assert "GFLOP/s" not in done.stdout


def test_a_python_that_cannot_run_it_is_named(root, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho too old >&2\nexit 3\n")
    python.chmod(0o755)
    done = benchmark(root, "--against", "torch", "--torch-python", python)
    assert done.returncode == 1
    assert f"the torch side ({python}) ended with exit code 3: too old" in done.stderr


def test_one_part_fails_and_the_others_go_on(root, tmp_path):
    """With two levels U-Net takes 10x10, PR-Net does not."""
    path = tmp_path / "rows.json"
    done = benchmark(
        root,
        *("--model", "prnet,unet", "--parts", "infer", "--batch", 2, "--size", 10),
        *("--set", "widths=2,4", "--json", path),
    )
    assert done.returncode == 1
    assert "error: infer prnet 2x10x10 float32: prnet needs sides divisible by 4" in done.stderr
    (row,) = json.loads(path.read_text())
    assert row.keys() >= REQUIRED
    assert (row["model"], row["part"], row["batch"], row["size"]) == ("unet", "infer", 2, 10)
    assert row["repetitions"] == 7 and row["fields"] == {"widths": [2, 4]}
    assert row["ours_low_ms"] <= row["ours_ms"] <= row["ours_high_ms"]
    assert row["gflop"] > 0 and row["of_ceiling"] > 0 and row["compile_s"] > 0
    assert "| infer | - | unet | 2 | 10 | float32 |" in done.stdout

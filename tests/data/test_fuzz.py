"""Thousands of mutated files of every format are either read or refused by one line."""

import json
import pathlib
import subprocess
import sys

import pytest

NUMBER = 2000


def test_mutated_files_are_read_or_refused_by_one_line(tmp_path):
    pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.data.mutated", str(NUMBER), "0", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")  # libraries print nothing either
    found = json.loads(done.stdout)
    print(found)
    assert found["traces"] == []
    read, refused = found["read"], found["refused"]
    assert sum(read.values()) + sum(refused.values()) == NUMBER
    for form in ("PNG", "TIFF", "JPEG", "NumPy", "NIfTI", "DICOM"):
        assert min(read[form], refused[form]) > NUMBER / 100
    assert found["peak_bytes"] < 2**29
    assert found["slowest_s"] < 60  # none hangs

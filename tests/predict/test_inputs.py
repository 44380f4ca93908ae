"""What paths, patterns, folders, zips and DICOM series are predicted, and under which names."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from prnet_jax.predict.inputs import find_inputs
from tests.data.scans import dicom


@pytest.fixture
def find(tmp_path):
    """Finds inputs with a fresh scratch folder; `out` is the folder of the results."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return lambda *paths: find_inputs(paths, scratch, tmp_path / "in" / "out")


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(path)
    return path


def stems(found):
    return sorted(one.stem for one in found.inputs)


def test_a_folder_keeps_its_paths_and_leaves_out_the_results(find, tmp_path):
    folder = tmp_path / "in"
    picture(folder / "a" / "x.png")
    picture(folder / "y.tif")
    picture(folder / "out" / "z.png")
    (folder / "readme.txt").write_text("no picture")
    found = find(folder)
    assert stems(found) == ["a/x", "y"]
    assert found.problems == {} and found.skipped == [str(folder / "readme.txt")]


def test_a_file_among_the_results_is_no_input(find, tmp_path):
    file = picture(tmp_path / "in" / "out" / "z.png")
    for other in (file, file.parent, file.parent.parent, file.parent / "*.png"):
        found = find(other)
        assert found.inputs == [] and found.left_out == [str(file)]


def test_a_zip_counts_though_the_results_enclose_what_it_is_unpacked_to(tmp_path):
    png = picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "scratch").mkdir()
    path = zipped(tmp_path / "case.zip", **{"b.png": png})
    assert stems(find_inputs([path], tmp_path / "scratch", tmp_path)) == ["case/b"]


def test_files_and_patterns(find, tmp_path):
    for name in ("a1.png", "a2.png", "b.png"):
        picture(tmp_path / "in" / name)
    assert stems(find(tmp_path / "in" / "a*.png", tmp_path / "in" / "b.png")) == ["a1", "a2", "b"]


def test_a_file_named_twice_counts_once(find, tmp_path):
    file = picture(tmp_path / "in" / "a.png")
    assert stems(find(file, file)) == ["a"]


def test_what_cannot_be_predicted_is_named(find, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    found = find(text, tmp_path / "none", tmp_path / "*.nii")
    assert "has no known format" in found.problems[str(text)]
    for name in ("none", "*.nii"):
        assert "matches nothing" in found.problems[str(tmp_path / name)]


def test_two_inputs_with_one_result_are_refused(find, tmp_path):
    one, two = picture(tmp_path / "p" / "a.png"), picture(tmp_path / "q" / "a.tif")
    found = find(one, two)
    assert [inputs.name for inputs in found.inputs] == [str(one)]
    assert found.problems[str(two)] == (
        f"{two} and {one} would have results of one name: predict them into two folders"
    )
    # So would a picture called like another's probability.
    three = picture(tmp_path / "q" / "a_prob.png")
    assert "would have results of one name" in find(one, three).problems[str(three)]


def test_series_are_told_apart(find, tmp_path):
    stored = np.zeros((4, 4), np.uint16)
    for z in range(3):
        place = {"ImagePositionPatient": [0, 0, z]}
        dicom(tmp_path / "in" / "ct" / f"{z}.dcm", stored, **place)
        dicom(tmp_path / "in" / "two" / f"{z}", stored, SeriesNumber=1, **place)
        other = {"SeriesNumber": 2, "SeriesInstanceUID": "1.2.9"}
        dicom(tmp_path / "in" / "two" / f"1{z}", stored, **other, **place)
    dicom(tmp_path / "in" / "alone" / "slice.dcm", stored)
    found = find(tmp_path / "in")
    assert stems(found) == ["alone/slice", "ct", "two/series_1", "two/series_2"]
    assert sorted(len(one.files) for one in found.inputs) == [1, 3, 3, 3]
    # The folder of a series, and a pattern of its files, are named after the folder.
    assert stems(find(tmp_path / "in" / "ct")) == ["ct"]
    assert stems(find(tmp_path / "in" / "ct" / "*.dcm")) == ["ct"]


def zipped(path, **contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def test_a_zip_is_as_the_folder_in_it(find, tmp_path):
    png = picture(tmp_path / "a.png").read_bytes()
    found = find(zipped(tmp_path / "case.zip", **{"p/a.png": png, "b.png": png}))
    assert stems(found) == ["case/b", "case/p/a"]
    assert [one.name for one in found.inputs] == [
        f"{tmp_path}/case.zip/b.png",
        f"{tmp_path}/case.zip/p/a.png",
    ]


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png"])
def test_a_zip_cannot_leave_its_folder(find, tmp_path, name):
    png = picture(tmp_path / "a.png").read_bytes()
    path = zipped(tmp_path / "case.zip", **{name: png})
    found = find(path)
    assert found.inputs == [] and "leaves its folder" in found.problems[str(path)]
    assert not list(tmp_path.rglob("*evil*"))


def test_a_damaged_zip_and_one_that_is_too_large(find, tmp_path):
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"PK\x03\x04 no zip")
    large = zipped(tmp_path / "large.zip", **{f"{i}.png": b"x" for i in range(9)})
    # The directory at the end declares 4 GB for each: 4 bytes at 24 of every entry.
    head, *entries = large.read_bytes().split(b"PK\x01\x02")
    entries = [entry[:20] + b"\xf0\xff\xff\xff" + entry[24:] for entry in entries]
    large.write_bytes(b"PK\x01\x02".join([head, *entries]))
    found = find(damaged, large)
    assert "is a damaged or encrypted zip" in found.problems[str(damaged)]
    assert "unpacks to 36.0 GB; expected at most" in found.problems[str(large)]

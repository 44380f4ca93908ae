"""The table beside the folders: what it gives, spreadsheets' leftovers, and each mistake in it."""

import numpy as np
import pytest

from prnet_jax.data import splits
from prnet_jax.datasets.image_folder.metadata import Entry, read_metadata
from prnet_jax.errors import InputError
from tests.datasets.made_up_folders import build, six_pairs
from tests.datasets.prepared import read


@pytest.fixture
def folder(tmp_path):
    return six_pairs(tmp_path / "own")


TABLE = """id,patient_id,split,spacing_row_mm,spacing_column_mm
case_0,ann,train,0.7,0.5
case_1,ann,train,,
case_2,bob,validation,0.6,0.6
case_3,cem,test,1,1
case_4,,train,,
case_5,dan,test,,
"""


def test_table_gives_patients_splits_and_spacing(folder):
    (folder / "metadata.csv").write_text("\ufeff" + TABLE, encoding="utf-8")
    found = read(build(folder))
    assert {id: (r["patient"], r["split"]) for id, r in found.items()} == {
        "case_0": ("ann", "train"),
        "case_1": ("ann", "train"),
        "case_2": ("bob", "validation"),
        "case_3": ("cem", "test"),
        "case_4": ("case_4", "train"),
        "case_5": ("dan", "test"),
    }
    np.testing.assert_allclose(found["case_0"]["spacing"], np.float32([0.7, 0.5]))
    assert np.isnan(found["case_1"]["spacing"]).all()
    by_seed = read(build(folder, split_seed=3))
    drawn = splits.random_split(found, None, 3, {id: r["patient"] for id, r in found.items()})
    assert {id: record["split"] for id, record in by_seed.items()} == drawn


def test_what_spreadsheets_leave(tmp_path):
    """Windows line ends, a byte order mark, blank rows, blank columns on the right."""
    file = tmp_path / "metadata.csv"
    lines = ["\ufeffid, patient_id ,split,,", "a,ann,train,,", ",,,,", "", "b,,test"]
    lines += ["c,x,validation,", ""]
    file.write_text("\r\n".join(lines), encoding="utf-8", newline="")
    assert read_metadata(file, ["a", "b", "c"]) == {
        "a": Entry("ann", "train"),
        "b": Entry("", "test"),
        "c": Entry("x", "validation"),
    }


def test_letters_with_accents_however_they_are_written(tmp_path):
    """macOS stores an umlaut as two characters; non-breaking spaces are allowed."""
    file = tmp_path / "metadata.csv"
    file.write_text("id,patient_id\nu\u0308ber,A\u030a\na\u00a0b,x\n", encoding="utf-8")
    assert read_metadata(file, ["\u00fcber", "a\u00a0b"]) == {
        "\u00fcber": Entry("\u00c5"),
        "a\u00a0b": Entry("x"),
    }


@pytest.mark.parametrize("name", ["Metadata.csv", "metadata.xlsx", "metadata.csv.txt"])
def test_a_table_with_nearly_the_right_name_is_refused(tmp_path, name):
    (tmp_path / name).write_text("id,patient_id\n")
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(
        InputError, match=rf"{name} is not read; .* called metadata\.csv: save it as"
    ):
        read_metadata(tmp_path / "metadata.csv", ["a"])
    (tmp_path / name).unlink()
    assert read_metadata(tmp_path / "metadata.csv", ["a"]) == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("id,patient_id\na,ä\n".encode("latin-1"), "cannot be read ('utf-8' codec"),
        ("id,patient_id\na,b\n".encode("utf-16"), "cannot be read ('utf-8' codec"),
        (b'id,patient_id\na,"b\nb,c\n', "cannot be read (unexpected end of data)"),
        (b'id,patient_id\na,"b\nb",c\n', "cannot be read (line 3: a line break"),
        (b"id,patient_id\na,b\0\n", "cannot be read (line 2: a line break or the like"),
        (b"", "has the columns []"),
    ],
)
def test_files_that_are_not_tables(tmp_path, data, message):
    """An unclosed quote would swallow the rows below it."""
    (tmp_path / "metadata.csv").write_bytes(data)
    with pytest.raises(InputError) as error:
        read_metadata(tmp_path / "metadata.csv", ["a", "b"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id,patient_id", "id,name", "unknown column 'name'; expected id and any of patient_id"),
        ("id,patient_id", "ID,patient_id", "unknown column 'ID'"),
        (",spacing_column_mm", "", "has one of spacing_row_mm and spacing_column_mm"),
        ("case_4", "case_9", "line 6: id 'case_9' is not a pair"),
        ("case_4", "case_3", "id 'case_3' appears twice"),
        ("cem,test", "cem,tests", "has the split 'tests'; expected one of train"),
        ("cem,test", "cem,", "has the split ''"),
        ("case_4,,train,,\n", "", "gives no split for 'case_4'"),
        ("case_1,ann,train", "case_1,ann,test", "puts patient 'ann' into two splits"),
        ("bob,validation", "bob,train", "puts no image into validation"),
        ("0.7,0.5", "0.7,five", "has the spacing '0.7' x 'five'"),
        ("0.7,0.5", "0.7,0", "pixel spacing of 0.7 x 0 mm"),
        ("0.7,0.5", "0.7,nan", "pixel spacing of 0.7 x nan mm"),
        ("0.7,0.5", "0.7,", "has the spacing '0.7' x ''"),
        ("0.7,0.5", "0.7,0.5,1", "more cells than columns"),
        (",", ";", "unknown column 'id;patient_id"),
    ],
)
def test_mistakes_in_the_table(folder, old, new, message):
    (folder / "metadata.csv").write_text(TABLE.replace(old, new))
    with pytest.raises(InputError) as error:
        build(folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not [path for path in (folder.parent / "data").rglob("*") if path.is_file()]

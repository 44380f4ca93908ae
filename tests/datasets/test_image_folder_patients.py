"""When the report says that files may be of one person."""

import pytest

from prnet_jax.datasets.image_folder.inspection import Choices, inspect
from prnet_jax.datasets.image_folder.patients import FILE_NAME, FOLDER, doubt
from tests.datasets.made_up_folders import picture, save


def named(*ids):
    return [(id, FILE_NAME) for id in ids]


def test_names_that_differ_only_in_a_number(tmp_path):
    """Two people, three slices each: taken for six patients."""
    for number in range(6):
        name = f"patient{number // 3:02d}_{number % 3:03d}"
        save(tmp_path / f"images/{name}.npy", picture(number)[0])
        save(tmp_path / f"masks/{name}.png", picture(number)[1])
    report = inspect(tmp_path, Choices()).report
    assert report.facts["same person?"] == (
        "6 patients for 6 files, and names differ only in a number (patient00_000, patient00_001): "
        "slices of one person may be in several splits; give patient ids in metadata.csv unless "
        "this is right"
    )
    lines = ["id,patient_id"]
    lines += [f"patient0{n // 3}_00{n % 3},{'ann' if n < 3 else 'bob'}" for n in range(6)]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    assert "same person?" not in inspect(tmp_path, Choices()).report.facts


@pytest.mark.parametrize(
    ("patients", "volumes", "doubtful"),
    [
        (named("a1", "a2"), False, True),
        (named("ann_1_ct", "ann_2_ct", "bob_1_ct"), False, True),
        (named("1", "2"), False, True),
        (named("ann_1", "ann_2", "bob_1", "bob_2"), True, True),
        (named("case_1", "case_2", "case_3"), True, False),  # volumes: one of each person
        (named("ann", "bob", "c1"), False, False),
        (named("a1", "a1", "a2", "a2"), False, False),  # slices known by their endings
        ([("a", FOLDER)] * 9 + [("b", FOLDER)] * 9, False, True),
        ([("a", FOLDER), ("b", FOLDER)], False, False),
        ([(letter, FOLDER) for letter in "abcd" * 2], False, False),
        ([("a1", "metadata.csv"), ("a2", "metadata.csv")], False, False),
        ([], False, False),
    ],
)
def test_what_is_doubtful(patients, volumes, doubtful):
    assert bool(doubt(patients, volumes)) == doubtful


def test_folders_that_hold_everything_are_named():
    patients = [("setA", FOLDER)] * 9 + [("setB", FOLDER)] * 9
    assert doubt(patients, False) == (
        "2 patients for 18 files, since a folder (setA, setB) counts as one person; if it holds "
        "several, give patient ids in metadata.csv"
    )

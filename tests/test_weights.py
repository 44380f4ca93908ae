"""The weights that come with the package."""

import hashlib
import itertools
import json
import pathlib

import numpy as np
import pytest

import prnet_jax
from prnet_jax import weights
from prnet_jax.datasets.lung_phantom.phantom import make_slice
from prnet_jax.errors import InputError
from prnet_jax.torch_weights.__main__ import main as torch_weights
from prnet_jax.torch_weights.network import images_of
from prnet_jax.weights import FOLDER, find_weights, released
from tests.data.real import VOLUME, needs_volume

MIB = 2**20


@pytest.mark.parametrize("name", released())
def test_each_is_what_the_index_says(name):
    entry = released()[name]
    file = find_weights(name)
    assert file.stat().st_size <= 10 * MIB
    assert hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"]
    card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for said in (entry["sha256"], "not a medical device", f"--weights {name}"):
        assert said in card
    assert images_of(file), "predict could not warn of images that look unlike those trained on"


def test_lungs_are_found_in_persons_it_has_not_seen():
    """Of four phantom slices of other persons, one of which shows no lung."""
    predictor = prnet_jax.load("lungs")
    slices = (make_slice(index, seed=99, size=256) for index in itertools.count())
    with_lung, without = [], []
    for made in slices:
        (with_lung if made.lung.mean() > 0.1 else without if not made.lung.any() else []).append(
            made
        )
        if len(with_lung) >= 3 and without:
            break
    for made in with_lung[:3]:
        mask = predictor.predict(made.hu).mask
        assert 2 * (mask & made.lung).sum() / (mask.sum() + made.lung.sum()) > 0.97
    area_mm2 = predictor.predict(without[0].hu).mask.sum() * np.prod(without[0].spacing_mm)
    assert area_mm2 < 100


@needs_volume
def test_lungs_are_found_in_a_real_volume():
    """The figures of the card; the volume was never trained on or chosen by."""
    nibabel = pytest.importorskip("nibabel")
    truth = np.asarray(nibabel.load(VOLUME / "masks" / "id001.nii.gz").dataobj) > 0
    mask = prnet_jax.load("lungs").predict_file(VOLUME / "images" / "id001.nii.gz").mask
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97


def test_no_file_is_left_over():
    expected = {"__init__.py", "index.json"}
    for name, entry in released().items():
        expected |= {entry["file"], f"{name}.md"}
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == expected


@pytest.fixture
def box(finished_run, tmp_path, monkeypatch):
    """A folder of released weights, which holds those of a tiny run under the name `tiny`."""
    file = tmp_path / "box" / "tiny.safetensors"
    assert torch_weights(["export", str(finished_run), str(file)]) == 0
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    index = {"tiny": {"file": file.name, "sha256": digest, "about": "for tests"}}
    (file.parent / "index.json").write_text(json.dumps(index))
    monkeypatch.setattr(weights, "FOLDER", file.parent)
    return file


def test_a_name_is_loaded_like_its_run(box, finished_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    slice_hu = np.linspace(-1000, 400, 48 * 40).reshape(48, 40)
    of_run, of_name = (prnet_jax.load(path) for path in (finished_run, "tiny"))
    np.testing.assert_array_equal(of_name.predict(slice_hu).prob, of_run.predict(slice_hu).prob)
    assert of_name.seen == of_run.seen != {}


def test_a_path_that_exists_wins(box, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_weights("tiny") == box
    pathlib.Path("tiny").mkdir()
    assert find_weights("tiny") == pathlib.Path("tiny")
    assert find_weights("runs/tiny") == pathlib.Path("runs/tiny")


def test_mistakes(box):
    with pytest.raises(
        InputError, match="^tinny does not exist and .*: name a run or a file of weights or tiny$"
    ):
        find_weights("tinny")
    box.write_bytes(box.read_bytes()[:-1])
    with pytest.raises(InputError, match="missing or damaged: install prnet_jax again"):
        find_weights("tiny")

"""Which folders a run may start or resume in."""

import json

import pytest

from prnet_jax.config import make_config
from prnet_jax.errors import InputError
from prnet_jax.run import directory, files
from prnet_jax.steps import make_model

ABOUT = {"split_manifest_sha256": "aa", "records": "lung_phantom/default/1.0.0"}


def test_the_same_config_resumes(tiny_config, tmp_path):
    run = tmp_path / "a" / "run"
    directory.open_run(run, tiny_config, ABOUT)
    written = (run / "config.json").read_text()
    tiny_config.dataset.data_dir = "elsewhere"
    tiny_config.dataset.num_threads = 7
    directory.open_run(run, tiny_config, ABOUT)
    assert (run / "config.json").read_text() == written


def test_another_config_is_refused_with_the_difference(tiny_config, tmp_path):
    directory.open_run(tmp_path / "run", tiny_config, ABOUT)
    tiny_config.learning_rate = 0.5
    with pytest.raises(InputError, match=r"another config \(learning_rate was 0.002, is 0.5\)"):
        directory.check_run(tmp_path / "run", tiny_config)


def test_fields_that_an_older_run_lacks_have_their_old_meaning(tiny_config, tmp_path):
    run = tmp_path / "run"
    assert directory.lacking_fields(run) == {}
    directory.open_run(run, tiny_config, ABOUT)
    assert directory.lacking_fields(run) == {}
    assert directory.read_run(run)[0].dataset.resize == "pad"
    config = json.loads((run / "config.json").read_text())
    del config["dataset"]["resize"], config["dataset"]["soft_mask"]
    (run / "config.json").write_text(json.dumps(config))
    old = {"dataset.resize": "stretch", "dataset.soft_mask": False}
    assert directory.lacking_fields(run) == old
    assert directory.read_run(run)[0].dataset.resize == "stretch"
    assert directory.read_run(run)[0].dataset.soft_mask is False
    with pytest.raises(InputError, match="dataset.resize was 'stretch', is 'pad'"):
        directory.check_run(run, tiny_config)
    tiny_config.dataset.resize = "stretch"
    assert directory.open_run(run, tiny_config, ABOUT) == ABOUT


def test_a_run_resumes_whatever_computes_its_attention(tmp_path):
    """Also one that was begun before this could be chosen."""
    run, prnet = tmp_path / "run", make_config("prnet", "quick")
    directory.open_run(run, prnet, ABOUT)
    config = json.loads((run / "config.json").read_text())
    del config["model"]["attention"]
    (run / "config.json").write_text(json.dumps(config))
    prnet.model.attention = "blockwise"
    assert directory.open_run(run, prnet, ABOUT) == ABOUT
    assert make_model(directory.read_run(run)[0]).attention == "auto"


def test_other_images_are_refused(tiny_config, tmp_path):
    directory.open_run(tmp_path / "run", tiny_config, ABOUT)
    with pytest.raises(InputError, match="other splits or images"):
        other = {**ABOUT, "split_manifest_sha256": "bb"}
        directory.open_run(tmp_path / "run", tiny_config, other)


def test_other_images_under_the_same_names_are_refused(tiny_config, tmp_path):
    """The hash of the splits knows names alone; the records' name ends in that of their files."""
    about = {**ABOUT, "records": "image_folder/default-1a2b3c4d/1.0.0"}
    directory.open_run(tmp_path / "run", tiny_config, about)
    other = {**about, "records": "image_folder/default-5e6f7a8b/1.0.0"}
    with pytest.raises(InputError, match=r"\(image_folder/default-1a2.*, now image.*-5e6f7a8b/"):
        directory.open_run(tmp_path / "run", tiny_config, other)
    assert directory.open_run(tmp_path / "run", tiny_config, about) == about


def test_a_folder_of_other_files_is_refused(tiny_config, tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match="holds files but no run"):
        directory.check_run(tmp_path, tiny_config)
    with pytest.raises(InputError, match="is a file: name a folder"):
        directory.check_run(tmp_path / "holiday.jpg", tiny_config)


def test_a_damaged_config_is_refused(tiny_config, tmp_path):
    for text in ('{"seed": ', "[1, 2]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="is not a config that this program wrote"):
            directory.check_run(tmp_path, tiny_config)
        with pytest.raises(InputError, match="is not a config that this program wrote"):
            directory.lacking_fields(tmp_path)


def test_flat():
    assert files.flat(json.loads('{"a": {"b": 1, "c": {"d": 2}}, "e": 3}')) == {
        "a.b": 1,
        "a.c.d": 2,
        "e": 3,
    }

"""Folders of published weights: what is written, and what is refused."""

import hashlib
import json
import pathlib
import pickle
import re
import shutil

import numpy as np
import pytest

import prnet_jax
from prnet_jax.errors import InputError
from prnet_jax.hub.folder import CARD, CONFIG, MODEL, MOST_BYTES
from prnet_jax.models import create_model, model_fields
from prnet_jax.run.variables import load_variables, save_variables
from prnet_jax.torch_weights import to_torch
from prnet_jax.torch_weights.files import read_state_dict
from tests.model_tester import noise
from tests.runs import blobs


@pytest.fixture
def saved(finished_run, tmp_path):
    """The weights of the tiny run as a folder, with a threshold that is not the default."""
    run = tmp_path / "private" / "tiny"
    shutil.copytree(finished_run, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"threshold": 0.4}))
    folder = tmp_path / "weights"
    prnet_jax.save_pretrained(run, folder, license="cc-by-4.0", about="Only | for tests.")
    return run, folder


def change(folder, **fields):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | fields))


def test_a_folder_predicts_like_its_run(saved):
    run, folder = saved
    of_run, of_folder = prnet_jax.load(run), prnet_jax.from_pretrained(folder)
    found, expected = (network.predict(blobs((1, 48, 40))) for network in (of_folder, of_run))
    np.testing.assert_array_equal(found.prob, expected.prob)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert 0.1 < found.mask.mean() < 0.9
    assert of_folder.config.threshold == 0.4
    assert of_folder.seen == of_run.seen != {}
    assert (of_folder.source, of_folder.published) == (folder / MODEL, None)
    # The file alone is enough for the commands.
    assert prnet_jax.load(folder / MODEL).config.threshold == 0.4


def test_what_is_in_it(saved):
    run, folder = saved
    assert {path.name for path in folder.iterdir()} == {MODEL, CONFIG, CARD}
    state_dict = read_state_dict(folder / MODEL)
    expected = to_torch("unet", load_variables(run), widths=(4, 8))
    assert {x.dtype for x in state_dict.values()} == {np.dtype("float32"), np.dtype("int64")}
    np.testing.assert_equal(state_dict, expected)
    content = (folder / MODEL).read_bytes()
    config = json.loads((folder / CONFIG).read_text())
    digest = hashlib.sha256(content).hexdigest()
    assert config["file"] == {"name": MODEL, "bytes": len(content), "sha256": digest}
    summary = json.loads((run / "test" / "summary.json").read_text())
    assert config["metrics"]["metrics"] == summary["metrics"]
    assert config["provenance"]["records"] == summary["records"]
    assert config["training"]["num_epochs"] == 16
    assert config["image_size"] == 32 and config["fields"]["widths"] == [4, 8]


def test_no_path_of_the_machine_is_published(saved, tmp_path):
    run, folder = saved
    config = json.loads((run / "config.json").read_text())
    assert config["dataset"]["data_dir"].startswith("/")
    for path in folder.iterdir():
        content = path.read_bytes()
        for private in (str(tmp_path), config["dataset"]["data_dir"], str(pathlib.Path.home())):
            assert private.encode() not in content, path


def test_runs_before_are_named_by_their_data(saved, tmp_path):
    run, _ = saved
    provenance = json.loads((run / "provenance.json").read_text())
    before = {"folder": "/home/me/first", "records": "first/1.0.0", "init_from": None}
    provenance["init_from"] = {
        "folder": "/home/me/second",
        "records": "second/1.0.0",
        "init_from": before | {"init_from": {"folder": "/x", "not_known": "imported weights"}},
    }
    (run / "provenance.json").write_text(json.dumps(provenance))
    prnet_jax.save_pretrained(run, tmp_path / "again", license="other")
    config = json.loads((tmp_path / "again" / CONFIG).read_text())
    chain = ["second/1.0.0", "first/1.0.0", "weights of unknown training"]
    assert config["provenance"]["started_from"] == chain
    card = (tmp_path / "again" / CARD).read_text()
    assert f"| started from | {', '.join(chain)} |" in card and "/home/me" not in card


def test_the_card(saved):
    run, folder = saved
    card = (folder / CARD).read_text()
    front = re.match("---\n(.*?)\n---\n", card, re.DOTALL)[1]
    # JSON values, so that YAML reads them too
    metadata = {k: json.loads(v) for k, v in (line.split(": ", 1) for line in front.splitlines())}
    assert metadata["license"] == "cc-by-4.0" and metadata["library_name"] == "prnet_jax"
    assert {"unet", "jax", "ct"} <= set(metadata["tags"])
    summary = json.loads((run / "test" / "summary.json").read_text())
    dsc = summary["metrics"]["dsc"]
    row = f"| DSC % | {100 * dsc['mean']:.2f} ± {100 * dsc['sd']:.2f}, {dsc['n']} |"
    assert row in card
    for said in ("Only | for tests.", "not a medical device", "| threshold | 0.4 |"):
        assert said in card
    assert hashlib.sha256((folder / MODEL).read_bytes()).hexdigest() in card


def test_the_card_is_read_by_the_hub(saved):
    card = pytest.importorskip("huggingface_hub").ModelCard.load(saved[1] / CARD)
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "prnet_jax")
    assert card.data.pipeline_tag == "image-segmentation"


def test_imported_weights(tmp_path):
    imported, folder = tmp_path / "imported", tmp_path / "theirs"
    fields = {"widths": (4, 8), "heads": 2}
    variables, _ = noise(create_model("prnet", **fields), (1, 16, 16, 1))
    images = {"image_size": 32, "window_hu": (0.0, 255.0), "resize": "pad", "unit": "grey"}
    save_variables(imported, "prnet", fields, variables, images)
    prnet_jax.save_pretrained(imported, folder, license="mit")
    loaded = prnet_jax.from_pretrained(folder)
    assert (loaded.unit, loaded.config.dataset.image_size) == ("grey", 32)
    assert loaded.config.model.to_dict() == {**model_fields("prnet"), **fields, "name": "prnet"}
    assert "## Scores" not in (folder / CARD).read_text()


def test_weights_that_the_config_is_not_about(saved):
    _, folder = saved
    content = bytearray((folder / MODEL).read_bytes())
    content[-1] ^= 1
    (folder / MODEL).write_bytes(content)
    with pytest.raises(InputError, match="is not the file of .* bytes that config.json is about"):
        prnet_jax.from_pretrained(folder)
    (folder / MODEL).write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"\([0-9,]+ bytes\) is not the file of"):
        prnet_jax.from_pretrained(folder)
    (folder / MODEL).unlink()
    with pytest.raises(InputError, match="model.safetensors cannot be read"):
        prnet_jax.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not what prnet_jax.push_to_hub writes"),
        ("[]", "is not what prnet_jax.push_to_hub writes"),
        ("[" * 100_000, "is not what prnet_jax.push_to_hub writes"),
        ('{"model_type": "bert"}', "is not what prnet_jax.push_to_hub writes .*'format'"),
        ({"format": "prnet_jax weights\n9"}, "format 'prnet_jax weights"),
        ({"network": "vnet"}, "^unknown network 'vnet': choose one of"),
        ({"network": ["prnet"]}, "is not what prnet_jax.push_to_hub writes"),
        ({"file": {"name": MODEL}}, "is not what prnet_jax.push_to_hub writes"),
        ({"file": {"bytes": "many", "sha256": "x"}}, "is not what prnet_jax.push_to_hub writes"),
        ({"file": None}, "is not what prnet_jax.push_to_hub writes"),
    ],
)
def test_a_config_of_others(saved, content, message):
    _, folder = saved
    change(folder, **content) if isinstance(content, dict) else (folder / CONFIG).write_text(
        content
    )
    with pytest.raises(InputError, match=message) as caught:
        prnet_jax.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_too_large_is_not_read(saved):
    _, folder = saved
    change(folder, more="x" * MOST_BYTES[CONFIG])
    with pytest.raises(InputError, match="it is too large"):
        prnet_jax.from_pretrained(folder)


class Evil:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("executed"),)


def test_nothing_is_unpickled(saved, tmp_path, monkeypatch):
    """A pickle in place of the weights, with the hash that its config says, is not executed."""
    monkeypatch.chdir(tmp_path)
    _, folder = saved
    content = pickle.dumps({"x": Evil()})
    (folder / MODEL).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change(folder, file={"name": MODEL, "bytes": len(content), "sha256": digest})
    with pytest.raises(InputError, match="cannot be read as a .safetensors file"):
        prnet_jax.from_pretrained(folder)
    assert not pathlib.Path("executed").exists()
    pickle.loads(content)
    assert pathlib.Path("executed").exists(), "the test would see it"


def test_mistakes_when_saving(saved, tmp_path):
    run, folder = saved
    with pytest.raises(InputError, match="weights exists and is not overwritten"):
        prnet_jax.save_pretrained(run, folder, license="mit")
    for license in ("", " ", "mit\nx: y"):
        with pytest.raises(InputError, match="names no licence"):
            prnet_jax.save_pretrained(run, tmp_path / "new", license=license)
    with pytest.raises(InputError, match="is neither a run directory"):
        prnet_jax.save_pretrained(tmp_path / "absent", tmp_path / "new", license="mit")
    assert not (tmp_path / "new").exists()

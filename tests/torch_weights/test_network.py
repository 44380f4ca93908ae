"""What files and folders of weights say of themselves, and networks made from them."""

import json

import numpy as np
import pytest

import prnet_jax
from prnet_jax.errors import InputError
from prnet_jax.models import create_model, model_fields
from prnet_jax.run.variables import image_settings_of, save_variables, unit_of
from prnet_jax.torch_weights import to_torch
from prnet_jax.torch_weights.files import read_metadata, write_state_dict
from prnet_jax.torch_weights.network import load_weights, metadata_of, which_network
from tests.model_tester import noise

SMALL = {"widths": (4, 8), "heads": 2}
ALL = model_fields("prnet") | SMALL
INPUT = {
    "image_size": 64,
    "window_hu": [0.0, 255.0],
    "resize": "stretch",
    "unit": "grey",
    "threshold": 0.4,
}
METADATA = {
    "network": "prnet",
    "fields": json.dumps({"widths": [4, 8], "heads": 2}),
    "image_size": "64",
    "window_hu": "[-600, 200]",
    "resize": "stretch",
    "unit": "HU",
}


@pytest.fixture(scope="module")
def small():
    return noise(create_model("prnet", **SMALL), (1, 16, 16, 1))[0]


@pytest.fixture
def described(tmp_path, small):
    """Writes a .safetensors file with metadata."""

    def write(metadata):
        path = tmp_path / "w.safetensors"
        path.unlink(missing_ok=True)
        write_state_dict(path, to_torch("prnet", small, **SMALL), metadata)
        return path

    return write


@pytest.fixture
def run(tmp_path, tiny_config):
    """What a run's folder says; without checkpoints."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(tiny_config.to_json())
    (folder / "provenance.json").write_text('{"unit": "grey"}')
    return folder


def test_a_folder_tells_its_file_and_the_file_its_network(tmp_path, small, described):
    save_variables(tmp_path / "imported", "prnet", ALL, small, INPUT)
    assert image_settings_of(tmp_path / "imported") == INPUT
    metadata = metadata_of(tmp_path / "imported")
    assert metadata["version"].startswith("prnet_jax ") and metadata["format"] == "pt"
    path = described(metadata)
    assert read_metadata(path) == metadata
    found = which_network(path)
    assert (found.name, found.fields) == ("prnet", ALL)
    assert found.image_settings == INPUT | {"window_hu": (0.0, 255.0)}
    assert which_network(tmp_path / "imported") == which_network(tmp_path / "imported", "prnet")


def test_a_run_tells_its_file_how_it_saw_images(run):
    metadata = metadata_of(run)
    expected = {"network": "unet", "image_size": "32", "window_hu": "[-1000.0, 400.0]"}
    assert metadata.items() >= (expected | {"unit": "grey", "resize": "pad"}).items()
    assert json.loads(metadata["fields"])["widths"] == [4, 8]
    config = json.loads((run / "config.json").read_text())
    del config["dataset"]["resize"]
    (run / "config.json").write_text(json.dumps(config))
    assert metadata_of(run)["resize"] == "stretch"  # as runs did before they had the field


def test_a_unit_is_what_is_said_or_what_the_window_implies():
    assert unit_of((0, 255), {}) == "grey" and unit_of((-1000, 400), {}) == "HU"
    assert unit_of((0, 100), {"unit": "HU"}) == "HU"


def test_weights_come_with_what_predicts_with_them(small, described):
    told = []
    config, variables, unit = load_weights(described(METADATA), tell=told.append)
    assert (config.dataset.image_size, config.dataset.window_hu) == (64, (-600.0, 200.0))
    assert config.model.to_dict() == ALL | {"name": "prnet"} and config.seed is None
    np.testing.assert_equal(variables, small)
    assert (unit, told, config.dataset.resize) == ("HU", [], "stretch")
    assert config.threshold == 0.5
    config, *_ = load_weights(described(METADATA | {"threshold": "0.35"}))
    assert config.threshold == 0.35
    config, _, unit = load_weights(described(METADATA), image_size=32, window=(0, 255))
    assert (config.dataset.image_size, config.dataset.window_hu) == (32, (0.0, 255.0))
    assert unit == "HU"  # the file says so


def test_what_is_not_said_is_assumed_aloud(tmp_path, small):
    path, told = tmp_path / "w.npz", []
    half = {k: v.astype(np.float16) for k, v in to_torch("prnet", small, **SMALL).items()}
    write_state_dict(path, half)
    config, variables, unit = load_weights(path, "prnet", SMALL, window=(0, 255), tell=told.append)
    assert (config.dataset.image_size, unit) == (256, "grey")
    assert variables["params"]["head"]["bias"].dtype == np.float32
    assert told[0].startswith("images     assumed to be 256x256 (pad), 0 to 255: give --image-size")
    config, *_ = load_weights(path, "prnet", SMALL, 32, (0, 255), "stretch", tell=told.append)
    assert config.dataset.resize == "stretch" and len(told) == 1
    with pytest.raises(InputError, match="does not say which network it is of: give --model, one"):
        load_weights(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "unetpp"}, "network unetpp has no field 'heads'"),
        ({"network": "vnet"}, "unknown network 'vnet'"),
        ({"fields": "{"}, "says of itself what cannot be used"),
        ({"fields": "[1]"}, "says of itself what cannot be used"),
        ({"fields": "[" * 100_000}, "says of itself what cannot be used"),
        (
            {"fields": '{"widths": "abc", "heads": 2}'},
            "prnet's widths must be 1 or more whole numbers from 1 up, found 'abc'",
        ),
        ({"fields": '{"width": 3}'}, "has no field 'width'"),
        ({"fields": '{"name": "unet"}'}, "has no field 'name'"),
        ({"image_size": "1000000"}, r"says of itself what cannot be used \(image_size 1000000\)"),
        ({"window_hu": "[-1e400, 1e400]"}, "config.dataset.window_hu must be"),
        ({"fields": '{"widths": [4, 16], "heads": 2}'}, "have another shape than prnet's"),
        ({"fields": '{"widths": [4, 8], "heads": 2, "in_channels": 3}'}, "with in_channels=3"),
        ({"image_size": "big"}, "says of itself what cannot be used"),
        ({"image_size": "0"}, "image_size must be 1 or more"),
        ({"resize": "crop"}, "resize must be pad, stretch or middle"),
        ({"window_hu": "[1]"}, "says of itself what cannot be used"),
        ({"window_hu": "[5, 5]"}, "window_hu must be"),
        ({"threshold": "high"}, "says of itself what cannot be used"),
        ({"threshold": "2"}, "threshold must be between 0 and 1"),
        ({"unit": "mm"}, r"says of itself what cannot be used \(unit 'mm'\)"),
    ],
)
def test_what_a_file_says_wrongly_is_one_line(described, changed, message):
    with pytest.raises(InputError, match=message) as caught:
        load_weights(described(METADATA | changed))
    assert "\n" not in str(caught.value)


def test_what_contradicts_is_refused(tmp_path, small, described, run):
    with pytest.raises(InputError, match="holds prnet, not unet: correct or omit --model"):
        which_network(described(METADATA), "unet")
    save_variables(tmp_path / "imported", "prnet", ALL, small)
    with pytest.raises(InputError, match="holds prnet, not unet: correct or omit --model"):
        which_network(tmp_path / "imported", "unet")
    with pytest.raises(InputError, match="states the network's fields: omit --field"):
        which_network(tmp_path / "imported", "prnet", SMALL)
    with pytest.raises(InputError, match="a run is evaluated by --workdir"):
        which_network(run)


def test_what_python_takes_for_granted_is_a_warning(small, tmp_path):
    write_state_dict(tmp_path / "w.npz", to_torch("prnet", small, **SMALL))
    with pytest.warns(UserWarning, match="images assumed to be 256x256"):
        prnet_jax.load(tmp_path / "w.npz", name="prnet", fields=SMALL)

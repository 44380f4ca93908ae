"""Networks in ONNX. What needs jax2onnx is skipped where it is absent, as it mostly is."""

import sys
import types

import jax
import ml_collections
import numpy as np
import pytest

from prnet_jax import steps
from prnet_jax.errors import InputError, RunError
from prnet_jax.export import folder, onnx
from prnet_jax.export.program import flat_weights
from prnet_jax.models import list_models, model_fields


def narrow(name):
    """The config and initial weights of a network of few channels, at 64x64."""
    fields = model_fields(name)
    count = len(fields["widths"])
    fields["widths"] = (8,) * count if name == "infnet" else (4, 4, 8, 8, 8)[:count]
    if name == "infnet":
        fields |= {"blocks": (1, 1, 1, 1), "channels": 4}
    if "channels_per_group" in fields:
        fields["channels_per_group"] = 4
    # Not by prnet_jax.config, which imports more than jax2onnx's environment has.
    config = ml_collections.ConfigDict(
        {
            "model": {**fields, "name": name},
            "dataset": {"image_size": 64, "window_hu": (-1000.0, 400.0), "resize": "pad"},
            "dtype": "float32",
            "threshold": 0.5,
        }
    )
    image = np.zeros((1, 64, 64, 1), np.float32)
    variables = steps.make_model(config).init(jax.random.key(0), image, train=False)
    return config, flat_weights(variables)


@pytest.mark.parametrize("name", list_models())
def test_onnx_runtime_agrees(name):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    content, difference = onnx.convert(*narrow(name))
    print(f"{name}: {difference:.1e}, {len(content)} bytes")
    assert difference < 1e-5


@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_over_an_image_keep_their_digits(keepdims):
    """ONNX Runtime's own, one pixel after the other, lose about one of them."""
    jax2onnx = pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")

    def sums(x):
        total = x.sum((1, 2), keepdims=keepdims)
        return total, jax.numpy.square(x).sum((1, 2), keepdims=keepdims), x.sum(3)

    images = 0.1 + 0.01 * np.random.default_rng(0).random((2, 256, 256, 3), np.float32)
    model = jax2onnx.to_onnx(sums, [("N", 256, 256, 3)])

    def errors():
        session = runtime.InferenceSession(model.SerializeToString())
        found = session.run(None, {session.get_inputs()[0].name: images})
        for array, exact in zip(found, expected, strict=True):
            assert (array.shape, array.dtype) == (exact.shape, np.float32)
            yield np.abs(array / exact - 1).max()

    precise = images.astype(np.float64)
    expected = [
        precise.sum((1, 2), keepdims=keepdims),
        np.square(precise).sum((1, 2), keepdims=keepdims),
        precise.sum(3),
    ]
    before = list(errors())
    onnx.sum_by_axes(model)
    after = list(errors())
    print(before, after)
    assert max(after) < 5e-7 < 3e-6 < max(before[:2])


@pytest.fixture
def exported(tmp_path):
    """A folder as an export leaves it, without the program, which is not read here."""
    config, weights = narrow("unet")
    path = tmp_path / folder.MODEL
    about = {"unit": "HU", "flips": False, "seen": {}}
    folder.write_files(path, b"", config, weights, about)
    return path


def fakes(monkeypatch, error):
    """jax2onnx and ONNX Runtime that compute the network, and `error` more."""
    seen = {}

    def to_onnx(probability, shapes):
        seen["probability"], seen["shapes"] = probability, shapes
        return types.SimpleNamespace(SerializeToString=lambda: b"onnx")

    class Session:
        def __init__(self, content):
            assert content == b"onnx"

        def get_inputs(self):
            return [types.SimpleNamespace(name="in_0")]

        def run(self, names, images):
            return [np.asarray(seen["probability"](images["in_0"])) + error]

    monkeypatch.setattr(onnx, "sum_by_axes", lambda model: None)
    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=to_onnx))
    runtime = types.SimpleNamespace(InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return seen


def test_the_file_lies_beside_the_program(exported, monkeypatch):
    seen = fakes(monkeypatch, 1e-4)
    assert onnx.write_onnx(exported) == pytest.approx(1e-4, rel=0.1)
    assert exported.with_suffix(".onnx").read_bytes() == b"onnx"
    assert seen["shapes"] == [("N", 64, 64, 1)]


def test_a_wrong_conversion_is_not_written(exported, monkeypatch):
    for error in (0.01, np.nan):
        fakes(monkeypatch, error)
        with pytest.raises(RunError, match="in the probability of unet, above 0.001"):
            onnx.write_onnx(exported)
    assert not exported.with_suffix(".onnx").exists()


def test_without_jax2onnx_the_way_is_named(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match="--onnx needs jax2onnx: make an environment for it"):
        onnx.write_onnx(exported)

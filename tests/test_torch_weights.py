"""PyTorch state_dicts in and out; the networks' values are tested in tests/models."""

import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.torch_weights import from_torch, to_torch
from tests.goldens import weights

SMALL = {"widths": (4, 8), "heads": 2}


@pytest.fixture(scope="module")
def golden(root):
    return weights.load(root / "tests" / "goldens" / "prnet.json")[1]


def test_round_trip_to_the_bit(golden):
    back = to_torch("prnet", from_torch("prnet", golden))
    assert back.keys() == golden.keys()
    for name, array in golden.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)


@pytest.fixture
def small():
    """A state_dict of a narrow network with random values."""
    from prnet_jax import torch_weights

    flat = torch_weights._template("prnet", SMALL)
    rng = np.random.default_rng(0)
    tree = {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in flat.items()}
    return to_torch("prnet", torch_weights._nest(tree), **SMALL)


def test_kernels_are_laid_out_as_in_torch(small):
    variables = from_torch("prnet", small, **SMALL)
    params = variables["params"]
    kernel = params["encoder.0"]["conv2"]["kernel"]  # [k, k, in, out] from [out, in, k, k]
    assert kernel[0, 2, 1, 3] == small["encoder.0.conv2.weight"][3, 1, 0, 2]
    up = params["decoder.1.up"]["kernel"]  # [k, k, out, in] from [in, out, k, k]
    assert up.shape == (2, 2, 4, 8)
    assert up[1, 0, 3, 6] == small["decoder.1.up.weight"][6, 3, 1, 0]
    stats = variables["batch_stats"]["decoder.0.double_conv"]["1"]
    np.testing.assert_array_equal(stats["var"], small["decoder.0.double_conv.1.running_var"])


def test_dtypes_are_kept(small):
    double = {name: array.astype(np.float64) for name, array in small.items()}
    assert from_torch("prnet", double, **SMALL)["params"]["head"]["bias"].dtype == np.float64


def test_refusals_name_what_is_wrong(small):
    missing = {name: array for name, array in small.items() if name != "head.bias"}
    with pytest.raises(InputError, match="lacks names of prnet: head.bias$"):
        from_torch("prnet", missing, **SMALL)
    with pytest.raises(InputError, match="does not know: fc.weight$"):
        from_torch("prnet", {**small, "fc.weight": np.zeros(1)}, **SMALL)
    with pytest.raises(InputError, match=r"must have shape \[4, 1, 1, 1\], found \[8, 1, 1, 1\]"):
        wider = {**small, "encoder.0.conv1.weight": np.zeros((8, 1, 1, 1))}
        from_torch("prnet", wider, **SMALL)
    variables = from_torch("prnet", small, **SMALL)
    with pytest.raises(InputError, match="variables lack arrays of prnet: batch_stats"):
        to_torch("prnet", {"params": variables["params"]}, **SMALL)


def test_torch_loads_it_strictly(small):
    torch = pytest.importorskip("torch")
    module = torch.nn.ConvTranspose2d(8, 4, 2, stride=2)
    part = {k.removeprefix("decoder.1.up."): v for k, v in small.items() if "decoder.1.up." in k}
    module.load_state_dict({name: torch.from_numpy(a) for name, a in part.items()}, strict=True)
    again = {f"decoder.1.up.{name}": tensor for name, tensor in module.state_dict().items()}
    variables = from_torch("prnet", {**small, **again}, **SMALL)
    x = np.random.default_rng(1).normal(size=(1, 5, 6, 8)).astype(np.float32)
    expected = module(torch.from_numpy(x.transpose(0, 3, 1, 2))).detach().numpy()

    from prnet_jax.models.layers import UpConv

    found = UpConv(4).apply({"params": variables["params"]["decoder.1.up"]}, x)
    np.testing.assert_allclose(np.transpose(found, (0, 3, 1, 2)), expected, atol=1e-5)

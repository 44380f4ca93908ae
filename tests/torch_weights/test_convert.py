"""PyTorch state_dicts in and out. The networks' values are tested in tests/models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model, prnet
from prnet_jax.models.layers import UpConv
from prnet_jax.torch_weights import from_torch, to_torch
from tests.goldens import weights
from tests.model_tester import noise

SMALL = {"widths": (4, 8), "heads": 2}


def golden_of(root, name):
    return weights.load(root / "tests" / "goldens" / f"{name}.json")[1]


def test_round_trip_to_the_bit(root):
    golden = golden_of(root, "prnet")
    back = to_torch("prnet", from_torch("prnet", golden))
    assert back.keys() == golden.keys()
    for name, array in golden.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)


@pytest.fixture
def small():
    """A random state_dict of a narrow network."""
    variables, _ = noise(create_model("prnet", **SMALL), (1, 16, 16, 1))
    return to_torch("prnet", variables, **SMALL)


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


def test_both_ways_copy(small):
    """Torch changes a state_dict's tensors while it trains, and JAX's arrays are read-only."""
    variables = from_torch("prnet", small, **SMALL)
    back = to_torch("prnet", jax.tree.map(jnp.asarray, variables), **SMALL)
    for name, array in small.items():
        expected = array.copy()
        array += 1
        np.testing.assert_array_equal(back[name], expected)
        back[name] += 1
    assert variables["params"]["head"]["bias"][0] == small["head.bias"][0] - 1


def test_dtypes_are_kept(small):
    double = {name: array.astype(np.float64) for name, array in small.items()}
    assert from_torch("prnet", double, **SMALL)["params"]["head"]["bias"].dtype == np.float64


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "model.unet."])
def test_a_prefix_that_all_names_share_is_removed(small, prefix):
    wrapped = {f"{prefix}{name}": array for name, array in small.items()}
    np.testing.assert_equal(
        from_torch("prnet", wrapped, **SMALL), from_torch("prnet", small, **SMALL)
    )


def test_a_prefix_that_one_name_has_stays(small):
    one_name = {("module." if name == "head.bias" else "") + name: a for name, a in small.items()}
    with pytest.raises(InputError, match=r"1 missing \(head.bias\), 1 unexpected \(module.head.b"):
        from_torch("prnet", one_name, **SMALL)


def test_counters_are_dropped_and_come_back_as_zero(small):
    counter = "decoder.0.double_conv.1.num_batches_tracked"
    trained = small | {counter: np.int64(500)}
    back = to_torch("prnet", from_torch("prnet", trained, **SMALL), **SMALL)
    assert (back[counter], back[counter].dtype, back[counter].shape) == (0, np.int64, ())


def test_arrays_that_the_reference_never_uses_are_dropped_and_come_back_as_zeros(
    small, monkeypatch
):
    unused = {"resnet.fc.weight": (3, 2), "resnet.fc.bias": (3,)}
    monkeypatch.setattr(prnet, "UNUSED_TORCH", unused, raising=False)
    full = small | {name: np.full(shape, np.nan) for name, shape in unused.items()}
    variables = from_torch("prnet", full, **SMALL)
    np.testing.assert_equal(variables, from_torch("prnet", small, **SMALL))
    back = to_torch("prnet", variables, **SMALL)
    assert back.keys() == full.keys()
    for name, shape in unused.items():
        assert (back[name].shape, back[name].dtype, back[name].any()) == (shape, np.float32, False)


def test_names_that_are_wrong_are_counted_and_shown(small):
    missing = {name: array for name, array in small.items() if name != "head.bias"}
    with pytest.raises(InputError, match=r"prnet: 1 missing \(head.bias\); is it another variant"):
        from_torch("prnet", missing, **SMALL)
    more = {**small, **{f"fc.{i}": np.zeros(1) for i in range(5)}}
    with pytest.raises(InputError, match=r"5 unexpected \(fc.0, fc.1, fc.2 and 2 more\)"):
        from_torch("prnet", more, **SMALL)
    variables = from_torch("prnet", small, **SMALL)
    with pytest.raises(
        InputError, match=r"not the variables of prnet: 12 missing \(batch_stats.decod"
    ):
        to_torch("prnet", {"params": variables["params"]}, **SMALL)


def test_another_network_is_recognised(root):
    state_dict = {"module." + k: v for k, v in golden_of(root, "unetpp").items()}
    with pytest.raises(InputError, match="; it looks like a state_dict of unetpp$"):
        from_torch("prnet", state_dict)


def test_a_part_of_a_network_keeps_its_names_in_the_message(small):
    part = {name: array for name, array in small.items() if name.startswith("encoder.0.")}
    with pytest.raises(
        InputError, match=r"missing \(\S*, \S*, \S* and \d+ more\); is it another v"
    ):
        from_torch("prnet", part, **SMALL)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"widths": "abc"}, "prnet's widths must be .*, found 'abc'"),
        ({"widths": 5}, "prnet's widths must be .*, found 5"),
        ({"widths": ()}, r"prnet's widths must be .*, found \[\]"),
        ({"heads": 0}, "there is no prnet with .*heads=0.*see the fields of the class"),
    ],
)
def test_fields_that_make_no_network_are_named(small, fields, message):
    with pytest.raises(InputError, match=message):
        from_torch("prnet", small, **fields)


def test_a_network_beside_a_loss_is_pointed_out(small):
    both = {f"model.{name}": array for name, array in small.items()} | {"loss.weight": np.ones(2)}
    with pytest.raises(InputError, match=r"; what begins with model is one \(--entry model\)$"):
        from_torch("prnet", both, **SMALL)


def test_another_width_is_refused_with_both_shapes(small):
    wider = {**small, "encoder.0.conv1.weight": np.zeros((8, 1, 1, 1))}
    shapes = r"encoder.0.conv1.weight must be \[4, 1, 1, 1\], found \[8, 1, 1, 1\]"
    with pytest.raises(InputError, match=rf"1 of \d+ arrays .* \({shapes}\): does it have another"):
        from_torch("prnet", wider, **SMALL)
    variables = from_torch("prnet", small, **SMALL)
    with pytest.raises(InputError, match=r"must have shape \[1, 1, 1, 4\], found \[1, 1, 1, 3\]"):
        variables["params"]["encoder.0"]["conv1"]["kernel"] = np.zeros((1, 1, 1, 3))
        to_torch("prnet", variables, **SMALL)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_name(small, value):
    bias = small["decoder.0.up.bias"].copy()
    bias[3] = value
    with pytest.raises(InputError, match="decoder.0.up.bias holds NaN or infinity in 1 of 8 plac"):
        from_torch("prnet", {**small, "decoder.0.up.bias": bias}, **SMALL)


def test_values_that_are_no_arrays_of_floats_are_refused(small):
    with pytest.raises(InputError, match="head.bias is a float, expected an array of numbers"):
        from_torch("prnet", {**small, "head.bias": 0.5}, **SMALL)
    with pytest.raises(InputError, match="head.bias must hold floating-point numbers, found int64"):
        from_torch("prnet", {**small, "head.bias": np.zeros(1, np.int64)}, **SMALL)


def test_torch_loads_it_strictly(small):
    torch = pytest.importorskip("torch")
    module = torch.nn.ConvTranspose2d(8, 4, 2, stride=2)
    part = {k.removeprefix("decoder.1.up."): v for k, v in small.items() if "decoder.1.up." in k}
    module.load_state_dict({name: torch.from_numpy(a) for name, a in part.items()}, strict=True)
    again = {f"decoder.1.up.{name}": tensor for name, tensor in module.state_dict().items()}
    variables = from_torch("prnet", {**small, **again}, **SMALL)
    x = np.random.default_rng(1).normal(size=(1, 5, 6, 8)).astype(np.float32)
    expected = module(torch.from_numpy(x.transpose(0, 3, 1, 2))).detach().numpy()
    found = UpConv(4).apply({"params": variables["params"]["decoder.1.up"]}, x)
    np.testing.assert_allclose(np.transpose(found, (0, 3, 1, 2)), expected, atol=1e-5)

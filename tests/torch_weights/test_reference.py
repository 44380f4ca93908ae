"""PR-Net in PyTorch: its names, the goldens, and the Flax network."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prnet_jax.models import create_model  # noqa: E402
from prnet_jax.torch_weights import from_torch, to_torch  # noqa: E402
from prnet_jax.torch_weights.reference import PRNet  # noqa: E402
from tests.goldens import weights  # noqa: E402
from tests.model_tester import GOLDENS, differences, enable_x64  # noqa: E402

SMALL = {"widths": (4, 8), "heads": 2}
NARROW = {"widths": (4,), "heads": 2}


def tensors(state_dict):
    return {name: torch.tensor(array) for name, array in state_dict.items()}


def relative_to_peak(found, expected):
    found = np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)
    return np.abs(found - expected).max() / np.abs(expected).max()


def golden_arrays(reference, spec, state_dict):
    """What a golden of PR-Net holds, computed by `reference` in float64: name -> array, NCHW."""
    reference.load_state_dict(tensors(state_dict))
    reference.double().eval()
    image = torch.from_numpy(weights.inputs(spec)).double().requires_grad_()
    logits = reference(image)
    (logits * torch.from_numpy(weights.cotangents(spec)[0])).sum().backward()
    arrays = {"eval_output": logits, "grad_input": image.grad}
    with torch.no_grad():
        arrays["train_output"] = reference.train()(image)
    after = reference.state_dict().items()
    arrays |= {f"after_train.{name}": tensor for name, tensor in after if "running_" in name}
    return {name: tensor.detach().numpy() for name, tensor in arrays.items()}


def test_equals_its_golden_in_float64():
    spec, state_dict = weights.load(GOLDENS / "prnet.json")
    golden = np.load(GOLDENS / "prnet.npz")
    model = PRNet()
    names = {name: list(t.shape) for name, t in model.state_dict().items()}
    assert names == {name: shape for name, shape, _ in spec["state_dict"]}
    assert sum(p.numel() for p in model.parameters()) == 39_876_609
    found = golden_arrays(model, spec, state_dict)
    assert sum(name.startswith("after_train.") for name in golden.files) == 4
    assert len(golden.files) == 7
    for name in golden.files:
        assert relative_to_peak(found[name], golden[name]) < 1e-6, name


def test_a_golden_of_its_own_is_met_and_a_change_of_it_is_seen():
    """`differences` of the battery, on a golden of a narrow PR-Net made like the stored ones."""
    reference = PRNet(**NARROW)
    kinds = {"num_batches_tracked": "counter", "running_mean": "running_mean"}
    kinds |= {"running_var": "running_var"}

    def kind(name, tensor):
        leaf = name.rpartition(".")[2]
        return "norm_weight" if (leaf, tensor.ndim) == ("weight", 1) else kinds.get(leaf, "")

    entries = [[k, list(v.shape), kind(k, v)] for k, v in reference.state_dict().items()]
    shape = [2, 1, 16, 16]
    head = {"key": "eval_output", "train_key": "train_output", "shape": shape}
    spec = {"cotangent_seed": 1, "input": {"shape": shape, "seed": 0}, "heads": [head]}
    state_dict = weights.weights(entries)
    golden = golden_arrays(reference, spec, state_dict)
    golden = {name: array.astype(np.float32) for name, array in golden.items()}

    single = differences("prnet", NARROW, (spec, state_dict, golden), np.float32)
    assert single.keys() == golden.keys() - {"grad_input"}
    assert single["eval_output"] < 2e-5 and max(single.values()) < 2e-4
    with enable_x64(True):
        double = differences("prnet", NARROW, (spec, state_dict, golden), np.float64)
    assert double.keys() == golden.keys()
    assert max(double.values()) < 1e-6

    changed = {**golden, "train_output": 1.01 * golden["train_output"]}
    again = differences("prnet", NARROW, (spec, state_dict, changed), np.float32)
    assert again["train_output"] == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert {k: d for k, d in again.items() if d != single[k]}.keys() == {"train_output"}


def test_equals_flax_with_its_weights():
    fields = {"in_channels": 2, "num_classes": 3, **SMALL}
    torch.manual_seed(0)
    reference = PRNet(**fields)
    model = create_model("prnet", **fields)
    variables = from_torch("prnet", reference.state_dict(), **fields)
    image = np.random.default_rng(0).normal(size=(2, 16, 24, 2)).astype(np.float32)

    @jax.jit
    def run(variables, image):
        logits = model.apply(variables, image, train=False)
        return logits, *model.apply(variables, image, train=True, mutable=["batch_stats"])

    evaluated, trained, updates = run(variables, image)
    after = to_torch("prnet", {"params": variables["params"], **updates}, **fields)
    nchw = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        for found, expected in (
            (evaluated, reference.eval()(nchw)),
            (trained, reference.train()(nchw)),
        ):
            assert relative_to_peak(np.transpose(found, (0, 3, 1, 2)), expected.numpy()) < 2e-5
    expected = reference.state_dict()
    assert expected["decoder.0.double_conv.1.running_mean"].abs().max() > 1e-3
    for name, array in after.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(array, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
    again = PRNet(**fields)
    again.load_state_dict(tensors(after), strict=True)

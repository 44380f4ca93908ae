"""PR-Net in PyTorch: its names, the parity vectors, and the Flax network."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prnet_jax.models import create_model  # noqa: E402
from prnet_jax.torch_weights.convert import from_torch, to_torch  # noqa: E402
from prnet_jax.torch_weights.reference import PRNet  # noqa: E402
from tests.goldens import weights  # noqa: E402

SMALL = {"widths": (4, 8), "heads": 2}


def tensors(state_dict):
    return {name: torch.tensor(array) for name, array in state_dict.items()}


def relative_to_peak(found, expected):
    found = np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_equals_the_parity_vectors_in_float64(root):
    spec, state_dict = weights.load(root / "tests" / "goldens" / "prnet.json")
    arrays = np.load(root / "tests" / "goldens" / "prnet.npz")
    model = PRNet()
    names = {name: list(t.shape) for name, t in model.state_dict().items()}
    assert names == {name: shape for name, shape, _ in spec["state_dict"]}
    assert sum(p.numel() for p in model.parameters()) == 39_876_609

    model.load_state_dict(tensors(state_dict))
    model.double().eval()
    image = torch.from_numpy(weights.inputs(spec)).double().requires_grad_()
    logits = model(image)
    (logits * torch.from_numpy(weights.cotangents(spec)[0])).sum().backward()
    assert relative_to_peak(logits, arrays["eval_output"]) < 1e-6
    assert relative_to_peak(image.grad, arrays["grad_input"]) < 1e-6
    with torch.no_grad():
        assert relative_to_peak(model.train()(image), arrays["train_output"]) < 1e-6
    after = model.state_dict()
    pinned = [name for name in arrays.files if name.startswith("after_train.")]
    assert len(pinned) == 4
    for name in pinned:
        assert relative_to_peak(after[name.removeprefix("after_train.")], arrays[name]) < 1e-6


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

"""U-Net: the battery, an odd size, and the bilinear form against PyTorch."""

import functools

import jax
import numpy as np
import pytest

from prnet_jax.models import create_model
from prnet_jax.torch_weights import to_torch
from tests.model_tester import (
    QUICK_COMPILE_DOUBLE,
    GoldenTester,
    ModelTester,
    enable_x64,
    noise,
    variable_shapes,
)


class TestUNet(ModelTester):
    name = "unet"
    small = {"widths": (4, 4, 8, 8, 8)}
    parameter_count = 31_036_481
    min_side = 16


class TestUNetOdd(GoldenTester):
    name = "unet"
    golden = "unet_odd"


def test_bilinear_parameter_count():
    variables = variable_shapes(create_model("unet", bilinear=True))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 17_261_825


def test_bilinear_equals_torch():
    """At an eighth of the width, odd sides and in both modes. No golden has a bilinear U-Net."""
    torch = pytest.importorskip("torch")
    fields = {"widths": (8, 16, 32, 64, 128), "bilinear": True}
    model = create_model("unet", **fields)
    variables, image = noise(model, (2, 37, 54, 1))
    module = torch_bilinear_unet(torch)
    state_dict = {k: torch.from_numpy(v) for k, v in to_torch("unet", variables, **fields).items()}
    module.load_state_dict(state_dict, strict=True)
    module.double()

    @functools.partial(jax.jit, compiler_options=QUICK_COMPILE_DOUBLE)
    def run(variables, image):
        trained, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
        return model.apply(variables, image, train=False), trained

    with enable_x64(True):
        found = run(*jax.tree.map(lambda x: x.astype(np.float64), (variables, image)))
    for train, logits in zip((False, True), found, strict=True):
        with torch.no_grad():
            x = torch.from_numpy(image).movedim(3, 1).double()
            expected = torch_forward(torch, module.train(train), x).movedim(1, 3).numpy()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def torch_bilinear_unet(torch):
    """The layers of milesial/Pytorch-UNet with `bilinear=True`, at an eighth of its widths."""
    nn = torch.nn

    def double(before, middle, after):
        layers = []
        for a, b in ((before, middle), (middle, after)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        return nn.ModuleDict({"double_conv": nn.Sequential(*layers)})

    def down(before, after):
        pooled = nn.Sequential(nn.MaxPool2d(2), double(before, after, after))
        return nn.ModuleDict({"maxpool_conv": pooled})

    def up(before, middle, after):
        return nn.ModuleDict({"conv": double(before, middle, after)})

    return nn.ModuleDict(
        {
            "inc": double(1, 8, 8),
            "down1": down(8, 16),
            "down2": down(16, 32),
            "down3": down(32, 64),
            "down4": down(64, 64),
            "up1": up(128, 64, 32),
            "up2": up(64, 32, 16),
            "up3": up(32, 16, 8),
            "up4": up(16, 8, 8),
            "outc": nn.ModuleDict({"conv": nn.Conv2d(8, 1, 1)}),
        }
    )


def torch_forward(torch, module, image):
    functional = torch.nn.functional
    skips = [module["inc"]["double_conv"](image)]
    for level in range(1, 5):
        pool, double = module[f"down{level}"]["maxpool_conv"]
        skips.append(double["double_conv"](pool(skips[-1])))
    x = skips.pop()
    for level in range(1, 5):
        skip = skips.pop()
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        down, right = (skip.shape[i] - x.shape[i] for i in (2, 3))
        x = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        x = module[f"up{level}"]["conv"]["double_conv"](torch.cat((skip, x), 1))
    return module["outc"]["conv"](x)

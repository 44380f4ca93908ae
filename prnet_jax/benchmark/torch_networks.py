"""Networks in PyTorch, beside PR-Net of `prnet_jax.torch_weights.reference`.

Written for the comparison of speed, with the parameter names of the public classes, so that
`prnet_jax.torch_weights.to_torch` fills them. Everything is [N, C, H, W] here.
"""

import torch
import torch.nn.functional as F
from torch import nn

from prnet_jax.torch_weights.reference import PRNet, double_conv

_WIDTHS = (64, 128, 256, 512, 1024)
_FIELDS = ("in_channels", "num_classes", "widths")


class UNet(nn.Module):
    """U-Net with transposed convolutions, as `prnet_jax.models.unet.UNet`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the levels, finest first.
    """

    def __init__(self, in_channels=1, num_classes=1, widths=_WIDTHS):
        super().__init__()
        self.inc = _named("double_conv", _plain_double_conv(in_channels, widths[0]))
        self._depth = len(widths) - 1
        for level in range(1, len(widths)):
            conv = _named("double_conv", _plain_double_conv(widths[level - 1], widths[level]))
            down = _named("maxpool_conv", nn.Sequential(nn.MaxPool2d(2), conv))
            self.add_module(f"down{level}", down)
            above, width = widths[-level], widths[-level - 1]
            up = nn.Module()
            up.up = nn.ConvTranspose2d(above, width, 2, stride=2)
            up.conv = _named("double_conv", _plain_double_conv(2 * width, width))
            self.add_module(f"up{level}", up)
        self.outc = _named("conv", nn.Conv2d(widths[0], num_classes, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, skips = self.inc.double_conv(image), []
        for level in range(1, self._depth + 1):
            skips.append(x)
            pool, conv = self.get_submodule(f"down{level}.maxpool_conv")
            x = conv.double_conv(pool(x))
        for level in range(1, self._depth + 1):
            up, skip = self.get_submodule(f"up{level}"), skips.pop()
            x = up.up(x)
            down, right = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
            x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
            x = up.conv.double_conv(torch.cat((skip, x), 1))
        return self.outc.conv(x)


class AttentionUNet(nn.Module):
    """Attention U-Net, as `prnet_jax.models.attention_unet.AttentionUNet`; arguments of `UNet`."""

    def __init__(self, in_channels=1, num_classes=1, widths=_WIDTHS):
        super().__init__()
        inputs = (in_channels, *widths[:-1])
        for number, (below, width) in enumerate(zip(inputs, widths, strict=True), 1):
            self.add_module(f"Conv{number}", _named("conv", double_conv(below, width)))
        self._depth = len(widths)
        for number in range(2, len(widths) + 1):
            below, width = widths[number - 1], widths[number - 2]
            up = nn.Sequential(
                nn.Upsample(scale_factor=2), *_conv_norm(below, width, 3, padding=1), nn.ReLU()
            )
            self.add_module(f"Up{number}", _named("up", up))
            self.add_module(f"Att{number}", AttentionGate(width))
            self.add_module(f"Up_conv{number}", _named("conv", double_conv(2 * width, width)))
        self.Conv_1x1 = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, skips = self.Conv1.conv(image), []
        for number in range(2, self._depth + 1):
            skips.append(x)
            x = self.get_submodule(f"Conv{number}").conv(F.max_pool2d(x, 2))
        for number in range(self._depth, 1, -1):
            x = self.get_submodule(f"Up{number}").up(x)
            skip = self.get_submodule(f"Att{number}")(x, skips.pop())
            x = self.get_submodule(f"Up_conv{number}").conv(torch.cat((skip, x), 1))
        return self.Conv_1x1(x)


class AttentionGate(nn.Module):
    """The skip times a map of one channel, made of both: skip * psi(relu(W_g gate + W_x skip))."""

    def __init__(self, channels: int):
        super().__init__()
        self.W_g = nn.Sequential(*_conv_norm(channels, channels // 2, 1))
        self.W_x = nn.Sequential(*_conv_norm(channels, channels // 2, 1))
        self.psi = nn.Sequential(*_conv_norm(channels // 2, 1, 1), nn.Sigmoid())

    def forward(self, gate: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return skip * self.psi(F.relu(self.W_g(gate) + self.W_x(skip)))


class UNetPlusPlus(nn.Module):
    """UNet++ with one head, as `prnet_jax.models.unetpp.UNetPlusPlus`; arguments of `UNet`."""

    def __init__(self, in_channels=1, num_classes=1, widths=(32, *_WIDTHS[:-1])):
        super().__init__()
        self._depths = len(widths)
        for i, width in enumerate(widths):
            for j in range(len(widths) - i):
                below = (in_channels, *widths)[i] if j == 0 else j * width + widths[i + 1]
                node = nn.Module()
                node.conv1, node.bn1 = _conv_norm(below, width, 3, padding=1)
                node.conv2, node.bn2 = _conv_norm(width, width, 3, padding=1)
                self.add_module(f"conv{i}_{j}", node)
        self.final = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows, x = [], image
        for i in range(self._depths):
            rows.append([self._node(x, i, 0)])
            x = F.max_pool2d(rows[i][0], 2)
        for j in range(1, self._depths):
            for i in range(self._depths - j):
                up = F.interpolate(
                    rows[i + 1][-1], scale_factor=2, mode="bilinear", align_corners=True
                )
                rows[i].append(self._node(torch.cat((*rows[i], up), 1), i, j))
        return self.final(rows[0][-1])

    def _node(self, x: torch.Tensor, i: int, j: int) -> torch.Tensor:
        node = self.get_submodule(f"conv{i}_{j}")
        return F.relu(node.bn2(node.conv2(F.relu(node.bn1(node.conv1(x))))))


class AnamNet(nn.Module):
    """AnamNet, as `prnet_jax.models.anamnet.AnamNet`; arguments of `UNet`."""

    def __init__(self, in_channels=1, num_classes=1, widths=(64, 128, 256, 256)):
        super().__init__()
        x = in_channels
        for level, width in enumerate(widths, 1):
            self.add_module(f"conv{level}_block", _single(x, width))
            if level < len(widths):
                self.add_module(f"bottleneck{level}", Squeeze(width))
            x = width
        for i, width in enumerate(reversed(widths), 1):
            self.add_module(f"up_{i}", nn.ConvTranspose2d(x, width, 2, stride=2))
            if i < len(widths):
                self.add_module(f"bottleneck{i + 3}", Squeeze(width))
            self.add_module(f"conv_up_{i}", _single(2 * width, width))
            x = width
        self.conv_final = nn.Conv2d(x, num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, skips = image, []
        for level in range(1, 5):
            x = self.get_submodule(f"conv{level}_block")(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
            if level < 4:
                x = self.get_submodule(f"bottleneck{level}")(x)
        for i in range(1, 5):
            x = self.get_submodule(f"up_{i}")(x)
            if i < 4:
                x = self.get_submodule(f"bottleneck{i + 3}")(x)
            x = self.get_submodule(f"conv_up_{i}")(torch.cat((x, skips.pop()), 1))
        return self.conv_final(x)


class Squeeze(nn.Module):
    """The anamorphic block, at a quarter of the channels."""

    def __init__(self, channels: int):
        super().__init__()
        narrow = max(channels // 4, 1)
        for i, (below, width, size) in enumerate(
            ((channels, narrow, 1), (narrow, narrow, 3), (narrow, channels, 1)), 1
        ):
            conv = nn.Conv2d(below, width, size, padding=size // 2, bias=False)
            block = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
            self.add_module(f"ext_conv{i}", block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.ext_conv3(self.ext_conv2(self.ext_conv1(x))))


def _single(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(in_channels, channels, 3, padding=1), nn.ReLU())


def _plain_double_conv(in_channels: int, channels: int) -> nn.Sequential:
    """`double_conv` without biases."""
    layers = double_conv(in_channels, channels)
    for index in (0, 3):
        layers[index].register_parameter("bias", None)
    return layers


def _conv_norm(in_channels: int, channels: int, size: int, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, channels, size, padding=padding), nn.BatchNorm2d(channels)]


def _named(name: str, module: nn.Module) -> nn.Module:
    """A module that holds another one under a name."""
    holder = nn.Module()
    holder.add_module(name, module)
    return holder


# The classes, and the fields that they share with ours.
NETWORKS = {
    "prnet": (PRNet, (*_FIELDS, "heads")),
    "unet": (UNet, _FIELDS),
    "attention_unet": (AttentionUNet, _FIELDS),
    "unetpp": (UNetPlusPlus, _FIELDS),
    "anamnet": (AnamNet, _FIELDS),
}

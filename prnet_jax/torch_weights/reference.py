"""PR-Net in PyTorch: for PyTorch users, and as a reference for the Flax network.

The paper's code is not public. This follows Zhou & Wang, Modeling and Simulation 12(6), 2023,
doi:10.12677/MOS.2023.126501; what the paper leaves open is as in the defaults of
`prnet_jax.models.prnet.PRNet`. `prnet_jax.torch_weights` converts a state_dict between the two
without loss.

    model = PRNet()
    model.load_state_dict(torch.load("prnet.pth", weights_only=True))
    prob = model.eval()(image).sigmoid()

Everything is [N, C, H, W] here.
"""

import torch
import torch.nn.functional as F
from torch import nn


class PRNet(nn.Module):
    """Image [N, in_channels, H, W] -> logits [N, num_classes, H, W].

    H and W must be multiples of 2^len(widths). 39,876,609 parameters at the defaults.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the encoder stages; the enhancement has the last one's.
        heads: attention heads; must divide the last width.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        heads: int = 8,
    ):
        super().__init__()
        inputs = (in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(map(ResidualBlock, inputs, widths))
        self.enhance = Enhancement(widths[-1], heads)
        below = (widths[-1], *reversed(widths[1:]))
        self.decoder = nn.ModuleList(map(DecoderStage, below, reversed(widths)))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, skips = image, []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.enhance(x)
        for stage in self.decoder:
            x = stage(x, skips.pop())
        return self.head(x)


class ResidualBlock(nn.Module):
    """Three groups of convolution, InstanceNorm and ReLU (section 2.2).

    The kernels are 1x1, 3x3 and 3x3; the shortcut is the first group's output, not the input.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1)
        self.norm1 = nn.InstanceNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.InstanceNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm3 = nn.InstanceNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(shortcut)))
        return shortcut + F.relu(self.norm3(self.conv3(x)))


class Enhancement(nn.Module):
    """The feature enhancement: a double convolution, then PAM (section 2.1)."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.conv = nn.ModuleDict({"double_conv": double_conv(channels, channels)})
        self.pam = ProgressiveAttention(channels, heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pam(self.conv["double_conv"](x))


class ProgressiveAttention(nn.Module):
    """The progressive attention module (PAM, figure 3): the larger field gates the smaller one."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.dsa1 = DilatedSelfAttention(channels, heads, dilation=2)
        self.dsa2 = DilatedSelfAttention(channels, heads, dilation=3)
        self.gc1 = GatedConv(channels)
        self.gc2 = GatedConv(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f1 = self.conv(x)
        g1 = self.gc1(self.dsa1(x), f1)
        g2 = self.gc2(self.dsa2(x), g1)
        return f1 + g1 + g2


class DilatedSelfAttention(nn.Module):
    """Self-attention over all positions, embedded by dilated convolutions (eq. 1), unscaled."""

    def __init__(self, channels: int, heads: int, dilation: int):
        super().__init__()
        self.heads = heads
        for name in "qkv":
            conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
            self.add_module(name, conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # [N, C, H, W] -> [N, heads, HW, C / heads]
        q, k, v = (
            conv(x).unflatten(1, (self.heads, -1)).flatten(3).transpose(2, 3)
            for conv in (self.q, self.k, self.v)
        )
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return out.transpose(2, 3).reshape(x.shape)


class GatedConv(nn.Module):
    """relu(W_f F_low) * sigmoid(W_g F_high) (eq. 2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)
        self.feature = nn.Conv2d(channels, channels, 1)

    def forward(self, high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        return F.relu(self.feature(low)) * torch.sigmoid(self.gate(high))


class DecoderStage(nn.Module):
    """A transposed convolution upwards, the skip in front of its result, a double convolution."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.double_conv = double_conv(2 * channels, channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.double_conv(torch.cat((skip, self.up(x)), 1))


def double_conv(in_channels: int, channels: int) -> nn.Sequential:
    """Twice a 3x3 convolution, BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )

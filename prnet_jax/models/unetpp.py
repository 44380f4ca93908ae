"""UNet++: Zhou et al., DLMIA 2018 and IEEE TMI 39(6), 2020, in the form most used with PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from prnet_jax.models.layers import (
    BatchNorm,
    Conv,
    Dtype,
    check_image,
    check_widths,
    max_pool,
)
from prnet_jax.models.resample import upsample_corner_aligned


class UNetPlusPlus(nn.Module):
    """UNet++, equal to `NestedUNet` of 4uiiurz1/pytorch-nested-unet (commit 557ea02).

    Image [N, H, W, in_channels] -> logits [N, H, W, num_classes]; H and W must be multiples of
    2^(len(widths) - 1), 16 at the defaults. Upsampling is bilinear with fixed corners; the UNet++
    authors' own code has transposed convolutions instead, and no BatchNorm. 9,162,753 parameters at
    the defaults, 9,162,852 with deep supervision.

    Node (i, j) is at depth i in column j. The head is on node (0, 4). With deep supervision there
    are four, on (0, 1) to (0, 4), and the last is the main one. The paper's accurate mode averages
    them; like the reference, this class leaves that to the caller.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        widths: channels of the nodes at each depth; their number is the number of depths.
        deep_supervision: whether every node of depth 0 but the first has a head.
        dtype: dtype of the computation; None: that of the input and the parameters.
    """

    in_channels: int = 1
    num_classes: int = 1
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    deep_supervision: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, all_heads: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        check_widths("unetpp", self.widths, 2 if self.deep_supervision else 1)
        depths = len(self.widths)
        check_image("unetpp", image, self.in_channels, 2 ** (depths - 1))

        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype)

        def node(x, i, j):
            for index in (1, 2):
                x = conv(self.widths[i], normed=train, name=f"conv{i}_{j}.conv{index}")(x)
                x = nn.relu(norm(name=f"conv{i}_{j}.bn{index}")(x, train))
            return x

        rows = []  # rows[i][j] is node (i, j)
        x = image
        for i in range(depths):
            rows.append([node(x, i, 0)])
            x = max_pool(rows[i][0])
        for j in range(1, depths):
            for i in range(depths - j):
                x = jnp.concatenate((*rows[i], upsample_corner_aligned(rows[i + 1][-1])), axis=-1)
                rows[i].append(node(x, i, j))

        head = partial(conv, self.num_classes, 1)
        if self.deep_supervision:
            heads = tuple(head(name=f"final{j}")(rows[0][j]) for j in range(1, depths))
        else:
            heads = (head(name="final")(rows[0][-1]),)
        return heads if all_heads else heads[-1]


NETWORK = UNetPlusPlus
ABOUT = {
    "network": "UNet++",
    "sides": "16",
    "reference": "4uiiurz1/pytorch-nested-unet",
    "licence": "MIT",
}

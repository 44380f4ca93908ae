"""Attention over all positions: one function, three implementations of the same values.

`dense` holds the map of all pairs of positions, `blockwise` tiles of it, and `cudnn` is NVIDIA's.
"""

import re

import jax
import jax.numpy as jnp

from prnet_jax.errors import InputError
from prnet_jax.models.blockwise import blockwise_attention

IMPLEMENTATIONS = ("auto", "dense", "blockwise", "cudnn")
# A dense map of 2,048 positions has 16 MiB a head and image; training keeps several at once.
MOST_DENSE_POSITIONS = 2048


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float = 1.0, implementation: str = "auto"
) -> jax.Array:
    """softmax(scale q k^T) v of each head, the softmax in float32 or better.

    Args:
        q, k: [N, positions, heads, C].
        v: [N, positions, heads, D], of the dtype of q and k.
        scale: of the logits.
        implementation: one of `IMPLEMENTATIONS`, see `choose`.

    Returns:
        [N, positions, heads, D] of v's dtype.

    Raises:
        InputError: as `choose`.
    """
    widths = (q.shape[-1], v.shape[-1])
    chosen = choose(implementation, q.shape[1], widths, q.dtype, _compute_capability())
    if chosen == "dense":
        return _dense(q, k, v, scale)
    if chosen == "blockwise":
        return blockwise_attention(q, k, v, scale)
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")


def choose(
    implementation: str,
    positions: int,
    widths: tuple[int, int],
    dtype: jax.typing.DTypeLike,
    compute_capability: str | None,
) -> str:
    """The implementation that is used: "dense", "blockwise" or "cudnn".

    "auto" is dense up to `MOST_DENSE_POSITIONS`; for more, cuDNN's where it applies, or else
    blockwise.

    Args:
        implementation: one of `IMPLEMENTATIONS`.
        positions: of an image.
        widths: a head's channels of q and of v.
        dtype: of q, k and v.
        compute_capability: the GPU's, such as "9.0"; on AMD's GPUs such as "gfx942"; None: no GPU.

    Raises:
        InputError: an unknown implementation, or cuDNN's where it does not apply.
    """
    if implementation not in IMPLEMENTATIONS:
        raise InputError(
            f"attention must be one of {', '.join(IMPLEMENTATIONS)}, found {implementation!r}"
        )
    lacking = _lacking_for_cudnn(widths, dtype, compute_capability)
    if implementation == "cudnn" and lacking:
        raise InputError(f"attention 'cudnn' needs {lacking}: choose 'auto' or 'blockwise'")
    if implementation != "auto":
        return implementation
    if positions <= MOST_DENSE_POSITIONS:
        return "dense"
    return "blockwise" if lacking else "cudnn"


def _lacking_for_cudnn(
    widths: tuple[int, int], dtype: jax.typing.DTypeLike, compute_capability: str | None
) -> str | None:
    """The first thing that cuDNN's attention needs and does not find, with what was found."""
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        return f"bfloat16 or float16, found {jnp.dtype(dtype).name}"
    width, v_width = widths
    if width != v_width:
        return f"a head's q and v of one width, found {width} and {v_width}"
    if width % 8 or width > 128:
        return f"a head's width to be a multiple of 8 up to 128, found {width}"
    version = re.match(r"(\d+)\.", compute_capability or "")
    if not version or int(version[1]) < 8:
        found = f"one of {compute_capability}" if compute_capability else "none"
        return f"an NVIDIA GPU of compute capability 8.0 or more, found {found}"
    return None


def _dense(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    precise = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("nqhc,nkhc->nhqk", q, k, preferred_element_type=precise)
    if scale != 1.0:
        logits = logits * scale
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("nhqk,nkhc->nqhc", weights, v)


def _compute_capability() -> str | None:
    """Of the first device, on which or on whose like the program runs; None: it is no GPU."""
    return getattr(jax.devices()[0], "compute_capability", None)

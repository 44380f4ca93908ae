"""Attention in blocks of positions: exact, in memory linear in the number of positions.

The map of all pairs of positions is never there as a whole, only a tile of it, [N, heads, block,
block]. The forward pass goes over the keys with a running maximum and sum, and keeps the logarithm
of each query's sum; from it the backward pass computes the tiles again (FlashAttention,
arXiv:2205.14135). The loops are plain JAX, for every platform.
"""

import functools
import math

import jax
import jax.numpy as jnp

BLOCK = 512  # positions


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def blockwise_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float = 1.0, block: int = BLOCK
) -> jax.Array:
    """softmax(scale q k^T) v of each head, as `prnet_jax.models.attend.attend` states it.

    It has a gradient, but no forward-mode (`jax.jvp`) and no second derivative.

    Args:
        q, k: [N, positions, heads, C], any number of positions.
        v: [N, positions, heads, D], of the dtype of q and k.
        scale: of the logits.
        block: most positions in a block.

    Returns:
        [N, positions, heads, D] of v's dtype.
    """
    return _forward(q, k, v, scale, block)[0]


def _forward(q, k, v, scale, block):
    """The result, and what the backward pass needs: arguments, result and log-sums."""
    positions = q.shape[1]
    q_blocks, k_blocks, v_blocks = (_split(x, block) for x in (q, k, v))
    n, count, size, heads, width = v_blocks.shape
    precise = _precise(q)

    def attend(i, results):
        out, log_sums = results
        q = _take(q_blocks, i)

        def add_keys(j, carry):
            old_peak, total, sums = carry
            logits = _logits(q, _take(k_blocks, j), j, positions, scale)
            peak = jnp.maximum(old_peak, logits.max(-1))
            # The barrier keeps the compiler from taking each exponential twice.
            weights = jax.lax.optimization_barrier(jnp.exp(logits - peak[..., None]))
            fade = jnp.exp(old_peak - peak)
            new = _dot("nhqk,nkhd->nhqd", weights.astype(v.dtype), _take(v_blocks, j))
            return peak, total * fade + weights.sum(-1), sums * fade[..., None] + new

        start = (
            jnp.full((n, heads, size), -jnp.inf, precise),
            jnp.zeros((n, heads, size), precise),
            jnp.zeros((n, heads, size, width), precise),
        )
        peak, total, sums = jax.lax.fori_loop(0, count, add_keys, start)
        mean = (sums / total[..., None]).astype(v.dtype).swapaxes(1, 2)
        return _put(out, i, mean), _put(log_sums, i, peak + jnp.log(total))

    empty = (jnp.zeros_like(v_blocks), jnp.zeros((n, count, heads, size), precise))
    out, log_sums = jax.lax.fori_loop(0, count, attend, empty)
    out = _join(out, positions)
    return out, (q, k, v, out, log_sums)


def _backward(scale, block, kept, d_out):
    """The gradients of q, k and v."""
    q, k, v, out, log_sums = kept
    positions, precise = q.shape[1], _precise(q)
    q_blocks, k_blocks, v_blocks, d_out_blocks = (_split(x, block) for x in (q, k, v, d_out))
    # The mean of each query's gradients of its weights.
    means = (out.astype(precise) * d_out.astype(precise)).sum(-1, keepdims=True)
    means = _split(means, block).swapaxes(2, 3)
    count = q_blocks.shape[1]

    def add_queries(i, gradients):
        q, d_out = _take(q_blocks, i), _take(d_out_blocks, i)
        log_sum, mean = _take(log_sums, i)[..., None], _take(means, i)

        def add_keys(j, carry):
            d_q, d_k, d_v = carry
            k, v = _take(k_blocks, j), _take(v_blocks, j)
            logits = _logits(q, k, j, positions, scale)
            weights = jax.lax.optimization_barrier(jnp.exp(logits - log_sum))
            d_weights = _dot("nqhd,nkhd->nhqk", d_out, v)
            d_logits = (weights * (d_weights - mean) * scale).astype(q.dtype)
            d_logits = jax.lax.optimization_barrier(d_logits)
            # Not nqhc, for which jax 0.7.2 has no bfloat16 product on CPU.
            d_q += _dot("nhqk,nkhc->nhqc", d_logits, k)
            d_k = _add(d_k, j, _dot("nhqk,nqhc->nkhc", d_logits, q))
            d_v = _add(d_v, j, _dot("nhqk,nqhd->nkhd", weights.astype(v.dtype), d_out))
            return d_q, d_k, d_v

        d_q, d_k, d_v = gradients
        start = (jnp.zeros_like(q, precise).swapaxes(1, 2), d_k, d_v)
        d_q_block, d_k, d_v = jax.lax.fori_loop(0, count, add_keys, start)
        return _put(d_q, i, d_q_block.astype(q.dtype).swapaxes(1, 2)), d_k, d_v

    start = (
        jnp.zeros_like(q_blocks),
        jnp.zeros(k_blocks.shape, precise),
        jnp.zeros(v_blocks.shape, precise),
    )
    gradients = jax.lax.fori_loop(0, count, add_queries, start)
    return tuple(_join(x, positions).astype(q.dtype) for x in gradients)


blockwise_attention.defvjp(_forward, _backward)


def _split(x: jax.Array, block: int) -> jax.Array:
    """[N, positions, heads, C] -> [N, blocks, size, heads, C], padded by zeros at the end."""
    n, positions, heads, channels = x.shape
    blocks = math.ceil(positions / block)
    size = math.ceil(positions / blocks)  # at most `block`, and as little padding as can be
    x = jnp.pad(x, ((0, 0), (0, blocks * size - positions), (0, 0), (0, 0)))
    return x.reshape(n, blocks, size, heads, channels)


def _join(x: jax.Array, positions: int) -> jax.Array:
    """[N, blocks, size, heads, C] -> [N, positions, heads, C], without the padding."""
    n, blocks, size, heads, channels = x.shape
    return x.reshape(n, blocks * size, heads, channels)[:, :positions]


def _logits(q: jax.Array, k: jax.Array, j: jax.Array, positions: int, scale: float) -> jax.Array:
    """[N, heads, size, size]: block `q` by the block `k` of number `j`; -inf at padded keys."""
    logits = _dot("nqhc,nkhc->nhqk", q, k)
    if scale != 1.0:
        logits = logits * scale
    size = k.shape[1]
    if positions % size == 0:
        return logits
    inside = j * size + jnp.arange(size) < positions
    return jnp.where(jnp.expand_dims(inside, (0, 1, 2)), logits, -jnp.inf)


def _dot(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """An einsum with its result in float32 or better."""
    return jnp.einsum(subscripts, a, b, preferred_element_type=_precise(a))


def _precise(x: jax.Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _take(blocks: jax.Array, i: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(blocks, i, 1, keepdims=False)


def _put(blocks: jax.Array, i: jax.Array, block: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(blocks, block, i, 1)


def _add(blocks: jax.Array, i: jax.Array, block: jax.Array) -> jax.Array:
    return _put(blocks, i, _take(blocks, i) + block)

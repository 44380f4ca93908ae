"""Single layers and their gradients, for `python -m tests.accelerator`."""

import contextlib

# PR-Net's, Light U-Net's and Inf-Net's layers: class, fields, images [N, H, W, C].
LAYERS = {
    "transposed 2x2": ("UpConv", {"features": 64, "kernel_size": 2}, (4, 64, 64, 128)),
    "transposed 4x4": ("UpConv", {"features": 64, "kernel_size": 4}, (4, 64, 64, 64)),
    "transposed 4x4, deep": ("UpConv", {"features": 256, "kernel_size": 4}, (4, 16, 16, 512)),
    "grouped, 2 x 128": ("Conv", {"features": 256, "groups": 2}, (4, 32, 32, 256)),
    "grouped, 8 x 128": ("Conv", {"features": 1024, "groups": 8}, (4, 16, 16, 1024)),
    "grouped, 16 x 4": ("Conv", {"features": 64, "groups": 16}, (4, 64, 64, 64)),
    "depthwise": ("Conv", {"features": 64, "groups": 64}, (4, 64, 64, 64)),
    "depthwise, deep": ("Conv", {"features": 512, "groups": 512}, (4, 16, 16, 512)),
    "dilated by 2": ("Conv", {"features": 512, "dilation": 2}, (4, 16, 16, 512)),
    "dilated by 3": ("Conv", {"features": 512, "dilation": 3}, (4, 16, 16, 512)),
    "dilated by 7": ("Conv", {"features": 32, "dilation": 7}, (4, 32, 32, 32)),
    "plain": ("Conv", {"features": 64}, (4, 64, 64, 64)),
}


def layer(kind: str, fields: dict, shape: tuple, way: str) -> list:
    """A layer's value, and the gradients of its input and kernel, from float32 noise."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from prnet_jax.models import layers
    from tests.model_tester import enable_x64

    double = way == "float64"
    module = getattr(layers, kind)(**fields, dtype=jnp.bfloat16 if way == "bfloat16" else None)
    with contextlib.ExitStack() as stack:
        precision = "highest" if way == "highest" else None
        stack.enter_context(jax.default_matmul_precision(precision))
        rng = np.random.default_rng(0)
        image = rng.standard_normal(shape).astype(np.float32)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), image))
        size = np.sqrt(np.prod(shapes["params"]["kernel"].shape[:3]))
        params = jax.tree.map(
            lambda x: (rng.standard_normal(x.shape) / size).astype(np.float32), shapes["params"]
        )
        value = jax.eval_shape(lambda: module.apply({"params": params}, image))
        cotangent = rng.standard_normal(value.shape).astype(np.float32)

        def both(image, params, cotangent):
            value, pull = jax.vjp(lambda x, p: module.apply({"params": p}, x), image, params)
            to_image, to_params = pull(cotangent.astype(value.dtype))
            return value, to_image, to_params["kernel"]

        arguments = (image, params, cotangent)
        if double:
            stack.enter_context(enable_x64(True))
            stack.enter_context(jax.default_device(jax.devices("cpu")[0]))
            arguments = jax.tree.map(lambda x: x.astype(np.float64), arguments)
        return [np.asarray(x, np.float64) for x in jax.jit(both)(*arguments)]

"""Networks and augmentation with and without YNN, on the jaxlib that it makes compute wrongly.

Run as a script, this file writes what one process computes: OUT, then names of networks.
"""

import concurrent.futures
import importlib.metadata
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest

NETWORKS = "anamnet attention_unet awsnet infnet lightunet prnet unet unetpp".split()
SIDE = 192  # 36,864 pixels: the known mistake needs more than 32,768 rows
EPSILON = 2.0**-23  # one place of float32
ROUNDINGS = 2
FLAG = "--xla_cpu_experimental_ynn_fusion_type="

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.metadata.version("jaxlib") != "0.10.2",
        reason="only jaxlib 0.10.2 computes wrongly; .ci/run installs it for this",
    ),
]


@pytest.fixture(scope="module")
def computed(root, tmp_path_factory):
    """All arrays by name, with YNN disabled and with it."""
    folder = tmp_path_factory.mktemp("ynn")

    def compute(state, flags):
        file = folder / f"{state}.npz"
        path = f"{root}:{os.environ.get('PYTHONPATH', '')}"
        env = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
        env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0"  # what is wrong is an optimization
        command = [sys.executable, __file__, str(file), *NETWORKS]
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with np.load(file) as arrays:
            return dict(arrays)

    with concurrent.futures.ThreadPoolExecutor(2) as both:
        off, on = both.map(compute, ("off", "on"), (FLAG, ""))
    return {"off": off, "on": on}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_gradients_differ_by_rounding_alone(computed, name):
    """By no more than they move when the image is rounded otherwise in its last place.

    At a kink of a ReLU or of a max pooling that is more for gradients than for logits, and by
    chance may be seen on one side only: hence the floor.
    """
    off, on = computed["off"], computed["on"]
    for kind, floor in (("logits", 0.0), ("gradient", 5e-3)):
        array, noise = f"{name} {kind}", f"{name} {kind} noise"
        allowed = max(3 * off[noise], 3 * on[noise], floor)
        print(f"{array}: {_apart(off[array], on[array]):.1e}, allowed {allowed:.1e}")
        assert _apart(off[array], on[array]) <= allowed


def test_augmentation_is_the_same_bits(computed):
    for name in ("augmented image", "augmented mask"):
        np.testing.assert_array_equal(computed["on"][name], computed["off"][name])


def _apart(array, other):
    """The norm of the difference relative to that of the first."""
    array, other = array.astype(np.float64), other.astype(np.float64)
    return float(np.linalg.norm(array - other) / np.linalg.norm(array))


def _flat(results):
    """Gradient and logits, each as one vector."""
    import jax

    vectors = ([np.ravel(leaf) for leaf in jax.tree.leaves(tree)] for tree in results)
    return dict(zip(("gradient", "logits"), map(np.concatenate, vectors), strict=True))


def _filled(shapes):
    """Variables of these shapes, drawn by NumPy: compiling the networks' own draws takes longer."""
    import jax

    random = np.random.default_rng(0)

    def fill(path, shape):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(shape.shape[:-1])
            return random.normal(0, np.sqrt(2 / fan_in), shape.shape).astype(np.float32)
        return np.full(shape.shape, name in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def main(out, *networks):
    import jax
    import jax.numpy as jnp

    from prnet_jax.data.augment import augment
    from prnet_jax.steps import make_model

    key = jax.random.key(0)
    image = jax.random.uniform(key, (1, SIDE, SIDE, 1), jnp.float32)
    signs = jax.random.rademacher(key, (ROUNDINGS, *image.shape), jnp.float32)
    rounded = image[None] * (1 + EPSILON * signs)
    arrays = {}
    for name in networks:
        config = runpy.run_path(f"configs/{name}.py")["get_config"]("quick")
        model = make_model(config)
        variables = _filled(jax.eval_shape(lambda m=model: m.init(key, image, train=False)))

        def loss(params, image, model=model, variables=variables):
            heads, _ = model.apply(
                {**variables, "params": params},
                image,
                train=True,
                all_heads=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return sum(jnp.mean(head**2) for head in heads), heads

        step = jax.jit(jax.grad(loss, has_aux=True))
        exact, *others = (_flat(step(variables["params"], shown)) for shown in (image, *rounded))
        for kind, array in exact.items():
            arrays[f"{name} {kind}"] = array
            arrays[f"{name} {kind} noise"] = max(_apart(array, other[kind]) for other in others)
    amounts = {"rotate_degrees": 15.0, "scale": 0.1, "shift": 0.05, "elastic": 0.02}
    amounts |= {"flip_horizontal": 0.5, "gamma": 0.3, "contrast": 0.1, "noise": 0.02}
    keys, images = jax.random.split(key, 2), jnp.concatenate([image, 1 - image])
    arrays["augmented image"], arrays["augmented mask"] = augment(
        keys, images, (images > 0.5).astype(jnp.float32), amounts
    )
    np.savez(out, **{name: np.asarray(array) for name, array in arrays.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])

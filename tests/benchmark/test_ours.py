"""Our side: what it counts, and what it needs."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from prnet_jax.benchmark import ours
from prnet_jax.benchmark.task import Task, example

TASK = Task("train", "unet", 2, 8, "float32", {"widths": (2, 4)})


def test_the_operations_and_bytes_of_a_known_product():
    a, b = jnp.ones((64, 32)), jnp.ones((32, 16))
    program, facts = ours.compiled_and_counted(jax.jit(lambda a, b: a @ b), a, b)
    np.testing.assert_array_equal(program(a, b), np.full((64, 16), 32.0))
    assert facts["gflop"] == 2 * 64 * 32 * 16 / 1e9
    assert facts["gbytes"] == 4 * (64 * 32 + 32 * 16 + 64 * 16) / 1e9
    assert facts["program_mib"] >= 4 * (64 * 32 + 32 * 16 + 64 * 16) / 2**20


def test_the_batch_is_the_same_for_every_side():
    batch, again = example(TASK), example(TASK)
    for name in ("image", "mask"):
        assert batch[name].shape == (2, 8, 8, 1) and batch[name].dtype == np.float32
        np.testing.assert_array_equal(batch[name], again[name])
    assert 0 <= batch["image"].min() and batch["image"].max() <= 1
    assert set(np.unique(batch["mask"])) == {0.0, 1.0}


BARE = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name in {absent!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
from prnet_jax.benchmark import ours
from prnet_jax.benchmark.task import Task
ours.about()
run, facts = ours.begin(Task("train", "unet", 2, 8, "float32", dict(widths=(2, 4))), "ours")
run(2)
print("gflop", facts["gflop"] > 0)
"""


def test_training_is_measured_with_jax_flax_optax_and_numpy_alone(root):
    """Scipy and ml_dtypes come with JAX; orbax with Flax."""
    absent = {
        *("ml_collections", "tensorflow_datasets", "grain", "clu", "tensorboardX", "tqdm"),
        *("matplotlib", "PIL", "array_record", "tensorflow", "torch"),
    }
    code = BARE.format(absent=absent)
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "gflop True\n"

"""Where arrays are placed, and that training does not depend on it."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from prnet_jax import optim, sharding, steps
from prnet_jax.config import make_config
from prnet_jax.steps import make_model
from tests.programs import PATIENCE_S, free_port, running


def shape(*sides):
    return jax.ShapeDtypeStruct(sides, jnp.float32)


def test_which_arrays_are_split_along_which_axis():
    mesh = AbstractMesh((4,), ("data",))
    state = {
        "longest": shape(3, 3, 64, 32),
        "last of equals": shape(3, 3, 32, 32),
        "longest that divides": shape(30, 3, 8, 6),
        "just large enough": shape(4096),
        "small": shape(4095),
        "nothing divides": shape(9, 9, 9, 9),
        "scalar": shape(),
    }
    specs = {k: v.spec for k, v in sharding.state_sharding(mesh, state, shard=True).items()}
    assert specs == {
        "longest": PartitionSpec(None, None, "data"),
        "last of equals": PartitionSpec(None, None, None, "data"),
        "longest that divides": PartitionSpec(None, None, "data"),
        "just large enough": PartitionSpec("data"),
        "small": PartitionSpec(),
        "nothing divides": PartitionSpec(),
        "scalar": PartitionSpec(),
    }
    placed = jax.tree.leaves(sharding.state_sharding(mesh, state, shard=False))
    assert len(placed) == 7 and all(where.is_fully_replicated for where in placed)


def test_prnet_needs_a_quarter_of_the_memory_on_four_devices():
    """Counts parameters and AdamW's state at full width, from their shapes."""
    config = make_config("prnet")
    model = make_model(config)
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 10))
    state = jax.eval_shape(lambda: steps.init_state(config, model, optimizer))
    state = (state.params, state.opt_state)
    placed = sharding.state_sharding(AbstractMesh((4,), ("data",)), state, shard=True)
    sizes = [
        (math.prod(array.shape), math.prod(where.shard_shape(array.shape)))
        for array, where in zip(jax.tree.leaves(state), jax.tree.leaves(placed), strict=True)
    ]
    whole, here = map(sum, zip(*sizes, strict=True))
    assert whole > 3 * 39_876_609
    assert 0.25 <= here / whole < 0.2505


def test_replicate_returns_replicated_arrays_as_they_are():
    mesh = sharding.make_mesh()
    first = sharding.replicate(mesh, {"a": np.arange(3.0), "b": {}})
    assert isinstance(first["a"], jax.Array) and first["a"].tolist() == [0, 1, 2]
    again = sharding.replicate(mesh, first)
    assert again["a"] is first["a"]


def test_unsharded_step_is_the_same_program():
    """Without config.shard_state the program is the one that jax.jit compiles by itself."""
    mesh = sharding.make_mesh()

    def step(state, batch):
        loss = (state["w"] * batch["image"].mean()).sum()
        return {"w": state["w"] - loss}, {"loss": loss}

    state = sharding.make_state(mesh, lambda: {"w": jnp.ones((64, 64))})
    batch = {"image": shape(4, 8, 8, 1)}
    spread = jax.sharding.NamedSharding(mesh, PartitionSpec("data"))
    plain = jax.jit(
        step,
        in_shardings=(sharding.replicated(mesh), spread),
        out_shardings=sharding.replicated(mesh),
        donate_argnums=0,
    )
    ours = sharding.jit_train_step(mesh, step, state)
    texts = [f.lower(state, batch).compile().as_text() for f in (plain, ours)]
    assert texts[0] == texts[1]


_TRAIN = """
import json, sys
import jax
devices, processes, process, port, folder = (int(x) if x.isdigit() else x for x in sys.argv[1:])
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", devices)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
import numpy as np
import orbax.checkpoint as ocp
from prnet_jax import optim, sharding, steps
from prnet_jax.config import make_config
from prnet_jax.steps import make_model
config = make_config("prnet", "quick")
config.model.widths, config.model.heads, config.model.enhance_width = (8, 16), 2, 32
config.dataset.image_size, config.ema_decay, config.num_epochs = 32, 0.5, 2
mesh, model = sharding.make_mesh(), make_model(config)
schedule = optim.make_schedule(config, 2)
optimizer = optim.make_optimizer(config, schedule)
make_step = steps.make_train_step(config, model, optimizer, schedule)
rng = np.random.default_rng(0)
images = rng.random((4, 8, 32, 32, 1)).astype(np.float32)

def batch(i, name):
    numbers = np.arange(8 * i, 8 * i + 8, dtype=np.int32)
    data = {"image": images[i], "mask": (images[i] > 0.5).astype(np.float32), name: numbers}
    mine = slice(process * 8 // processes, (process + 1) * 8 // processes)
    return sharding.shard_batch(mesh, {k: v[mine] for k, v in data.items()})

def here(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))

found = {}
for shard in (False, True):
    state = sharding.make_state(mesh, lambda: steps.init_state(config, model, optimizer), shard)
    step = sharding.jit_train_step(mesh, make_step, state)
    evaluate = sharding.jit_eval_step(mesh, steps.make_eval_step(config, model))
    losses = []
    for i in range(3):
        state, results = step(state, batch(i, "draw"))
        losses.append(float(results["loss"]))
    results = evaluate(state.eval_variables, batch(3, "index"))
    # NumPy, as from a checkpoint
    plain = jax.tree.map(np.asarray, sharding.replicate(mesh, state.eval_variables))
    again = evaluate(plain, batch(3, "index"))
    found[str(shard)] = {
        "losses": losses,
        "eval_loss": float(np.mean(results["loss"])),
        "tp": np.asarray(results["tp"]).tolist(),
        "numpy_too": bool(np.array_equal(results["prob"], again["prob"])),
        "bytes": here((state.params, state.opt_state)),
        "whole_bytes": sum(x.nbytes for x in jax.tree.leaves((state.params, state.opt_state))),
    }
abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder, state)
    checkpointer.wait_until_finished()
    back = checkpointer.restore(folder, abstract)
alike = zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True)
found["placed_alike"] = all(x.sharding == y.sharding for x, y in alike)
saved, read = (jax.tree.leaves(sharding.replicate(mesh, tree)) for tree in (state, back))
found["restored"] = all(np.array_equal(x, y) for x, y in zip(saved, read, strict=True))
print(json.dumps(found))
"""


def _train(folder, devices, processes):
    port = free_port()
    commands = [
        [sys.executable, "-c", _TRAIN, *map(str, (devices, processes, i, port, folder))]
        for i in range(processes)
    ]
    found = []
    with running(*commands) as started:
        for process in started:
            output, errors = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, errors[-2000:]
            found.append(json.loads(output.splitlines()[-1]))
    return found


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """The results of three steps on four devices, with the state copied and split."""
    return _train(tmp_path_factory.mktemp("four") / "state", 4, 1)[0]


def test_split_and_copied_states_train_alike(four):
    whole, cut = four["False"], four["True"]
    np.testing.assert_allclose(cut["losses"], whole["losses"], rtol=1e-6)
    np.testing.assert_allclose(cut["eval_loss"], whole["eval_loss"], rtol=1e-6)
    assert cut["tp"] == whole["tp"]
    assert cut["numpy_too"] and whole["numpy_too"]


def test_each_of_four_devices_holds_a_quarter_of_a_split_state(four):
    """And more: much of this narrow network is in small arrays, which are copied."""
    assert four["False"]["bytes"] == four["False"]["whole_bytes"]
    assert four["True"]["bytes"] < 0.4 * four["True"]["whole_bytes"]


def test_orbax_restores_a_split_state_where_it_was(four):
    assert four["restored"] and four["placed_alike"]


@pytest.mark.slow
def test_two_processes_train_as_one(four, tmp_path):
    """Two processes of two devices each, with the state copied and split."""
    for found in _train(tmp_path / "state", 2, 2):
        for name in ("False", "True"):
            np.testing.assert_allclose(found[name]["losses"], four[name]["losses"], rtol=1e-6)
            np.testing.assert_allclose(found[name]["eval_loss"], four[name]["eval_loss"], rtol=1e-6)
            assert found[name]["tp"] == four[name]["tp"] and found[name]["numpy_too"]
            assert found[name]["bytes"] == four[name]["bytes"]
        assert found["restored"] and found["placed_alike"]

"""The PyTorch side does the same work as ours."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prnet_jax import optim, sharding, steps  # noqa: E402
from prnet_jax.benchmark import ours, theirs  # noqa: E402
from prnet_jax.benchmark.task import Task, example  # noqa: E402
from prnet_jax.errors import InputError  # noqa: E402
from prnet_jax.models import create_model  # noqa: E402
from prnet_jax.torch_weights import from_torch, to_torch  # noqa: E402

FIELDS = {
    "prnet": {"widths": (4, 8), "heads": 2},
    "unet": {"widths": (4, 8, 16)},
    "attention_unet": {"widths": (4, 8, 16)},
    "unetpp": {"widths": (4, 8, 16)},
    "anamnet": {"widths": (4, 8, 8, 8)},
}


def task_of(name, part="train"):
    return Task(part, name, 2, 16, "float32", FIELDS[name])


def filled_network(task):
    """The PyTorch network with weights of ours, and these."""
    model = create_model(task.model, **task.fields)
    image = example(task)["image"]
    variables = jax.jit(lambda: model.init(jax.random.key(1), image, train=False))()
    network = theirs.make_network(task)
    state_dict = to_torch(task.model, variables, **task.fields)
    network.load_state_dict({name: torch.tensor(array) for name, array in state_dict.items()})
    return network, variables


@pytest.mark.parametrize("name", FIELDS)
def test_one_training_step_gives_the_same_loss_and_weights(name):
    task = task_of(name)
    network, variables = filled_network(task)
    batch = example(task)
    image, mask = (torch.from_numpy(batch[k]).permute(0, 3, 1, 2) for k in ("image", "mask"))
    loss = theirs.train_step(network.train(), "float32")(image, mask)

    config = ours.settings(task)
    model = steps.make_model(config)
    schedule = optim.make_schedule(config, 100)
    optimizer = optim.make_optimizer(config, schedule)
    mesh = sharding.make_mesh()
    state = sharding.make_state(mesh, lambda: steps.init_state(config, model, optimizer))
    state = state.replace(params=variables["params"], batch_stats=variables["batch_stats"])
    step = jax.jit(steps.make_train_step(config, model, optimizer, schedule))
    state, results = step(state, {**batch, "draw": np.arange(2, dtype=np.int32)})
    assert float(loss) == pytest.approx(float(results["loss"]), rel=1e-5)

    found = from_torch(name, network.state_dict(), **task.fields)
    moved = []
    for path, theirs_after in jax.tree_util.tree_leaves_with_path(found["params"]):
        before, after = variables["params"], state.params
        for key in path:
            before, after = before[key.key], after[key.key]
        if theirs_after.ndim < 2:
            continue  # biases before norms, which ours leaves as they are
        # AdamW's first step is the learning rate, 1e-3, either way.
        moved.append((np.abs(np.asarray(after) - np.asarray(before)) > 5e-4).mean())
        differ = np.abs(np.asarray(theirs_after) - np.asarray(after)) > 1e-4
        assert differ.mean() < 0.02, path  # where the gradient is nearly zero its sign is open
    assert len(moved) > 4 and np.mean(moved) > 0.5


@pytest.mark.parametrize("name", FIELDS)
def test_inference_gives_the_same_logits(name):
    task = task_of(name, "infer")
    network, variables = filled_network(task)
    image = example(task)["image"]
    expected = jax.jit(
        lambda image: create_model(name, **task.fields).apply(variables, image, train=False)
    )(image)
    found = network.eval()(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", FIELDS)
def test_the_defaults_are_those_of_ours(name):
    model = create_model(name)
    image = jax.ShapeDtypeStruct((1, 64, 64, 1), np.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    network = theirs.NETWORKS[name][0]()
    ours_count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sum(p.numel() for p in network.parameters()) == ours_count


def test_other_networks_and_fields_are_refused():
    with pytest.raises(InputError, match="there is no PyTorch side of infnet: prnet, unet, "):
        theirs.make_network(Task("train", "infnet", 1, 64, "float32"))
    with pytest.raises(InputError, match="the PyTorch side of unet has no field 'bilinear'"):
        theirs.make_network(Task("train", "unet", 1, 64, "float32", {"bilinear": True}))

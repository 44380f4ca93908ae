"""A trace of training steps is there, and TensorBoard's and Perfetto's files can be read."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from prnet_jax.run.profile import Profile


def train(profile, steps, start=0):
    """Steps that each run one program; returns how many a trace was going on in."""
    step = jax.jit(lambda x: x @ x)
    x = jnp.eye(16)
    with profile:
        for number in range(start, start + steps):
            profile.between_steps(number, x)
            with jax.profiler.StepTraceAnnotation("train", step_num=number + 1):
                x = step(x)


def traced_steps(folder):
    """The numbers of the annotated steps in each of Perfetto's files."""
    found = []
    for path in sorted(folder.rglob("perfetto_trace.json.gz")):
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        numbers = {int(e["args"]["step_num"]) for e in events if "step_num" in e.get("args", {})}
        found.append(sorted(numbers))
    return found


def test_the_steps_are_traced_and_a_line_says_where(tmp_path):
    lines = []
    train(Profile((2, 4), tmp_path, lines.append), 6)
    assert traced_steps(tmp_path) == [[3, 4]]
    assert [path.stat().st_size > 0 for path in tmp_path.rglob("*.xplane.pb")] == [True]
    (line,) = lines
    assert line.startswith(f"traced steps 3 to 4: tensorboard --logdir {tmp_path}, or open ")
    assert line.split("open ")[1].split(" at ")[0] in map(str, tmp_path.rglob("*.json.gz"))


def test_a_trace_ends_with_the_training(tmp_path):
    lines = []
    train(Profile((1, 100), tmp_path, lines.append), 3)
    assert traced_steps(tmp_path) == [[2, 3]]
    assert len(lines) == 1


@pytest.mark.parametrize("steps", [(), (2, 4)])
def test_no_trace(tmp_path, steps):
    """None was asked for, or the run resumed behind the steps."""
    train(Profile(steps, tmp_path / "profile", pytest.fail), 3, start=4)
    assert not (tmp_path / "profile").exists()

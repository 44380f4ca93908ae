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


def traced_events(folder):
    """The events in each of Perfetto's files."""
    for path in sorted(folder.rglob("perfetto_trace.json.gz")):
        yield json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


def traced_steps(folder):
    """The numbers of the annotated steps in each of Perfetto's files."""
    return [
        sorted({int(e["args"]["step_num"]) for e in events if "step_num" in e.get("args", {})})
        for events in traced_events(folder)
    ]


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


def test_pythons_own_calls_are_left_out(tmp_path):
    """Python before 3.13.7 may crash when a trace of them ends while other threads run."""
    train(Profile((1, 3), tmp_path, lambda _: None), 4)
    (events,) = traced_events(tmp_path)
    names = {event.get("name", "") for event in events}
    assert any("PjitFunction" in name for name in names)
    assert not [name for name in names if name.startswith("$")]  # such as $profile.py:59 _end


@pytest.mark.parametrize("steps", [(), (2, 4)])
def test_no_trace(tmp_path, steps):
    """None was asked for, or the run resumed behind the steps."""
    train(Profile(steps, tmp_path / "profile", pytest.fail), 3, start=4)
    assert not (tmp_path / "profile").exists()

"""`on_first`, `check_same` and saves, each in a small program of two processes."""

import itertools
import sys

import numpy as np
import pytest

from prnet_jax import processes
from tests.programs import PATIENCE_S, TWO_DEVICES, free_port, printed_by_us, running

_SMALL = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from prnet_jax import processes
from prnet_jax.errors import InputError, RunError

me = jax.process_index()
calls = []
def made():
    calls.append(me)
    return {"text": "\u00e4" * 3000, "number": 0.1, "none": None, "process": me}
found = processes.on_first(made)
assert found == {"text": "\u00e4" * 3000, "number": 0.1, "none": None, "process": 0}, found
assert calls == [0] * (me == 0) and processes.is_first() == (me == 0)
assert processes.on_first(lambda: [1, processes.on_first(made)]) == [1, found]

for kind, told in ((InputError, InputError), (RunError, RunError), (OSError, RunError)):
    def fails():
        raise kind("the reason")
    try:
        processes.on_first(fails)
    except (InputError, RunError, OSError) as error:
        assert str(error) == "the reason"
        assert type(error) is (kind if me == 0 else told), error
    else:
        raise AssertionError("no error")

processes.check_same("the splits", "same")
try:
    processes.check_same("the splits", f"of {me}")
except InputError as error:
    assert "the splits: process 1 differs from process 0" in str(error), error
else:
    raise AssertionError("no error")
print("done", me)
"""


_SAVES = """
import pathlib, sys
import jax, jax.numpy as jnp
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from prnet_jax import sharding
from prnet_jax.run.checkpoint import Checkpoints

mesh = sharding.make_mesh()
state = sharding.make_state(mesh, lambda: {"step": jnp.int32(1), "w": jnp.ones((64, 1024))})
with Checkpoints(pathlib.Path(sys.argv[3])) as checkpoints:
    for step in range(1, 31):
        checkpoints.save(step, state, {"step": step}, None if step % 2 else 0.5)
    checkpoints.wait()
    assert checkpoints.last_step == 30
print("done", jax.process_index())
"""


@pytest.mark.parametrize(
    "program",
    [_SMALL, pytest.param(_SAVES, marks=pytest.mark.slow)],
    ids=["on_first, check_same", "saves"],
)
def test_the_parts_in_two_processes(program, tmp_path):
    """Saves with and without a score, one right after the other, do not meet in Orbax."""
    address = f"127.0.0.1:{free_port()}"
    commands = [
        [sys.executable, "-c", program, address, str(index), str(tmp_path / "run")]
        for index in range(2)
    ]
    with running(*commands, env=TWO_DEVICES) as started:
        for index, process in enumerate(started):
            out, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, err
            assert printed_by_us(out) == f"done {index}\n"


def test_a_single_process_needs_no_others(tmp_path):
    counter = itertools.count()
    value = object()
    assert processes.is_first()
    assert processes.on_first(lambda: (next(counter), value)) == (0, value)
    processes.check_same("anything", "x")
    assert next(counter) == 1
    np.testing.assert_equal(processes.on_first(lambda: np.arange(3)), np.arange(3))

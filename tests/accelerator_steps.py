"""PR-Net's training step, repeated and traced, for `python -m tests.accelerator`.

Each function whose name ends in `_here` runs in a process of its own, and waits for a line before
it begins, so that several can compile at once and run one after another.
"""

import collections
import hashlib
import itertools
import pathlib
import re
import statistics
import sys
import tempfile
import time

TRAINED, TIMED, TRACED = 10, 20, 5  # steps


def training_step(size: int):
    """PR-Net's step for 8 images in bfloat16: program, state, batch, and seconds of compiling."""
    from prnet_jax.benchmark.ours import training
    from prnet_jax.benchmark.task import Task

    step, state, batch = training(Task("train", "prnet", batch=8, size=size, dtype="bfloat16"))
    begin = time.perf_counter()
    program = step.lower(state, batch).compile()
    return program, state, batch, time.perf_counter() - begin


def side_of(size: int | None, usual: int) -> int:
    import jax

    return size or (32 if jax.default_backend() == "cpu" else usual)


def steps_here(size: int | None) -> dict:
    """Two runs of PR-Net from one state with one program; waits for a line before they begin."""
    import jax
    import numpy as np

    size = side_of(size, 256)
    program, state, batch, compile_s = training_step(size)
    start, placement = jax.tree.map(np.array, state), jax.tree.map(lambda x: x.sharding, state)
    print("compiled", flush=True)
    sys.stdin.readline()

    runs = []
    for _ in range(2):
        state = jax.device_put(start, placement)
        for _ in range(TRAINED):
            state, metrics = program(state, batch)
        runs.append((jax.tree.map(np.array, state.params), float(metrics["loss"])))
    times = []
    for _ in range(TIMED if jax.default_backend() != "cpu" else 3):
        begin = time.perf_counter()
        state, metrics = jax.block_until_ready(program(state, batch))
        times.append(1e3 * (time.perf_counter() - begin))

    (first, loss), (second, second_loss) = runs
    pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    digest = hashlib.sha256(b"".join(x.tobytes() for x in jax.tree.leaves(first)))
    return {
        "images": f"8 x {size}x{size}",
        "same bits twice": all(a.tobytes() == b.tobytes() for a, b in pairs),
        "largest difference": max(difference(b, a) for a, b in pairs),
        "loss": f"{loss:.7f}",
        "loss, second run": f"{second_loss:.7f}",
        "step, ms": round(statistics.median(times), 2),
        "compiled in, s": round(compile_s, 1),
        "sha256 of the parameters": digest.hexdigest(),
    }


def profile_here(size: int | None) -> dict:
    """Traces the step, from a line on; the rows have milliseconds a step."""
    import jax

    if (platform := jax.default_backend()) not in ("cpu", "gpu"):
        return {"error": f"profile reads traces of GPUs, found {platform}: use TensorBoard"}

    size = side_of(size, 512)
    program, state, batch, _ = training_step(size)
    print("compiled", flush=True)
    sys.stdin.readline()
    state, _ = jax.block_until_ready(program(state, batch))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            begin = time.perf_counter()
            for _ in range(TRACED):
                state, metrics = program(state, batch)
            jax.block_until_ready((state, metrics))
            step_ms = 1e3 * (time.perf_counter() - begin) / TRACED
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(path))
    origin = dict(re.findall(r'%?([\w.-]+) = .*?metadata={op_name="([^"]*)"', program.as_text()))
    ms, kernels = operations(trace)
    longest = sorted(ms, key=ms.get, reverse=True)[:10]
    images = f"8 x {size}x{size}"
    rows = [
        {
            "operation": name,
            "of": origin.get(name, ""),
            "kernel": kernels[name],
            "ms a step": round(ms[name], 3),
            "share": f"{ms[name] / sum(ms.values()):.1%}",
        }
        for name in longest
    ]
    left = sum(ms.values()) - sum(ms[name] for name in longest)
    others = {"operation": f"{len(ms) - len(longest)} others", "ms a step": round(left, 3)}
    whole = {"operation": f"the step, {images}, while traced", "ms a step": round(step_ms, 3)}
    return {"rows": [*rows, others, whole]}


def operations(trace) -> tuple[dict[str, float], dict[str, str]]:
    """Milliseconds a step of each operation of a GPU, and the kernel that it was mostly in.

    Of a trace without a GPU, those of the host's threads.
    """
    on_gpu = [plane for plane in trace.planes if plane.name.startswith("/device:GPU")]
    lines = [line for plane in on_gpu or trace.planes for line in plane.lines]
    if on_gpu:  # the other lines sum up what the streams have
        lines = [line for line in lines if line.name.startswith("Stream")]
    ms: collections.Counter[str] = collections.Counter()
    kernels: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for event in itertools.chain.from_iterable(line.events for line in lines):
        name = dict(event.stats).get("hlo_op")
        if name is None and not on_gpu:
            continue  # Python's, and what waits
        name = str(name or event.name)
        ms[name] += event.duration_ns / 1e6 / TRACED
        kernels[name][event.name] += event.duration_ns
    return dict(ms), {name: found.most_common(1)[0][0][:60] for name, found in kernels.items()}


def difference(found, expected) -> float:
    import numpy as np

    return float(np.abs(found - expected).max() / np.abs(expected).max())

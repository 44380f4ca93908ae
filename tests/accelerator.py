"""Measures how exactly the device at hand computes; made for a GPU that is lent for minutes.

    python -m tests.accelerator
    python -m tests.accelerator --json accelerator.json
    python -m tests.accelerator --only parity,gradients --models prnet,lightunet_light
    python -m tests.accelerator --only determinism --size 128

It prints a Markdown table for each part and rewrites the JSON file after each. Exit code 1 if a
golden is not met or a part could not be measured. The parts:

parity: every golden of tests/goldens, in float32 at the highest precision, in float32 at the
    device's default precision (on GPUs it may be TF32) and in bfloat16. Only the first must hold
    what the tests of the networks demand.
gradients: transposed, grouped and dilated convolutions and their gradients against float64 on CPU.
excess: PR-Net's golden in bfloat16 with and without XLA's excess precision.
determinism: PR-Net's training step with and without --xla_gpu_deterministic_ops: whether two runs
    end with the same bits, and what a step costs.
profile: the ten operations of PR-Net's training step, 512x512, that take the device longest.

Differences are max |found - expected| / max |expected|. Needs NumPy, SciPy, JAX, Flax, Optax,
safetensors and pytest, and no network.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
import traceback

from tests.accelerator_layers import LAYERS, layer
from tests.accelerator_steps import difference, profile_here, steps_here

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARTS = ("parity", "gradients", "excess", "determinism", "profile")
WAYS = ("highest", "default", "bfloat16")
EXCESS = {"as set": "", "off": "--xla_allow_excess_precision=false"}
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
STEPS = {"as set": "", "deterministic": DETERMINISTIC, "deterministic, again": DETERMINISTIC}
# Kernels that are started together, as a CUDA graph, are traced without the operation's name.
ONE_BY_ONE = "--xla_gpu_enable_command_buffer="


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", metavar="FILE", help="where the figures go too")
    parser.add_argument("--models", metavar="A,B", help="goldens of parity (default: all)")
    parser.add_argument("--only", metavar="A,B", default=",".join(PARTS), help="parts")
    parser.add_argument(
        "--size",
        type=int,
        help="side of the images of determinism (256) and profile (512); on CPU 32",
    )
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    # The processes share one device.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # JAX has no CPU backend where this variable names only the GPU.
    if (platforms := os.environ.get("JAX_PLATFORMS")) and "cpu" not in platforms:
        os.environ["JAX_PLATFORMS"] = f"{platforms},cpu"
    if options.child:
        print(json.dumps(CHILDREN[options.child](options.size)))
        return 0
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, found {', '.join(sorted(unknown))}")
    known = goldens()
    names = options.models.split(",") if options.models else sorted(known)
    if unknown := set(names) - set(known):
        parser.error(f"--models takes {', '.join(sorted(known))}, found {', '.join(unknown)}")

    results = {"about": about()}
    print(table([results["about"]]))
    with contextlib.ExitStack() as stack:
        excess = {}
        if "excess" in parts:  # meanwhile, because nothing in the first parts is timed
            excess = {name: stack.enter_context(child("excess", x)) for name, x in EXCESS.items()}
        measure = {
            "parity": lambda: parity({name: known[name] for name in names}),
            "gradients": gradients,
            "excess": lambda: [{"excess precision": k, **result(p)} for k, p in excess.items()],
            "determinism": lambda: determinism(options.size),
            "profile": lambda: profile(options.size),
        }
        for part in (part for part in PARTS if part in parts):
            begin = time.perf_counter()
            try:
                rows = measure[part]()
            except Exception:
                rows = [{"error": traceback.format_exc()}]
            results[part] = {"seconds": round(time.perf_counter() - begin, 1), "rows": rows}
            print(f"\n## {part}, {results[part]['seconds']} s\n\n{table(rows)}", flush=True)
            if options.json:
                pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    rows = [row for part in parts for row in results[part]["rows"]]
    return int(any("error" in row or row.get("golden is met") == "FAIL" for row in rows))


def about() -> dict:
    import jax

    from prnet_jax.run.provenance import software

    found = software()
    return {
        "device": jax.devices()[0].device_kind,
        **{name: found["packages"][name] for name in ("jax", "jaxlib", "flax")},
        "python": found["python"],
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "revision": found["git_revision"],
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def goldens() -> dict[str, type]:
    """The classes of tests/models that compare a network with a golden, by the golden's name."""
    from tests.model_tester import GOLDENS, GoldenTester

    for path in sorted((ROOT / "tests" / "models").glob("test_*.py")):
        if (GOLDENS / f"{path.stem.removeprefix('test_')}.json").exists():
            importlib.import_module(f"tests.models.{path.stem}")

    def below(parent):
        for test in parent.__subclasses__():
            if hasattr(test, "name"):
                yield test.golden or test.name, test
            yield from below(test)

    return dict(below(GoldenTester))


def parity(tests: dict[str, type]) -> list[dict]:
    """A row for each golden: differences in evaluation and training, in each of `WAYS`."""
    references = at_once(
        {name: lambda test=test: reference(test) for name, test in tests.items()}, "reading"
    )
    jobs = {
        (name, way): lambda test=test, name=name, way=way: golden(test, references[name], way)
        for way in WAYS
        for name, test in tests.items()
    }
    found = at_once(jobs, "parity")
    rows = []
    for name, test in tests.items():
        if error := error_in(*(found[name, way] for way in WAYS)):
            rows.append({"golden": name, **error})
            continue
        row: dict = {"golden": name}
        for way in WAYS:
            row |= {f"{mode}, {way}": value for mode, value in found[name, way].items()}
        evaluation, training = test.evaluation_tolerance, test.training_tolerance
        met = row["evaluation, highest"] < evaluation and row["training, highest"] < training
        rows.append({**row, "must be below": f"{evaluation:g}, {training:g}"})
        rows[-1]["golden is met"] = "PASS" if met else "FAIL"
    return rows


def reference(test: type):
    import numpy as np

    from tests.goldens import weights
    from tests.model_tester import GOLDENS

    path = GOLDENS / f"{test.golden or test.name}.json"
    return *weights.load(path), dict(np.load(path.with_suffix(".npz")))


def golden(test: type, reference, way: str) -> dict[str, float]:
    """The largest difference from a golden's outputs in evaluation, and of all in training."""
    import jax
    import numpy as np

    from tests.model_tester import differences

    if way == "bfloat16":
        found = half_differences(test.name, test.fields, reference)
    else:
        with jax.default_matmul_precision("highest" if way == "highest" else None):
            found = differences(test.name, test.fields, reference, np.float32)
    kinds = {"evaluation": "eval_output", "training": "train"}
    return {k: float(np.max([d for n, d in found.items() if x in n])) for k, x in kinds.items()}


def half_differences(name, fields, reference) -> dict[str, float]:
    """As `tests.model_tester.differences`, computed in bfloat16 with float32 parameters."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from prnet_jax.models import create_model
    from prnet_jax.torch_weights import from_torch, to_torch
    from tests.goldens import weights

    spec, state_dict, golden = reference
    model = create_model(name, **fields).clone(dtype=jnp.bfloat16)
    variables = from_torch(name, state_dict, **fields)

    @jax.jit
    def run(variables, image):
        evaluated = model.apply(variables, image, train=False, all_heads=True)
        training = {"train": True, "all_heads": True, "mutable": ["batch_stats"]}
        return evaluated, *model.apply(variables, image, **training)

    evaluated, trained, updates = run(variables, np.moveaxis(weights.inputs(spec), 1, 3))
    after = to_torch(name, {"params": variables["params"], **updates}, **fields)
    found = {f"after_train.{key}": value for key, value in after.items()}
    for head, *outputs in zip(spec["heads"], evaluated, trained, strict=True):
        assert {x.dtype for x in outputs} == {jnp.dtype(jnp.bfloat16)}
        arrays = [np.moveaxis(np.asarray(x, np.float32), 3, 1) for x in outputs]
        found |= zip((head["key"], head["train_key"]), arrays, strict=True)
    return {k: difference(found[k], x) for k, x in golden.items() if k != "grad_input"}


def gradients() -> list[dict]:
    """A row for each of `LAYERS`: differences from float64 on CPU, in each of `WAYS`."""
    ways = ("float64", *WAYS)
    jobs = {(n, w): lambda n=n, w=w: layer(*LAYERS[n], w) for n in LAYERS for w in ways}
    found = at_once(jobs, "gradients")
    rows = []
    for name in LAYERS:
        if error := error_in(*(found[name, way] for way in ways)):
            rows.append({"layer": name, **error})
            continue
        row: dict = {"layer": name}
        for way in WAYS:
            pairs = zip(found[name, way], found[name, "float64"], strict=True)
            parts = ("value", "input", "kernel")
            row |= {f"{p}, {way}": difference(*x) for p, x in zip(parts, pairs, strict=True)}
        rows.append(row)
    return rows


def excess_here(_) -> dict[str, float]:
    test = goldens()["prnet"]
    return golden(test, reference(test), "bfloat16")


def determinism(size: int | None) -> list[dict]:
    """Compiles the step in three processes at once and runs them one after another."""
    with contextlib.ExitStack() as stack:
        started = {k: stack.enter_context(child("steps", x, size)) for k, x in STEPS.items()}
        for process in started.values():
            process.stdout.readline()  # it has compiled
        return [{"flags": name, **result(process)} for name, process in started.items()]


def profile(size: int | None) -> list[dict]:
    """A row for each of the operations, then one for all that are left."""
    with child("profile", ONE_BY_ONE, size) as process:
        found = result(process)
    return found.get("rows", [found])


def at_once(jobs: dict, what: str) -> dict:
    """What functions return, or the error that they raise, by their keys.

    In threads, because JAX releases the interpreter while it compiles.
    """
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        started = {pool.submit(job): key for key, job in jobs.items()}
        for done, job in enumerate(concurrent.futures.as_completed(started), 1):
            seconds = time.perf_counter() - begin
            line = f"{what} {done}/{len(jobs)}, {seconds:.0f} s: {started[job]}"
            print(line, job.exception() or "", file=sys.stderr, flush=True)
    return {key: job.exception() or job.result() for job, key in started.items()}


def error_in(*results) -> dict:
    """The first line of the first error among results of `at_once`, for a row; else empty."""
    errors = [r for r in results if isinstance(r, Exception)]
    return {"error": f"{errors[0]!r:.300}".splitlines()[0]} if errors else {}


@contextlib.contextmanager
def child(what: str, flag: str, size: int | None = None):
    """This file in a process of its own, with a flag added to `XLA_FLAGS`; killed at the end."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    # A program from the cache would not be this process's own.
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    command = [sys.executable, "-m", "tests.accelerator", "--child", what]
    command += ["--size", str(size)] if size else []
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def result(process: subprocess.Popen) -> dict:
    """Lets a `child` begin, if it waits, and returns what it measured."""
    out, _ = process.communicate("\n")
    if process.returncode:
        return {"error": f"exit code {process.returncode}: {' '.join(process.args)}"}
    return json.loads(out.splitlines()[-1])


def table(rows: list[dict]) -> str:
    """Markdown; a row may lack columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names)]
    lines += [[cell(row.get(name, "")) for name in names] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value) -> str:
    return f"{value:.2g}" if isinstance(value, float) and abs(value) < 1 else str(value)


CHILDREN = {"excess": excess_here, "steps": steps_here, "profile": profile_here}

if __name__ == "__main__":
    sys.exit(main())

"""What importing and running the package must and must not bring with it, and who imports whom."""

import ast
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEAVY = {"jax", "numpy", "scipy", "flax", "optax", "orbax", "tensorflow_datasets", "matplotlib"}


def run(code, cwd, **env):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, env=env or None
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- who imports whom


def modules_of(package, folder):
    """{module name: file} of the Python files below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (package, *path.relative_to(folder).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name, path, modules):
    """The modules of ours that a file imports, anywhere in it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            wanted = [f"{base}.{alias.name}" for alias in node.names]
            wanted = [name if name in modules else base for name in wanted]
        else:
            continue
        found.update(module for module in wanted if module in modules)
    return found - {name}


@pytest.fixture(scope="module")
def graph():
    modules = modules_of("prnet_jax", ROOT / "prnet_jax")
    for folder in (ROOT / "datasets").iterdir():
        if folder.is_dir():
            modules |= modules_of(f"prnet_jax.datasets.{folder.name}", folder)
    return {name: imports_of(name, path, modules) for name, path in modules.items()}


def reachable(graph, start):
    found, waiting = set(), [start]
    while waiting:
        for module in graph[waiting.pop()] - found:
            found.add(module)
            waiting.append(module)
    return found


def test_no_import_forms_a_circle(graph):
    assert len(graph) > 80 and graph["prnet_jax.train"] > {"prnet_jax.steps", "prnet_jax.report"}
    assert [name for name in graph if name in reachable(graph, name)] == []


@pytest.mark.parametrize("room", ["models", "metrics"])
def test_networks_and_metrics_import_nothing_above_them(graph, room):
    """They know nothing of files, configs or checkpoints."""
    package = f"prnet_jax.{room}"
    inside = {name for name in graph if f"{name}.".startswith(f"{package}.")}
    allowed = inside | {"prnet_jax", "prnet_jax.errors"}
    if f"{package}.__main__" in inside:
        inside.remove(f"{package}.__main__")  # a command
    assert set().union(*(graph[name] for name in inside)) <= allowed


def test_a_command_is_imported_by_nobody(graph):
    imported = set().union(*graph.values())
    assert not {name for name in imported if name.endswith("__main__")}


# ---- what is fast


COMMANDS = sorted(
    {f"prnet_jax.{path.parent.name}" for path in (ROOT / "prnet_jax").glob("*/__main__.py")}
    | {"prnet_jax", "prnet_jax.main", "prnet_jax.doctor"}
)

# Prints what was imported when a command has ended, however it ended.
WATCHED = """
import atexit, runpy, sys
atexit.register(lambda: print("\\nimported", *sys.modules))
sys.argv = ["command", "--help"]
runpy.run_module("{name}", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_no_jax(name, root):
    begin = time.perf_counter()
    printed = run(WATCHED.format(name=name), root)
    print(f"{name} --help: {time.perf_counter() - begin:.2f} s")
    text, _, imported = printed.rpartition("\nimported ")
    assert name == "prnet_jax" or "--" in text
    assert not HEAVY & set(imported.split())


def test_the_list_of_commands_is_complete(root):
    printed = run(WATCHED.format(name="prnet_jax"), root)
    for name in COMMANDS:
        assert name == "prnet_jax" or f"python -m {name} " in printed


def test_importing_the_package_needs_no_jax(root):
    code = "import sys, prnet_jax, prnet_jax.evaluate, prnet_jax.torch_weights, prnet_jax.models\n"
    imported = run(f"{code}print(*sys.modules)", root).split()
    assert not HEAVY & set(imported)


def test_training_is_imported_without_what_it_does_not_need_yet(root):
    """Half a second to a second each: SciPy's parts for scores, and what draws curves."""
    wanted = "'scipy.stats', 'scipy.ndimage', 'matplotlib.figure'"
    code = (
        "import sys, prnet_jax.main, prnet_jax.train, prnet_jax.evaluate.run\n"
        f"print([m for m in ({wanted}) if m in sys.modules])"
    )
    assert run(code, root) == "[]"


# ---- what stays out


def test_no_tensorflow_and_no_torch(root):
    code = (
        "import sys\n"
        "class Absent:  # tensorboardX imports torch where it can\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import prnet_jax.main, prnet_jax.train, prnet_jax.torch_weights.convert\n"
        "print([m for m in ('tensorflow', 'tensorboard') if m in sys.modules])"
    )
    assert run(code, root) == "[]"


def test_the_builders_import_from_the_checkout(root):
    code = (
        "import prnet_jax.datasets.lung_phantom, prnet_jax.datasets.finding_lungs as f\n"
        "print(f.__file__)"
    )
    assert run(code, root) == str(root / "datasets" / "finding_lungs" / "__init__.py")


def test_hugging_faces_datasets_is_not_shadowed(root, tmp_path):
    """From the repository's root, `import datasets` finds the installed package, not our folder."""
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("WHOSE = 'another project'")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import datasets; print(datasets.WHOSE)"
    assert run(code, root) == "another project"
    assert not (root / "datasets" / "__init__.py").exists()


def test_an_installed_package_does_not_take_in_hugging_faces(root, tmp_path):
    """site-packages with a wheel of ours and Hugging Face's package side by side."""
    for package in ("prnet_jax", "prnet_jax/datasets", "datasets"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    ours = (root / "prnet_jax" / "datasets" / "__init__.py").read_text(encoding="utf-8")
    (tmp_path / "prnet_jax" / "datasets" / "__init__.py").write_text(ours, encoding="utf-8")
    code = "import prnet_jax.datasets; print(len(prnet_jax.datasets.__path__))"
    assert run(code, tmp_path) == "1"

"""What is installed: packages and files of a wheel, bounds of the requirements, interpreters."""

import configparser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement

import prnet_jax

BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def setup(root):
    config = configparser.RawConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    return config


def _lines(text):
    return text.strip().splitlines()


def _shipped(root):
    """Files of the tree by their path in a wheel."""
    found = {}
    for top, prefix in (("prnet_jax", ""), ("datasets", "prnet_jax/"), ("configs", "prnet_jax/")):
        for path in (root / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[prefix + path.relative_to(root).as_posix()] = path
    return found


def test_every_folder_with_python_files_is_a_package(root, setup):
    folders = {
        name.rpartition("/")[0].replace("/", ".") for name in _shipped(root) if name.endswith(".py")
    }
    assert set(_lines(setup["options"]["packages"])) == folders
    mapped = dict(line.split(" = ") for line in _lines(setup["options"]["package_dir"]))
    builders = [path.name for path in (root / "datasets").iterdir() if path.name != "__pycache__"]
    assert mapped == {"prnet_jax.configs": "configs"} | {
        f"prnet_jax.datasets.{name}": f"datasets/{name}" for name in builders
    }


def test_no_tests_among_the_packages(root):
    """Pytest collects both forms; made-up data is only for tests."""
    for name in _shipped(root):
        assert not re.fullmatch(r"(.*_test|test_.*|made_up.*|conftest)\.py", name.split("/")[-1])
        assert "tests" not in name.split("/")


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """A wheel and the source, built without network from a copy: setuptools writes beside it."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("prnet_jax", "datasets", "configs", "tests"):
        shutil.copytree(root / folder, source / folder, ignore=ignored)
    for path in root.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, source)
    code = "from setuptools import build_meta as b; b.build_sdist({0!r}); b.build_wheel({0!r})"
    command = [sys.executable, "-c", code.format(str(target))]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


def test_wheel_holds_every_file_of_the_packages_and_no_other(root, wheel):
    with zipfile.ZipFile(wheel) as file:
        found = {name for name in file.namelist() if ".dist-info/" not in name}
    assert found == set(_shipped(root))
    assert "prnet_jax/datasets/finding_lungs/splits.csv" in found
    assert "prnet_jax/datasets/lidc_nodules/CITATIONS.bib" in found
    assert "prnet_jax/compare/page.js" in found
    assert "prnet_jax/configs/prnet.py" in found


def test_the_source_holds_what_the_wheel_is_made_of(root, built):
    (path,) = built.glob("*.tar.gz")
    top = f"prnet_jax-{prnet_jax.__version__}/"
    with tarfile.open(path) as file:
        found = {name.removeprefix(top) for name in file.getnames()}
    assert found > {path.relative_to(root).as_posix() for path in _shipped(root).values()}
    assert found > {"setup.cfg", "pyproject.toml", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    assert not [name for name in found if name.startswith((".", "tests", "docs", "build"))]


def test_wheel_finds_its_builders(wheel, tmp_path):
    """From another folder, with nothing of the checkout on the path."""
    code = "import prnet_jax.datasets.lung_phantom as found; print(found.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == f"{wheel}/prnet_jax/datasets/lung_phantom/__init__.py", done


def test_one_version(root, wheel):
    """It stands in prnet_jax/__init__.py; those that cannot read it say the same."""
    assert wheel.name == f"prnet_jax-{prnet_jax.__version__}-py3-none-any.whl"
    cited = re.search("^version: (.+)$", (root / "CITATION.cff").read_text("utf-8"), re.M)
    assert cited[1] == prnet_jax.__version__


def test_the_console_command(wheel):
    with zipfile.ZipFile(wheel) as file:
        (path,) = (name for name in file.namelist() if name.endswith("/entry_points.txt"))
        assert "prnet = prnet_jax.__main__:main" in file.read(path).decode().splitlines()


def test_every_lower_bound_is_tested_and_no_version_is_capped(root, setup):
    """The Colab stack of .ci/run installs exactly the lower bounds."""
    pins = dict(
        line.split("==")
        for line in _lines((root / ".ci/constraints-colab.txt").read_text(encoding="utf-8"))
        if not line.startswith("#")
    )
    extras = setup["options.extras_require"]
    lines = _lines(setup["options"]["install_requires"])
    lines += [extras[name] for name in ("nifti", "dicom", "export", "hub")]
    for line in lines:
        requirement = Requirement(line)
        bounds = {(bound.operator, bound.version) for bound in requirement.specifier}
        if requirement.name == "jax":
            bounds.remove(("!=", "0.10.2"))
        assert bounds == {(">=", pins[requirement.name])}, line
    assert pins["jaxlib"] == pins["jax"]


def _interpreter(path: pathlib.Path, code: int) -> pathlib.Path:
    """One that runs (0), or a shim that is there and fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{BASH}\nexit {code}\n")
    path.chmod(0o755)
    return path


def _environment(root, code, **env):
    return subprocess.run(
        [BASH, "-euc", f". launch/environment.sh; {code}"],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
    )


def test_the_first_interpreter_that_runs_is_found(root, tmp_path):
    shims, later, pyenv = tmp_path / "shims", tmp_path / "later", tmp_path / "pyenv"
    _interpreter(shims / "python3.13", 127)
    _interpreter(shims / "python3", 127)
    older = _interpreter(shims / "python3.12", 0)
    env = {"PATH": f"{shims}:{later}", "PYENV_ROOT": str(pyenv), "HOME": str(tmp_path)}

    def found(*versions):
        done = _environment(root, f"find_python {' '.join(versions)}", **env)
        assert done.stderr == ""
        return done.returncode, done.stdout.strip()

    assert found("3.13", "3.12", "3.11") == (0, str(older))
    assert found("3.13", "3") == (1, "")
    own = _interpreter(pyenv / "versions" / "3.13.0" / "bin" / "python", 0)
    assert found("3.13", "3.12", "3.11") == (0, str(own))
    behind = _interpreter(later / "python3.13", 0)
    assert found("3.13", "3.12", "3.11") == (0, str(behind))


def test_an_interpreter_is_asked_for_its_version(root):
    """`_runs` on a real one, which any number of fakes cannot replace."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for asked, code in ((version, 0), ("3", 0), ("3.10", 1), ("3.99", 1)):
        done = _environment(root, f"_runs {sys.executable} {asked}", PATH="")
        assert done.returncode == code, asked


def test_no_interpreter_is_one_line(root, tmp_path):
    shim = _interpreter(tmp_path / "python3", 127)
    for python, message in (
        (None, "error: no Python 3.11 or newer runs here; install one, or set PYTHON=..."),
        (shim, f"error: PYTHON={shim} must be Python 3.11 or newer, with ensurepip; found: "),
    ):
        env = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path)}
        if python:
            env["PYTHON"] = str(python)
        done = _environment(root, f"make_environment '{tmp_path}/made'", **env)
        assert (done.returncode, done.stderr) == (2, message + "\n")
        assert not (tmp_path / "made").exists()


_FAKE = """#!{bash}
case "$*" in
  "-c import ensurepip"*) exit 0 ;;
  -c*) echo {version} ;;
  "-m venv --clear "*) mkdir -p "$4/bin" && rm -f "$4/.installed-test" && cp "$0" "$4/bin/python" ;;
esac
case "$*" in -m*) echo "{version} $*" >>"{calls}" ;; esac
"""


def test_an_environment_is_made_kept_and_made_again(root, tmp_path):
    calls, made, constraints = tmp_path / "calls", tmp_path / "made", tmp_path / "constraints"
    for version in ("3.12", "3.13"):
        path = _interpreter(tmp_path / "bin" / f"python{version}", 0)
        path.write_text(_FAKE.format(bash=BASH, version=version, calls=calls))

    def done(**env):
        calls.write_text("")
        env |= {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
        code = f"make_environment '{made}' test; echo $python"
        found = _environment(root, code, **env)
        assert (found.returncode, found.stderr) == (0, "")
        assert found.stdout.splitlines()[-1] == f"{made}/bin/python"
        return calls.read_text().splitlines()

    def installed(version):
        pip = f"{version} -m pip install"
        return [f"{pip} --upgrade pip", f"{pip} --editable .[test]"]

    def remade(version):
        return [f"{version} -m venv --clear {made}", *installed(version)]

    assert done(PYTHON="python3.12") == remade("3.12")
    assert done(PYTHON="python3.12") == []
    assert done() == []  # an older one that runs is kept
    assert done(PYTHON="python3.13") == remade("3.13")
    os.utime(made / ".installed-test", (0, 0))
    assert done() == installed("3.13")
    constraints.write_text("")
    os.utime(constraints, (2**32, 2**32))
    assert done(PIP_CONSTRAINT=str(constraints)) == installed("3.13")
    _interpreter(made / "bin" / "python", 127)  # its interpreter was removed
    assert done() == remade("3.13")


def test_progress_of_a_slow_command_and_of_a_failed_one(root, tmp_path):
    log, ticks = tmp_path / "log", tmp_path / "ticks"
    show = f"sleep() {{ command sleep 0.01; echo >>{ticks}; }}; show_progress {log} {BASH} -c"
    waiting = f"until [ $(wc -l <{ticks}) -gt 1 ]; do command sleep 0.01; done"
    code = f"{show} 'echo half; : >{ticks}; {waiting}'"
    done = _environment(root, code, PATH="/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^  \d+ s: half$", done.stdout, re.MULTILINE)
    done = _environment(root, f"{show} 'echo why; exit 3'", PATH="/usr/bin:/bin")
    assert done.returncode == 3
    assert done.stderr.startswith("why\nerror: this failed, see above")

"""launch/colab.ipynb: its form, its cells by themselves, and all of it executed.

Eight CPU devices stand for a TPU's cores, and what only Colab can do is left out by the notebook.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import subprocess
import types
import zipfile

import nbclient
import nbformat
import pytest

from prnet_jax.config import make_config
from prnet_jax.run.files import flat
from tests import programs
from tests.programs import ROOT

BOOK = ROOT / "launch" / "colab.ipynb"
# What a variable of a cell stands for in a command.
_STAND_INS = {"scans": ["FILE"], "network": ["--workdir", "RUN"], "reference": []}


@pytest.fixture
def book():
    return nbformat.read(BOOK, as_version=4)


@pytest.fixture
def cell(book, tmp_path, monkeypatch):
    """Executes a cell by its id in this process and an empty folder; returns its names."""
    monkeypatch.chdir(tmp_path)
    source = {cell.id: cell.source for cell in book.cells}

    def execute(id, names):
        exec(source[id], names)
        return names

    return execute


def test_it_is_a_clean_notebook(book):
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert len(book.cells) <= 30
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id
        assert not re.search(r"(?<![\w.}*/:<\\])(/|~/|[A-Z]:\\)[A-Za-z]", cell.source), cell.id


def calls(book, name):
    for cell in book.cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                    yield node.args


def test_commands_take_its_flags(book):
    seen = []
    for command, *arguments in calls(book, "run"):
        words = []
        for argument in arguments:
            if isinstance(argument, ast.Starred):
                words += _STAND_INS[argument.value.id]
            else:
                words.append(argument.value if isinstance(argument, ast.Constant) else "FILE")
        importlib.import_module(f"prnet_jax.{command.value}.__main__")._parser().parse_args(words)
        seen.append(command.value)
    assert {*seen} == {"predict", "evaluate", "torch_weights", "export"}


def test_configs_have_its_fields_and_variants(book):
    text = "\n".join(cell.source for cell in book.cells)
    fields = set(re.findall(r"--config\.([a-z_.]+)=", text))
    known = {*flat(make_config("prnet", "quick").to_dict())}
    known |= {*flat(make_config("prnet", "lungs").to_dict())}
    assert len(fields) > 8 and fields <= known
    assert set(re.findall(r'"(lungs\w*|quick)"', text)) == {"lungs", "lungs_small", "quick"}


class Runtime:
    """What is installed, and a pip that is only noted."""

    def __init__(self, monkeypatch, **changed):
        self.versions = {x.name: x.version for x in importlib.metadata.distributions()}
        self.versions |= {"pillow": "11.3.0", "numpy": "2.1.3", "torch": "2.8.0+cpu"} | changed
        self.versions.pop("clu", None)
        self.comes = {"clu": "0.0.12", "pillow": "13.0.0"}
        self.pip = []
        monkeypatch.setattr(importlib.metadata, "distributions", self.distributions)
        monkeypatch.setattr(subprocess, "run", self.install)

    def distributions(self):
        return [types.SimpleNamespace(name=k, version=v) for k, v in self.versions.items()]

    def install(self, command, check):
        assert check
        self.pip = command[command.index("install") + 1 :]
        self.versions |= self.comes


def install(cell, runtime):
    """Executes the cell that installs packages; returns pip's constraints."""
    modules = {"PIL.Image": None, "os": os}
    names = {"CODE": ROOT, "pathlib": pathlib, "subprocess": subprocess}
    names["sys"] = types.SimpleNamespace(executable="python", modules=modules)
    cell("install", names)
    assert list(modules) == ["os"]  # a Pillow that was replaced is imported anew
    return pathlib.Path("constraints.txt").read_text().splitlines()


def test_only_what_is_missing_or_too_old_is_installed(cell, monkeypatch, capsys):
    runtime = Runtime(monkeypatch, jax="0.7.1")
    pins = install(cell, runtime)
    wanted = [word for word in runtime.pip if not word.startswith("--")]
    assert {re.split(r"\W", word)[0] for word in wanted} == {"clu", "pillow"}
    assert "--constraint=constraints.txt" in runtime.pip
    assert {"jax==0.7.1", "numpy==2.1.3", "torch==2.8.0+cpu"} <= set(pins)
    assert not any(pin.startswith(("pillow=", "clu=")) for pin in pins)
    assert "left: jax 0.7.1, though" in capsys.readouterr().out


def test_what_is_there_twice_is_pinned_as_it_is_imported(cell, monkeypatch):
    """Colab's own packages come before Ubuntu's on the path; pip would go back to the latter's."""
    runtime = Runtime(monkeypatch, six="1.17.0")
    own, older, broken = runtime.distributions, ("six", "1.16.0"), (None, None)
    behind = [
        types.SimpleNamespace(name=name, version=version) for name, version in (older, broken)
    ]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [*own(), *behind])
    assert [pin for pin in install(cell, runtime) if pin.startswith("six=")] == ["six==1.17.0"]


def test_a_change_of_numpy_is_an_error(cell, monkeypatch):
    runtime = Runtime(monkeypatch)
    runtime.comes |= {"numpy": "2.5.0"}
    with pytest.raises(AssertionError):
        install(cell, runtime)


def test_the_real_set_is_found_or_said_to_be_missing(cell, tmp_path, capsys):
    names = {"LUNGS": "", "RUNS": tmp_path / "runs", "HERE": tmp_path / "here", "SLICES": ["few"]}
    names["pathlib"] = pathlib
    assert cell("real", dict(names))["DATA"] == ["few"]
    (line,) = capsys.readouterr().out.splitlines()
    assert "missing" in line
    for name in ("2d_images.zip", "2d_masks"):
        (tmp_path / "finding_lungs" / name).mkdir(parents=True)
    (data,) = cell("real", dict(names))["DATA"]
    assert data == f"--config.dataset.manual_dir={tmp_path / 'finding_lungs'}"
    assert cell("real", names | {"LUNGS": str(tmp_path)})["DATA"] == ["few"]


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.notebook
def test_all_of_it_runs(book, tmp_path, records_dir, monkeypatch):
    environment = {"PRNET_SHORT": "1", "PRNET_SOURCE": str(ROOT), "JAX_NUM_CPU_DEVICES": "8"}
    for name, value in (environment | {"TFDS_DATA_DIR": str(records_dir)}).items():
        monkeypatch.setenv(name, value)
    asked = "import jax\nprint(jax._src.xla_bridge.backends_are_initialized())"
    book.cells.append(nbformat.v4.new_code_cell(asked))
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=programs.PATIENCE_S, resources=where).execute()

    *cells, last = (cell for cell in book.cells if cell.cell_type == "code")
    assert text_of(last) == "False\n"  # the notebook's own process has left the devices alone
    text = {cell.id: text_of(cell) for cell in cells}
    kept = ", ".join(
        f"{x} {importlib.metadata.version(x)}" for x in "jax jaxlib flax numpy".split()
    )
    assert f"installed: nothing was missing\nuntouched: {kept}\n" == text["install"]
    assert len(re.findall(r": images \[\d\]\n", text["devices"])) == 8
    assert "8 x cpu" in text["train"] and "Trained for" in text["all-devices"]
    assert "phantom takes its place" in text["real"]
    assert "1 masks in masks" in text["predict"]
    if importlib.util.find_spec("torch"):
        assert re.search(r"^output 0 .*e-0\d", text["torch-compare"], re.MULTILINE)
    else:
        assert "nothing to compare with" in text["torch-compare"]
    assert "are the same." in text["torch-out"]
    (stopped,) = re.findall(r"Stopped after (step \d+) of 16, saved", text["disconnect"])
    assert f"Resuming after {stopped} of 16." in text["resume"]
    pictures = {c.id for c in cells if any("image/png" in o.get("data", ()) for o in c.outputs)}
    assert pictures == {"train", "scores", "predict", "evaluate", "resume"}
    with zipfile.ZipFile(tmp_path / "results.zip") as file:
        names = set(file.namelist())
    assert {"exported/model.stablehlo", "masks/slice.npy", "evaluation/overview.png"} <= names

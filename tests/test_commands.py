"""The list of commands, what is typed after them, and the examples in their `--help`."""

import argparse
import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys

import ml_collections
import pytest

import prnet_jax
from prnet_jax import __main__ as prnet
from prnet_jax import commands
from prnet_jax.data.prepare import available, dataset_options
from prnet_jax.errors import InputError
from prnet_jax.models import list_models

EXAMPLE = re.compile(r"^ +(python -m prnet_jax\..*)$", re.MULTILINE)


# ---- options that several commands have


def test_fields_and_flips():
    parser = argparse.ArgumentParser()
    commands.add_set(parser, "a field")
    commands.add_flips(parser)
    found = parser.parse_args(["--set", "widths=16,32", "--set", "dtype=bfloat16", "--flips"])
    assert (found.set, found.flips) == ([("widths", (16, 32)), ("dtype", "bfloat16")], True)
    assert vars(parser.parse_args([])) == {"set": [], "flips": False}
    assert "a field; repeatable" in " ".join(parser.format_help().split())


# ---- configs by name


def test_a_config_by_its_name_and_by_its_file_anywhere(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for network in list_models():
        expected = root / "configs" / f"{network}.py"
        assert commands.config_file(f"{network}:quick") == (expected, "quick")
        assert commands.config_file(f"configs/{network}.py") == (expected, "")


def test_a_persons_own_file_counts_first(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "configs" / "prnet.py"
    own.parent.mkdir()
    own.touch()
    path, variant = commands.config_file("configs/prnet.py:mine")
    assert (path.resolve(), variant) == (own, "mine")
    assert commands.config_file("prnet") == (root / "configs" / "prnet.py", "")


@pytest.mark.parametrize("name", ["prnt", "other/prnet.py", "configs", "prnet.txt", ""])
def test_no_such_config(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    with pytest.raises(InputError, match="is not a file: "):
        commands.config_file(name)


# ---- prnet COMMAND


def ran(monkeypatch):
    """What `runpy` is asked to run, in place of running it."""
    found = []

    def run_module(module, **options):
        found.append((module, sys.argv[1:], options))

    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setattr(sys, "argv", ["prnet"])
    return found


def test_every_command_is_run_by_its_name(monkeypatch):
    found = ran(monkeypatch)
    for name in ("train", "predict", "torch_weights", "doctor"):
        assert prnet.main([name, "--flag", "x"]) == 0
    modules = ["main", "predict", "torch_weights", "doctor"]
    how = {"run_name": "__main__", "alter_sys": True}
    assert found == [(f"prnet_jax.{m}", ["--flag", "x"], how) for m in modules]


def test_the_list_and_mistakes(monkeypatch, capsys):
    found = ran(monkeypatch)
    for arguments in ([], ["--help"], ["-h"]):
        assert prnet.main(arguments) == 0
        printed = capsys.readouterr().out
        for name in {"train", *prnet.COMMANDS} - {"main"}:
            assert f"  prnet {name} " in printed
    assert "  prnet train --config prnet:quick" in printed
    assert prnet.main(["predct"]) == 2
    assert capsys.readouterr().err == "error: no command 'predct': did you mean predict?\n"
    assert prnet.main(["--version"]) == 0
    assert capsys.readouterr().out == f"prnet_jax {prnet_jax.__version__}\n"
    assert found == []


def test_a_command_ends_with_its_own_code(root, tmp_path):
    """The real thing once, with a mistake that its parser finds."""
    done = subprocess.run(
        [sys.executable, "-m", "prnet_jax", "compare", "--nonsense"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "usage: python -m prnet_jax.compare" in done.stderr


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("prnet ", {"train", "predict", "doctor"}),
        ("prnet pre", {"predict"}),
        ("prnet predict --wo", {"--workdir"}),
        ("prnet evaluate --workdir RUN --tta ", {"none", "flips"}),
        ("prnet torch_weights ", {"import", "export", "compare"}),
        ("prnet torch_weights export --", {"--model"}),
        ("prnet doctor --js", {"--json"}),
        ("prnet train --", set()),
        ("prnet nothing --", set()),
    ],
)
def test_completion_in_a_shell(root, tmp_path, typed, expected):
    """By argcomplete's protocol. Nothing is run, and nothing that takes time is imported."""
    pytest.importorskip("argcomplete")
    asks = {"COMP_LINE": typed, "COMP_POINT": str(len(typed)), "_ARGCOMPLETE": "1"}
    asks |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer")}
    (tmp_path / "answer").touch()
    done = subprocess.run(
        [sys.executable, "-m", "prnet_jax"],
        cwd=tmp_path,
        env=asks | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    answer = {word.strip() for word in (tmp_path / "answer").read_text().split("\n")} - {""}
    assert answer >= expected and bool(answer) == bool(expected)


# ---- --help


def helped(command, capsys, *arguments):
    """The examples that `command` prints for --help."""
    with pytest.raises(SystemExit, match="0"):
        command.main([*arguments, "--help"])
    return EXAMPLE.findall(capsys.readouterr().out)


@pytest.mark.parametrize("name", [name for name in prnet.COMMANDS if name != "main"])
def test_every_help_has_examples_that_its_parser_takes(root, name, monkeypatch, capsys):
    is_package = (root / "prnet_jax" / name).is_dir()
    command = importlib.import_module(f"prnet_jax.{name}" + ".__main__" * is_package)
    examples = helped(command, capsys)
    assert examples
    monkeypatch.setattr(command, "run_command", lambda run: 0)  # they are parsed before
    for example in examples:
        *how, module = shlex.split(example)[:3]
        assert (how, module) == (["python", "-m"], f"prnet_jax.{name}")
        assert command.main(shlex.split(example)[3:]) == 0, example


@pytest.mark.parametrize("name", ["import", "export", "compare"])
def test_every_help_below_torch_weights_too(name, capsys):
    command = importlib.import_module("prnet_jax.torch_weights.__main__")
    (example,) = helped(command, capsys, name)
    assert example.split()[2:4] == ["prnet_jax.torch_weights", name]


def test_the_example_of_main_and_the_fields_that_it_describes(root, tmp_path):
    """From another folder, as a person types it."""
    from prnet_jax import main
    from prnet_jax.config import make_config
    from prnet_jax.run.files import flat

    (example,) = re.findall("python -m (prnet_jax.main --config .*)$", main.__doc__, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", *example.split(), "--config.num_epochs=7", "--describe"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    fields = re.findall(
        r"^--config\.([\w.]+)(?: \(not set\)|=\S*)\s+\S.*$", done.stdout, re.MULTILINE
    )
    assert sorted(fields) == sorted(flat(make_config("prnet", "quick").to_dict()))
    assert re.search("^--config.num_epochs=7 +an epoch is images", done.stdout, re.MULTILINE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("network", list_models())
def test_every_field_has_a_meaning(network):
    """A comment in config.py, or a line in the network's docstring."""
    from prnet_jax.config import default_config, describe

    assert "see its docstring" not in describe(default_config(network))


@pytest.mark.parametrize("name", [*available(), "finding_lungs+lung_phantom"])
def test_every_option_of_a_data_set_has_a_meaning(name):
    """The comment beside it in its builder's config, which a wheel holds too."""
    from prnet_jax.config import describe, make_config

    config = make_config("prnet", "quick")
    config.dataset.name = name
    config.dataset.options = ml_collections.ConfigDict(dataset_options(name))
    lines = re.sub(r"\n {44}", " ", describe(config)).splitlines()
    options = [line for line in lines if line.startswith("--config.dataset.options.")]
    assert len(options) == len(dataset_options(name)) > 2
    assert not [line for line in options if "builder's own" in line]

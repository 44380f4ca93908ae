"""Every Markdown file: its commands' flags, links and tables are right."""

import configparser
import importlib.util
import json
import re
import runpy
import sys
from unittest import mock

import pytest
from absl import flags
from ml_collections import config_flags

from prnet_jax.config import check_config
from prnet_jax.models import __main__ as models
from tests import written

FILES = [file.relative_to(written.ROOT).as_posix() for file in written.markdown_files()]


def text_of(name):
    return (written.ROOT / name).read_text(encoding="utf-8")


def check_main(words):
    """Raises an error unless these are flags of main, with fields and values of their types."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    with mock.patch.object(sys, "argv", ["main", *words]):  # ml_collections looks there
        assert values(sys.argv) == ["main"], words
    check_config(values.config)


def check_command(module, words):
    """A module that is run takes these arguments."""
    if module == "prnet_jax.main":
        check_main(words)
        return
    if importlib.util.find_spec(module).submodule_search_locations:
        module += ".__main__"
    if make_parser := getattr(importlib.import_module(module), "_parser", None):
        make_parser().parse_args(words)


def check_script(name, words):
    """The options before `--` are named in the script's help; what follows is for main."""
    own, _, rest = " ".join(words).partition("-- ")
    if name in ("local.sh", "slurm.sbatch"):  # hand everything on
        own, rest = "", " ".join(words)
    script = text_of(f"launch/{name}")
    for option in re.findall(r"--[a-z-]+", own):
        assert re.search(rf"^#.* {option}\b", script, re.MULTILINE), (name, option)
    by_itself = name in ("sweep.sh", "table1.sh", "ablations.sh")  # these name the config
    network = "--config configs/prnet.py " if by_itself else ""
    if rest:
        check_main((network + rest).split())


@pytest.mark.parametrize("name", FILES)
def test_the_flags_of_its_commands(name, root, monkeypatch):
    monkeypatch.chdir(root)
    setup = configparser.RawConfigParser()
    setup.read(root / "setup.cfg", encoding="utf-8")
    extras = set(setup["options.extras_require"])
    for words in written.commands(text_of(name)):
        while re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        launched = [i for i, word in enumerate(words) if word.startswith("launch/")]
        if words[:2] == ["pip", "install"]:
            named = re.search(r"^\.\[(.*)\]$", words[-1])
            assert named is None or set(named[1].split(",")) <= extras, words
        elif launched and words[0] in ("bash", "sbatch"):
            check_script(words[launched[0]].removeprefix("launch/"), words[launched[0] + 1 :])
        elif words[:2] == ["python", "-m"] and words[2].startswith("prnet_jax"):
            check_command(words[2], words[3:])


@pytest.mark.parametrize("name", FILES)
def test_its_links_lead_somewhere(name, root):
    file = root / name
    for link in written.links(text_of(name)):
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        if anchor:
            assert anchor in written.anchors(target.read_text(encoding="utf-8")), link


def test_links_and_outputs_of_notebooks(root):
    notebooks = sorted(root.glob("docs/*.ipynb"))
    assert notebooks
    for file in notebooks:
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                for link in written.links("".join(cell["source"])):
                    path, _, anchor = link.partition("#")
                    text = (file.parent / path).read_text(encoding="utf-8")
                    assert not anchor or anchor in written.anchors(text), link
            else:
                assert (cell["outputs"], cell["execution_count"]) == ([], None), file


@pytest.mark.slow
def test_the_table_of_networks_is_the_output_of_the_command():
    """GFLOP within 2 %: versions of XLA count some operations differently."""
    text = text_of("docs/networks.md")

    def cells(text):
        return [line.split(" | ") for line in text.splitlines() if line.startswith("|")]

    printed = cells(models.table())
    start = text.index("| name | network |")
    written_ = cells(text[start : text.index("\n\n", start)])
    gflop = printed[0].index("GFLOP")
    for now, before in zip(printed[2:], written_[2:], strict=True):
        assert float(now.pop(gflop)) == pytest.approx(float(before.pop(gflop)), rel=0.02)
    assert printed == written_


def test_the_files_of_the_layout_exist(root):
    layout = text_of("docs/architecture.md")
    named = re.findall(r"\b[a-z_]+\.py\b", layout)
    assert len(named) > 10
    for name in named:
        assert any(root.glob(f"*/{name}")) or any(root.glob(f"*/*/{name}")), name


def test_the_pictures_of_metrics_can_be_drawn(root, tmp_path):
    drawn = runpy.run_path(str(root / "docs" / "pictures" / "metrics.py"))
    for name in drawn["PICTURES"]:
        drawn[name](tmp_path)
        linked = f"](pictures/{name}.png)"
        assert linked in text_of("docs/metrics.md") and (tmp_path / f"{name}.png").exists()
        assert (root / "docs" / "pictures" / f"{name}.png").exists()

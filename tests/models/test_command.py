"""The command that lists networks and their arrays; test_readme.py has its table."""

import json
import sys

import pytest

from prnet_jax.models import __main__ as models


@pytest.fixture
def printed(monkeypatch, capsys):
    """A function: the exit code of the command and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["models", *map(str, arguments)])
        return models.main(), capsys.readouterr()

    return run


def test_every_array_of_a_network_or_of_a_run(printed, finished_run):
    code, said = printed("unetpp")
    assert code == 0 and "Total: 9,162,753 -- " in said.out
    summary = json.loads((finished_run / "test" / "summary.json").read_text())
    code, said = printed(finished_run)
    assert code == 0 and f"Total: {summary['parameters']:,} -- " in said.out
    assert "| outc.conv/bias " in said.out and "| outc.conv/kernel " in said.out


def test_neither_a_network_nor_a_run(printed, tmp_path):
    assert printed("resnet")[0] == 2
    code, said = printed(tmp_path)
    assert code == 2 and said.err.startswith(f"error: {tmp_path} is not a run directory")

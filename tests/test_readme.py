"""The README agrees with the code."""

import re

import pytest

from prnet_jax.models import __main__ as models


@pytest.mark.slow
def test_the_table_of_networks_is_the_output_of_the_command(root):
    """GFLOP within 2 %: versions of XLA count some operations differently."""
    readme = (root / "README.md").read_text(encoding="utf-8")

    def cells(text):
        return [line.split(" | ") for line in text.splitlines() if line.startswith("|")]

    printed = cells(models.table())
    start = readme.index("| name | network |")
    written = cells(readme[start : readme.index("\n\n", start)])
    gflop = printed[0].index("GFLOP")
    for now, before in zip(printed[2:], written[2:], strict=True):
        assert float(now.pop(gflop)) == pytest.approx(float(before.pop(gflop)), rel=0.02)
    assert printed == written


def test_its_paths_exist(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert len(links) > 5
    for link in links:
        assert (root / link).exists(), link
    layout = readme[readme.index("## Layout") :]
    named = re.findall(r"\b[a-z_]+\.py\b", layout[: layout.index("## Licence")])
    for name in named:
        assert any(root.glob(f"*/{name}")) or any(root.glob(f"*/*/{name}")), name

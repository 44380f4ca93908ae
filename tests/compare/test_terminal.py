"""What compare prints, for a terminal of 80 columns."""

import pathlib
import re

import numpy as np
import pytest

from prnet_jax.compare.__main__ import main
from tests.compare.folders import masks, probs, write_run


def printed(capsys, out, *runs):
    assert main([*map(str, runs), "--out", str(out)]) == 0
    return capsys.readouterr().out


def test_means_spread_best_and_the_papers_rows(tmp_path, capsys):
    runs = [
        write_run(tmp_path / f"{network}_{seed}", network, seed, quality, overlays=False)
        for network, seed, quality in (("prnet", 0, 0.85), ("prnet", 1, 0.8), ("unet", 0, 0.6))
    ]
    lines = printed(capsys, tmp_path / "out", *runs).splitlines()
    table = (tmp_path / "out/table.md").read_text(encoding="utf-8").splitlines()
    heads, unet, prnet = (
        [re.sub(r"[*]|</?ins>", "", cell).strip() for cell in line.strip("|").split("|")]
        for line in (table[0], *table[2:4])
    )
    shown = "network, IoU %, HD px, HD mm, DSC %, MAE binary, ACC %, SPE %".split(", ")
    unet, prnet = ([cells[heads.index(head)] for head in shown] for cells in (unet, prnet))
    assert lines[0] == "Test split of finding_lungs (mask 'mask') at 32x32, 12 images"
    assert lines[2].split() == " ".join(shown).split()
    assert lines[3].split() == unet
    # "PR-Net (2 seeds)", then "mean ± sd" of each metric, "-" where there is no spacing.
    means, spreads = zip(*(cell.partition(" ± ")[::2] for cell in prnet[1:]), strict=True)
    assert [cell.rstrip("*") for cell in lines[4].split()] == ["PR-Net", *means]
    assert lines[4].count("*") == 6 and "*" not in lines[3]
    assert lines[5].split() == ["2", "seeds", *(f"±{spread}" for spread in spreads if spread)]
    assert lines[6].split() == "paper: UNet 97.16 - 5.62 98.55 0.0061 99.38 99.71".split()
    assert lines[8] == "* best, ± standard deviation over the seeds"
    assert lines[10].startswith("DSC % minus that of PR-Net (95 % interval, p by Holm")
    assert re.fullmatch(r"  UNet -\d+\.\d{3} \(-\d+\.\d{3} to -\d+\.\d{3}\) p 0\.03", lines[11])


def test_it_ends_with_the_page_and_how_to_open_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = write_run(tmp_path / "a", overlays=False)
    lines = printed(capsys, pathlib.Path("a b"), run).splitlines()
    assert (
        lines[-2] == "page        a b/report.html, with plots and pictures. Open it in a browser:"
    )
    assert lines[-1].strip() == (tmp_path / "a b/report.html").as_uri()


def test_nothing_is_wider_than_the_terminal(tmp_path, capsys, monkeypatch):
    """Rows with long labels are numbered, and the numbers explained."""
    monkeypatch.chdir(tmp_path)
    target = np.ones_like(masks())
    wide = {"prob": target.astype(np.float32), "target": target}  # scores of 100.00
    batches = {f"setting_{i}": i for i in range(4)}
    runs = [
        write_run(pathlib.Path(name), network, seed, overlays=False, spacing_mm=(9, 9), **more)
        for name, network, seed, more in (
            ("a", "attention_unet", 0, wide | {"config": batches}),
            ("b", "attention_unet", 1, wide | {"config": batches}),
            ("c", "attention_unet", 0, {"config": {"setting_0": 5}, "quality": 0.6}),
            ("d", "n" * 70, 0, {"config": {"init_from": "/a/long/path" * 9}}),
        )
    ]
    text = printed(capsys, pathlib.Path("out"), *runs)
    assert max(map(len, text.splitlines()[:-1])) <= 80
    assert re.search(r"^network +IoU %.* SPE %$", text, re.M)  # in one line, and so are the rows
    for name in ("Attention-UNet [1]", "Attention-UNet [2]", f"{'n' * 18} [3]"):
        assert re.search(rf"^{re.escape(name)}( +[\d.*-]+){{7}}$", text, re.M)
        assert re.search(rf"^{re.escape(name)} is\b", text, re.M)
    assert "setting_1: 1 in Attention-UNet [1]; not recorded in the others" in text


@pytest.mark.parametrize("network", ["\x1b[31mnet", "net\u202e", "a\nb"])
def test_a_name_cannot_command_the_terminal(tmp_path, capsys, network):
    runs = [write_run(tmp_path / "a", network, overlays=False), write_run(tmp_path / "b", "unet")]
    text = printed(capsys, tmp_path / "out", *runs)
    assert network not in text and re.search(r"^(\?\[31mnet|net\?|a\?b) ", text, re.M)


def test_missed_images_and_false_alarms_are_counted(tmp_path, capsys):
    target, prob = masks(), probs(0.9, 0)
    target[0], prob[1:3] = False, 0
    runs = [
        write_run(tmp_path / "a", "prnet", prob=prob, target=target, overlays=False),
        write_run(
            tmp_path / "b", "unet", prob=target * np.float32(1), target=target, overlays=False
        ),
    ]
    text = printed(capsys, tmp_path / "out", *runs)
    assert "\nimages missed: 2 by PR-Net\nfalse alarms: 1 by PR-Net\n" in text

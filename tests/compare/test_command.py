import csv
import dataclasses
import html.parser
import json
import math
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from scipy import stats

from prnet_jax.compare.__main__ import main
from prnet_jax.compare.page import largest_differences, p_text, signed
from prnet_jax.compare.rows import Row, group
from prnet_jax.compare.runs import read_runs
from prnet_jax.compare.statistics import compare_to
from prnet_jax.compare.tables import marks
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.metrics.statistics import bootstrap_interval
from tests.compare.folders import masks, probs, write_run

HOSTILE = "</script><img src=x onerror=alert(1)>|$&_%{}\\^~#[`*"


def row(label, **mean):
    return Row(label, label, [], {}, {}, np.array([]), mean, {}, {}, {})


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_intervals_that_there_are_not():
    """Of no scores, of infinite ones, and where seeds scored different images."""
    patients = np.array(["a", "b", "c"])
    seeds = [
        {"dsc": np.array([0.9, 0.8, 0.7]), "hd_px": np.array([1.0, np.inf, 2.0])},
        {"dsc": np.array([0.8, np.nan, 0.6]), "hd_px": np.array([1.0, np.inf, 2.0])},
    ]

    def made(*chosen):
        runs = [types.SimpleNamespace(scores=scores, patients=patients) for scores in chosen]
        scores = {k: np.mean([s[k] for s in chosen], axis=0) for k in chosen[0]}
        return dataclasses.replace(row("a"), runs=runs, scores=scores)

    assert made({}).ci95 == {} and made(*seeds).ci95 == {}
    low, high = made(seeds[0]).ci95["dsc"]
    assert (low, high) == bootstrap_interval(seeds[0]["dsc"], patients)
    assert made(seeds[0]).ci95.keys() == {"dsc"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """PR-Net twice, UNet once with pictures, and a network with a hostile name."""
    home = tmp_path_factory.mktemp("runs")
    return [
        write_run(home / "prnet_0", "prnet", 0, 0.85, overlays=False),
        write_run(home / "prnet_1", "prnet", 1, 0.8, overlays=False),
        write_run(home / "unet_0", "unet", 0, 0.6),
        write_run(home / "hostile", HOSTILE, 5, 0.7, overlays=False),
    ]


@pytest.fixture(scope="module")
def compared(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new"
    assert main([*map(str, folders), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("iou", [0.7, 0.9, 0.8], ["", "best", "second"]),
        ("hd_px", [3.0, 1.0, 2.0], ["", "best", "second"]),
        ("mae", [0.3, 0.1, 0.2], ["", "best", "second"]),
        ("dsc", [0.9, 0.9, 0.8, 0.8, 0.7], ["best", "best", "second", "second", ""]),
        ("dsc", [0.90001, 0.90002], ["second", "best"]),  # equal when rounded
        ("dsc", [math.nan, 0.5, 0.4], ["", "best", "second"]),
        ("dsc", [math.nan, 0.5], ["", ""]),
        ("dsc", [0.5], [""]),
    ],
)
def test_marks(name, values, expected):
    rows = [row(str(i), **{name: v}) for i, v in enumerate(values)]
    assert marks(rows, METRIC_NAMED[name]) == expected


def test_markdown(folders, compared):
    text = (compared / "table.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    heads = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert heads == [
        *("network", "IoU %", "IoU 95 %", "HD px", "HD mm", "DSC %", "DSC 95 %"),
        *("MAE", "MAE binary", "ACC %", "SPE %"),
        *("images", "missed", "false alarms", "both empty"),
    ]
    unet, prnet = lines[2], lines[3]
    summary = json.loads((folders[2] / "test/summary.json").read_text())
    assert f" {100 * summary['metrics']['dsc']['mean']:.2f} |" in unet
    assert prnet.startswith("| PR-Net (2 seeds) ")
    means = [
        json.loads((f / "test/summary.json").read_text())["metrics"]["dsc"]["mean"]
        for f in folders[:2]
    ]
    sd = abs(means[0] - means[1]) / math.sqrt(2)
    assert f"**{100 * np.mean(means):.2f} ± {100 * sd:.2f}**" in prnet
    assert "<ins>" in lines[4] and "**" not in lines[4].replace("\\*", "")
    assert "<img" not in text and len(re.findall(r"(?<!\\)\|", lines[4])) == 16
    # The paper's rows are better, but not ranked.
    assert re.match(r"\| paper: UNet +\|.* 97.16 \|.* 5.62 \|", lines[5])
    assert re.match(r"\| paper: PR-Net +\|.* 97.71 \|.* 5.07 \|", lines[6])
    assert not any(mark in line for line in lines[5:7] for mark in ("**", "<ins>"))
    assert "27 images of its own split, not the same data" in text


def test_csv(folders, compared):
    lines = read_csv(compared / "table.csv")
    assert [line["label"] for line in lines] == ["UNet", "PR-Net", HOSTILE, "UNet", "PR-Net"]
    assert [line["source"] for line in lines] == ["measured"] * 3 + ["paper"] * 2
    prnet = lines[1]
    assert (prnet["seeds"], prnet["n_seeds"], prnet["dsc_n"]) == ("0 1", "2", "12")
    scores = [
        [float(line["dsc"]) for line in read_csv(f / "test/per_image.csv")] for f in folders[:2]
    ]
    assert float(prnet["dsc_mean"]) == pytest.approx(np.mean(scores), abs=1e-12)
    spread = np.std(np.mean(scores, axis=1), ddof=1)
    assert float(prnet["dsc_sd_over_seeds"]) == pytest.approx(spread, abs=1e-12)
    spread = np.std(np.mean(scores, axis=0), ddof=1)
    assert float(prnet["dsc_sd_over_images"]) == pytest.approx(spread, abs=1e-12)
    assert lines[0]["dsc_sd_over_seeds"] == ""
    patients = [line["patient_id"] for line in read_csv(folders[0] / "test/per_image.csv")]
    interval = bootstrap_interval(np.mean(scores, axis=0), patients)
    ends = [float(prnet[f"dsc_ci95_{end}"]) for end in ("low", "high")]
    assert ends == pytest.approx(interval, abs=1e-12) and ends[0] < ends[1]
    low, high = (f"{100 * end:.2f}" for end in ends)
    assert f"| {low} to {high} |" in (compared / "table.md").read_text()
    assert "hd_mm_n" not in prnet and lines[4]["hd_mm_mean"] == "5.07"


def test_statistics_equal_scipy(folders, compared):
    """The units are patients, the test is two-sided Wilcoxon, Holm is over the two networks."""
    lines = [r for r in read_csv(compared / "statistics.csv") if r["metric"] == "dsc"]
    assert [line["network"] for line in lines] == ["UNet", HOSTILE]
    scores = [
        np.array([float(line["dsc"]) for line in read_csv(f / "test/per_image.csv")])
        for f in folders
    ]
    reference = (scores[0] + scores[1]) / 2
    p_values = []
    for line, other in zip(lines, scores[2:], strict=True):
        difference = other - reference
        assert float(line["mean_difference"]) == pytest.approx(difference.mean(), abs=1e-12)
        assert float(line["ci95_low"]) < difference.mean() < float(line["ci95_high"])
        p_values.append(stats.wilcoxon(difference.reshape(6, 2).mean(axis=1)).pvalue)
        assert float(line["p_value"]) == pytest.approx(p_values[-1], rel=1e-9)
        assert (line["n_images"], line["n_units"], line["better"]) == ("12", "6", "reference")
        assert (line["reference"], float(line["effect_size"])) == ("PR-Net", -1)
    adjusted = sorted(p_values)
    adjusted = [min(1, 2 * adjusted[0]), max(2 * adjusted[0], adjusted[1])]
    assert sorted(float(line["p_holm"]) for line in lines) == pytest.approx(adjusted)


def test_better_knows_the_direction(tmp_path):
    """Smaller distances and larger overlaps are better."""
    runs = [
        write_run(tmp_path / "good", "unet", 0, 0.9, overlays=False),
        write_run(tmp_path / "bad", "prnet", 0, 0.5, overlays=False),
    ]
    good, bad = group(read_runs(runs))
    metrics = [METRIC_NAMED[name] for name in ("hd_px", "iou", "brier")]
    found = compare_to(bad, [good, bad], metrics)
    assert [r["better"] for r in found] == ["network"] * 3
    assert [r["mean_difference"] > 0 for r in found] == [False, True, False]


def test_counts_of_missed_and_false(tmp_path, capsys):
    """They are means over the seeds."""
    nothing = np.zeros_like(probs(0.8, 0))
    half = probs(0.8, 0)
    half[:6] = 0
    runs = [
        write_run(tmp_path / "a", "prnet", 0, prob=half, overlays=False),
        write_run(tmp_path / "b", "prnet", 1, prob=nothing, overlays=False),
        write_run(tmp_path / "c", "unet", 0, 0.8, overlays=False),
    ]
    assert main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    lines = {line["label"]: line for line in read_csv(tmp_path / "out/table.csv")[:2]}
    assert lines["PR-Net"]["missed"] == "9.0" and lines["UNet"]["missed"] == "0.0"
    table = (tmp_path / "out/table.md").read_text(encoding="utf-8").splitlines()
    assert re.search(r"\| +12 \| +9 \| +0 \| +0 \|$", table[3])
    assert "\nimages missed: 9 by PR-Net\n" in capsys.readouterr().out


def test_means_of_other_images_are_pointed_out(tmp_path, capsys):
    runs = [
        write_run(tmp_path / name, name, overlays=False, prob=masks().astype(np.float32) * scale)
        for name, scale in (("prnet", 1.0), ("unet", 0.9))
    ]
    path = runs[1] / "test/per_image.csv"
    lines = path.read_text().splitlines()
    column = lines[0].split(",").index("hd_px")
    cells = lines[1].split(",")
    cells[column] = ""
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    assert main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    warning = "same number of images in HD px (numbers in table.csv)"
    assert warning in (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert warning in " ".join(capsys.readouterr().out.split())


def test_one_run_alone(tmp_path, capsys):
    run = write_run(tmp_path / "a", overlays=False)
    out = tmp_path / "out"
    assert main([str(run), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "none: there is only one row" in printed and "**" not in printed
    assert read_csv(out / "statistics.csv") == []
    assert "nothing to test it against" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("flags", "rows"), [([], 0), (["--paper"], 1)])
def test_the_papers_rows_for_other_data(tmp_path, flags, rows, capsys):
    run = write_run(tmp_path / "a", overlays=False, dataset="lung_phantom", spacing_mm=(0.7, 0.7))
    assert main([str(run), "--out", str(tmp_path / "out"), *flags]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\npaper: ") == rows and printed.count("not comparable") == rows
    text = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert text.count("| paper: ") == rows and text.count("not comparable") == rows
    assert "HD mm" in printed and "HD mm" in text


def test_threshold_and_augmentation_are_columns(tmp_path):
    runs = [
        write_run(tmp_path / "a", "prnet", overlays=False, threshold_from="validation"),
        write_run(tmp_path / "b", "unet", overlays=False, tta="flips"),
    ]
    assert main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    lines = text[text.index("| network") :].splitlines()
    assert re.match(r"\| network +\| +threshold \| +TTA \|", lines[0])
    assert re.match(r"\| UNet +\| +0.5 \| +flips \|", lines[2])
    assert re.match(r"\| PR-Net +\| +0.5 \(validation\) \| +none \|", lines[3])


def test_refusals_are_one_line_and_write_nothing(tmp_path, capsys):
    a = write_run(tmp_path / "a", overlays=False)
    b = write_run(tmp_path / "b", "unet", overlays=False, image_size=64)
    out = tmp_path / "out"
    assert main([str(a), str(b), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "image_size is 32 and 64" in captured.err and not out.exists()

    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert main([str(a), "--out", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["mine.txt"]

    assert main([str(a), "--out", str(tmp_path / "new"), "--reference", "vnet"]) == 2
    assert "names no row" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert main([str(a), "--out", str(a / "config.json" / "x")]) == 2
    assert "is not a folder that you can write to" in capsys.readouterr().err


def test_a_damaged_overlay(tmp_path, capsys):
    run = write_run(tmp_path / "a")
    next((run / "test/overlays").iterdir()).write_bytes(b"not a picture")
    assert main([str(run), "--out", str(tmp_path / "out")]) == 2
    assert "is not an overlay that this program wrote" in capsys.readouterr().err


def test_page_is_complete_and_safe(compared):
    """It loads nothing, text from runs is no markup, and its data can be parsed."""
    text = (compared / "report.html").read_text(encoding="utf-8")
    tags = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(text)
    assert {"table", "section", "script", "style"} <= {tag for tag, _ in tags}
    assert not {"img", "link", "iframe", "object"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        assert "src" not in attributes and attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes), tag
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    data = json.loads(block[1])
    assert [r["label"] for r in data["rows"]] == ["UNet", "PR-Net (2 seeds)", HOSTILE]
    assert [r["reference"] for r in data["rows"]] == [False, True, False]
    assert len(data["embedded"]) == 12 and len(data["rows"][0]["pictures"]) == 12
    assert data["rows"][0]["pictures"]["0"].startswith("data:image/")
    assert len(text) < 1_000_000


def test_largest_differences_come_first(folders):
    rows = group(read_runs(folders[:3]))
    spread = np.abs(rows[0].scores["dsc"] - rows[1].scores["dsc"])
    chosen = largest_differences(rows, 4)
    assert chosen == np.argsort(-spread, kind="stable")[:4].tolist()


def test_latex_compiles(compared, tmp_path):
    text = (compared / "table.tex").read_text(encoding="utf-8")
    assert r"\textbf{" in text and r"\underline{" in text and r"IoU \%" in text
    body = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")]
    for line in body.splitlines():
        if "&" in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 14
    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX here")
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\begin{document}\n" + text + "\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]


def test_small_words():
    assert [p_text(p) for p in (0.2, 0.0123, 0.00123, 0.00001, math.nan)] == [
        *("0.20", "0.01", "0.0012", "<0.0001", "-")
    ]
    assert signed(METRIC_NAMED["dsc"], -0.001234) == "-0.123"
    assert signed(METRIC_NAMED["hd_px"], math.nan) == "-"


def test_help_imports_nothing_that_takes_time(root):
    code = (
        "import sys\n"
        "from prnet_jax.compare.__main__ import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n"
        "    slow = {'jax', 'numpy', 'scipy', 'matplotlib', 'PIL', 'clu', 'ml_collections'}\n"
        "    print(slow & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python -m prnet_jax.compare"), done.stderr
    assert done.stdout.splitlines()[-1] == "set()", done.stderr

"""The tables of the documentation are made from the committed results."""

import collections
import csv
import html
import json
import math
import re
import runpy
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from prnet_jax.config import make_config
from prnet_jax.errors import InputError
from prnet_jax.evaluate.masks import MaskWriter
from prnet_jax.metrics.names import METRIC_NAMED
from prnet_jax.paper import TABLE_1
from prnet_jax.run.directory import open_run
from prnet_jax.run.files import csv_text
from tests import written
from tests.compare.folders import IMAGES, change_json, masks, probs, write_run
from tests.data.made_up_records import MadeUp

K = 3


@pytest.fixture(scope="module")
def tables():
    return runpy.run_path(str(written.ROOT / "docs" / "results" / "tables.py"))


@pytest.fixture
def fold(tmp_path):
    """Writes a fold as launch/table1.sh --results copies it."""

    def make(number, network="prnet", seed=0, quality=0.8, **summary):
        part = slice((number - 1) * IMAGES // K, number * IMAGES // K)
        run = write_run(
            tmp_path / "run",
            network,
            seed,
            prob=probs(quality, seed)[part],
            target=masks()[part],
            ids=[f"slice_{i:02d}" for i in range(IMAGES)][part],
            patients=[f"patient_{i // 2}" for i in range(IMAGES)][part],
            overlays=False,
            config={"dataset": {"name": "finding_lungs", "options": {"fold": f"{number}/{K}"}}},
            records=f"finding_lungs/fold{number}of{K}-1a2b3c4d/1.1.0",
            split_manifest_sha256=f"{number}" * 64,
            **summary,
        )
        to = tmp_path / "results" / "small" / f"{network}_{seed}_fold{number}of{K}"
        (to / "test_native").mkdir(parents=True)
        for name in ("summary.json", "per_image.csv"):
            shutil.copy(run / "test" / name, to / "test_native" / name)
        shutil.copy(run / "config.json", to)
        shutil.rmtree(run)
        return to

    return make


def mean(folders, name="dsc"):
    """In per cent, over the images of several folds."""
    found = [json.loads((f / "test_native/summary.json").read_text()) for f in folders]
    scores = [(s["metrics"][name]["mean"], s["counts"]["n_images"]) for s in found]
    return f"{100 * sum(m * n for m, n in scores) / sum(n for _, n in scores):.2f}"


def test_no_results_yet(tables, tmp_path):
    assert tables["table"](tmp_path / "small") == "No results yet.\n"


def test_complete_networks_and_a_row_without_a_network(tables, fold, tmp_path):
    prnet = [fold(n, parameters=1234, cost={"gflop": 2.5}) for n in (1, 2, 3)]
    unet = [fold(n, "unet", quality=0.6) for n in (1, 2, 3)]
    other = write_run(tmp_path / "all", "HU threshold", overlays=False, split="all", quality=0.7)
    (other / "config.json").unlink()
    change_json(other / "test" / "summary.json", predictions="masks", seed=None)
    (other / "test").rename(tmp_path / "results" / "small" / "threshold")
    text = tables["table"](tmp_path / "results" / "small")
    assert "not complete" not in text and "12 images" in text
    for network, folders in (("PR-Net", prnet), ("UNet", unet)):
        line = re.search(rf"^\| {network} \({K} folds\) .*$", text, re.MULTILINE)[0]
        assert mean(folders) in line and mean(folders, "iou") in line
    assert re.search(r"^\| HU threshold ", text, re.MULTILINE)
    assert re.search(r"^\| paper: PR-Net .* 97.71 ", text, re.MULTILINE)
    assert "| minus PR-Net" in text and "1,234" in text and " 2.50 " in text
    brief = tables["table"](tmp_path / "results" / "small", brief=True)
    assert mean(prnet) in brief and "1,234" not in brief and "minus" not in brief


def test_spread_agreement_and_the_page(tables, fold, tmp_path):
    for number in (1, 2, 3):
        for network, quality in (("prnet", 0.8), ("unet", 0.6)):
            for seed in (0, 1):
                fold(number, network, seed, quality, parameters=9, cost={"gflop": quality})
    folder = tmp_path / "results" / "small"
    lines = ["first,second,what,dsc_mean,n_images", "PR-Net,UNet,networks,0.91234,12"]
    (folder / "agreement.csv").write_text("\n".join(lines) + "\n")
    text = tables["table"](folder)
    found = re.search(r"Standard deviation of the mean DSC, % points: (.*)\.", text)[1]
    assert re.fullmatch(
        r"\d+\.\d{3} between networks; \d+\.\d{3} between networks by chance, if none were better; "
        r"\d+\.\d{3} of a network from fold to fold, beyond the folds' own; "
        r"\d+\.\d{3} between seeds of a network\. F-test that none of the 2 networks is better: "
        r"p (= \d\.\d+|<0\.0001)",
        found,
    )
    assert "| PR-Net | UNet | 91.23 | 12 |" in re.sub(" +", " ", text)
    tables["draw"](folder)
    assert (folder / "cost.png").read_bytes()[:4] == b"\x89PNG"
    assert "PR-Net" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_pages_show_the_tables(tables):
    """Otherwise: python docs/results/tables.py"""
    results = written.ROOT / "docs" / "results"
    pages = sorted(results.glob("*/report.html"))
    linked = {m for p in tables["FILES"] for m in tables["_LINKED"].findall(p.read_text())}
    assert {page.parent.name for page in pages} == linked
    for page in pages:
        text = html.unescape(page.read_text(encoding="utf-8"))
        assert str(written.ROOT) not in text
        (main,) = re.findall(r'<table id="table-main".*?</table>', text, re.DOTALL)
        shown = [re.sub("<[^>]+>", " ", row).split() for row in re.findall("<tr.*?</tr>", main)]
        lines = tables["table"](page.parent).split("\n\n| minus")[0].splitlines()
        cells = [re.sub(r"[|*]|</?ins>", " ", line).split() for line in lines if line[:1] == "|"]
        assert shown[1:] == cells[2:]


def test_some_folds(tables, fold, tmp_path):
    """They are named, have their own means, and are compared with nothing."""
    whole = [fold(n) for n in (1, 2, 3)]
    some = [fold(n, "unet", quality=0.6) for n in (1, 3)]
    text = tables["table"](tmp_path / "results" / "small")
    line = re.search(r"^\| UNet, seed 0 .*$", text, re.MULTILINE)[0]
    assert "| 1, 3 of 3 |" in re.sub(" +", " ", line) and mean(some) in line and " 8 |" in line
    assert mean(whole) in text and "minus" not in text
    shutil.rmtree(tmp_path / "results" / "small" / whole[0].name)
    text = tables["table"](tmp_path / "results" / "small")
    assert "2, 3 of 3" in text and "12 images" not in text


def test_networks_with_the_same_folds_are_compared(tables, fold, tmp_path):
    for number in (1, 3):
        fold(number)
        fold(number, "unet", quality=0.6)
    text = tables["table"](tmp_path / "results" / "small")
    assert "not complete" not in text and "8 images" in text and "minus PR-Net" in text


def test_results_that_do_not_belong_together(tables, fold, tmp_path):
    for number in (1, 2, 3):
        fold(number)
    change_json(fold(1, "unet") / "test_native" / "summary.json", image_size=64)
    fold(2, "unet")
    fold(3, "unet")
    with pytest.raises(InputError, match="image_size"):
        tables["table"](tmp_path / "results" / "small")


def test_documents_are_filled_between_their_marks(tables, fold, tmp_path):
    folders = [fold(n) for n in (1, 2, 3)]
    marked = "a\n<!-- results: small -->\nstale\n<!-- end of results -->\nb\n"
    brief = "<!-- results: small brief -->\n<!-- end of results -->\n"
    now = tables["filled"](marked + brief, tmp_path / "results")
    assert now.startswith("a\n<!-- results: small -->\n\n|") and "stale" not in now
    assert now.count(mean(folders)) == 2 and "\nb\n<!-- results: small brief -->\n\n|" in now
    assert tables["filled"](now, tmp_path / "results") == now


def test_the_documents_say_what_the_results_say(tables):
    """Otherwise: python docs/results/tables.py"""
    marked = 0
    for path in tables["FILES"]:
        text = path.read_text(encoding="utf-8")
        assert tables["filled"](text) == text, f"{path.name}: run python docs/results/tables.py"
        marked += len(re.findall(r"<!-- results: ", text))
        assert text.count("<!-- end of results -->") == text.count("<!-- results: ")
    assert marked


def per_image(protocol):
    """{network: the scores of its test images}, of all five folds and the seed 0."""
    found = collections.defaultdict(list)
    for path in (written.ROOT / "docs" / "results" / protocol).glob("*_0_fold?of5"):
        with (path / "test_native" / "per_image.csv").open(newline="") as file:
            found[path.name.split("_0_")[0]] += csv.DictReader(file)
    return found


@pytest.mark.parametrize(
    "name, of_pixels", [("README.md", " of {}"), ("README.zh.md", "（{} 像素图像）")]
)
def test_the_readmes_say_what_the_results_say(name, of_pixels):
    text = (written.ROOT / name).read_text(encoding="utf-8")
    path = written.ROOT / "docs" / "results" / "lungs_small" / "summary.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    names = ("iou", "dsc", "acc", "spe", "mae_binary")
    ours = [
        " ± ".join(METRIC_NAMED[name].text(metrics[name][of]) for of in ("mean", "sd"))
        for name in (*names, "hd_px")
    ]
    paper = [METRIC_NAMED[name].text(TABLE_1["prnet"][name]) for name in (*names, "hd_mm")]
    assert f" | {' | '.join(ours)} px{of_pixels.format(128)} |" in text
    of_protocol = {name: per_image(name) for name in ("lungs_256", "table1_small", "table1_100")}
    for protocol, network in (("lungs_256", "prnet-best"), ("table1_100", "prnet")):
        folds = of_protocol[protocol][network]
        assert len(folds) == 264
        cells = []
        for name in (*names, "hd_px"):
            scores = [float(row[name]) for row in folds]
            of = (
                METRIC_NAMED[name].text(np.mean(scores)),
                METRIC_NAMED[name].text(np.std(scores, ddof=1)),
            )
            cells.append(" ± ".join(of))
        assert f" | {' | '.join(cells)} px{of_pixels.format(512)} |" in text
    assert f" | {' | '.join(paper)} mm |" in text
    for protocol, number in (("table1_small", 7), ("table1_100", 5)):
        means = {
            network: 100 * np.mean([float(row["dsc"]) for row in rows])
            for network, rows in of_protocol[protocol].items()
            if network != "infnet"
        }
        assert len(means) == number
        distance = max(means.values()) - min(means.values())
        assert f"{math.ceil(100 * distance) / 100:.2f} %" in text
    order = sorted(means, key=means.get)  # at full width
    assert {*order[-2:]} == {"unetpp", "awsnet"} and {*order[:2]} == {"prnet", "anamnet"}


# ---- the card of the weights


@pytest.mark.parametrize(
    "column, folder", enumerate(["table1_small/lungs_scores", "weights/lungs_flips"])
)
def test_the_card_says_what_the_results_say(column, folder):
    folder = written.ROOT / "docs" / "results" / folder
    card = (written.ROOT / "prnet_jax" / "weights" / "lungs.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    card_of = {row[0]: row[1:] for row in rows}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    with (folder / "per_image.csv").open(encoding="utf-8", newline="") as file:
        dsc = {row["id"]: 100 * float(row["dsc"]) for row in csv.DictReader(file)}
    assert len(dsc) == 264

    def interval(name):
        return "{:.2f}–{:.2f}".format(
            *(100 * summary["metrics"][name][end] for end in ("ci95_low", "ci95_high"))
        )

    scores = list(dsc.values())
    lowest = min(score for name, score in dsc.items() if not name.startswith("ID_0079"))
    real = card_of["the 264 real slices: mean DSC %, 95 % interval"][column]
    assert real == f"{np.mean(scores):.2f}, {interval('dsc')}"
    spread = card_of["median; 5th percentile; lowest but `ID_0079`"][column]
    assert spread == f"{np.median(scores):.2f}; {np.percentile(scores, 5):.2f}; {lowest:.2f}"
    if column == 0:
        for label, name in (("DSC %", "dsc"), ("IoU %", "iou"), ("SEN %", "sen"), ("PPV %", "ppv")):
            of = summary["metrics"][name]
            assert card_of[label] == [
                f"{100 * of['mean']:.2f} ± {100 * of['sd']:.2f}",
                interval(name),
                f"{100 * summary['pooled'][name]:.2f}",
            ]


# ---- nodules


@pytest.fixture(scope="module")
def nodules():
    return runpy.run_path(str(written.ROOT / "docs" / "results" / "nodules.py"))


def test_parts_of_a_mask_that_meet_no_nodule_are_false(nodules):
    target = np.zeros((8, 8), bool)
    target[1:3, 1:3] = True
    mask = np.zeros((8, 8), bool)
    found_and_false = nodules["found_and_false"]
    assert found_and_false(mask, target) == (False, 0)
    mask[5, 5] = mask[6, 6] = True  # touch by a corner: two parts
    assert found_and_false(mask, target) == (False, 2)
    mask[2, 2:5] = True  # reaches the nodule
    assert found_and_false(mask, target) == (True, 2)
    assert found_and_false(mask, np.zeros_like(target)) == (False, 3)


def test_network_beside_readers(nodules):
    """Two slices by hand: on the first reader 3 and on the second nobody but reader 0 marks."""
    square, half, none = np.zeros((4, 4), bool), np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    square[:2, :2] = half[:2, 0] = True
    scores = nodules["Scores"]()
    readers = {"mask": square, "reader_0": square, "reader_1": square, "reader_2": half}
    scores.add("a", "1", 0.9 * square, 0.5, {**readers, "reader_3": none})
    blank = dict.fromkeys(readers, none)
    scores.add("b", "2", 0.7 * half, 0.5, {**blank, "reader_0": half, "reader_3": none})
    with pytest.raises(InputError, match="two folds score a"):
        scores.add("a", "1", 0.9 * square, 0.5, {**readers, "reader_3": none})
    summary = scores.summary()
    two_thirds = 2 * 2 / 6
    network = summary["agreement"]["network with a reader"]
    assert network["both_marked"]["mean"] == pytest.approx((1 + 1 + two_thirds + 1) / 4)
    a, b = (1 + 1 + two_thirds + 0), (1 + 0 + 0 + 0)
    assert network["any_marked"]["mean"] == pytest.approx((a + b) / 8)
    readers = summary["agreement"]["a reader with another"]
    assert readers["both_marked"] == {
        "mean": pytest.approx((1 + 2 * two_thirds) / 3),
        "ci95_low": None,  # of one patient
        "ci95_high": None,
        "n": 3,
    }
    assert summary["agreement"]["network with the consensus"]["both_marked"]["n"] == 1
    others = summary["agreement"]["a reader with two of the other three"]["both_marked"]
    assert (others["mean"], others["n"]) == (pytest.approx(two_thirds), 3)
    assert summary["network_less_readers"]["mean"] == pytest.approx(8 / 9 - 7 / 9)
    assert (summary["slices"], summary["with_nodule"]) == (2, 1)
    assert (summary["missed"], summary["not_found"], summary["false_alarms"]) == (0, 0, 1)
    assert "NaN" not in json.dumps(summary)
    a, b = scores.per_slice()
    assert (a["id"], a["patient_id"], a["network_px"], a["reader_2_px"]) == ("a", "1", 4, 2)
    assert a["dice_network_mask"] == 1 and a["dice_network_reader_3"] == 0
    assert a["dice_reader_0_reader_2"] == pytest.approx(two_thirds, abs=1e-6)
    assert b["dice_network_mask"] == 0 and math.isnan(b["dice_reader_1_reader_3"])
    by_threshold = {row["threshold"]: row for row in scores.detection()}
    assert by_threshold[0.5]["sensitivity"] == 1
    assert by_threshold[0.5]["false_positives_per_slice"] == 0.5
    assert by_threshold[0.8]["false_positives_per_slice"] == 0
    assert by_threshold[0.95]["sensitivity"] == 0


def test_a_mask_beside_the_nodule_has_not_found_it(nodules):
    target, beside = np.zeros((2, 4, 4), bool)
    target[0, 0] = beside[3, 3] = True
    readers = dict.fromkeys(("mask", "reader_0", "reader_1", "reader_2", "reader_3"), target)
    scores = nodules["Scores"]()
    scores.add("a", "1", 0.9 * beside, 0.5, readers)
    scores.add("b", "2", 0.1 * beside, 0.5, readers)
    summary = scores.summary()
    assert (summary["missed"], summary["not_found"], summary["false_alarms"]) == (1, 2, 0)


def test_runs_of_another_kind_are_refused(nodules, tmp_path, monkeypatch):
    configs = {}

    def run(name, dataset="lidc_nodules", **more):
        config = make_config("prnet", "nodules" if dataset == "lidc_nodules" else "")
        config.update(more)
        configs[tmp_path / name] = config
        return tmp_path / name

    globals_ = nodules["configs_of"].__globals__
    monkeypatch.setitem(globals_, "read_run", lambda path: (configs[path], {}))
    a, b = run("a"), run("b")
    configs[b].dataset.options.fold = "2/5"
    assert [c.dataset.options.fold for c in nodules["configs_of"]([a, b])] == ["", "2/5"]
    with pytest.raises(InputError, match="differ in learning_rate: give the folds of one"):
        nodules["configs_of"]([a, run("c", learning_rate=0.5)])
    by_fold = nodules["by_fold"]
    assert by_fold([configs[a], configs[b]]) == {"": {0: 0}, "2/5": {0: 1}}
    with pytest.raises(InputError, match="two runs have fold 2/5 and seed 0"):
        by_fold([configs[b], configs[a], configs[b]])
    c = run("of another seed", seed=1)
    assert by_fold([configs[c], configs[a]]) == {"": {0: 1, 1: 0}}
    with pytest.raises(InputError, match="fold 2/5 lacks seed 1, which other folds have"):
        by_fold([configs[c], configs[a], configs[b]])
    with pytest.raises(InputError, match="expected runs on lidc_nodules"):
        nodules["configs_of"]([run("d", dataset="lung_phantom")])


def test_the_seeds_of_a_fold_are_averaged(nodules, monkeypatch, tmp_path):
    """Two runs that are sure of one half each: neither reaches 0.6 alone, and where both do."""
    left, top = np.zeros((2, 8, 8), bool)
    left[:, :4] = top[:4] = True
    masks = {"mask": left & top, **{f"reader_{i}": left for i in range(4)}}
    sure_of = {tmp_path / "a": left, tmp_path / "b": top}
    for seed, run in enumerate(sure_of):
        config = make_config("prnet", "nodules")
        config.dataset.window_hu, config.threshold, config.seed = (-1000.0, 400.0), 0.6, seed
        open_run(run, config, {"split_manifest_sha256": "cd", "records": "lidc_nodules"})
    asked = []
    fakes = {
        "prnet_jax": types.SimpleNamespace(load=lambda run, flips: asked.append(flips) or run),
        "prepare": lambda *_, **__: MadeUp([(np.zeros((8, 8)), masks)]),
        "predicted": lambda run, *_, native: [(0, 1.0 * sure_of[run])],
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(nodules["main"].__globals__, name, fake)
    out = tmp_path / "out"
    assert nodules["main"]([*map(str, sure_of), "--flips", "--out", str(out)]) == 0
    (row,) = csv.DictReader((out / "per_slice.csv").open())
    assert (row["network_px"], row["mask_px"], row["reader_0_px"]) == ("16", "16", "32")
    assert float(row["dice_network_mask"]) == 1 and asked == [True, True]
    about = json.loads((out / "summary.json").read_text())
    assert (about["seeds"], about["flips"], about["threshold"]) == ([0, 1], True, 0.6)
    # The same folder again, of one of the two
    assert nodules["main"]([str(tmp_path / "b"), "--out", str(out)]) == 0
    assert asked[2:] == [False] and [p.name for p in out.glob("config_*")] == ["config_1.json"]
    (row,) = csv.DictReader((out / "per_slice.csv").open())
    assert row["network_px"] == "32"


def test_the_nodules_table(tables, nodules, tmp_path):
    target, none = np.zeros((2, 4, 4), bool)
    target[:2, :2] = True
    scores = nodules["Scores"]()
    for i in range(4):
        readers = dict.fromkeys(("mask", "reader_0", "reader_1"), target)
        readers |= {"reader_2": none, "reader_3": none}
        scores.add(f"{i}", f"patient {i}", 0.9 * target, 0.5, readers)
    how = {"threshold": 0.2, "seeds": [0, 1], "flips": True}
    (tmp_path / "summary.json").write_text(json.dumps(how | scores.summary()))
    (tmp_path / "detection.csv").write_text(csv_text(scores.detection()))
    # Half of what is not in the lowest bin is 0.2 off, the rest 0.4.
    bins = [(900, 0.0, 0.0), (50, 0.2, 0.4), (50, 0.9, 0.5), (0, "", "")]
    lines = ["pixels,mean_prob,foreground", *(",".join(map(str, row)) for row in bins)]
    (tmp_path / "calibration.csv").write_text("\n".join(lines) + "\n")
    found = tables["table"](tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.splitlines()]
    assert rows[2] == ["network with the consensus", *2 * ["100.00", "100.00 to 100.00", "4"]]
    assert rows[3][1:4] == ["100.00", "100.00 to 100.00", "8"]
    assert rows[3][4:] == ["50.00", "50.00 to 50.00", "16"]  # two of four readers
    assert rows[4][4:] == ["20.00", "20.00 to 20.00", "20"]  # one of the five pairs that mark
    assert rows[5][:4] == ["a reader with two of the other three", "-", "-", "0"]
    assert "4 slices of 4 patients; 4 of them with a nodule" in found
    assert (
        "the mean probability of 2 seeds and of a slice and its mirror images. Threshold 0.2."
        in (found)
    )
    assert "not in the lowest of 4 bins: 0.300." in found
    assert [row[1:] for row in rows[-2:]] == [6 * ["100.0"] + ["0.0"], 7 * ["0.00"]]


def test_majority_by_hand(tmp_path, monkeypatch, capsys):
    """Each network has one pixel wrong that the others have right, and one that all have wrong."""
    target = np.array([[True, True, False, False]])
    (tmp_path / "2d_masks").mkdir()
    for id in ("ID_0", "ID_1", "not_scored"):
        Image.fromarray(target.astype(np.uint8)).save(tmp_path / "2d_masks" / f"{id}.tif")

    def evaluation(name, network, **wrong):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"network": network}))
        kept = MaskWriter()
        for id, places in wrong.items():
            mask = target.copy()
            mask[0, places] ^= True
            kept.add(id, mask)
        kept.write(tmp_path / name / "masks.npz")
        return str(tmp_path / name)

    folders = [
        evaluation("a_1", "a", ID_0=[0, 3]),
        evaluation("a_2", "a", ID_1=[]),  # another fold
        evaluation("b", "b", ID_0=[2, 3], ID_1=[]),
        evaluation("c", "c", ID_0=[1, 3], ID_1=[]),
    ]
    main = runpy.run_path(str(written.ROOT / "docs/results/majority.py"))["main"]

    def lines(*arguments):
        monkeypatch.setattr("sys.argv", ["majority.py", str(tmp_path), *folders, *arguments])
        main()
        return capsys.readouterr().out.splitlines()

    alone = lines("--without", "ID_1")
    assert alone == [
        "a: DSC 50.00 %, IoU 33.33 % of 1",  # of pixels 1 and 3
        "b: DSC 66.67 %, IoU 50.00 % of 1",  # of all four
        "c: DSC 50.00 %, IoU 33.33 % of 1",
        "majority: DSC 80.00 %, IoU 66.67 % of 1",  # of pixels 0, 1 and 3
        "best for each image: DSC 66.67 %, IoU 50.00 % of 1",
        "of the pixels that a network has wrong, all 3 have 50 % wrong",
    ]
    both = lines()
    assert both[0] == "a: DSC 75.00 %, IoU 66.67 % of 2"  # half and all
    assert both[3] == "majority: DSC 90.00 %, IoU 83.33 % of 2" and both[-1] == alone[-1]

    folders.append(evaluation("again", "c", ID_0=[]))
    with pytest.raises(SystemExit):
        lines()
    assert "ID_0 is in two evaluations of a network" in capsys.readouterr().err

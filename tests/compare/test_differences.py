"""What compare says of runs that were not trained and evaluated alike."""

import html
import json
import pathlib

import numpy as np
import pytest

from prnet_jax.compare.__main__ import main
from prnet_jax.compare.differences import HEADING, differences
from prnet_jax.compare.evaluation import Run
from prnet_jax.compare.rows import group
from prnet_jax.compare.runs import read_runs
from prnet_jax.compare.settings import EXEMPT, fill_missing, settings_of
from prnet_jax.config import default_config
from prnet_jax.run.files import flat
from tests.compare.folders import write_json, write_run

COUNTS = {"missed": 0, "false_alarm": 0, "both_empty": 0}


def tree(name, value):
    """{"a.b": 1} as a config: {"a": {"b": 1}}."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def run(network="prnet", config=None, seed=0, epochs=None, trained_on=None, images=None, **summary):
    about = {"network": network, "seed": seed, "threshold": 0.5, "counts": COUNTS}
    return Run(
        folder=pathlib.Path(network),
        summary=about | summary,
        settings=config if config is None else settings_of(config),
        epochs=epochs,
        trained_on=trained_on,
        train_images=images,
        provenance={},
        ids=[],
        patients=[],
        scores={},
        paired={},
        both_empty=np.array([], bool),
        overlays=[],
    )


def rows_of(*runs):
    every = fill_missing([each.settings for each in runs])
    return group([Run(**vars(r) | {"settings": s}) for r, s in zip(runs, every, strict=True)])


def said(*runs):
    """The lines above the table."""
    return [str(difference) for difference in differences(rows_of(*runs))]


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("num_epochs", (100, 30), ("100", "30")),
        ("batch_size", (8, 4), ("8", "4")),
        ("dtype", ("float32", "bfloat16"), ("float32", "bfloat16")),
        ("augment.elastic", (0.0, 0.1), ("0", "0.1")),
        ("loss", ("bce_dice", "infnet"), ("bce_dice", "infnet")),
        ("head_weights", ([], [0.5, 1.0]), ("[]", "[0.5, 1]")),
        ("learning_rate", (0.001, 0.01), ("0.001", "0.01")),
        ("early_stopping_epochs", (0, 10), ("0", "10")),
        ("init_from", (None, "runs/before"), ("none", "runs/before")),
        ("dataset.resize", ("stretch", "pad"), ("stretch", "pad")),
        ("dataset.options.fold", ("1/5", "2/5"), ("1/5", "2/5")),
        ("a_field_of_tomorrow", (1, 2), ("1", "2")),
    ],
)
def test_each_setting_is_named_with_its_values(name, values, shown):
    unet, prnet = (tree(name, value) | {"seed": 3} for value in values)
    line = f"{name}: {shown[0]} in UNet; {shown[1]} in PR-Net"
    assert said(run("prnet", prnet), run("unet", unet)) == [line]
    assert said(run("prnet", prnet), run("unet", prnet)) == []


def test_what_counts_is_every_field_but_these():
    fields = flat(json.loads(default_config("prnet").to_json()))
    assert set(fields) > EXEMPT - {"init_other_patients"}
    for name in EXEMPT:
        assert said(run("prnet", tree(name, 1)), run("unet", tree(name, 2))) == []
    for name in fields.keys() - EXEMPT:
        expected = 0 if name.startswith("model.") else 1
        assert len(said(run("prnet", tree(name, 1)), run("unet", tree(name, 2)))) == expected, name


def test_the_value_of_most_rows_is_that_of_the_others():
    runs = [run(name, {"batch_size": 8}) for name in ("unet", "unetpp", "awsnet")]
    assert said(*runs, run("prnet", {"batch_size": 4})) == [
        "batch_size: 4 in PR-Net; 8 in the others"
    ]
    runs += [run(name, {"batch_size": 4}) for name in ("prnet", "infnet", "anamnet")]
    assert said(*runs) == ["batch_size: 8 in UNet, UNet++, AwsNet; 4 in AnamNet, Inf-Net, PR-Net"]


@pytest.mark.parametrize(
    ("name", "before", "other"),
    [
        ("dataset.resize", "stretch", "pad"),
        ("dataset.soft_mask", False, True),
        ("init_from", None, "runs/before"),
        ("loss", "bce_dice", "infnet"),
        ("head_weights", [], [1.0]),
        ("augment.tilt", 0.0, 0.5),
        ("dataset.options.fold", "", "1/5"),
    ],
)
def test_a_field_that_older_runs_lack_has_its_meaning(name, before, other):
    old = {"dataset": {"name": "image_folder", "options": {}}}
    new = json.loads(json.dumps(old))

    def set_to(value):
        *folders, last = name.split(".")
        place = new
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
        return new

    assert said(run("unet", old), run("prnet", set_to(before))) == []
    rows = rows_of(run("prnet", old), run("prnet", set_to(before), seed=1))
    assert [len(row.runs) for row in rows] == [2]
    (line,) = said(run("unet", old), run("prnet", set_to(other)))
    assert line.startswith(f"{name}: ") and "not recorded" not in line


def test_what_is_not_recorded_is_said():
    old, new = run("unet", {}), run("prnet", {"a_field_of_tomorrow": 1})
    assert said(old, new) == ["a_field_of_tomorrow: not recorded in UNet; 1 in PR-Net"]
    options = {"dataset": {"name": "of_yesterday", "options": {"fold": "1/5"}}}
    old = {"dataset": {"name": "of_yesterday", "options": {}}}
    assert said(run("unet", old), run("prnet", options)) == [
        "dataset.options.fold: not recorded in UNet; 1/5 in PR-Net"
    ]
    nothing = run("unet", None)
    assert said(nothing, run("prnet", {"batch_size": 8})) == [
        "config.json: not recorded in UNet; recorded in PR-Net"
    ]
    others = [run("prnet", {"batch_size": 8}), run("unetpp", {"batch_size": 4})]
    assert said(nothing, *others)[1:] == ["batch_size: 4 in UNet++; 8 in PR-Net"]
    assert said(nothing, run("prnet", None)) == ["config.json: not recorded in all"]


def test_how_long_runs_were_trained():
    def of(*epochs, early=0):
        config = {"num_epochs": 100, "early_stopping_epochs": early}
        unet, *prnet = epochs
        runs = [run("prnet", config, seed=i, epochs=number) for i, number in enumerate(prnet)]
        return said(run("unet", config, epochs=unet), *runs)

    assert of(100, 100, 100) == [] and of(60, 60, 60) == [] and of(None, None, None) == []
    assert of(100, 12, 100) == ["epochs run: 100 in UNet; 12 to 100 in PR-Net"]
    assert of(100, None, 90) == ["epochs run: 100 in UNet; 90, not recorded in PR-Net"]
    stopped = "epochs run (early stopping): 41 in UNet; 38 to 52 in PR-Net"
    assert of(41, 52, 38, early=10) == [stopped]
    ended = (run("unet", {"num_epochs": 30}, epochs=30), run("prnet", {"num_epochs": 9}, epochs=9))
    assert said(*ended) == ["num_epochs: 30 in UNet; 9 in PR-Net"]


def test_what_runs_were_trained_on():
    few, many = "lungs/few/1.0.0, splits 1a2b3c4d", "lungs/many/1.0.0, splits 5e6f7a8b"
    unet, prnet = run("unet", {}, trained_on=few, images=105), run("prnet", {}, trained_on=many)
    assert said(unet, prnet) == [f"trained_on: 105 images of {few} in UNet; {many} in PR-Net"]
    rows = group([run("unet", {}, trained_on=few), run("unet", {}, seed=1, trained_on=many)])
    assert [len(row.runs) for row in rows] == [1, 1]


def test_how_runs_were_evaluated():
    assert said(run("unet", {}, tta="flips"), run("prnet", {})) == [
        "tta: flips in UNet; none in PR-Net"
    ]
    tuned = run("unet", {}, threshold=0.4, threshold_from="validation")
    assert said(tuned, run("prnet", {})) == ["threshold: from validation in UNet; 0.5 in PR-Net"]
    config = {"dataset": {"window_hu": [-1000.0, 400.0]}}
    other = run("unet", config, window_hu=[0, 80.0])
    assert said(other, run("prnet", config, window_hu=[-1000, 400])) == [
        "evaluated with window_hu: [0, 80] in UNet; as trained in PR-Net"
    ]


def records_of(folder, config=None, epochs=(), **provenance):
    write_run(folder, folder.name, overlays=False, config=config)
    write_json(folder / "provenance.json", provenance)
    lines = [json.dumps({"step": epoch, "epoch": epoch}) for epoch in epochs]
    (folder / "metrics.jsonl").write_text("\n".join(['{"step": 0, "train/loss": 1}', *lines, "{"]))
    return folder


def test_a_runs_files_say_how_it_was_trained(tmp_path):
    data = {"records": "lungs/default-1a/1.0.0", "split_manifest_sha256": "ab12" * 16}
    marks = {"train": {"images": 211}}
    earlier = {"folder": "runs/b", "init_from": {"folder": "imported"}, "weights_sha256": "1a" * 32}
    start = {"init_from": "runs/b"}
    plain = records_of(tmp_path / "unet", None, range(1, 31), **data)
    tuned = records_of(
        tmp_path / "prnet", start, (1, 2), **data, foreground=marks, init_from=earlier
    )
    first, second = read_runs([plain, tuned])
    assert (first.epochs, second.epochs) == (30, 2)
    assert first.trained_on == second.trained_on == "lungs/default-1a/1.0.0, splits ab12ab12"
    assert (first.train_images, second.train_images) == (None, 211)
    found = differences(group([first, second]))
    assert [str(difference) for difference in found] == [
        "init_from: none in UNet; runs/b (weights 1a1a1a1a1a1a), itself from imported in PR-Net",
        "epochs run: 30 in UNet; 2 in PR-Net",
    ]


def test_an_evaluation_elsewhere_says_it_itself(tmp_path):
    data = {"records": "lungs/default-1a/1.0.0", "split_manifest_sha256": "ab12" * 16}
    folder = write_run(tmp_path / "a", overlays=False, trained_on=data, epochs_run=7)
    old = write_run(tmp_path / "b", "unet", overlays=False, leakage="the run's own splits")
    for each in (folder, old):
        (each / "config.json").rename(each / "test/config.json")
        # Of another run, in whose folder the evaluation lies.
        write_json(each / "provenance.json", {name: "other" for name in data})
    new, old = read_runs([folder / "test", old / "test"])
    assert (new.trained_on, new.epochs) == ("lungs/default-1a/1.0.0, splits ab12ab12", 7)
    assert (old.trained_on, old.epochs) == (
        "finding_lungs/default-1a2b3c4d/1.1.0, splits ab12ab12",
        None,
    )


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """Two runs, of which one has other epochs and a weight decay that is markup."""
    home = tmp_path_factory.mktemp("unequal")
    config = {"num_epochs": 100, "weight_decay": "<i>&_$"}
    return [
        write_run(home / "prnet", "prnet", overlays=False, config={"num_epochs": 30}),
        write_run(home / "unet", "unet", quality=0.6, overlays=False, config=config),
    ]


def test_all_files_say_it_above_the_table(unequal, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*map(str, unequal), "--out", str(out)]) == 0
    epochs = "num_epochs: 100 in UNet; 30 in PR-Net"

    printed = capsys.readouterr().out
    assert HEADING in " ".join(printed.split())
    assert printed.index(f"  {epochs}\n") < printed.index("\nnetwork ")

    text = (out / "table.md").read_text(encoding="utf-8")
    assert text.startswith(f"**{HEADING}**\n\n- {epochs}\n- weight_decay: &lt;i&gt;&amp;")

    text = (out / "table.tex").read_text(encoding="utf-8")
    assert rf"\caption{{{HEADING} num\_epochs: 100 in UNet; 30 in PR-Net. " in text

    text = (out / "report.html").read_text(encoding="utf-8")
    assert html.escape("weight_decay: <i>&_$ in UNet; not recorded in PR-Net") in text
    assert text.index(f"<li>{epochs}</li>") < text.index('<table id="table-main"')


def test_equal_runs_have_nothing_above_the_table(tmp_path, capsys):
    runs = [write_run(tmp_path / name, name, overlays=False) for name in ("prnet", "unet")]
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--strict"]) == 0
    assert HEADING[:30] not in capsys.readouterr().out
    assert (tmp_path / "out/table.md").read_text(encoding="utf-8").startswith("| network")
    assert '<div id="differences"' not in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_strict_refuses_them_in_one_line(unequal, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*map(str, unequal), "--out", str(out), "--strict"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and not out.exists()
    assert captured.err.startswith(
        "error: --strict: the runs differ in num_epochs (100 in UNet; 30 in PR-Net), weight_decay ("
    )


def test_strict_allows_early_stopping_to_differ(tmp_path, capsys):
    stops = {"num_epochs": 100, "early_stopping_epochs": 5}
    runs = [
        records_of(tmp_path / "unet", stops, range(1, 9)),
        records_of(tmp_path / "prnet", stops, range(1, 8)),
    ]
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--strict"]) == 0
    assert "epochs run (early stopping): 8 in UNet; 7 in PR-Net" in capsys.readouterr().out

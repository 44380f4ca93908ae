"""Complete runs of a tiny network: two epochs, a resume, and the ways a run can end."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

from prnet_jax import train
from prnet_jax.errors import InputError, RunError, Stopped
from prnet_jax.evaluate import Choices, evaluate_run
from prnet_jax.run import begin, log
from prnet_jax.run.checkpoint import Checkpoints, read_arrays
from prnet_jax.run.variables import load_variables, sha256_of
from tests.runs import PRNET, metrics_lines, newest_step
from tests.runs import tiny_config as tiny_run


def saved_state(workdir):
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.last_step
    return step, read_arrays(workdir / "checkpoints" / str(step) / "state")


@pytest.fixture(scope="module")
def tiny(records_dir):
    """With averaged weights and noise, which a resume must restore too. Not to be changed."""
    return tiny_run(records_dir, ema_decay=0.9, augment__noise=0.05)


@pytest.fixture(scope="module")
def traced():
    """An entry for each time that the step of `straight` was traced."""
    return []


@pytest.fixture(scope="module")
def straight(tiny, traced, tmp_path_factory):
    """An undisturbed run, which counts as long: its folder, what it returned and printed."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    printed = io.StringIO()

    def counted(*arguments, make=train.steps.make_train_step):
        step = make(*arguments)
        return lambda state, batch: (traced.append("step"), step(state, batch))[1]

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(train, "_LONG_HOURS", 0.0)
        patch.setattr(train.steps, "make_train_step", counted)
        summary = train.train_and_evaluate(tiny, workdir)
    return workdir, summary, printed.getvalue()


@pytest.fixture(autouse=True)
def no_estimate(monkeypatch):
    """`straight` estimates how long it will take; the other runs need not."""
    monkeypatch.setattr(train.estimate, "cpu_hours", lambda *_: 0.0)


def test_the_step_is_traced_once_for_estimate_and_training(straight, traced):
    assert traced == ["step"]


def test_a_run_leaves_what_it_should(straight, tiny, capsys):
    workdir, summary, printed = straight
    for name in (
        "config.json",
        "provenance.json",
        "metrics.jsonl",
        "curves.png",
        "first_batch.png",
        "test/summary.json",
        "test/per_image.csv",
        "test/overview.png",
        "test/calibration.png",
        "test/thresholds.png",
    ):
        assert (workdir / name).stat().st_size > 0, name
    assert len(list((workdir / "test" / "overlays").glob("*.png"))) == 3
    assert list((workdir / "events").iterdir())
    assert json.loads((workdir / "config.json").read_text())["num_epochs"] == 2
    about = json.loads((workdir / "provenance.json").read_text())
    assert about["packages"]["jax"] == jax.__version__
    assert len(about["split_manifest_sha256"]) == 64
    assert about["leakage"].startswith("no patient and no image in two splits (15 patients, 15 im")
    assert {name: row["images"] for name, row in about["foreground"].items()} == {
        "train": 8,
        "validation": 4,
        "test": 3,
    }
    assert "init_from" not in about and about["checkpoint_chosen_by"] == "validation DSC"
    assert "foreground validation: " in printed and "warning" not in printed
    assert summary["provenance"] == about

    metrics = log.read_metrics(workdir / "metrics.jsonl")
    trained = [line["step"] for line in metrics if "train/loss" in line]
    validated = [(line["step"], line["epoch"]) for line in metrics if "val/dsc" in line]
    assert trained == [1, 2, 3, 4]
    assert validated == [(2, 1), (4, 2)]
    assert summary["metrics"]["dsc"]["n"] == 3
    assert summary["checkpoint_step"] in (2, 4)
    long = "No accelerator was found: this will take about 0 hours. "
    for text in (
        long,
        "1 x cpu",
        "8 train, 4 validation, 3 test",
        "not comparable",
        "\nTrained for ",
    ):
        assert text in printed
    assert "finished" not in printed

    # The same command again evaluates nothing again, returns the same and says so.
    assert f"batch      {workdir / 'first_batch.png'}: " in printed
    before = (workdir / "test" / "summary.json").stat().st_mtime_ns
    assert train.train_and_evaluate(tiny, workdir) == summary
    again = capsys.readouterr().out
    assert "\nThis run is finished: 2 epochs, trained for " in again
    assert f"--config.init_from={workdir}" in again
    result = printed[printed.index("\nDSC ") :]
    assert again.endswith(result)
    assert (workdir / "test" / "summary.json").stat().st_mtime_ns == before


def test_resume_ends_like_an_undisturbed_run(straight, tiny, tmp_path, monkeypatch):
    """Interrupted in the second epoch, the run resumes from the first epoch's checkpoint."""
    workdir, expected, _ = straight
    stopped = tmp_path / "stopped"

    real = train.sharding.shard_batch
    calls = []

    def interrupted(mesh, batch):
        calls.append("draw" in batch)
        if calls.count(True) == 4:
            raise KeyboardInterrupt
        return real(mesh, batch)

    monkeypatch.setattr(train.sharding, "shard_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train_and_evaluate(tiny, stopped)
    monkeypatch.undo()
    assert not (stopped / "test").exists()
    found = train.train_and_evaluate(tiny, stopped)

    assert found == expected
    for a, b in zip(
        jax.tree.leaves(saved_state(workdir)), jax.tree.leaves(saved_state(stopped)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert metrics_lines(stopped) == metrics_lines(workdir)


def test_validations_of_every_second_epoch(tiny_config, tmp_path):
    """Between them nothing is saved unless the run is stopped; the last epoch has one."""
    tiny_config.num_epochs, tiny_config.validate_every_epochs = 3, 2
    lines = []
    for name, stopped_after in {"straight": (), "stopped": (1, 2, 3)}.items():
        workdir = tmp_path / name
        for step in stopped_after:
            with pytest.raises(Stopped, match=f"Stopped after step {step} of 6, saved"):
                train.train_and_evaluate(tiny_config, workdir, stop=lambda: True)
        summary = train.train_and_evaluate(tiny_config, workdir)
        assert train.train_and_evaluate(tiny_config, workdir) == summary
        assert sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*")) == [4, 6]
        lines.append(metrics_lines(workdir))
    assert [line["epoch"] for line in lines[0] if "val/dsc" in line] == [2, 3]
    assert lines[1] == lines[0]


def test_a_stop_is_asked_for_only_when_there_is_something_to_save(straight, tiny, tmp_path):
    """Until it is, a signal ends the process at once: see `prnet_jax.preemption.Stop`."""
    workdir = tmp_path / "run"
    for stood in (1, 2):
        with pytest.raises(Stopped, match=f"Stopped after step {stood} of 4, saved"):
            train.train_and_evaluate(tiny, workdir, stop=lambda: True)
        assert newest_step(workdir) == stood
    train.train_and_evaluate(tiny, workdir)
    assert metrics_lines(workdir) == metrics_lines(straight[0])


def test_a_loss_that_is_not_finite_names_step_and_images(tiny_config, tmp_path):
    tiny_config.learning_rate = 1e30
    tiny_config.warmup_epochs = 0.0
    tiny_config.clip_norm = 0.0
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step \d, images phantom_\d+, "):
        train.train_and_evaluate(tiny_config, tmp_path / "run")


def test_early_stopping_and_a_trace(tiny_config, tmp_path, monkeypatch, capsys):
    scores = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    picture = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(
        train,
        "validate",
        lambda *_: ({"loss": 1.0, "dsc": (dsc := next(scores)), "iou": dsc}, picture),
    )
    tiny_config.num_epochs, tiny_config.early_stopping_epochs = 5, 2
    tiny_config.profile_steps = (2, 5)  # a validation and a save are in between
    train.train_and_evaluate(tiny_config, tmp_path / "run")
    metrics = log.read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["val/dsc"] for line in metrics if "val/dsc" in line] == [0.5, 0.7, 0.6, 0.7]
    assert f"traced steps 3 to 5: tensorboard --logdir {tmp_path}/run/profile" in (
        capsys.readouterr().out
    )
    assert len(list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))) == 1


@pytest.mark.slow
def test_bfloat16_and_accumulation_run(records_dir, tmp_path):
    config = tiny_run(records_dir, "prnet", **PRNET, dtype="bfloat16", accumulate_steps=2)
    config.num_epochs = 1
    summary = train.train_and_evaluate(config, tmp_path / "run")
    assert 0 <= summary["metrics"]["dsc"]["mean"] <= 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dtype", "float16", "config.dtype must be float32 or bfloat16"),
        ("batch_size", 0, "config.batch_size must be a positive multiple of 1"),
        ("batch_size", 9, "the train split has only 8 images"),
        ("accumulate_steps", 3, "1 devices x 3 accumulate_steps = 3, found 4"),
        ("dataset.image_size", 1, "sides of 2 or more, found 1x1"),
        ("dataset.mask", "lungs", "no mask 'lungs'"),
        ("dataset.name", "lung_fantom", "no data set 'lung_fantom'"),
        ("model.name", "resnet", "unknown network 'resnet'"),
        ("augment.noise", 2.0, "augmentation noise must be from 0"),
        ("num_epochs", 0, "config.num_epochs must be 1 or more, found 0"),
        ("dataset.window_hu", (400.0, -1000.0), "config.dataset.window_hu must be"),
        ("profile_steps", (5, 3), "config.profile_steps must be .* such as .*, found .5, 3."),
        (
            "dataset.resize",
            "crop",
            "config.dataset.resize must be pad, stretch or middle, found 'crop'",
        ),
    ],
)
def test_refusals_write_nothing(tiny_config, tmp_path, field, value, message):
    tiny_config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message):
        train.train_and_evaluate(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_init_from_starts_with_the_weights_of_a_run(straight, tiny_config, tmp_path, monkeypatch):
    first = straight[0]
    tiny_config.init_from = str(first)
    tiny_config.ema_decay, tiny_config.augment.noise = 0.9, 0.05
    seen = []
    real = train.sharding.jit_train_step

    def watched(mesh, step, state):
        compiled = real(mesh, step, state)

        def run(state, batch):
            seen.append(jax.tree.map(np.asarray, state))
            return compiled(state, batch)

        run.lower = compiled.lower
        return run

    monkeypatch.setattr(train.sharding, "jit_train_step", watched)
    second = tmp_path / "second"
    summary = train.train_and_evaluate(tiny_config, second)
    before = load_variables(first)
    for tree in (seen[0].params, seen[0].ema_params):
        jax.tree.map(np.testing.assert_array_equal, tree, before["params"])
    jax.tree.map(np.testing.assert_array_equal, seen[0].batch_stats, before["batch_stats"])
    assert int(seen[0].step) == 0

    # What those weights have seen is on record, and a resume does not search again.
    about = json.loads((second / "provenance.json").read_text())
    origin = about["init_from"]
    assert origin["leakage"] == f"start from {first}: the same splits" and origin["complete"]
    assert origin["weights_sha256"] == sha256_of(before)
    assert summary["leakage"] == f"the run's own splits; {origin['leakage']}"
    monkeypatch.setattr(begin.seen, "check_start", None)
    assert train.train_and_evaluate(tiny_config, second) == summary
    again = evaluate_run(second, Choices(out=str(tmp_path / "again")))
    assert again["leakage"] == summary["leakage"]


def test_init_from_a_run_that_has_seen_the_test_images_is_refused(straight, tiny_config, tmp_path):
    """Images 4 and 5 were trained on."""
    tiny_config.init_from = str(straight[0])
    tiny_config.dataset.options.num_slices = (4, 2, 2)
    with pytest.raises(InputError, match=f"is in the train split of {straight[0]}, where the"):
        train.train_and_evaluate(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_validation_that_marks_nothing(tiny_config, tmp_path, capsys):
    """The best checkpoint is that of the lowest loss, and no threshold is tuned."""
    generator = np.random.default_rng(0)
    lines = ["id,split"]
    for folder in ("images", "masks"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    for i, split in enumerate(["train"] * 4 + ["validation", "test"] * 2):
        pixels = generator.integers(0, 255, (32, 32)).astype(np.uint8)
        mask = (pixels > 128) * np.uint8(255 * (split != "validation"))
        Image.fromarray(pixels).save(tmp_path / f"mine/images/case{i}.png")
        Image.fromarray(mask).save(tmp_path / f"mine/masks/case{i}.png")
        lines.append(f"case{i},{split}")
    (tmp_path / "mine/metadata.csv").write_text("\n".join(lines))
    tiny_config.dataset.name, tiny_config.dataset.options = "image_folder", {}
    tiny_config.dataset.manual_dir = str(tmp_path / "mine")
    tiny_config.dataset.window_hu = (0.0, 255.0)
    summary = train.train_and_evaluate(tiny_config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "validation marks nothing at 32x32 pixels: the best checkpoint is that of the" in printed
    assert "(best validation loss)" in " ".join(printed.split())
    assert summary["checkpoint_chosen_by"] == "validation loss"
    validated = [
        line for line in log.read_metrics(tmp_path / "run/metrics.jsonl") if "val/loss" in line
    ]
    assert [line["val/dsc"] for line in validated] == [None, None]
    lowest = min(validated, key=lambda line: line["val/loss"])
    assert summary["checkpoint_epoch"] == lowest["epoch"]
    assert summary["metrics"]["dsc"]["n"] == 2  # the test split marks something

    with pytest.raises(InputError, match="the validation split marks nothing, so no threshold is"):
        evaluate_run(tmp_path / "run", Choices(threshold="auto-on-validation"))
    assert not (tmp_path / "run/test_auto-threshold").exists()


def test_init_from_what_does_not_fit_is_refused(straight, tiny_config, tmp_path):
    tiny_config.init_from = str(straight[0])
    tiny_config.model.widths = (4, 16)
    with pytest.raises(InputError, match=r"does not fit config.model: \d+ arrays differ, such as"):
        train.train_and_evaluate(tiny_config, tmp_path / "run")
    tiny_config.init_from = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither a run directory"):
        train.train_and_evaluate(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""Metrics on disk and in TensorBoard, and the progress bar."""

import io
import itertools
import json
import re
import struct
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from prnet_jax.errors import InputError
from prnet_jax.progress import progress
from prnet_jax.run.log import MetricWriter, read_metrics
from tests.programs import until


def read_events(workdir):
    """All events of a run, oldest file first: TFRecord is length, its CRC, bytes, their CRC."""
    events = []
    for path in sorted((workdir / "events").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_scalars_reach_both_files(tmp_path):
    begin = round(time.time(), 3)  # as the lines are rounded
    with MetricWriter(tmp_path / "run") as writer:
        writer.scalars(1, {"train/loss": np.float32(0.5), "epoch": 1})
        writer.scalars(2, {"train/loss": float("nan"), "val/dsc": float("inf"), "val/iou": None})
        # Flushed, so that a kill loses nothing.
        assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2

    first, second = read_metrics(tmp_path / "run/metrics.jsonl")
    assert begin <= first.pop("time") <= second.pop("time") <= time.time() + 5e-4
    assert first == {"step": 1, "train/loss": 0.5, "epoch": 1}
    assert second == {"step": 2, "train/loss": None, "val/dsc": None, "val/iou": None}
    assert "NaN" not in (tmp_path / "run/metrics.jsonl").read_text()

    scalars = [
        (event.step, value.tag, value.simple_value)
        for event in read_events(tmp_path / "run")
        for value in event.summary.value
    ]
    assert scalars == [(1, "train/loss", 0.5), (1, "epoch", 1.0)]
    assert "tensorflow" not in sys.modules


def test_images_reach_tensorboard_unchanged(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with MetricWriter(tmp_path) as writer:
        writer.images(3, "samples", picture)
        with pytest.raises(ValueError, match="uint8"):
            writer.images(3, "samples", picture.astype(np.float32))
    (event,) = [event for event in read_events(tmp_path) if event.summary.value]
    (value,) = event.summary.value
    assert (event.step, value.tag) == (3, "samples")
    decoded = Image.open(io.BytesIO(value.image.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(decoded), picture)


def test_resume_drops_what_came_after_the_checkpoint(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3, 4):
            writer.scalars(step, {"loss": step / 8})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # killed while writing

    with MetricWriter(tmp_path, resume_step=2) as writer:
        writer.scalars(3, {"loss": 0.75})
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in records] == [(1, 0.125), (2, 0.25), (3, 0.75)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events", "metrics.jsonl"]

    # A second event file that starts with the order to forget everything from step 3 on.
    assert len(list((tmp_path / "events").iterdir())) == 2
    events = read_events(tmp_path)
    (restart,) = [i for i, event in enumerate(events) if event.HasField("session_log")]
    assert events[restart].session_log.status == event_pb2.SessionLog.START
    assert events[restart].step == 3
    steps = [[e.step for e in part if e.summary.value] for part in (events[:restart], events)]
    assert steps == [[1, 2, 3, 4], [1, 2, 3, 4, 3]]


def test_torn_line_before_the_checkpoint_is_dropped_too(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2')
    with MetricWriter(tmp_path, resume_step=9) as writer:
        writer.scalars(10, {})
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 10]


def test_new_run_forgets_one_that_reached_no_checkpoint(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.scalars(0, {"loss": 1.0})
    with MetricWriter(tmp_path) as writer:
        writer.scalars(0, {"loss": 2.0})
    assert [r["loss"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [2.0]


@pytest.mark.parametrize("bad", ["oops", "[1]", "3", '{"loss": 1}'])
def test_damaged_line_is_named_and_nothing_is_lost(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    text = '{"step": 1}\n' + bad + '\n{"step": 2}\n'
    path.write_text(text)
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2") as error:
        MetricWriter(tmp_path, resume_step=1)
    assert "\n" not in str(error.value)
    assert path.read_text() == text


def test_read_metrics_leaves_out_only_the_torn_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("")
    assert read_metrics(path) == []
    path.write_text(json.dumps({"step": 1, "a": None}) + "\n" + json.dumps({"step": 2}))
    assert read_metrics(path) == [{"step": 1, "a": None}, {"step": 2}]


class Loss:
    """A loss on a device: counts how often the host waits for it."""

    reads = 0

    def __float__(self):
        self.reads += 1
        return 0.25


def test_progress_in_a_log_file_is_a_few_whole_lines():
    file, loss = io.StringIO(), Loss()
    with progress(1000, initial=500, desc="train", file=file) as bar:
        for _ in range(500):
            bar.update(1, loss=loss, images=8)
    lines = file.getvalue().splitlines()
    assert "\r" not in file.getvalue()
    assert lines[0].startswith("train:  50% 500/1000 steps [00:00")
    assert lines[-1].startswith("train: 100% 1000/1000 steps [")
    assert "loss 0.2500" in lines[-1] and "images/s]" in lines[-1]
    assert len(lines) <= 3
    assert 0 < loss.reads <= 3


def test_progress_on_a_terminal_stays_on_one_line():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file = Terminal()
    with progress(4, desc="evaluate", unit="images", file=file) as bar:
        for _ in range(4):
            bar.update(1)
    *redrawn, last = file.getvalue().strip().split("\r")
    assert "100%|" in last and "4/4 images" in last
    assert file.getvalue().count("\n") == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_the_bar_shows_that_a_long_step_goes_on(monkeypatch, terminal):
    monkeypatch.setattr("prnet_jax.progress.quiet_s", lambda terminal: 0.0)
    file = io.StringIO()
    file.isatty = lambda: terminal

    def says_again(what):
        """Waits until the bar has been drawn twice more, although nothing is counted."""
        before = file.getvalue().count(what)
        assert until(lambda: file.getvalue().count(what) > before + 1)

    with progress(4, desc="train", doing="compiling", file=file) as bar:
        monkeypatch.setattr(bar, "_time", lambda: next(seconds))
        seconds = itertools.count(bar.start_t + 7200, 60)
        says_again("left, compiling]")
        bar.update(1, loss=0.5)
        says_again("1/4 steps")
        with bar.paused("validating"):
            says_again("left, validating, loss 0.5000]")
        bar.update(3)
    ended = file.getvalue()
    last = re.split("[\r\n]+", ended.strip())[-1]
    assert "4/4 steps" in last and "compiling" not in last and "validating" not in last
    assert not until(lambda: file.getvalue() != ended, timeout_s=0.02)


def test_speed_leaves_out_compilation_and_pauses(monkeypatch):
    seconds = 0.0
    clock = types.SimpleNamespace(perf_counter=lambda: seconds)
    monkeypatch.setattr("prnet_jax.progress.time", clock)
    with progress(10, initial=2, file=io.StringIO()) as bar:
        seconds += 60  # the first step compiles
        bar.update(1, images=8)
        assert bar.images_per_s is None
        seconds += 2
        bar.update(1, images=8)
        assert bar.images_per_s == 4.0
        with bar.paused("validating"):
            seconds += 100
        seconds += 2
        bar.update(1, images=8)
        assert bar.images_per_s == 4.0
        # 2 steps in 104 s, validation included, after the first.
        assert bar.format_dict["rate"] == pytest.approx(2 / 104)

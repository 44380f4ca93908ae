"""Which checkpoints are kept, and what happens to one that has changed since it was written."""

import json
import pathlib
import random
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prnet_jax.errors import InputError, RunError
from prnet_jax.run import checksums, variables
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.variables import load_variables
from tests.programs import PATIENCE_S, running
from tests.run.damage import DAMAGES, flip
from tests.runs import steps_in


def state_at(step: int) -> dict:
    """A small state that differs at every step."""
    return {
        "step": jnp.int32(step),
        "params": {
            "kernel": jnp.arange(24.0).reshape(4, 6) + step,
            "bias": jnp.full(3, 0.5 * step),
        },
        "batch_stats": {"mean": jnp.full((5,), step, jnp.bfloat16)},
        "ema_params": None,
    }


def save(workdir: pathlib.Path, plan: dict[int, float | None]) -> None:
    """Saves at each step with its score, or without one."""
    with Checkpoints(workdir) as checkpoints:
        for step, score in plan.items():
            checkpoints.save(step, state_at(step), {"epochs": step}, score)


def restored(workdir: pathlib.Path) -> int | None:
    """The step that a run would resume from, after a check of every array."""
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.last_step
        if step is None:
            return None
        state, clock = checkpoints.restore(state_at(0))
    assert clock == {"epochs": step}
    jax.tree.map(np.testing.assert_array_equal, state, state_at(step))
    return step


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


# ---- what is kept


def test_kept_are_the_two_newest_and_the_best():
    """Compared with a list made here, after each of several random saves."""
    import tempfile

    chance = random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        workdir, scores = pathlib.Path(folder), {}
        with Checkpoints(workdir) as checkpoints:
            for step in range(1, 11):
                # Few values, so that some are equal.
                scores[step] = chance.randint(0, 4) / 4
                checkpoints.save(step, state_at(step), {"epochs": step}, scores[step])
                checkpoints.wait()
                best = max(scores, key=lambda s: (scores[s], -s))
                kept = sorted({best, *sorted(scores)[-2:]})
                assert steps_in(workdir / "checkpoints") == kept
                assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == sorted(
                    [*map(str, kept), "seals"]
                )
                assert sorted(p.stem for p in (workdir / "checkpoints" / "seals").iterdir()) == (
                    sorted(map(str, kept))
                )
                assert checkpoints.best_step == variables.best_step(workdir) == best
                assert checkpoints.last_step == step


def test_an_interim_checkpoint_replaces_the_one_before(tmp_path):
    save(tmp_path, {2: 0.5, 3: None, 5: None})
    assert steps_in(tmp_path / "checkpoints") == [2]
    assert steps_in(tmp_path / "interim") == [5]
    assert restored(tmp_path) == 5
    save(tmp_path, {6: 0.4})
    assert restored(tmp_path) == 6
    assert variables.best_step(tmp_path) == 2


def test_of_two_of_the_same_step_the_one_with_a_score_counts(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, state_at(4), {"epochs": 0}, None)
        checkpoints.save(4, state_at(4), {"epochs": 1}, 0.5)
        assert checkpoints.restore(state_at(0))[1] == {"epochs": 1}


def test_a_state_may_be_donated_while_it_is_saved(tmp_path):
    change = jax.jit(lambda state: jax.tree.map(lambda x: x * 0, state), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        state = jax.tree.map(jnp.copy, state_at(7))
        checkpoints.save(7, state, {"epochs": 7}, 0.5)
        jax.block_until_ready(change(state))
    assert restored(tmp_path) == 7


def test_unfinished_saves_go_when_a_run_is_opened_but_a_reader_leaves_them(tmp_path):
    save(tmp_path, {2: 0.5})
    (tmp_path / "config.json").write_text(json.dumps({"model": {"name": "unet"}}))
    unfinished = [
        tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp-1",
        tmp_path / "interim" / "3.orbax-checkpoint-tmp-2",
    ]
    for folder in unfinished:
        folder.mkdir()
        (folder / "part").write_bytes(bytes(100))
    assert variables.best_step(tmp_path) == 2
    np.testing.assert_array_equal(load_variables(tmp_path)["params"]["bias"], [1.0, 1.0, 1.0])
    assert all(folder.exists() for folder in unfinished)
    assert restored(tmp_path) == 2
    assert not any(folder.exists() for folder in unfinished)


def test_the_variables_of_a_run_are_read_without_a_warning(tmp_path, caplog):
    """Orbax's own reader of a tree warns of a file that no run has."""
    save(tmp_path, {1: 0.5})
    (tmp_path / "config.json").write_text(json.dumps({"model": {"name": "unet"}}))
    caplog.clear()
    load_variables(tmp_path)
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


def test_two_cannot_train_in_one_folder(tmp_path):
    with Checkpoints(tmp_path), pytest.raises(RunError, match="another process is training in"):
        Checkpoints(tmp_path)
    assert restored(tmp_path) is None


# Exits as prnet_jax.main does: Python would wait minutes for the threads of Orbax.
_FAILING_SAVE = """
import os, pathlib, sys
import jax.numpy as jnp
from prnet_jax.errors import RunError
from prnet_jax.run.checkpoint import Checkpoints

workdir = pathlib.Path(sys.argv[1])
try:
    with Checkpoints(workdir) as checkpoints:
        (workdir / "checkpoints").rename(workdir / "elsewhere")
        (workdir / "checkpoints").write_text("a file in its place")
        checkpoints.save(4, {"step": jnp.int32(4)}, {"epochs": 4}, 0.5)
except RunError as error:
    print(error, flush=True)
os._exit(0)
"""


def test_a_failed_save_is_reported_in_one_line(tmp_path):
    save(tmp_path, {2: 0.5})
    with running([sys.executable, "-c", _FAILING_SAVE, str(tmp_path)]) as (process,):
        message, err = process.communicate(timeout=PATIENCE_S)
    assert "could not be written to" in message and message.count("\n") == 1, err
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "checkpoints")
    assert restored(tmp_path) == 2


# ---- checksums


@settings(max_examples=30)
@given(
    files=st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "e/f/g"]), st.binary(), min_size=1),
    data=st.data(),
)
def test_checksums_detect_every_change(tmp_path_factory, files, data):
    folder = tmp_path_factory.mktemp("checksums") / "1"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert checksums.damage(folder) is None  # not written yet
    checksums.write_checksums(folder)
    assert checksums.damage(folder) is None

    name = data.draw(st.sampled_from(sorted(files)))
    other = data.draw(st.binary().filter(lambda content: content != files[name]))
    (folder / name).write_bytes(other)
    assert checksums.damage(folder) == f"{folder / name} has changed since it was written"
    (folder / name).unlink()
    assert checksums.damage(folder) == f"{folder / name} is missing"
    (folder / name).write_bytes(files[name])
    (folder / "new").touch()
    assert checksums.damage(folder) == f"{folder / 'new'} was added"
    (folder / "new").unlink()
    assert checksums.damage(folder) is None


# ---- damage


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Runs whose newest checkpoint, 4, is from the end of an epoch, and is an interim one."""
    root = tmp_path_factory.mktemp("templates")
    save(root / "checkpoints", {1: 0.9, 2: 0.5, 3: None, 4: 0.6})
    save(root / "interim", {1: 0.9, 2: 0.5, 3: 0.6, 4: None})
    return root


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["checkpoints", "interim"])
def test_damage_to_any_file_is_reported_and_the_one_before_counts(
    templates, tmp_path, capsys, kind, damage
):
    files = files_of(templates / kind / kind / "4")
    assert len(files) > 10
    for number, name in enumerate(files):
        workdir = tmp_path / str(number)
        shutil.copytree(templates / kind, workdir)
        folder = workdir / kind / "4"
        if damage != "deleted" and not (folder / name).stat().st_size:
            continue  # it holds nothing to damage
        DAMAGES[damage](folder / name)
        capsys.readouterr()
        assert restored(workdir) == 3, name
        printed, newest = capsys.readouterr().out.splitlines()
        assert newest == "The newest complete checkpoint is that of step 3."
        what = "is missing" if damage == "deleted" else "has changed since it was written"
        (aside,) = (workdir / "damaged").iterdir()
        assert printed == (
            f"Damaged checkpoint {folder}: {folder / name} {what}. Moved to {aside}."
        )
        left = [path for path in files if damage != "deleted" or path != name]
        assert files_of(aside) == left
        assert not folder.exists() and not (workdir / kind / "seals" / "4.json").exists()
        # It is reported once, and the step can be saved again.
        assert restored(workdir) == 3
        assert capsys.readouterr().out == ""
        save(workdir, {4: 0.6 if kind == "checkpoints" else None})
        assert restored(workdir) == 4


@pytest.mark.parametrize("content", ["", "{", "[1]", "[]", "null", '{"state/_METADATA": "00"}'])
def test_a_damaged_file_of_checksums_counts_as_damage(templates, tmp_path, capsys, content):
    workdir = shutil.copytree(templates / "checkpoints", tmp_path / "run")
    (workdir / "checkpoints" / "seals" / "4.json").write_text(content)
    assert restored(workdir) == 3
    assert f"Damaged checkpoint {workdir / 'checkpoints' / '4'}: " in capsys.readouterr().out


def test_a_checkpoint_without_checksums_is_used(templates, tmp_path, capsys):
    """Its writer was killed before it wrote them."""
    workdir = shutil.copytree(templates / "checkpoints", tmp_path / "run")
    (workdir / "checkpoints" / "seals" / "4.json").unlink()
    assert restored(workdir) == 4
    assert capsys.readouterr().out == ""


def test_an_added_file_counts_as_damage(templates, tmp_path, capsys):
    workdir = shutil.copytree(templates / "checkpoints", tmp_path / "run")
    extra = workdir / "checkpoints" / "4" / "state" / "more"
    extra.touch()
    assert restored(workdir) == 3
    assert f"{extra} was added" in capsys.readouterr().out


def test_checkpoints_are_tried_one_after_the_other(templates, tmp_path, capsys):
    """Newest first; if all are damaged, the run starts again."""
    workdir = shutil.copytree(templates / "checkpoints", tmp_path / "run")
    newest_first = [("checkpoints", 4), ("interim", 3), ("checkpoints", 2), ("checkpoints", 1)]
    for count in range(1, len(newest_first) + 1):
        shutil.rmtree(workdir)
        shutil.copytree(templates / "checkpoints", workdir)
        for kind, step in newest_first[:count]:
            flip(workdir / kind / str(step) / "clock" / "metadata")
        left = [step for _, step in newest_first[count:]]
        capsys.readouterr()
        assert restored(workdir) == (left[0] if left else None)
        printed = capsys.readouterr().out
        for kind, step in newest_first[:count]:
            assert f"Damaged checkpoint {workdir / kind / str(step)}: " in printed
        assert len(list((workdir / "damaged").iterdir())) == count
    save(workdir, {2: 0.1})
    assert restored(workdir) == 2


def test_a_damaged_best_is_reported_though_it_is_not_the_newest(templates, tmp_path, capsys):
    workdir = shutil.copytree(templates / "checkpoints", tmp_path / "run")
    flip(workdir / "checkpoints" / "1" / "state" / "_METADATA")
    assert restored(workdir) == 4
    assert f"Damaged checkpoint {workdir / 'checkpoints' / '1'}: " in capsys.readouterr().out
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.best_step == 4


@pytest.mark.parametrize("damage", DAMAGES)
def test_variables_of_a_damaged_best_are_refused(templates, tmp_path, damage):
    workdir = shutil.copytree(templates / "checkpoints", tmp_path / "run")
    (workdir / "config.json").write_text(json.dumps({"model": {"name": "unet"}}))
    best = workdir / "checkpoints" / "1"
    np.testing.assert_array_equal(load_variables(workdir)["params"]["bias"], [0.5, 0.5, 0.5])
    for number, name in enumerate(files_of(best)):
        changed = shutil.copytree(workdir, tmp_path / str(number))
        folder = changed / "checkpoints" / "1"
        if damage != "deleted" and not (folder / name).stat().st_size:
            continue
        DAMAGES[damage](folder / name)
        with pytest.raises(InputError) as raised:
            load_variables(changed)
        assert str(folder) in str(raised.value) and "damaged" in str(raised.value)
        assert "\n" not in str(raised.value)
        assert not (changed / "damaged").exists()  # a reader moves nothing

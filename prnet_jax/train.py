"""The training loop, told top to bottom."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh

from prnet_jax import optim, processes, report, sharding, steps
from prnet_jax.benchmark import estimate
from prnet_jax.config import check_config
from prnet_jax.data.pipeline import Slices, open_splits, splits_hash, step_arrays
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError, Stopped
from prnet_jax.evaluate.run import about_test
from prnet_jax.evaluate.scores import validate
from prnet_jax.evaluate.split import score_split
from prnet_jax.predictor import make_predictor
from prnet_jax.progress import progress
from prnet_jax.run import directory, files
from prnet_jax.run.begin import begin, training_batches
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.initial import initial_variables, start_from
from prnet_jax.run.log import open_writer, read_metrics
from prnet_jax.run.profile import Profile
from prnet_jax.run.session import Session, new_clock
from prnet_jax.working import working

_LONG_HOURS = 1.0  # a training on a CPU that is announced with its time


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains a network, or resumes the run in `workdir`, and scores the test split.

    However often a run was interrupted, its result is that of one that was not. With several
    processes all call this; see `prnet_jax.processes`.

    Args:
        config: see `prnet_jax.config`.
        workdir: the run directory, see docs/runs.md; the same for all processes.
        stop: asked between steps, and between batches of an evaluation, as `Stop.reached` is.

    Returns:
        The content of test/summary.json.

    Raises:
        InputError: a setting, data or a file that cannot be used; nothing was overwritten.
        RunError: the loss or the gradient was not finite, a checkpoint could not be written, or
            another process is training in `workdir`.
        Stopped: `stop()` was true; everything up to there is saved.
    """
    workdir = pathlib.Path(workdir)
    # ---- what can be refused before anything is read or written
    mesh = sharding.make_mesh()
    config = _as_begun(config, workdir)
    model = _check_settings(config, workdir, mesh)
    initial = initial_variables(config, model)

    # ---- data
    data = config.dataset
    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    slices, manifest = _open_splits(builder, data)
    records = builder.info.full_name
    processes.check_same("the images or splits", f"{records} {manifest}")
    steps_per_epoch = _steps_per_epoch(config, slices)
    total_steps = config.num_epochs * steps_per_epoch

    # ---- network and steps
    schedule = optim.make_schedule(config, steps_per_epoch)
    optimizer = optim.make_optimizer(config, schedule)
    state = _make_state(config, model, optimizer, mesh)
    train_step = sharding.jit_train_step(
        mesh, steps.make_train_step(config, model, optimizer, schedule), state
    )
    predictor = make_predictor(config, {}, mesh, slices["train"].unit)

    # ---- where the run stands: its own newest checkpoint, else config.init_from, else the seed
    about = processes.on_first(lambda: begin(workdir, config, slices, manifest, records, initial))
    processes.check_same_folder(workdir)
    with Checkpoints(workdir) as checkpoints:
        processes.check_same("the checkpoints", f"{checkpoints.last_step} {checkpoints.best_step}")
        state, clock = _restore(checkpoints, state, initial)
        start = int(state.step)
        sizes = {split: len(part) for split, part in slices.items()}
        print(report.beginning(config, workdir, sizes, steps_per_epoch, state.params), flush=True)
        if start:
            print(f"Resuming after step {start} of {total_steps}.", flush=True)
        elif jax.default_backend() == "cpu":
            _warn_if_long(config, mesh, train_step, state, total_steps)

        # ---- the loop: step; after an epoch that is due validate, save, then draw the next batch
        batches = training_batches(workdir, config, slices["train"], start)
        with (
            open_writer(workdir, start or None, clock["epochs"]) as writer,
            progress(total_steps, initial=start, desc="train", doing="compiling") as bar,
            Profile(config.profile_steps, workdir / files.PROFILE, bar.write) as profile,
        ):
            session = Session(config, state, clock, checkpoints, writer, bar)
            try:
                while True:
                    if session.validation_is_due(steps_per_epoch):
                        now = predictor.with_variables(session.state.eval_variables)
                        session.end_epochs(
                            lambda now=now: validate(now, slices["validation"], stop)
                        )
                    if session.step == total_steps or session.stopped_early:
                        break
                    session.save_between_epochs()
                    # Not asked before there is anything to save: until then a signal ends the run.
                    if (session.step > start or jax.process_count() > 1) and stop():
                        raise Stopped
                    profile.between_steps(session.step, session.state)
                    batch = next(batches)
                    arrays = sharding.shard_batch(mesh, step_arrays(batch))
                    session.state, results = train_step(session.state, arrays)
                    session.add(results, batch["id"].tolist())
            except Stopped:
                session.save()
                checkpoints.wait()
                raise Stopped(
                    f"Stopped after step {session.step} of {total_steps}, saved. The same command "
                    "resumes from there."
                ) from None
        if session.stopped_early:
            print(session.why_stopped_early)

        # ---- the test split, scored with the checkpoint of the best validation
        with working("saving"):
            checkpoints.wait()
        best_step = checkpoints.best_step
        summary = processes.on_first(lambda: _curves_and_summary(workdir, best_step))
        if summary is None:
            best = predictor.with_variables(_best_variables(checkpoints, session.state))
            scored = about_test(best, about, records, best_step, best_step // steps_per_epoch)
            summary = score_split(best, slices["test"], workdir / files.TEST, scored, stop=stop)
    print(report.end(workdir, summary, clock, trained=session.step > start), flush=True)
    return summary


def _as_begun(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> ml_collections.ConfigDict:
    """A copy of the config, in which newer fields are as the run in the folder was begun."""
    config = config.copy_and_resolve_references()
    lacking = processes.on_first(lambda: directory.lacking_fields(workdir))
    given = files.flat(config.to_dict())
    for name, value in lacking.items():
        if given[name] != value:
            print(f"config.{name} stays {value!r}: the run was begun before this field was there")
    config.update_from_flattened_dict(lacking)
    return config


def _check_settings(config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> Any:
    """Refuses settings that cannot be trained with here, in this folder; returns the network."""
    check_config(config)
    sharding.check_batch_size("batch_size", config.batch_size, mesh, config.accumulate_steps)
    sharding.check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    model = steps.make_model(config)
    steps.check_shapes(config, model)
    processes.check_same("the settings", directory.settings_of(config))
    processes.on_first(lambda: directory.check_run(workdir, config))
    return model


@working("reading the records")
def _open_splits(builder: Any, data: ml_collections.ConfigDict) -> tuple[dict[str, Slices], str]:
    """The splits and their hash."""
    slices = open_splits(builder, data)
    return slices, splits_hash(slices)


@working("making the network")
def _make_state(
    config: ml_collections.ConfigDict, model: Any, optimizer: Any, mesh: Mesh
) -> steps.TrainState:
    """The state before the first step, on the devices."""
    return sharding.make_state(
        mesh, lambda: steps.init_state(config, model, optimizer), config.shard_state
    )


@working("restoring the best checkpoint")
def _best_variables(checkpoints: Checkpoints, state: steps.TrainState) -> Any:
    """The variables that are evaluated, of the checkpoint with the best score."""
    return checkpoints.restore_best(state).eval_variables


@working("restoring the checkpoint")
def _restore(
    checkpoints: Checkpoints, state: steps.TrainState, initial: dict[str, Any] | None
) -> tuple[steps.TrainState, dict[str, Any]]:
    """State and clock: of the run's newest checkpoint, else from `initial`, else as they are."""
    if checkpoints.last_step is not None:
        return checkpoints.restore(state)
    return (state if initial is None else start_from(initial, state)), new_clock()


def _steps_per_epoch(config: ml_collections.ConfigDict, slices: Mapping[str, Slices]) -> int:
    for split, part in slices.items():
        if not len(part):
            raise InputError(
                f"the {split} split of {config.dataset.name} has no images: these records are for "
                "evaluation only; training needs all three splits, see "
                f"datasets/{config.dataset.name}/README.md"
            )
    number = len(slices["train"])
    if number < config.batch_size:
        raise InputError(
            f"config.batch_size is {config.batch_size}, but the train split has only {number} "
            "images: use a smaller batch"
        )
    return number // config.batch_size


@working("estimating the time")
def _warn_if_long(
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    train_step: Callable,
    state: steps.TrainState,
    total_steps: int,
) -> None:
    n, size = config.batch_size, config.dataset.image_size
    # Placed as batches are, so that the first step need not be traced again.
    image = jax.ShapeDtypeStruct((n, size, size, 1), jnp.float32, sharding=sharding.split(mesh))
    draw = jax.ShapeDtypeStruct((n,), jnp.int32, sharding=sharding.split(mesh))
    batch = {"image": image, "mask": image, "draw": draw}
    hours = estimate.cpu_hours(train_step, (state, batch), total_steps)
    if hours > _LONG_HOURS:
        print(
            f"No accelerator was found: this will take about {hours:.0f} hours. For a run of about "
            f"two minutes: --config configs/{config.model.name}.py:quick",
            flush=True,
        )


@working("drawing the curves")
def _curves_and_summary(workdir: pathlib.Path, best_step: int) -> dict[str, Any] | None:
    """Draws the curves; returns the summary of the test split if this checkpoint was scored before.

    A summary of an older version of this program, which knew fewer metrics, does not count.
    """
    from prnet_jax.figures.training import draw_training  # matplotlib takes long to import

    draw_training(read_metrics(workdir / files.METRICS), workdir / files.CURVES)
    path = workdir / files.TEST / files.SUMMARY
    if not path.exists():
        return None
    summary = json.loads(path.read_text(encoding="utf-8"))
    current = summary.get("checkpoint_step") == best_step and "empty_policy" in summary
    return summary if current else None

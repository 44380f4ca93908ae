"""The training loop, told top to bottom."""

import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from prnet_jax import benchmark, optim, processes, progress, report, sharding, steps
from prnet_jax.config import check_config
from prnet_jax.data import leakage
from prnet_jax.data.augment import augment
from prnet_jax.data.pipeline import Slices, open_splits, splits_hash, train_batches
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError, Stopped
from prnet_jax.evaluate.run import about_run, evaluate_split
from prnet_jax.figures import training
from prnet_jax.predictor import validate
from prnet_jax.run import directory, files, log
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.initial import initial_variables, start_from
from prnet_jax.run.log import TrainLog
from prnet_jax.run.provenance import provenance
from prnet_jax.steps import make_model

_LONG_HOURS = 1.0  # a training on a CPU that is announced with its time


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains a network, or goes on where a run in `workdir` stopped, and scores the test split.

    A run that was interrupted, however, ends as if it had not been. With several processes all
    call this; see `prnet_jax.processes`.

    Args:
        config: see `prnet_jax.config`.
        workdir: the run directory, see the README's "Layout"; the same for all processes.
        stop: asked between steps and between batches of an evaluation, see
            `prnet_jax.preemption.Stop.reached`.

    Returns:
        The content of test/summary.json.

    Raises:
        InputError: a setting or a file that cannot be used; nothing was overwritten.
        RunError: the loss or the gradient was not finite, a checkpoint could not be written, or
            another process is training in `workdir`.
        Stopped: `stop()` was true; what was reached is saved.
    """
    # ---- what can be refused before anything is read or written
    check_config(config)
    mesh = sharding.make_mesh()
    sharding.check_batch_size("batch_size", config.batch_size, mesh, config.accumulate_steps)
    sharding.check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    model = make_model(config)
    _check_shapes(config, model)
    processes.check_same("the settings", directory.settings_of(config))
    processes.on_first(lambda: directory.check_run(workdir, config))
    initial = initial_variables(config, model)

    # ---- data
    data = config.dataset
    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    slices = open_splits(builder, data)
    manifest = splits_hash(slices)
    processes.check_same("the images or splits", f"{builder.info.full_name} {manifest}")
    steps_per_epoch = len(slices["train"]) // config.batch_size
    if steps_per_epoch == 0:
        raise InputError(
            f"config.batch_size is {config.batch_size}, but the train split has only "
            f"{len(slices['train'])} images: use a smaller batch"
        )
    total_steps = config.num_epochs * steps_per_epoch

    # ---- network and steps
    schedule = optim.make_schedule(config, steps_per_epoch)
    optimizer = optim.make_optimizer(config, schedule)
    state = sharding.make_state(
        mesh, lambda: steps.init_state(config, model, optimizer), config.shard_state
    )
    train_step = sharding.jit_train_step(
        mesh, steps.make_train_step(config, model, optimizer, schedule), state
    )
    eval_step = sharding.jit_eval_step(mesh, steps.make_eval_step(config, model))

    # ---- where the run stands
    about = processes.on_first(
        lambda: _open_run(workdir, config, slices, manifest, builder.info.full_name)
    )
    processes.check_same_folder(workdir)
    with Checkpoints(workdir) as checkpoints:
        processes.check_same("the checkpoints", f"{checkpoints.last_step} {checkpoints.best_step}")
        clock = {"epochs": 0, "train_s": 0.0, "best_dsc": -1.0, "best_epoch": 0, "losses": []}
        # Weights come from the run's own newest checkpoint, else config.init_from, else the seed.
        if checkpoints.last_step is not None:
            state, clock = checkpoints.restore(state)
        elif initial is not None:
            state = start_from(initial, state)
        step = saved = start = int(state.step)
        sizes = {split: len(part) for split, part in slices.items()}
        print(report.beginning(config, workdir, sizes, steps_per_epoch, state.params), flush=True)
        if start:
            done = f"step {start} of {total_steps} ({clock['epochs']} epochs)"
            print(f"Going on after {done}.", flush=True)
        elif jax.default_backend() == "cpu":
            _warn_if_long(config, train_step, state, total_steps)

        # ---- the loop: step; at the end of an epoch validate, save, then draw the next batch
        batches = train_batches(
            slices["train"], config.batch_size, config.seed, data.num_threads, start
        )
        with (
            log.open_writer(workdir, start or None, clock["epochs"]) as writer,
            progress.progress(total_steps, initial=start, desc="train") as bar,
        ):
            train_log = TrainLog(writer, bar, config, clock["losses"])
            begin = time.perf_counter() - clock["train_s"]

            def save(score: float | None = None) -> None:
                nonlocal saved
                clock["losses"] = train_log.settle()
                clock["train_s"] = time.perf_counter() - begin
                writer.sync()
                checkpoints.save(step, state, clock, score)
                saved = step

            def end_epoch() -> None:
                epoch = clock["epochs"] + 1
                train_log.flush()
                with bar.paused():
                    variables = sharding.replicate(mesh, state.eval_variables)
                    scores, picture = validate(
                        eval_step, variables, slices["validation"], config, mesh, stop
                    )
                    named = {f"val/{name}": score for name, score in scores.items()}
                    writer.scalars(step, {"epoch": epoch, **named})
                    writer.images(step, "validation", picture)
                    if scores["dsc"] > clock["best_dsc"]:
                        clock.update(best_dsc=scores["dsc"], best_epoch=epoch)
                    clock["epochs"] = epoch
                    save(scores["dsc"])
                    bar.write(
                        f"epoch {epoch}/{config.num_epochs}: validation loss "
                        f"{scores['loss']:.4f}, DSC {100 * scores['dsc']:.2f} %, "
                        f"IoU {100 * scores['iou']:.2f} %"
                    )

            every = config.save_every_steps
            try:
                while True:
                    if step == (clock["epochs"] + 1) * steps_per_epoch:
                        end_epoch()
                    if step == total_steps or _stopped_early(config, clock):
                        break
                    if every and step % every == 0 and step > saved:
                        save()
                    if stop():
                        raise Stopped
                    batch = next(batches)
                    arrays = {name: batch[name] for name in ("image", "mask", "draw")}
                    state, results = train_step(state, sharding.shard_batch(mesh, arrays))
                    step += 1
                    train_log.add(step, results, batch["id"].tolist())
            except Stopped:
                if step > saved:
                    save()
                checkpoints.wait()
                raise Stopped(
                    f"Stopped after step {step} of {total_steps}, saved. The same command goes on "
                    "from there."
                ) from None
        if _stopped_early(config, clock):
            print(
                f"Stopped after epoch {clock['epochs']}: no better validation DSC than that of "
                f"epoch {clock['best_epoch']} for {config.early_stopping_epochs} epochs."
            )

        # ---- the test split, by the checkpoint with the best validation DSC
        checkpoints.wait()
        best_step = checkpoints.best_step
        summary = processes.on_first(lambda: _curves_and_summary(workdir, best_step))
        if summary is None:
            best = sharding.replicate(mesh, checkpoints.restore_best(state).eval_variables)
            scored = {
                **about_run(config, best),
                "records": builder.info.full_name,
                "split": "test",
                "split_manifest_sha256": about["split_manifest_sha256"],
                "leakage": "the run's own splits",
                "checkpoint_step": best_step,
                "checkpoint_epoch": best_step // steps_per_epoch,
                "provenance": about,
            }
            summary = evaluate_split(
                eval_step, best, slices["test"], config, mesh, workdir / "test", scored, stop
            )
    print(report.end(config, workdir, summary, clock), flush=True)
    return summary


def _open_run(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    slices: Mapping[str, Slices],
    manifest: str,
    records: str,
) -> dict[str, Any]:
    """The run's provenance: of one that goes on, or of a new one after a search for leaks."""
    about = provenance(manifest, records, config.seed)
    if not directory.is_run(workdir):
        about["leakage"] = _check_leakage(slices)
    return directory.open_run(workdir, config, about)


def _check_leakage(slices: Mapping[str, Slices]) -> str:
    """Looks whether splits share a patient or a picture; one line on what was found.

    Raises:
        InputError: they do.
    """

    def with_bar(part):
        for item in part.stored():
            yield item
            bar.update(1)

    with progress.progress(sum(map(len, slices.values())), desc="leakage", unit="images") as bar:
        found = str(leakage.check({split: with_bar(part) for split, part in slices.items()}))
    print(f"leakage    {found}", flush=True)
    return found


def _check_shapes(config: ml_collections.ConfigDict, model) -> None:
    """Has the network and the augmentation refuse what they cannot take, without computing."""
    size = config.dataset.image_size
    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)

    def trial(image, mask):
        keys = jax.random.split(jax.random.key(0), 1)
        image, mask = augment(keys, image, mask, config.augment)
        return model.init(keys[0], image, train=False)

    jax.eval_shape(trial, image, mask)


def _stopped_early(config: ml_collections.ConfigDict, clock: dict[str, Any]) -> bool:
    patience = config.early_stopping_epochs
    return bool(patience) and clock["epochs"] - clock["best_epoch"] >= patience


def _warn_if_long(
    config: ml_collections.ConfigDict, train_step, state: steps.TrainState, total_steps: int
) -> None:
    n, size = config.batch_size, config.dataset.image_size
    image = jax.ShapeDtypeStruct((n, size, size, 1), jnp.float32)
    batch = {"image": image, "mask": image, "draw": jax.ShapeDtypeStruct((n,), jnp.int32)}
    hours = benchmark.cpu_hours(train_step, (state, batch), total_steps)
    if hours > _LONG_HOURS:
        print(
            f"There is no accelerator here: this will take about {hours:.0f} hours. A run of about "
            f"two minutes: --config configs/{config.model.name}.py:quick",
            flush=True,
        )


def _curves_and_summary(workdir: pathlib.Path, best_step: int) -> dict[str, Any] | None:
    """Draws the curves; the test split's summary, where it was made with this checkpoint before;
    not by an older version of this program, which knew fewer metrics."""
    metrics = log.read_metrics(workdir / files.METRICS)
    training.draw_training(metrics, workdir / "curves.png")
    path = workdir / "test" / "summary.json"
    if not path.exists():
        return None
    summary = json.loads(path.read_text(encoding="utf-8"))
    current = summary.get("checkpoint_step") == best_step and "empty_policy" in summary
    return summary if current else None

"""The training loop, told top to bottom."""

import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from prnet_jax import (
    benchmark,
    curves,
    optim,
    processes,
    report,
    run_directory,
    sharding,
    steps,
    writers,
)
from prnet_jax.checkpoint import Checkpoints, load_variables, network_of
from prnet_jax.config import check_config
from prnet_jax.data import leakage
from prnet_jax.data.augment import augment
from prnet_jax.data.pipeline import Slices, open_splits, splits_hash, train_batches
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError, RunError, Stopped
from prnet_jax.evaluate import about_run, evaluate_split
from prnet_jax.inference import validate
from prnet_jax.models import create_model
from prnet_jax.provenance import provenance

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
    processes.check_same("the settings", run_directory.settings_of(config))
    processes.on_first(lambda: run_directory.check_run(workdir, config))
    initial = _initial_variables(config, model)

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
            state = _start_from(initial, state)
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
            writers.open_writer(workdir, start or None, clock["epochs"]) as writer,
            writers.progress(total_steps, initial=start, desc="train") as bar,
        ):
            log = _TrainLog(writer, bar, config, clock["losses"])
            begin = time.perf_counter() - clock["train_s"]

            def save(score: float | None = None) -> None:
                nonlocal saved
                clock["losses"] = log.settle()
                clock["train_s"] = time.perf_counter() - begin
                writer.sync()
                checkpoints.save(step, state, clock, score)
                saved = step

            def end_epoch() -> None:
                epoch = clock["epochs"] + 1
                log.flush()
                with bar.paused():
                    variables = sharding.whole(mesh, state.eval_variables)
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
                    log.add(step, results, batch["id"].tolist())
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
            best = sharding.whole(mesh, checkpoints.restore_best(state).eval_variables)
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
    if not run_directory.is_run(workdir):
        about["leakage"] = _check_leakage(slices)
    return run_directory.open_run(workdir, config, about)


def _check_leakage(slices: Mapping[str, Slices]) -> str:
    """Looks whether splits share a patient or a picture; one line on what was found.

    Raises:
        InputError: they do.
    """

    def with_bar(part):
        for item in part.stored():
            yield item
            bar.update(1)

    with writers.progress(sum(map(len, slices.values())), desc="leakage", unit="images") as bar:
        found = str(leakage.check({split: with_bar(part) for split, part in slices.items()}))
    print(f"leakage    {found}", flush=True)
    return found


def make_model(config: ml_collections.ConfigDict):
    """The network of `config.model`, computing in `config.dtype`.

    Raises:
        InputError: no such network or field.
    """
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config.model.items()
        if name != "name"
    }
    return create_model(config.model.name, dtype=jnp.dtype(config.dtype), **fields)


class _TrainLog:
    """Passes the results of steps on, one step late, so that the device never waits for the host.

    Means over `config.log_every_steps` steps go into the writer; a loss or a gradient that is not
    finite ends the run. `losses` are those of the steps that a run which goes on has not written
    yet.
    """

    def __init__(
        self, writer: writers.SilentWriter, bar: writers.Progress, config, losses: list[float]
    ):
        self._writer = writer
        self._bar = bar
        self._config = config
        self._pending: tuple[int, dict[str, jax.Array], Sequence[str]] | None = None
        self._losses = list(losses)

    def add(self, step: int, results: dict[str, jax.Array], ids: Sequence[str]) -> None:
        self._read_pending()
        self._pending = step, results, ids

    def settle(self) -> list[float]:
        """Reads the last step's results too; the losses that are not written yet."""
        self._read_pending()
        return list(self._losses)

    def flush(self) -> None:
        """Writes what is left; every epoch begins a new mean."""
        if self.settle():
            self._write(*self._last)

    def _read_pending(self) -> None:
        if self._pending is None:
            return
        step, results, ids = self._pending
        self._pending = None
        loss = float(results["loss"])
        for name, value in (("loss", loss), ("gradient's norm", float(results["grad_norm"]))):
            if not math.isfinite(value):
                raise RunError(
                    f"the {name} is {value} at step {step}, images {', '.join(ids)}: look at "
                    "these, or lower config.learning_rate; the last checkpoint is kept"
                )
        self._losses.append(loss)
        self._last = step, results
        self._bar.update(1, loss=loss, images=self._config.batch_size)
        if step % self._config.log_every_steps == 0:
            self._write(step, results)

    def _write(self, step: int, results: dict[str, jax.Array]) -> None:
        self._writer.scalars(
            step,
            {
                "train/loss": float(np.mean(self._losses)),
                "train/grad_norm": float(results["grad_norm"]),
                "train/learning_rate": float(results["learning_rate"]),
                "train/images_per_s": self._bar.images_per_s,
            },
        )
        self._losses = []


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


def _initial_variables(config: ml_collections.ConfigDict, model) -> dict[str, Any] | None:
    """The variables in `config.init_from`, or None where it is not set.

    Raises:
        InputError: no such folder, or the variables of another network or width.
    """
    if not config.init_from:
        return None
    folder = pathlib.Path(config.init_from)
    name, _ = network_of(folder)
    if name != config.model.name:
        raise InputError(f"config.init_from {folder} holds {name}, not {config.model.name}")
    variables = load_variables(folder)
    size = config.dataset.image_size
    image = jnp.zeros((1, size, size, model.in_channels))
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    shapes = [
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (expected, variables))
    ]
    differ = sorted(k for k in shapes[0] | shapes[1] if shapes[0].get(k) != shapes[1].get(k))
    if differ:
        raise InputError(
            f"config.init_from {folder} does not fit config.model: {len(differ)} arrays differ, "
            f"such as {differ[0]}: expected {shapes[0].get(differ[0])}, found "
            f"{shapes[1].get(differ[0])}; set config.model as it was"
        )
    return variables


def _start_from(variables: dict[str, Any], state: steps.TrainState) -> steps.TrainState:
    """`state` with other weights and running statistics, placed as before."""

    def like(old, new):
        return jax.tree.map(lambda a, b: jax.device_put(b, a.sharding), old, new)

    params = variables["params"]
    return state.replace(
        params=like(state.params, params),
        batch_stats=like(state.batch_stats, variables.get("batch_stats", {})),
        ema_params=None if state.ema_params is None else like(state.ema_params, params),
    )


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
    metrics = writers.read_metrics(workdir / writers.METRICS_FILE)
    curves.curves(metrics, workdir / "curves.png")
    path = workdir / "test" / "summary.json"
    if not path.exists():
        return None
    summary = json.loads(path.read_text(encoding="utf-8"))
    current = summary.get("checkpoint_step") == best_step and "empty_policy" in summary
    return summary if current else None

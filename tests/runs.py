"""The tiny run of the tests, as a config and as a command line; and what a run leaves."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np

_VARYING = ("time", "train/images_per_s")


# U-Net, which is traced and compiled soonest, of width 4 and 8 on 8 + 4 + 3 phantom slices at
# 32x32, two steps an epoch.
_TINY = {
    "model.widths": (4, 8),
    "dataset.options.size": 64,
    "dataset.options.num_slices": (8, 4, 3),
    "dataset.image_size": 32,
    "batch_size": 4,
    "eval_batch_size": 4,
    "num_epochs": 2,
    "warmup_epochs": 0.5,
    "log_every_steps": 1,
}


# For tests of what only PR-Net has: whole runs of it are compiled in three times the time.
PRNET = {"model.widths": (4, 8), "model.heads": 2}


def tiny_fields(records: str | os.PathLike, **fields: Any) -> dict[str, Any]:
    """The fields of the tests' tiny run that differ from configs/unet.py:quick.

    It is too short to learn: its masks are full. See `trained_config` for masks that matter.

    Args:
        records: the folder of the prepared records.
        fields: replace or add to them; "__" stands for ".".
    """
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    return _TINY | {"dataset.data_dir": str(records)} | changed


def tiny_config(
    records: str | os.PathLike, network: str = "unet", **fields: Any
) -> ml_collections.ConfigDict:
    """The config of the tiny run, also of another network; arguments as for `tiny_fields`."""
    from prnet_jax.config import make_config

    config = make_config(network, "quick")
    config.update_from_flattened_dict(tiny_fields(records, **fields))
    return config


def trained_config(records: str | os.PathLike) -> ml_collections.ConfigDict:
    """The tiny run, long enough for masks with lung in them: test DSC about 0.8."""
    longer = {"num_epochs": 16, "batch_size": 2, "learning_rate": 0.03}
    return tiny_config(records, validate_every_epochs=4, **longer)


def tiny_flags(
    workdir: str | os.PathLike, records: str | os.PathLike, network: str = "unet", **fields: Any
) -> list[str]:
    """The tiny run as flags of `python -m prnet_jax.main`; other arguments as for `tiny_config`."""

    fields = tiny_fields(records, **fields)
    return [f"--config=configs/{network}.py:quick", f"--workdir={workdir}", *flags_of(fields)]


def blobs(shape: tuple[int, int, int]) -> np.ndarray:
    """int16 [N, H, W]: squares of 8 pixels in HU of a chest, some beyond the usual window."""
    n, h, w = shape
    coarse = np.random.default_rng(h).integers(-1100, 600, (n, -(-h // 8), -(-w // 8)))
    return coarse.repeat(8, 1).repeat(8, 2)[:, :h, :w].astype(np.int16)


def flags_of(fields: dict[str, Any]) -> list[str]:
    """Fields of a config as flags of `python -m prnet_jax.main`."""

    def text(value):
        return ",".join(map(str, value)) if isinstance(value, tuple) else value

    return [f"--config.{name}={text(value)}" for name, value in fields.items()]


def long_fields(records: str | os.PathLike, **fields: Any) -> dict[str, Any]:
    """The fields of a tiny run that is long enough to interrupt: five epochs of four steps.

    Log lines are means over three steps and saves are three steps apart: neither keeps pace with
    the epochs. Arguments as for `tiny_fields`.
    """
    longer = {
        "batch_size": 2,
        "num_epochs": 5,
        "ema_decay": 0.9,
        "augment.noise": 0.05,
        "log_every_steps": 3,
        "save_every_steps": 3,
    }
    return tiny_fields(records, **(longer | fields))


def long_flags(workdir: str | os.PathLike, records: str | os.PathLike, **fields: Any) -> list[str]:
    """The run of `long_fields` as flags of `python -m prnet_jax.main`."""
    return tiny_flags(workdir, records, **long_fields(records, **fields))


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of the committed checkpoints in `folder`."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    return []


def newest_step(workdir: pathlib.Path) -> int:
    """The newest committed checkpoint's step; 0 where there is none."""
    return max(steps_in(workdir / "checkpoints") + steps_in(workdir / "interim"), default=0)


def metrics_lines(workdir: pathlib.Path) -> list[dict]:
    """The complete lines of metrics.jsonl, without what differs between equal runs."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for text in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                line = json.loads(text)
                lines.append({k: v for k, v in line.items() if k not in _VARYING})
    return lines


def _leaves(tree, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from _leaves(branch, f"{path}/{name}")
    elif isinstance(tree, (list, tuple)):
        for name, branch in enumerate(tree):
            yield from _leaves(branch, f"{path}/{name}")
    elif tree is not None:
        yield path, np.asarray(tree)


def arrays_of(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by name, read with nothing but Orbax."""
    import jax
    import orbax.checkpoint as ocp

    path = (checkpoint / "state").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=as_numpy))
    return dict(_leaves(restored))


def clock_of(checkpoint: pathlib.Path) -> dict:
    """The clock of a checkpoint, without the time and the memory it took."""
    clock = json.loads((checkpoint / "clock" / "metadata").read_text())
    return {name: value for name, value in clock.items() if name not in ("train_s", "peak_mib")}


def what_is_left(workdir: pathlib.Path) -> dict:
    """Everything that is the same in the folders of two equal runs."""
    parent = workdir / "checkpoints"
    folders = {f"checkpoints/{step}": parent / str(step) for step in steps_in(parent)}
    summary = json.loads((workdir / "test" / "summary.json").read_text())
    return {
        "checkpoints": list(folders),
        "arrays": {name: arrays_of(folder) for name, folder in folders.items()},
        "clocks": {name: clock_of(folder) for name, folder in folders.items()},
        "metrics": metrics_lines(workdir),
        "summary": {k: v for k, v in summary.items() if k != "provenance"},
        "per_image": (workdir / "test" / "per_image.csv").read_bytes(),
    }


def differences(found: dict, expected: dict) -> list[str]:
    """The parts of `what_is_left` that differ in a bit; empty if none does."""
    differ = [name for name in expected if name != "arrays" and found[name] != expected[name]]
    for folder, arrays in expected["arrays"].items():
        others = found["arrays"].get(folder, {})
        if others.keys() != arrays.keys():
            differ.append(f"{folder}: other arrays")
            continue
        for name, array in arrays.items():
            same = others[name].dtype == array.dtype and others[name].shape == array.shape
            if not same or others[name].tobytes() != array.tobytes():
                differ.append(f"{folder}: {name}")
    return differ

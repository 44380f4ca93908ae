"""The folder of a run: whether a run can begin or resume there, and what it was made with."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from prnet_jax.errors import InputError, RunError
from prnet_jax.run import files
from prnet_jax.run.log import read_metrics

# Where and how fast a run is computed: it may resume with other values.
FREE_FIELDS = {"remat", "shard_state", "save_every_steps", "model.attention"}
# Likewise, and each process of a run may have its own.
LOCAL_FIELDS = {
    *("dataset.manual_dir", "dataset.data_dir", "dataset.num_threads", "dataset.cache"),
    *("distributed", "coordinator", "num_processes", "process_id", "dead_after_s"),
    *("stop_within_s", "compilation_cache", "profile_steps"),
}
# Newer fields, and what a run does that was begun without them.
BEFORE_THE_FIELD = {
    "dataset.resize": "stretch",
    "dataset.soft_mask": False,
    "validate_every_epochs": 1,
}


def check_run(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Refuses a folder that holds a run with another config, or files but no run.

    Raises:
        InputError: naming what differs.
    """
    path = workdir / files.CONFIG
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir {workdir} is a file: name a folder")
    if not is_run(workdir):
        # A run that was killed while it began may have left these.
        provenance = workdir / files.PROVENANCE
        begun = {provenance, files.new_name(provenance), files.new_name(path)}
        if workdir.exists() and not begun.issuperset(workdir.iterdir()):
            raise InputError(
                f"--workdir {workdir} holds files but no run (no {files.CONFIG}): name a new folder"
            )
        return
    differ = differing(_begun_with(path), files.flat(json.loads(config.to_json())))
    if differ:
        shown = ", ".join(differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise InputError(
            f"--workdir {workdir} holds a run with another config ({shown}{more}): "
            "repeat its command to resume it, or name a new --workdir"
        )


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """ "FIELD was X, is Y" for each flat field whose other value keeps a run from resuming."""
    before = {**_lacking(before), **before}
    return [
        f"{field} was {before.get(field)!r}, is {now.get(field)!r}"
        for field in sorted(before.keys() | now.keys())
        if field not in FREE_FIELDS | LOCAL_FIELDS and before.get(field) != now.get(field)
    ]


def lacking_fields(workdir: pathlib.Path) -> dict[str, Any]:
    """Fields that were not there when the run in a folder began, and how it goes on: {name: value}.

    Raises:
        InputError: its config is damaged.
    """
    return _lacking(_begun_with(workdir / files.CONFIG)) if is_run(workdir) else {}


def settings_of(config: ml_collections.ConfigDict) -> str:
    """The settings that all processes of a run must share, as text to compare."""
    fields = files.flat(json.loads(config.to_json()))
    return json.dumps({k: v for k, v in sorted(fields.items()) if k not in LOCAL_FIELDS})


def is_run(workdir: pathlib.Path) -> bool:
    """Whether a run was begun in the folder."""
    return (workdir / files.CONFIG).exists()


def open_run(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Begins a run by writing its config and provenance, or checks that it can resume.

    Returns:
        What provenance.json holds: for a run that resumes, what it was begun with.

    Raises:
        InputError: as `check_run`, or the run was begun with other splits of the data.
    """
    check_run(workdir, config)
    path = workdir / files.PROVENANCE
    if is_run(workdir) and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        # The hash of the splits knows only the names of the images.
        if any(before.get(key) != provenance[key] for key in ("records", "split_manifest_sha256")):
            raise InputError(
                f"--workdir {workdir} holds a run on other splits or images "
                f"({before.get('records')}, now {provenance['records']}): give it the same images "
                "to resume it, or name a new --workdir"
            )
        return before
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(path, provenance)
    # Last: a folder with a config is a run.
    files.write_whole(workdir / files.CONFIG, config.to_json(indent=1) + "\n")
    return provenance


def read_run(workdir: str | os.PathLike) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
    """The config and the provenance of a run; fields that it was begun without are filled in.

    Raises:
        InputError: the folder holds no run, or damaged files.
    """
    workdir = pathlib.Path(workdir)
    config, about = (_read_json(workdir, name) for name in (files.CONFIG, files.PROVENANCE))
    needed = ("split_manifest_sha256", "records")
    if not isinstance(about, dict) or any(name not in about for name in needed):
        raise InputError(
            f"{workdir / files.PROVENANCE} does not say {' and '.join(needed)}: train again"
        )
    try:
        lacking = _lacking(files.flat(config))
        config = ml_collections.ConfigDict(config)
        config.model.name, config.dataset.name  # noqa: B018
        config.update_from_flattened_dict(lacking)
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"{workdir / files.CONFIG} is not a config of this program") from None
    return config, about


def epoch_of(workdir: pathlib.Path, step: int) -> int | None:
    """The epoch that ended with `step`, from metrics.jsonl; None where that does not say."""
    path = workdir / files.METRICS
    records = read_metrics(path) if path.exists() else []
    return next((r["epoch"] for r in records if r["step"] == step and "epoch" in r), None)


def epochs_run(workdir: pathlib.Path) -> int | None:
    """The number of epochs that were trained, from metrics.jsonl; None where that does not say."""
    path = workdir / files.METRICS
    records = read_metrics(path) if path.exists() else []
    return max((r["epoch"] for r in records if "epoch" in r), default=None)


def train_clock(workdir: pathlib.Path) -> dict[str, Any]:
    """The clock of the newest checkpoint, see `prnet_jax.run.session`; {} where there is none."""
    newest: dict[str, Any] = {}
    for parent in (files.CHECKPOINTS, files.INTERIM):
        for path in (workdir / parent).glob("[0-9]*/clock/metadata"):
            with contextlib.suppress(OSError, ValueError):
                clock = json.loads(path.read_text(encoding="utf-8"))
                newest = max(newest, clock, key=lambda c: c.get("train_s") or 0.0)
    return newest


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other processes on this machine out of a run; most network disks cannot lock.

    Raises:
        RunError: another process has the lock.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    folder = os.open(workdir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise RunError(
            f"another process is training in {workdir}: wait until it has ended, or stop it"
        ) from None
    except OSError:
        pass  # this disk has no locks
    try:
        yield
    finally:
        os.close(folder)


def _begun_with(path: pathlib.Path) -> dict[str, Any]:
    """The fields of a config.json, flat."""
    try:
        return files.flat(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError):
        raise InputError(
            f"{path} is not a config that this program wrote: restore it or name a new --workdir"
        ) from None


def _lacking(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: old for name, old in BEFORE_THE_FIELD.items() if name not in fields}


def _read_json(workdir: pathlib.Path, name: str) -> Any:
    try:
        return json.loads((workdir / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{workdir} is not a run directory (it has no {name}): name one that "
            "python -m prnet_jax.main made"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{workdir / name} cannot be read ({type(error).__name__}): restore it or train again"
        ) from None

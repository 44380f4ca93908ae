"""The folder that describes a run: its config and provenance, and whether it may be continued."""

import json
import pathlib
from typing import Any

import ml_collections

from prnet_jax.errors import InputError
from prnet_jax.run.files import METRICS, flat, write_whole
from prnet_jax.run.log import read_metrics

# Where things lie, and on what and how fast they are computed: a run may go on with others.
_FREE_FIELDS = {"remat", "shard_state", "save_every_steps"}


# Of these every process of a run may have its own.
_LOCAL_FIELDS = {
    *("dataset.manual_dir", "dataset.data_dir", "dataset.num_threads", "dataset.cache"),
    *("distributed", "coordinator", "num_processes", "process_id", "dead_after_s"),
    *("stop_within_s", "compilation_cache"),
}


_BEGUN = {"provenance.json", "provenance.json.new", "config.json.new"}


def check_run(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Refuses a folder that holds a run of another config, or no run but other files.

    Raises:
        InputError: naming what differs.
    """
    path = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir {workdir} is a file: name a folder")
    if not is_run(workdir):
        # What a kill can leave of a run that was just being begun does not count.
        if workdir.exists() and any(path.name not in _BEGUN for path in workdir.iterdir()):
            raise InputError(
                f"--workdir {workdir} holds files but no run (no config.json): name a new folder"
            )
        return
    try:
        before = flat(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError):
        raise InputError(
            f"{path} is not a config that this program wrote: mend it or name a new --workdir"
        ) from None
    now = flat(json.loads(config.to_json()))
    differ = [
        field
        for field in sorted(before.keys() | now.keys())
        if field not in _FREE_FIELDS | _LOCAL_FIELDS and before.get(field) != now.get(field)
    ]
    if differ:
        shown = ", ".join(f"{f} was {before.get(f)!r}, is {now.get(f)!r}" for f in differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise InputError(
            f"--workdir {workdir} holds a run of another config ({shown}{more}): "
            "repeat its command to go on with it, or name a new --workdir"
        )


def settings_of(config: ml_collections.ConfigDict) -> str:
    """What all processes of a run must be told alike, as text to compare."""
    fields = flat(json.loads(config.to_json()))
    return json.dumps({k: v for k, v in sorted(fields.items()) if k not in _LOCAL_FIELDS})


def is_run(workdir: pathlib.Path) -> bool:
    """Whether a run was begun there."""
    return (workdir / "config.json").exists()


def open_run(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Makes the folder with config.json and provenance.json, or checks that it goes with them.

    Returns:
        What provenance.json holds: of a run that goes on, what it was begun with.

    Raises:
        InputError: as `check_run`, or the run was made with another split of the data.
    """
    check_run(workdir, config)
    path = workdir / "provenance.json"
    if is_run(workdir) and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        key = "split_manifest_sha256"
        if before.get(key) != provenance[key]:
            raise InputError(
                f"--workdir {workdir} holds a run on other splits or images "
                f"({before.get('records')}, now {provenance['records']}): name a new --workdir"
            )
        return before
    workdir.mkdir(parents=True, exist_ok=True)
    # The config last: a folder with a config is a run.
    write_whole(path, json.dumps(provenance, indent=1) + "\n")
    write_whole(workdir / "config.json", config.to_json(indent=1) + "\n")
    return provenance


def read_run(workdir: pathlib.Path) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
    """The config and the provenance of a run.

    Raises:
        InputError: the folder holds no run, or damaged files.
    """
    found = []
    for name in ("config.json", "provenance.json"):
        try:
            found.append(json.loads((workdir / name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(
                f"{workdir} is no run directory (it holds no {name}): name one that "
                "python -m prnet_jax.main made"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(
                f"{workdir / name} cannot be read ({type(error).__name__}): mend it or train again"
            ) from None
    config, about = found
    needed = ("split_manifest_sha256", "records")
    if not isinstance(about, dict) or any(name not in about for name in needed):
        raise InputError(
            f"{workdir / 'provenance.json'} does not say {' and '.join(needed)}: train again"
        )
    try:
        config = ml_collections.ConfigDict(config)
        config.model.name, config.dataset.name  # noqa: B018
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"{workdir / 'config.json'} is not a config of this program") from None
    return config, about


def epoch_of(workdir: pathlib.Path, step: int) -> int | None:
    """The epoch that ended with `step`, by metrics.jsonl; None where that does not know."""
    path = workdir / METRICS
    records = read_metrics(path) if path.exists() else []
    return next((r["epoch"] for r in records if r["step"] == step and "epoch" in r), None)

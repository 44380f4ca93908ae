"""Whether a checkpoint is as it was written, by the SHA-256 of each of its files."""

import hashlib
import json
import pathlib

from prnet_jax.run.files import write_whole

_FOLDER = "seals"  # beside the checkpoints; runs of every version call it so


def checkpoint_folders(parent: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the checkpoints in `parent`, oldest first."""
    found = [p for p in parent.glob("*") if p.name.isdigit()]
    return sorted(found, key=lambda p: int(p.name))


def checksums_of(folder: pathlib.Path) -> pathlib.Path:
    """The file that holds the checksums of the checkpoint in `folder`."""
    return folder.parent / _FOLDER / f"{folder.name}.json"


def write_checksums(folder: pathlib.Path) -> None:
    """Records what every file of the checkpoint in `folder` holds now."""
    files = {name: _sha256(folder / name) for name in _files(folder)}
    path = checksums_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(files, indent=1) + "\n")


def damage(folder: pathlib.Path) -> str | None:
    """The first difference between the checkpoint in `folder` and its checksums, or None.

    A checkpoint without checksums passes: it was complete when its writer was killed.
    """
    path = checksums_of(folder)
    if not path.exists():
        return None
    try:
        files = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"its checksums {path} cannot be read"
    found = set(_files(folder))
    for name, expected in files.items():
        if name not in found:
            return f"{folder / name} is missing"
        if _sha256(folder / name) != expected:
            return f"{folder / name} has changed since it was written"
    if extra := sorted(found - set(files)):
        return f"{folder / extra[0]} was added"
    return None


def remove_stale_checksums(parent: pathlib.Path) -> None:
    """Removes the checksums of checkpoints that are no longer in `parent`."""
    for path in (parent / _FOLDER).glob("*.json*"):
        if path.suffix == ".new" or not (parent / path.stem).exists():
            path.unlink()


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

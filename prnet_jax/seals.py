"""Says whether a folder is as it was written: a seal holds the SHA-256 of each of its files."""

import hashlib
import json
import pathlib

from prnet_jax.run_directory import write_whole


def seal(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Writes what all files in `folder` are like now as a JSON file `path`."""
    files = {name: _sha256(folder / name) for name in _files(folder)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(files, indent=1) + "\n")


def damage(folder: pathlib.Path, path: pathlib.Path) -> str | None:
    """How `folder` differs from its seal, one file for all; None where it does not.

    A folder without a seal, whose writer was killed after the folder was whole and before its seal
    was, passes.
    """
    if not path.exists():
        return None
    try:
        files = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"its seal {path} cannot be read"
    found = set(_files(folder))
    for name, expected in files.items():
        if name not in found:
            return f"{folder / name} is missing"
        if _sha256(folder / name) != expected:
            return f"{folder / name} has other bytes than were written"
    if extra := sorted(found - set(files)):
        return f"{folder / extra[0]} was added"
    return None


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

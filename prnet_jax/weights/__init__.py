"""Weights that come with the package: found by name, checked by their SHA-256, each with a card.

`index.json` maps a name to `file`, `sha256` and `about`, a line on what the weights are for. The
card, NAME.md, says what they were trained on, how well they do, and where they fail.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

from prnet_jax.errors import InputError

FOLDER = pathlib.Path(__file__).parent
_INDEX = "index.json"


def released() -> dict[str, dict[str, Any]]:
    """{name: its entry of the index}."""
    return json.loads((FOLDER / _INDEX).read_text(encoding="utf-8"))


def find_weights(path: str | os.PathLike) -> pathlib.Path:
    """The file of released weights, if `path` is their name; else `path` as it is.

    A path that exists wins over a name.

    Raises:
        InputError: the name's file is damaged, or neither a path nor a name is known.
    """
    path = pathlib.Path(path)
    if path.exists() or len(path.parts) != 1:
        return path
    entries = released()
    if path.name not in entries:
        known = " or ".join(["a run", "a file of weights", *entries])
        raise InputError(f"{path} does not exist and is no name of released weights: name {known}")
    entry = entries[path.name]
    file = FOLDER / entry["file"]
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != entry["sha256"]:
        raise InputError(f"{file} is missing or damaged: install prnet_jax again")
    return file

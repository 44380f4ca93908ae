"""Values on a command line."""

import argparse
import ast
import os
import pathlib
from typing import Any

from prnet_jax.errors import InputError


def name_and_value(text: str) -> tuple[str, Any]:
    """ "name=value" -> the name and a Python literal, true, false or else a word.

    Raises:
        argparse.ArgumentTypeError: not of that form.
    """
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, found {text!r}")
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    except (ValueError, SyntaxError):
        pass  # a word
    return name, tuple(value) if isinstance(value, list) else value


def check_new_folder(flag: str, folder: pathlib.Path) -> None:
    """Refuses a folder that results cannot be written to, or that holds something already.

    Raises:
        InputError: naming the flag and the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{flag} {folder} is there already: name a new or an empty folder")
    above = folder
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{flag} {folder} cannot be made, {above} is no folder to write to")

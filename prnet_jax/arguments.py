"""Values on a command line."""

import argparse
import ast
from typing import Any


def name_and_value(text: str) -> tuple[str, Any]:
    """"name=value" -> the name and a Python literal, true, false or else a word.

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

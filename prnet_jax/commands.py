"""What every command shares: exit codes, values on a command line, folders for results."""

import argparse
import ast
import difflib
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable
from typing import Any

from prnet_jax.errors import InputError, RunError, Stopped

FAILED = 1  # could not continue: a full disk, a lost process, or a bug
MISTAKE = 2  # a person's: a file, an option, a setting
ABORTED = 130  # a second Ctrl-C; what shells report for it


def exit_code(error: BaseException) -> int:
    """The exit code of a command that ended with `error`: 0 where it was asked to stop."""
    if isinstance(error, Stopped):
        return 0
    return MISTAKE if isinstance(error, InputError) else FAILED


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command and turns our own errors into one line on standard error.

    Args:
        command: its exit code, or None for 0.

    Returns:
        The exit code. Any other exception is a bug and keeps its trace.
    """
    try:
        return command() or 0
    except (InputError, RunError, Stopped) as error:
        line = str(error) if isinstance(error, Stopped) else f"error: {one_line(error)}"
        print(line, file=sys.stderr)
        return exit_code(error)


def interpreter() -> str:
    """This Python as it is typed: `python`, or a path, relative where it is below this folder."""
    for name in ("python", "python3"):
        if shutil.which(name) == sys.executable:
            return name
    path = pathlib.Path(sys.executable)
    here = pathlib.Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


class Help(argparse.HelpFormatter):
    """Fills paragraphs to the terminal's width, and keeps lines that begin with spaces."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        parts = text.split("\n\n")
        return "\n\n".join(p if "\n  " in p else fill(p, width, indent) for p in parts)


def examples(doc: str, subcommand: str = "") -> str:
    """The commands in a module's docstring, for its `--help`.

    Args:
        doc: a command in it is a line of its own that begins with "python -m".
        subcommand: only those of it.
    """
    lines = re.findall(r"^ *(python -m .+)$", doc, re.MULTILINE)
    chosen = [line for line in lines if not subcommand or line.split()[3] == subcommand]
    return "\n  ".join(["example:" if len(chosen) == 1 else "examples:", *chosen])


def name_and_value(text: str) -> tuple[str, Any]:
    """ "name=value" -> the name and the value: a Python literal, true, false, or else a word.

    Raises:
        argparse.ArgumentTypeError: the text has another form.
    """
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, found {text!r}")
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    except (ValueError, SyntaxError):
        pass  # a word
    return name, tuple(value) if isinstance(value, list) else value


def config_file(text: str) -> tuple[pathlib.Path, str]:
    """The file and the variant that `--config` names, or "" for no variant.

    Args:
        text: FILE.py[:VARIANT]; or NAME[:VARIANT] of a config that the package brings along, which
            configs/NAME.py means too where there is no such file.

    Raises:
        InputError: there is no such file.
    """
    file, _, variant = text.partition(":")
    path = pathlib.Path(file)
    if path.suffix == ".py" and path.is_file():
        return path, variant
    own = _own_configs()
    name = path.stem if path == pathlib.Path("configs", f"{path.stem}.py") else file
    if name not in own:
        near = difflib.get_close_matches(path.stem, own, 1)
        hint = f"did you mean {near[0]}?" if near else f"name one, or one of {', '.join(own)}"
        raise InputError(f"--config {file} is not a file: {hint}")
    return own[name], variant


def _own_configs() -> dict[str, pathlib.Path]:
    """The files of `configs/` by name: in a wheel beside this file, else in the checkout's root."""
    here = pathlib.Path(__file__).resolve().parent
    folder = next(f for f in (here / "configs", here.parent / "configs") if f.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def add_weights_options(group: argparse._ArgumentGroup) -> None:
    """Adds what a file of weights may not say of itself: model, fields, image_size, resize, entry.

    Args:
        group: of a parser.
    """
    group.add_argument("--model", metavar="NAME", help="needed unless the file says it")
    group.add_argument(
        "--field",
        dest="fields",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the network, such as bilinear=true; may be repeated",
    )
    group.add_argument("--image-size", type=int, metavar="PIXELS", help="default: as it says, 256")
    group.add_argument(
        "--resize", choices=("pad", "stretch", "middle"), help="how a slice becomes that square"
    )
    group.add_argument("--entry", metavar="NAME", help="where in the file they are, such as ema")


def add_set(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--set FIELD=VALUE`, which may be repeated; the values are pairs, see `name_and_value`.

    Args:
        parser: of a command.
        what: which fields, for the help.
    """
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=name_and_value,
        metavar="FIELD=VALUE",
        help=f"{what}; repeatable",
    )


def add_flips(parser: argparse.ArgumentParser) -> None:
    """Adds `--flips`, as `Predictor` has it."""
    parser.add_argument(
        "--flips", action="store_true", help="mean over a slice and its mirror images"
    )


def check_new_folder(flag: str, folder: pathlib.Path) -> None:
    """Refuses a folder that cannot be written to or that already holds something.

    Raises:
        InputError: naming the flag and the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{flag} {folder} already exists: name a new or an empty folder")
    above = folder
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(
            f"{flag} {folder} cannot be created: {above} is not a folder that you can write to"
        )

"""Trains a network and scores it: python -m prnet_jax.main --config prnet:quick

The same command again resumes a run that was stopped. Every field of the config can be set as
--config.FIELD=VALUE; --describe lists the fields with their meaning.
"""

import contextlib
import difflib
import errno
import os
import pathlib
import re
import runpy
import signal
import sys
import traceback
from collections.abc import Iterator

from absl import app, flags, logging
from ml_collections import config_flags

from prnet_jax import commands
from prnet_jax.errors import InputError, RunError
from prnet_jax.preemption import Stop
from prnet_jax.run.files import flat
from prnet_jax.working import working

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The config, followed by :variant: prnet:quick of the package's own, or a file such as "
    "configs/prnet.py:quick.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run directory; by default runs/<config>_<variant>."
)
_DESCRIBE = flags.DEFINE_bool(
    "describe", False, "Print the fields of --config with their values and meaning, and end."
)


def main(argv: list[str]) -> int:
    """The exit code: see `prnet_jax.commands`."""
    with Stop() as stop:
        try:
            return commands.run_command(lambda: _run(argv, stop))
        except SystemExit:  # after --help, which absl ends with 1
            return 0


def _run(argv: list[str], stop: Stop) -> None:
    _parse(argv)
    if _DESCRIBE.value:
        from prnet_jax.config import describe

        print(describe(_CONFIG.value))
        return
    # Here, because importing JAX takes a while, which --help need not.
    with working("starting"):
        from prnet_jax import compiler, processes
        from prnet_jax.config import check_config
        from prnet_jax.train import train_and_evaluate

    config = _CONFIG.value
    workdir = pathlib.Path(_WORKDIR.value or _default_workdir())
    check_config(config)
    stop.within_s = config.stop_within_s
    compiler.disable_ynn()
    compiler.keep_memory()
    with processes.joined(config), _naming_a_full_disk(workdir):
        stop.share_sigterm()
        compiler.self_check()
        train_and_evaluate(config, workdir, stop.reached)


@contextlib.contextmanager
def _naming_a_full_disk(workdir: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"a file of {workdir} could not be written ({error}): make room, then repeat the "
            "command; the checkpoints are kept"
        ) from error


def _parse(argv: list[str]) -> None:
    """Reads the command line into the flags.

    Raises:
        InputError: something is not a flag, a file, a field of the config or a value of its type.
    """
    app.define_help_flags()
    argv = _with_config_path(argv)
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(_explain(error, argv)) from error
    if len(rest) > 1:
        raise InputError(f"unexpected {rest[1]!r}: settings are --config.FIELD=VALUE, see --help")
    if _CONFIG.value is None:
        raise InputError("--config is missing, such as --config prnet:quick")
    logging.set_verbosity(logging.FATAL)  # our errors end in one line


def _with_config_path(argv: list[str]) -> list[str]:
    """The command line with the path of the config's file where it may have only its name.

    Raises:
        InputError: there is no such file.
    """
    argv = list(argv)
    for i, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag.lstrip("-") != "config" or not flag.startswith("-"):
            continue
        if equals:
            argv[i] = f"{flag}={_config_path(value)}"
        elif i + 1 < len(argv):
            argv[i + 1] = _config_path(argv[i + 1])
    return argv


def _config_path(name: str) -> str:
    path, variant = commands.config_file(name)
    return f"{path}:{variant}" if variant else str(path)


def _explain(error: Exception, argv: list[str]) -> str:
    """One line for what absl or ml_collections raised."""
    cause = error
    while cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, InputError):  # raised in the config file, and wrapped since
        return str(cause)
    if isinstance(error, flags.Error):
        return str(error).splitlines()[0]
    # ml_collections names only the part of the path that it does not know.
    misspelt = re.search(r"\w+", str(error))[0]
    paths = [arg[len("--config.") :].split("=")[0] for arg in argv if arg.startswith("--config.")]
    for path in paths:
        if misspelt in path.split("."):
            return f"the config has no field {path!r}{_near(path, argv)}"
    return str(error).splitlines()[0]


def _near(path: str, argv: list[str]) -> str:
    """A hint at fields of the config that are spelt like `path`."""
    # ml_collections has run the file by now, but does not give the config out yet.
    named = "\n".join(argv)
    file, _, variant = re.search(r"^--config[=\n](.+)$", named, re.MULTILINE)[1].partition(":")
    fields = list(flat(runpy.run_path(file)["get_config"](variant).to_dict()))
    near = difflib.get_close_matches(path, fields, 2)
    near += [field for field in fields if field.split(".")[-1] == path.split(".")[-1]]
    hint = f": did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    return f"{hint or ':'} --describe lists them"


def _config_file() -> tuple[str, str]:
    """The config file and the variant after the colon."""
    file, _, variant = flags.FLAGS["config"].config_filename.partition(":")
    return file, variant


def _default_workdir() -> pathlib.Path:
    file, variant = _config_file()
    return pathlib.Path("runs", "_".join(filter(None, (pathlib.Path(file).stem, variant))))


if __name__ == "__main__":
    try:
        code = main(sys.argv)
    except Exception:
        traceback.print_exc()
        code = commands.FAILED
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # too late: everything is done
    if code == commands.FAILED:  # Python would wait minutes for the threads of a failed save
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)

"""Lists the commands, or runs one: prnet, or python -m prnet_jax

prnet train --config prnet:quick

Bash and zsh complete commands and flags after `pip install 'prnet_jax[completion]'` and
`eval "$(register-python-argcomplete prnet)"`.
"""

import argparse
import difflib
import os
import pathlib
import runpy
import sys

from prnet_jax import __version__
from prnet_jax.commands import MISTAKE

COMMANDS = {
    "main": "trains a network and scores it: --config prnet:quick",
    "predict": "writes masks of your CT: files, folders, DICOM series",
    "evaluate": "scores a run on any split of any data set",
    "compare": "sets evaluated runs side by side: tables, tests and a page",
    "export": "writes a network as one program that runs with JAX alone, or in ONNX",
    "torch_weights": "moves weights between PyTorch and Flax",
    "models": "lists the networks, or the parameters of one",
    "benchmark": "speed and memory beside PyTorch in the same run",
    "scaling": "what devices send each other in a training step",
    "doctor": "checks this machine: versions, devices, compiler, data, disk",
}
_SHORT = {"main": "train"}  # after `prnet`; the others are called like their module


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that the first argument names, or prints a line for each.

    A command that runs ends this process with its own exit code.

    Args:
        arguments: those of this process if None.
    """
    modules = {_SHORT.get(module, module): module for module in COMMANDS}
    if "_ARGCOMPLETE" in os.environ:
        _complete(modules)
        return 0
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in modules:
        # As `python -m prnet_jax.NAME` does; nothing is imported that the command does not need.
        sys.argv = [f"prnet {name}", *rest]
        runpy.run_module(f"prnet_jax.{modules[name]}", run_name="__main__", alter_sys=True)
        return 0
    if name in ("--version", "-V"):
        print(f"prnet_jax {__version__}")
        return 0
    if name not in ("--help", "-h"):
        near = difflib.get_close_matches(name, modules, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(modules)}"
        print(f"error: no command {name!r}: {hint}", file=sys.stderr)
        return MISTAKE
    print(_list())
    return 0


def _list() -> str:
    """The commands as they are typed here: `prnet` is there once the package is installed."""
    if pathlib.Path(sys.argv[0]).name == "prnet":
        typed = {f"prnet {_SHORT.get(module, module)}": what for module, what in COMMANDS.items()}
    else:
        typed = {f"python -m prnet_jax.{module}": what for module, what in COMMANDS.items()}
    width = max(map(len, typed))
    lines = [f"  {command:<{width}}  {what}" for command, what in typed.items()]
    title = "PR-Net and seven other lung CT segmentation networks. Each command has --help."
    example = f"example:\n  {next(iter(typed))} --config prnet:quick"
    return "\n".join([title, "", *lines, "", example])


def _complete(modules: dict[str, str]) -> None:
    """Tells a shell that asks by argcomplete's protocol what may follow, and ends this process.

    Args:
        modules: by the names of their commands.
    """
    import argcomplete

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    words = f"{line}|".split()[1:-1]  # those that are complete
    if not words:
        parser = argparse.ArgumentParser()
        parser.add_argument("command", choices=modules)
        argcomplete.autocomplete(parser)
    elif modules.get(words[0], "main") != "main":  # its flags are absl's
        # The command answers where it would read its arguments, and ends.
        for name in ("parse_args", "parse_intermixed_args"):
            setattr(argparse.ArgumentParser, name, lambda it, *_: argcomplete.autocomplete(it))
        os.environ["_ARGCOMPLETE"] = "2"  # the command is the second word
        runpy.run_module(f"prnet_jax.{modules[words[0]]}", run_name="__main__")


if __name__ == "__main__":
    sys.exit(main())

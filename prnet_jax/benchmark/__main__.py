"""Speed and memory of the networks on this machine, beside PyTorch in the same run.

    python -m prnet_jax.benchmark --model prnet --batch 4 --size 128 --against torch
    python -m prnet_jax.benchmark --model all --size 256 --dtype bfloat16 --parts train,infer
    python -m prnet_jax.benchmark --against torch,torch-compile --torch-python other/bin/python
    python -m prnet_jax.benchmark --parts data,evaluate,startup --json rows.json

Each side is a process of its own; they take turns while the others wait, so another interpreter can
have PyTorch. Times are medians; JSON has the quartiles too. The parts train, infer and attention
need jax, flax, optax and numpy alone. docs/performance.md explains the columns.
"""

import argparse
import pathlib
import sys

from prnet_jax.benchmark.choices import (
    DTYPES,
    LEAST_REPETITIONS,
    PARTS,
    PEERS,
    Choices,
)
from prnet_jax.commands import add_set, run_command
from prnet_jax.models import list_models


def main(argv: list[str] | None = None) -> int:
    """Measures what the command line chooses; the exit code: see `prnet_jax.commands`."""
    arguments = _parser().parse_args(argv)
    if arguments.model == ("all",):
        arguments.model = tuple(list_models())
    choices = Choices(
        models=arguments.model,
        parts=arguments.parts,
        batch=arguments.batch,
        size=arguments.size,
        dtype=arguments.dtype,
        against=arguments.against,
        torch_python=arguments.torch_python,
        fields=dict(arguments.set),
        repetitions=arguments.repetitions,
        slices=arguments.slices,
        json=arguments.json,
    )

    def run() -> int:
        choices.check()
        from prnet_jax.benchmark.run import Benchmark

        return Benchmark(choices).run()

    return run_command(run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", type=_names, default=("prnet",), metavar="NAME,...", help='or "all"'
    )
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images; default: 4")
    parser.add_argument("--size", type=int, default=128, metavar="PIXELS", help="default: 128")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the computation")
    parser.add_argument(
        "--parts",
        type=_names,
        default=("train", "infer"),
        metavar="PART,...",
        help=f"of {', '.join(PARTS)}; default: train,infer",
    )
    parser.add_argument(
        "--against", type=_names, default=(), metavar="PEER,...", help=f"of {', '.join(PEERS)}"
    )
    parser.add_argument(
        "--torch-python",
        default=sys.executable,
        metavar="PATH",
        help="the interpreter that has PyTorch; default: this one",
    )
    add_set(parser, "a field of the network, such as widths=16,32,64,128")
    parser.add_argument(
        "--repetitions",
        type=int,
        default=LEAST_REPETITIONS,
        metavar="N",
        help=f"turns of each side, default and least: {LEAST_REPETITIONS}",
    )
    parser.add_argument(
        "--slices",
        type=int,
        default=64,
        metavar="N",
        help="of predict, data and evaluate; default: 64",
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, text.split(","))))


if __name__ == "__main__":
    sys.exit(main())

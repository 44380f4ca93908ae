"""What devices send each other in a training step.

    python -m prnet_jax.scaling --config configs/prnet.py
    python -m prnet_jax.scaling --config configs/prnet.py:quick --devices 1,2,4
    python -m prnet_jax.scaling --config configs/prnet.py --set shard_state=true --devices 8
    python -m prnet_jax.scaling --config configs/prnet.py --tpu --devices 4,16,256
    python -m prnet_jax.scaling --config configs/prnet.py --set dtype=bfloat16 --chip 8x256,2x512

Compiles the real training step for virtual CPU devices, or with --tpu by the TPU's own compiler
(`pip install prnet_jax[tpu]`; no TPU is needed), and reads the collectives from the compiled
program. Nothing is run. Prints two Markdown tables: what is sent; and, computed from published link
speeds, the smallest batch with which communication takes at most 10 % of a step.

--chip prints other tables, of the step on one v5e chip, by the TPU's compiler: its memory,
operations and bytes, how much of them is padding, and the least time that the chip's published
speeds allow. Nothing is said of how fast a TPU is. docs/performance.md explains the columns.
"""

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prnet_jax.commands import add_set, run_command
from prnet_jax.scaling.collectives import Collective
from prnet_jax.scaling.interconnect import MACHINES, SHARE, communication_s, latency_s, least_batch

if TYPE_CHECKING:
    from prnet_jax.scaling.step import Step

_DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_COMPILE_SIZE = 32  # side of the image in pixels; what is sent does not depend on it
_UTILISATIONS = (0.2, 0.4, 0.6)  # the part of its peak speed that a device reaches
_SENT_HEADER = """\
| devices | gradient | BatchNorm forward | BatchNorm backward | other | collectives | bytes | \
as the formula says |
|--:|--:|--:|--:|--:|--:|--:|---|"""


def _sent_row(devices: int, step: "Step") -> str:
    cells = []
    for purpose in ("gradient", "forward", "backward"):
        cells.append(_cell([c for c in step.collectives if step.purpose(c) == purpose]))
    other = [c for c in step.collectives if step.purpose(c) == "other"]
    kinds = dict.fromkeys(c.kind for c in other)
    cells.append(
        "; ".join(f"{kind} {_cell([c for c in other if c.kind == kind])}" for kind in kinds) or "-"
    )
    total = sum(c.bytes for c in step.collectives)
    expected = step.expected_bytes() if devices > 1 else 0
    agrees = "yes" if total == expected else f"no: {expected:,}"
    row = (devices, *cells, len(step.collectives), f"{total:,}", agrees)
    return f"| {' | '.join(map(str, row))} |"


def _cell(found: Sequence[Collective]) -> str:
    return f"{len(found)}: {sum(c.bytes for c in found):,} B" if found else "-"


def _batch_table(steps: dict[int, "Step"], flops: float) -> Iterable[str]:
    """The lines of the second table; `steps` by the number of devices, `flops` of one image."""
    uses = " | ".join(f"{use:.0%}" for use in _UTILISATIONS)
    yield f"| machine | devices | bytes, ms | latency, ms | {uses} |"
    yield "|---|" + "--:|" * (3 + len(_UTILISATIONS))
    for machine in MACHINES:
        for devices, step in steps.items():
            if devices == 1:
                continue
            seconds = communication_s(step.collectives, machine)
            latency = latency_s(step.collectives, machine)
            speeds = [use * machine.peak for use in _UTILISATIONS]
            batches = [least_batch(seconds, flops / speed) for speed in speeds]
            times = (f"{1e3 * (seconds - latency):.2f}", f"{1e3 * latency:.2f}")
            yield f"| {' | '.join(map(str, (machine.title, devices, *times, *batches)))} |"


def main(argv: list[str] | None = None) -> int:
    """The exit code: see `prnet_jax.commands`."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.chip:
        return _run_chip(arguments)
    # Here, because importing JAX takes a while, which --help need not.
    import jax

    from prnet_jax.scaling.step import compile_step, image_flops, read_config

    fields = dict(arguments.set)
    config = read_config(arguments.config, fields)
    jax.config.update("jax_platforms", "cpu")
    flops = image_flops(config)
    size = config.dataset.image_size
    compiler = "the TPU compiler (v5e)" if arguments.tpu else "the CPU compiler"
    steps = {}
    for devices in arguments.devices:
        print(f"Compiling for {devices} devices.", file=sys.stderr, flush=True)
        step = compile_step(
            arguments.config, fields, devices, arguments.compile_size, arguments.tpu
        )
        if not steps:
            print(
                f"{arguments.config}: {step.parameters:,} parameters ({step.zero_gradient:,} with "
                f"zero gradient), {step.channels:,} channels in {len(step.norms)} BatchNorms; "
                f"{flops / 1e9:.1f} GFLOP per image of {size}x{size}; jax {jax.__version__}, "
                f"{compiler}\n\n{_SENT_HEADER}"
            )
        print(_sent_row(devices, step), flush=True)
        steps[devices] = step
    print(
        f"\nThe smallest batch per device with which communication takes at most {SHARE:.0%} of "
        "the step, for three utilisations of the peak. Computed, not measured.\n"
    )
    print("\n".join(_batch_table(steps, flops)))


def _run_chip(arguments: argparse.Namespace) -> None:
    import jax

    from prnet_jax.scaling import chip
    from prnet_jax.scaling.step import read_config

    config = read_config(arguments.config, dict(arguments.set))
    jax.config.update("jax_platforms", "cpu")
    found = []
    for batch, side in arguments.chip:
        print(f"Compiling for {batch} x {side}x{side}.", file=sys.stderr, flush=True)
        found.append(chip.figures(config, batch, side))
        if len(found) == 1:
            versions = f"jax {jax.__version__}, libtpu {importlib.metadata.version('libtpu')}"
            print(f"{arguments.config} on one v5e chip, {versions}\n\n{chip.FIGURES_HEADER}")
        print(chip.figures_row(found[-1]), flush=True)
    print(f"\nWhat is moved, by the inner two axes of the arrays.\n\n{chip.TILES_HEADER}")
    print("\n".join(chip.tile_rows(found)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="as for prnet_jax.main"
    )
    add_set(parser, "a top-level field of the config, such as dtype=bfloat16")
    parser.add_argument(
        "--devices",
        type=_device_counts,
        default=_DEVICES,
        metavar="N,N,...",
        help=f"default: {','.join(map(str, _DEVICES))}; each takes about a minute",
    )
    parser.add_argument(
        "--compile-size",
        type=int,
        default=_COMPILE_SIZE,
        metavar="PIXELS",
        help="side of the image in the compiled step, which does not change what is sent; "
        f"default: {_COMPILE_SIZE}",
    )
    parser.add_argument("--tpu", action="store_true", help="compile for TPU v5e slices")
    parser.add_argument(
        "--chip",
        type=_chip_sizes,
        metavar="BATCHxSIDE,...",
        help="instead, the step on one TPU v5e chip, such as 8x256,2x512; each takes minutes",
    )
    return parser


def _chip_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """(batch, side of the image) of each."""
    found = [re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", word) for word in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"must be BATCHxSIDE,... such as 8x256; found {text!r}")
    return tuple((int(match[1]), int(match[2])) for match in found if match)


def _device_counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(word) for word in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1 or max(counts) > 1024:
        raise argparse.ArgumentTypeError(
            f"must be numbers from 1 to 1024, such as 1,2,4; found {text!r}"
        )
    return tuple(sorted(set(counts)))


if __name__ == "__main__":
    sys.exit(main())

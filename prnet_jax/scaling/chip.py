"""What the TPU's compiler says of a training step on one v5e chip, which need not exist."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from prnet_jax import sharding, steps
from prnet_jax.config import check_config
from prnet_jax.errors import InputError
from prnet_jax.scaling import layouts, padding
from prnet_jax.scaling.interconnect import MACHINES
from prnet_jax.scaling.padding import Bytes
from prnet_jax.scaling.step import abstract_step, step_flops, v5e_chips

HBM_BYTES_PER_S = 819e9  # https://docs.cloud.google.com/tpu/docs/v5e, as for MACHINES
_V5E = MACHINES[0]
_LEAST_SHARE = 0.01  # of all bytes: groups of arrays below it are one row

FIGURES_HEADER = """\
| batch x side | dtype | memory, MiB | padding | GFLOP | compiler's | GB | padding | compiler's | \
operations, ms | bytes, ms | Mcycles | compiled in |
|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""
TILES_HEADER = """\
| batch x side | inner axes | values, GB | with padding, GB | of all |
|--:|--:|--:|--:|--:|"""


class Figures(NamedTuple):
    """Figures of a compiled training step; those of padding are read from the program's text.

    Attributes:
        batch: images.
        side: of an image, in pixels.
        dtype: of the computation.
        memory: bytes of arguments, results and what is in between, as the compiler has it.
        live: the arrays that are in memory when the most is: see `padding.live`.
        flops: operations before optimisation; a multiply-add is two.
        compiled_flops: operations as the compiler counts them in its program.
        accessed: bytes that the program reads and writes, as the compiler counts them: in every
            memory, and for each pixel that a gather takes the whole image.
        moved: bytes of the arrays that are read and written: see `padding.moved`.
        tiles: the same by the lengths of the arrays' inner two axes.
        cycles: what the compiler estimates for all instructions, one after another.
        seconds: that compiling took.
    """

    batch: int
    side: int
    dtype: str
    memory: int
    live: Bytes
    flops: float
    compiled_flops: float
    accessed: float
    moved: Bytes
    tiles: dict[tuple[int, int], Bytes]
    cycles: int
    seconds: float


def figures(config: Any, batch: int, side: int) -> Figures:
    """Compiles a config's training step for one v5e chip.

    Args:
        config: as `prnet_jax.train` takes it; its image size is not used, and an accumulated step
            is compiled as one of a single part.
        batch: images of the step.
        side: of an image, in pixels.

    Raises:
        InputError: the network does not take the side, the step does not fit the chip, or libtpu is
            not installed.
    """
    config = config.copy_and_resolve_references()
    config.dataset.image_size, config.accumulate_steps = side, 1
    check_config(config)
    steps.check_shapes(config, steps.make_model(config))
    axes = sharding.make_mesh()
    mesh = jax.make_mesh(
        (1,), axes.axis_names, axis_types=axes.axis_types, devices=v5e_chips(4)[:1]
    )
    step, arguments = abstract_step(config, mesh, batch)
    begin = time.perf_counter()
    try:
        program = step.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"--chip {batch}x{side} does not fit a v5e chip: {str(error).splitlines()[0]}; "
            "give a smaller batch or side"
        ) from None
    seconds = time.perf_counter() - begin
    instructions = layouts.entry(program.as_text())
    needs, counted = program.memory_analysis(), program.cost_analysis()
    moved = padding.moved(instructions)
    return Figures(
        batch,
        side,
        config.dtype,
        memory=needs.argument_size_in_bytes
        + needs.output_size_in_bytes
        - needs.alias_size_in_bytes
        + needs.temp_size_in_bytes,
        live=padding.total(padding.live(instructions)),
        flops=step_flops(config, batch),
        compiled_flops=counted["flops"],
        accessed=counted["bytes accessed"],
        moved=padding.total(moved),
        tiles=padding.by_tile(moved),
        cycles=padding.cycles(instructions),
        seconds=seconds,
    )


def figures_row(of: Figures) -> str:
    """A row of the first table: memory, work, and the least time that each allows."""
    cells = (
        f"{of.batch} x {of.side}",
        of.dtype,
        f"{of.memory / 2**20:,.0f}",
        f"{of.live.padding:.0%}",
        f"{of.flops / 1e9:,.0f}",
        f"{of.compiled_flops / 1e9:,.0f}",
        f"{of.moved.padded / 1e9:.1f}",
        f"{of.moved.padding:.0%}",
        f"{of.accessed / 1e9:.1f}",
        f"{1e3 * of.flops / _V5E.peak:.1f}",
        f"{1e3 * of.moved.padded / HBM_BYTES_PER_S:.1f}",
        f"{of.cycles / 1e6:.1f}",
        f"{of.seconds:.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def tile_rows(found: Sequence[Figures]) -> Iterable[str]:
    """The rows of the second table: what is moved, by the arrays' inner two axes."""
    for of in found:
        name = f"{of.batch} x {of.side}, {of.dtype}"
        rest = Bytes(0, 0)
        for inner, size in of.tiles.items():
            if size.padded < _LEAST_SHARE * of.moved.padded:
                rest = Bytes(rest.values + size.values, rest.padded + size.padded)
                continue
            yield _tile_row(name, "{} x {}".format(*inner), size, of.moved)
        yield _tile_row(name, "others", rest, of.moved)


def _tile_row(name: str, inner: str, size: Bytes, moved: Bytes) -> str:
    share = size.padded / moved.padded if moved.padded else 0.0
    cells = (name, inner, f"{size.values / 1e9:.2f}", f"{size.padded / 1e9:.2f}", f"{share:.0%}")
    return f"| {' | '.join(cells)} |"

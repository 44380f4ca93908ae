"""An exported program behind the interface of a predictor."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np

from prnet_jax import compiler, sharding
from prnet_jax.errors import InputError
from prnet_jax.export.folder import read_header, read_program, read_weights
from prnet_jax.predictor import Predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedPredictor(Predictor):
    """A `Predictor` whose slices are windowed and resized by the program itself.

    Each new size of slices, and each new number of them, is compiled once.

    Attributes:
        program: (variables, slices float32 [N, H, W]) -> probability float32 [N, H, W].
    """

    program: Callable[[Any, np.ndarray], jax.Array]

    def probabilities(self, slices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """As `Predictor.probabilities`."""
        size = self.config.eval_batch_size
        for _, alike in itertools.groupby(slices, key=np.shape):
            batch = None
            while chunk := list(itertools.islice(alike, size)):
                # The last of a volume's batches is filled, so that it need not be compiled.
                batch = batch or len(chunk)
                filled = np.zeros((batch, *chunk[0].shape), np.float32)
                filled[: len(chunk)] = chunk
                yield from np.asarray(self.program(self.variables, filled))[: len(chunk)]

    def prob(self, images: np.ndarray) -> jax.Array:
        """As `Predictor.prob`."""
        low, high = self.config.dataset.window_hu
        return self.program(self.variables, images[..., 0] * np.float32(high - low) + low)


def load_exported(path: pathlib.Path, batch_size: int | None = None) -> ExportedPredictor:
    """The network of an exported program.

    Args:
        path: of the program.
        batch_size: slices computed at a time; None: the run's `eval_batch_size`.

    Raises:
        InputError: files that cannot be read.
        RunError: the compiler of this machine computes wrongly, see `prnet_jax.compiler`.
    """
    compiler.disable_ynn()
    compiler.self_check()
    config, header = read_header(path)
    program, weights = read_program(path, header), read_weights(path, header)
    config.eval_batch_size = batch_size or config.eval_batch_size
    return ExportedPredictor(
        config=config,
        step=_refuse,
        variables=jax.device_put(weights),
        mesh=sharding.make_mesh(),
        unit=header["unit"],
        seen=header["seen"],
        flips=header["flips"],
        program=jax.jit(program.call),
    )


def _refuse(*_: Any) -> NoReturn:
    raise InputError("an exported program only predicts: evaluate the run that it is of")

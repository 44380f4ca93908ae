"""A predictor of whatever holds a network: a run, a file of weights or an exported program."""

import os
import pathlib
import warnings
from typing import Any

from prnet_jax import predictor
from prnet_jax.errors import InputError
from prnet_jax.export.folder import program_path
from prnet_jax.export.loaded import load_exported
from prnet_jax.predictor import Predictor


def load(
    path: str | os.PathLike, *, flips: bool = False, batch_size: int | None = None, **weights: Any
) -> Predictor:
    """The network of a run with the weights of its best checkpoint, or of a file.

    Args:
        path: a run directory, a file of weights, a folder of imported ones, the name of released
            weights (see `prnet_jax.weights`), or a program of `Predictor.export` or the folder that
            it lies in.
        flips: average over an image and its mirror images.
        batch_size: slices computed at a time, over all devices, which divide it evenly after
            rounding up; None: the run's `eval_batch_size`.
        weights: only for imported weights, where they do not say it themselves: arguments of
            `prnet_jax.torch_weights.network.load_weights` such as `name` and `image_size`. What is
            taken for granted is a Python warning, or goes to `tell`.

    Raises:
        InputError: none of these, or a run without a complete checkpoint.
        RunError: the compiler of this machine computes wrongly, see `prnet_jax.compiler`.
    """
    weights.setdefault("tell", lambda line: warnings.warn(" ".join(line.split()), stacklevel=5))
    program = program_path(pathlib.Path(path))
    if program is None:
        return predictor.load(path, flips=flips, batch_size=batch_size, **weights)
    if chosen := sorted(name for name, value in weights.items() if value and name != "tell"):
        raise InputError(f"{path} is an exported program, so {', '.join(chosen)} cannot be chosen")
    loaded = load_exported(program, batch_size)
    if flips and not loaded.flips:
        raise InputError(f"{path} was exported without flips: export it again with --flips")
    return loaded

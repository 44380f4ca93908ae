"""A network in ONNX, by jax2onnx, and how far ONNX Runtime differs from JAX on it."""

import pathlib
from collections.abc import Mapping

import jax
import ml_collections
import numpy as np

from prnet_jax import steps
from prnet_jax.errors import InputError, RunError
from prnet_jax.export.folder import read_header, read_weights
from prnet_jax.export.program import nested
from prnet_jax.run.files import write_whole

TOLERANCE = 1e-3  # of a probability; rounding stays far below it, a wrong conversion does not


def write_onnx(path: pathlib.Path) -> float:
    """Writes *.onnx beside an exported program, of the network alone.

    Args:
        path: of the program.

    Returns:
        As `convert`.

    Raises:
        InputError: jax2onnx or onnxruntime is not installed.
        RunError: the difference is above `TOLERANCE`; nothing was written.
    """
    config, header = read_header(path)
    try:
        content, difference = convert(config, read_weights(path, header), header["flips"])
    except ImportError as error:
        raise InputError(
            f"--onnx needs {error.name}: make an environment for it (docs/guides/export.md), and "
            f"there run python -m prnet_jax.export --refresh {path.parent} --onnx"
        ) from None
    if not difference <= TOLERANCE:
        raise RunError(
            f"ONNX Runtime differs from JAX by {difference:.1e} in the probability of "
            f"{header['network']}, above {TOLERANCE:g}: {path.stem}.onnx was not written"
        )
    write_whole(path.with_suffix(".onnx"), content)
    return difference


def convert(
    config: ml_collections.ConfigDict, weights: Mapping[str, np.ndarray], flips: bool = False
) -> tuple[bytes, float]:
    """A network in ONNX, with its weights.

    It takes images float32 [N, S, S, 1] in 0..1, N free and S the network's size: slices after
    windowing and resizing. It gives the probability float32 [N, S, S].

    Args:
        config: a run's settings.
        weights: of `prnet_jax.export.program.flat_weights`.
        flips: average over an image and its mirror images.

    Returns:
        The content of the file, and the largest difference between the probabilities of ONNX
        Runtime and of JAX on two random images.
    """
    import jax2onnx
    import onnxruntime

    model, variables, size = steps.make_model(config), nested(weights), config.dataset.image_size

    def probability(images):
        return steps.logits_and_prob(model, variables, images, flips)[1][..., 0]

    content = jax2onnx.to_onnx(probability, [("N", size, size, 1)]).SerializeToString()
    images = np.random.default_rng(0).random((2, size, size, 1), np.float32)
    session = onnxruntime.InferenceSession(content)
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    return content, float(np.abs(found - np.asarray(jax.jit(probability)(images))).max())

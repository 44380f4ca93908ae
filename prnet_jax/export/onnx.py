"""A network in ONNX, by jax2onnx, and how far ONNX Runtime differs from JAX on it."""

import pathlib

import jax
import numpy as np

from prnet_jax import steps
from prnet_jax.errors import InputError, RunError
from prnet_jax.export.folder import read_header, read_weights
from prnet_jax.export.program import nested
from prnet_jax.run.files import write_whole

TOLERANCE = 1e-5  # of a probability


def write_onnx(path: pathlib.Path) -> float:
    """Writes *.onnx beside an exported program, of the network alone.

    It takes images float32 [N, S, S, 1], N free, S the network's size: slices windowed to 0..1 and
    resized. It gives the probability float32 [N, S, S]. Its weights are inside.

    Args:
        path: of the program.

    Returns:
        The largest difference between the probabilities of ONNX Runtime and of JAX.

    Raises:
        InputError: jax2onnx or onnxruntime is not installed.
        RunError: the difference is above `TOLERANCE`; nothing was written.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"--onnx needs {error.name}: make an environment for it (docs/guides/export.md), and "
            f"there run python -m prnet_jax.export --refresh {path.parent} --onnx"
        ) from None
    config, header = read_header(path)
    model, variables = steps.make_model(config), nested(read_weights(path, header))
    size = config.dataset.image_size

    def probability(images):
        return steps.logits_and_prob(model, variables, images, header["flips"])[1][..., 0]

    converted = jax2onnx.to_onnx(probability, [("N", size, size, 1)], model_name=header["network"])
    content = converted.SerializeToString()
    images = np.random.default_rng(0).random((2, size, size, 1), np.float32)
    session = onnxruntime.InferenceSession(content)
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    difference = float(np.abs(found - np.asarray(jax.jit(probability)(images))).max())
    if not difference <= TOLERANCE:
        raise RunError(
            f"ONNX Runtime differs from JAX by {difference:.1e} in the probability of "
            f"{header['network']}, above {TOLERANCE:g}: model.onnx was not written"
        )
    write_whole(path.with_suffix(".onnx"), content)
    return difference

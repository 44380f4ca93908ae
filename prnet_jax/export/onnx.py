"""A network in ONNX, by jax2onnx, and how far ONNX Runtime differs from JAX on it."""

import pathlib
from collections.abc import Mapping
from typing import Any

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

    graph = jax2onnx.to_onnx(probability, [("N", size, size, 1)])
    sum_by_axes(graph)
    content = graph.SerializeToString()
    images = np.random.default_rng(0).random((2, size, size, 1), np.float32)
    session = onnxruntime.InferenceSession(content)
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    with jax.default_matmul_precision("highest"):  # GPUs and TPUs would round float32
        expected = np.asarray(jax.jit(probability)(images))
    return content, float(np.abs(found - expected).max())


def sum_by_axes(model: Any) -> None:
    """Splits each sum over several axes into sums over one axis each, in place.

    ONNX Runtime adds all pixels of a channel to one float32 number, one after the other: over 64x64
    pixels that lost 1e-5 of the moments of an InstanceNorm, and a trained network made 2e-4 of it.
    Sums of rows, and then of these, have as small an error as XLA's.

    Args:
        model: an `onnx.ModelProto`.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        axes = []
        if node.op_type in ("ReduceSum", "ReduceSumSquare") and len(node.input) > 1:
            if node.input[1] in constants:
                axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        if len(axes) < 2 or min(axes) < 0:
            nodes.append(node)
            continue
        keep = next((field.i for field in node.attribute if field.name == "keepdims"), 1)
        (x, *_), kind = node.input, node.op_type
        for axis in sorted(axes, reverse=True):  # so that those still to come keep their number
            last = axis == min(axes)
            out = node.output[0] if last else f"{node.output[0]}_{axis}"
            where = f"{node.output[0]}_axis_{axis}"
            graph.initializer.append(numpy_helper.from_array(np.array([axis]), where))
            nodes.append(helper.make_node(kind, [x, where], [out], keepdims=keep))
            x, kind = out, "ReduceSum"
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)

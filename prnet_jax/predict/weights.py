"""The networks of a prediction, and what the report says of them."""

import pathlib
from collections.abc import Sequence
from typing import Any

from prnet_jax.errors import InputError
from prnet_jax.loading import load
from prnet_jax.predict.options import Options
from prnet_jax.predict.report import digest_of_weights
from prnet_jax.predictor import Predictor
from prnet_jax.run.provenance import software


def load_all(
    paths: Sequence[pathlib.Path], options: Options, **weights: Any
) -> tuple[list[Predictor], dict[str, Any]]:
    """The predictors of runs or weights, and entries `weights` and `software` for the report.

    Args:
        paths: see `prnet_jax.load`.
        options: of the prediction.
        weights: of imported weights, see `prnet_jax.load`.

    Raises:
        InputError: one cannot be loaded, or they were trained on different units.
    """
    predictors = [
        load(path, flips=options.flips, batch_size=options.batch_size, **weights) for path in paths
    ]
    units = {one.unit for one in predictors}
    if len(units) > 1:
        raise InputError(
            f"the runs were trained on different units, {' and '.join(sorted(units))}: predict "
            "with each alone"
        )
    weights = [
        {
            "from": str(path),
            "network": one.config.model.name,
            "image_size": one.config.dataset.image_size,
            "resize": one.config.dataset.resize,
            "window": list(one.config.dataset.window_hu),
            "sha256": digest_of_weights(one.variables),
        }
        for path, one in zip(paths, predictors, strict=True)
    ]
    return predictors, {"weights": weights, "software": software()}

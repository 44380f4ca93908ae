"""Where the weights of an exported program are from, and how they scored."""

import json
import pathlib
from typing import Any

from prnet_jax.run import files
from prnet_jax.run.directory import read_run
from prnet_jax.run.variables import best_step

# Of the summary of the test split
_SCORES = ("records", "split", "resolution", "tta", "threshold", "checkpoint_step")
_SCORES += ("empty_policy", "metrics", "pooled", "counts")


def origin_of(source: pathlib.Path) -> dict[str, Any]:
    """What is known of the weights of a run or of a file.

    Args:
        source: what `prnet_jax.load` took.

    Returns:
        `weights_from`, the name of the file or the run, with the step of a run's best checkpoint;
        of a run also `provenance`, and `metrics` if its test split was scored; of JSON.
    """
    name = source.resolve().name
    if not (source / files.CONFIG).is_file():
        return {"weights_from": name}
    _, provenance = read_run(source)
    origin = {"weights_from": f"{name}, step {best_step(source)}", "provenance": provenance}
    summary = source / files.TEST / files.SUMMARY
    if summary.is_file():
        scores = json.loads(summary.read_text(encoding="utf-8"))
        origin["metrics"] = {key: scores[key] for key in _SCORES if key in scores}
    return origin

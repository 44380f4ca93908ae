"""The card of published weights: Markdown below the metadata that the Hugging Face Hub reads."""

import json
from collections.abc import Mapping
from typing import Any

import jax

from prnet_jax.metrics.names import PRINTED_METRICS

_USE = """```python
import prnet_jax

predictor = prnet_jax.from_pretrained("{repo}")  # or the folder that holds these files
result = predictor.predict(array)  # [H, W] or [D, H, W] in {unit} -> mask, prob, warnings
```"""


def card_text(
    config: Mapping[str, Any],
    variables: Mapping[str, Any],
    license: str,
    about: str,
    repo: str,
) -> str:
    """The content of README.md.

    Args:
        config: the content of config.json.
        variables: of the network.
        license: as the Hub names it.
        about: Markdown of the person who publishes.
        repo: the repository.
    """
    name = config["network"]
    # JSON is YAML; no value can break out of its line.
    metadata = {
        "license": license,
        "library_name": "prnet_jax",
        "pipeline_tag": "image-segmentation",
        "tags": ["jax", "flax", "medical", "ct", "lung", name],
    }
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in metadata.items())
    unit = "HU" if config.get("unit", "HU") == "HU" else "grey values, 0 to 255"
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    parts = [
        f"---\n{front}\n---",
        f"# {name}: segmentation of CT",
        about.strip(),
        "For research: this is not a medical device.",
        "## Use",
        _USE.format(repo=repo, unit=unit),
        "## What it is",
        _table({"": ""} | _facts(config, unit, count)),
        _scores(config.get("metrics")),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _facts(config: Mapping[str, Any], unit: str, count: int) -> dict[str, Any]:
    provenance, training = config.get("provenance", {}), config.get("training", {})
    size, window = config.get("image_size"), config.get("window_hu")
    facts = {
        "network": f"{config['network']}, {count:,} parameters, float32",
        "images": f"{size}x{size} ({config.get('resize')})" if size else None,
        "unit": unit,
        "window": "{:g} to {:g}".format(*window) if window else None,
        "threshold": config.get("threshold"),
        "weights from": config.get("weights_from"),
        "trained on": provenance.get("records"),
        "started from": ", ".join(provenance.get("started_from", [])) or None,
        "seed": provenance.get("seed"),
        "epochs planned": training.get("num_epochs"),
        "code": f"prnet_jax {config['version']}, revision {provenance.get('git_revision')}",
        "SHA-256": f"`{config['file']['sha256']}`",
    }
    return {key: value for key, value in facts.items() if value is not None}


def _scores(summary: Mapping[str, Any] | None) -> str:
    """The scores of the run's test split; nothing where it was not scored."""
    if not summary or not summary.get("metrics"):
        return ""
    rows = {"metric": "mean ± sd, images"}
    for metric in PRINTED_METRICS:
        if score := summary["metrics"].get(metric.name):
            spread = f"{metric.text(score['mean'])} ± {metric.text(score['sd'])}"
            rows[metric.label] = f"{spread}, {score['n']}"
    how = f"On the {summary.get('split')} split of {summary.get('records')}, threshold "
    how += f"{summary.get('threshold')}, test-time augmentation: {summary.get('tta')}."
    return f"## Scores\n\n{how}\n\n{_table(rows)}"


def _table(rows: Mapping[str, Any]) -> str:
    """Markdown; the first row is the head."""
    lines = [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join([lines[0], "|---|---|", *lines[1:]])


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")

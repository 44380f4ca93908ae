"""Made-up run directories like those that evaluate writes, for the tests of compare."""

import json

import numpy as np

from prnet_jax.figures.gallery import Gallery
from prnet_jax.metrics import METRICS, score_image, summarize
from prnet_jax.run.files import csv_text

SIZE = 32
IMAGES = 12


def masks(count=IMAGES):
    """Discs of several sizes, bool [count, SIZE, SIZE]."""
    y, x = np.mgrid[:SIZE, :SIZE]
    discs = [(y - 16) ** 2 + (x - 14 - i % 4) ** 2 < (6 + i % 5) ** 2 for i in range(count)]
    return np.stack(discs)


def probs(quality, seed, count=IMAGES):
    """The discs with noise, less of it the higher the quality; float32, shaped like `masks`."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, SIZE, SIZE))
    # Each image has its own amount of noise, so that scores differ.
    share = (1 - quality) * (0.5 + rng.random((count, 1, 1)))
    return np.clip(0.5 + 0.45 * (2 * masks(count) - 1) + share * noise, 0, 1).astype(np.float32)


def write_run(
    folder,
    network="prnet",
    seed=0,
    quality=0.8,
    prob=None,
    target=None,
    ids=None,
    patients=None,
    overlays=True,
    config=None,
    spacing_mm=None,
    **summary,
):
    """Writes config.json, provenance.json and test/ of a run and returns the folder.

    Args:
        folder: the run directory to make.
        network, seed: of the run.
        quality: below 1; see `probs`.
        prob, target: predictions and masks, instead of those of `probs` and `masks`.
        ids, patients: of the images; by default every two of them belong to a patient.
        overlays: whether to write pictures.
        config: further fields of config.json.
        spacing_mm: of all images.
        summary: entries of summary.json to override.
    """
    test = folder / "test"
    test.mkdir(parents=True)
    prob = probs(quality, seed) if prob is None else prob
    target = masks(len(prob)) if target is None else target
    ids = ids or [f"slice_{i:02d}" for i in range(len(prob))]
    rows = []
    for i, id in enumerate(ids):
        scores = score_image(prob[i], target[i], 0.5, spacing_mm)
        patient = patients[i] if patients else f"patient_{i // 2}"
        rows.append({"id": id, "patient_id": patient, **scores})
    names = [""] * len(rows)
    if overlays:
        with Gallery(test, 0.5) as gallery:
            for i, row in enumerate(rows):
                gallery.add(row, prob[i] * 0.5, target[i], prob[i])
            names = [path.name for path in gallery.finish(rows)]
    table = [row | {"overlay": name} for row, name in zip(rows, names, strict=True)]
    columns = ["id", "patient_id", *METRICS, "empty", "overlay"]
    (test / "per_image.csv").write_text(csv_text(table, columns), encoding="utf-8")

    about = {
        "network": network,
        "seed": seed,
        "dataset": "finding_lungs",
        "records": "finding_lungs/default-1a2b3c4d/1.1.0",
        "mask": "mask",
        "split": "test",
        "checkpoint_step": 728,
        "checkpoint_epoch": 28,
        "split_manifest_sha256": "ab12" * 16,
        "image_size": SIZE,
        "threshold": 0.5,
        "threshold_from": "given",
        "tta": "none",
        "provenance": {"git_revision": "0123abc", "packages": {"jax": "0.10.2"}},
    }
    write_json(test / "summary.json", about | summarize(rows) | summary)
    fields = {"seed": seed, "threshold": 0.5, "learning_rate": 1e-3, "model": {"name": network}}
    write_json(folder / "config.json", fields | (config or {}))
    return folder


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def change_json(path, **entries):
    """Sets entries of a JSON file, and removes those that are None."""
    content = json.loads(path.read_text(encoding="utf-8")) | entries
    write_json(path, {k: v for k, v in content.items() if v is not None})

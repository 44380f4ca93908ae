"""What prepared records hold, for the tests of all builders."""

import tensorflow_datasets as tfds

from prnet_jax.data import records, splits


def read(builder: tfds.core.DatasetBuilder) -> dict[str, dict]:
    """Every record by id, decoded: its split, patient, unit, pixels, spacing and masks by name."""
    decoders = records.undecoded(builder.info.features)
    masks = [name for name in decoders if name != "image"]
    return {
        record["id"].decode(): {
            "split": split,
            "patient": record["patient_id"].decode(),
            "unit": record["unit"].decode(),
            "pixels": records.decode_hu(record["image"]),
            **{name: records.decode_mask(record[name]) for name in masks},
            "spacing": record["spacing_mm"],
        }
        for split in splits.SPLITS
        for record in builder.as_data_source(split, decoders=decoders)
    }

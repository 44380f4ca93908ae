"""Which network weights belong to, and how it is used: what files of weights say of themselves."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from prnet_jax.config import check_config, default_config
from prnet_jax.data.records import UNITS
from prnet_jax.data.untrusted import MAX_PIXELS
from prnet_jax.errors import InputError
from prnet_jax.models import list_models, model_fields
from prnet_jax.run import files
from prnet_jax.run.variables import image_settings_of, load_variables, network_of, unit_of
from prnet_jax.torch_weights.convert import from_torch
from prnet_jax.torch_weights.files import read_metadata, read_state_dict

STATED_NAME = "network"
_FIELDS = "fields"
_IMAGES = "images"


@dataclasses.dataclass(frozen=True)
class Network:
    """Which network it is, and how it was trained to see an image.

    Attributes:
        name: a name of `list_models()`.
        fields: all fields of the network.
        image_settings: as far as they are known, "image_size", "window_hu" and "resize" as in
            `config.dataset`, "unit" of `UNITS`, and "threshold" of the probability.
    """

    name: str
    fields: dict[str, Any]
    image_settings: dict[str, Any]


def metadata_of(folder: str | os.PathLike) -> dict[str, str]:
    """What a file of the weights in a folder should say of itself, for `write_state_dict`.

    Args:
        folder: a run, or imported weights.
    """
    name, fields = network_of(folder)
    about = {"format": "pt", "version": f"prnet_jax {importlib.metadata.version('prnet_jax')}"}
    content = {STATED_NAME: name, _FIELDS: fields, **image_settings_of(folder)}
    if images := images_of(folder):
        content[_IMAGES] = images
    return about | {k: v if isinstance(v, str) else json.dumps(v) for k, v in content.items()}


def images_of(path: str | os.PathLike) -> dict[str, Any]:
    """What the images looked like that weights were trained on, see `prnet_jax.data.appearance`.

    Args:
        path: a run, or a file or a folder of weights.

    Returns:
        What is recorded of them; nothing where nothing is.
    """
    path = pathlib.Path(path)
    try:
        if not path.is_dir():
            return dict(json.loads(read_metadata(path).get(_IMAGES, "{}")))
        provenance = path / files.PROVENANCE
        text = provenance.read_text(encoding="utf-8") if provenance.is_file() else "{}"
        return dict(json.loads(text).get(_IMAGES) or {})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}  # only a warning depends on it


def which_network(
    weights: str | os.PathLike, name: str | None = None, fields: Mapping[str, Any] | None = None
) -> Network:
    """The network whose weights a file or a folder holds.

    Args:
        weights: a file that `read_state_dict` takes, or a folder of imported weights.
        name: of the network; needed where the file does not say it.
        fields: overrides as for `create_model`; in a folder they are fixed.

    Raises:
        InputError: the name is not known, or another than that in the file; what the file says
            cannot be used.
    """
    path = pathlib.Path(weights)
    if path.is_dir():
        if not (path / files.NETWORK).is_file():
            raise InputError(
                f"{path} is no folder of imported weights: name one, or a file of weights; a run "
                "is evaluated by --workdir"
            )
        if fields:
            raise InputError(f"{path} states the network's fields: omit --field")
        stated, stated_fields = network_of(path)
        about = image_settings_of(path)
    else:
        metadata = read_metadata(path)
        stated = metadata.get(STATED_NAME)
        stated_fields, about = {}, {}
        if stated:
            model_fields(stated)  # refuses an unknown network
            stated_fields, about = _parsed(path, metadata)
    if stated and name not in (None, stated):
        raise InputError(f"{path} holds {stated}, not {name}: correct or omit --model")
    if not (stated or name):
        raise InputError(
            f"{path} does not say which network it is of: give --model, one of "
            f"{', '.join(list_models())}"
        )
    name = stated or name
    known, given = model_fields(name), stated_fields | dict(fields or {})
    if unknown := sorted(given.keys() - known.keys()):
        raise InputError(
            f"network {name} has no field {unknown[0]!r}: it has {', '.join(known) or 'none'}"
        )
    return Network(name, known | given, about)


def read_variables(
    weights: str | os.PathLike,
    network: Network,
    entry: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The variables of `network` in a file or a folder, as NumPy arrays of the dtypes there.

    Args:
        weights: as for `which_network`.
        network: what that gave.
        entry: of the file, see `read_state_dict`.
        tell: gets a line for the user where a file holds more than arrays.
    """
    if pathlib.Path(weights).is_dir():
        return load_variables(weights)
    return from_torch(network.name, read_state_dict(weights, entry, tell), **network.fields)


def load_weights(
    weights: str | os.PathLike,
    name: str | None = None,
    fields: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    window: tuple[float, float] | None = None,
    resize: str | None = None,
    entry: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[ml_collections.ConfigDict, dict[str, Any], str]:
    """Weights with what is needed to predict with them.

    Args:
        weights: a file or a folder of imported weights.
        name: of the network, see `which_network`.
        fields: likewise.
        image_size: side of the images that the network sees, in pixels; None: what the weights
            say, else the default of `prnet_jax.config`.
        window: (low, high) that becomes 0..1, likewise.
        resize: how slices become squares, likewise.
        entry: of the file, see `read_state_dict`.
        tell: gets a line for the user about what is passed over or taken for granted.

    Returns:
        A run's config for this network; its variables in float32; the unit of its images, "HU" or
        "grey".

    Raises:
        InputError: the weights cannot be read, or the network is not one of slices and masks.
    """
    network = which_network(weights, name, fields)
    for field in ("in_channels", "num_classes"):
        if network.fields[field] != 1:
            raise InputError(
                f"{weights} is of a {network.name} with {field}={network.fields[field]}; slices "
                "and masks have one channel, so only weights of one can be used"
            )
    chosen = {"image_size": image_size, "window_hu": window, "resize": resize}
    settings = network.image_settings | {k: v for k, v in chosen.items() if v is not None}
    config = default_config(network.name)
    config.init_from = str(weights)
    with config.ignore_type():
        config.seed = None  # not known
    config.model = ml_collections.ConfigDict({**network.fields, "name": network.name})
    for key in config.dataset.keys() & settings.keys():
        value = settings[key]
        config.dataset[key] = tuple(map(float, value)) if key == "window_hu" else value
    config.threshold = settings.get("threshold", config.threshold)
    check_config(config)
    data = config.dataset
    size, (low, high) = data.image_size, data.window_hu
    if chosen.keys() - settings.keys():
        tell(
            f"images     assumed to be {size}x{size} ({data.resize}), {low:g} to {high:g}: give "
            "--image-size, --window and --resize as the network was trained"
        )
    variables = read_variables(weights, network, entry, tell)
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), variables)
    return config, variables, unit_of(config.dataset.window_hu, settings)


def _parsed(path: pathlib.Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict]:
    """The fields and the image settings that a file of ours states."""
    about = {key: metadata[key] for key in ("resize", "unit") if key in metadata}
    try:
        fields = dict(json.loads(metadata.get(_FIELDS, "{}")))
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        if "image_size" in metadata:
            about["image_size"] = int(metadata["image_size"])
            if about["image_size"] ** 2 > MAX_PIXELS:
                raise ValueError(f"image_size {about['image_size']}")
        if "threshold" in metadata:
            about["threshold"] = float(metadata["threshold"])
        if "window_hu" in metadata:
            low, high = json.loads(metadata["window_hu"])
            about["window_hu"] = (float(low), float(high))
        if about.get("unit", UNITS[0]) not in UNITS:
            raise ValueError(f"unit {about['unit']!r}")
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} says of itself what cannot be used ({error}): export it again"
        ) from None
    return fields, about

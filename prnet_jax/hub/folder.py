"""A folder of published weights: model.safetensors, config.json about it, README.md for people.

config.json has the SHA-256 of the weights and what is known of their training, without paths of the
machine that trained them. The weights say themselves which network they are of.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from prnet_jax.data.untrusted import printable
from prnet_jax.errors import InputError
from prnet_jax.export.origin import origin_of
from prnet_jax.hub.card import card_text
from prnet_jax.models import model_fields
from prnet_jax.run import files
from prnet_jax.run.directory import LOCAL_FIELDS
from prnet_jax.run.variables import image_settings_of, load_variables, network_of
from prnet_jax.torch_weights.convert import to_torch
from prnet_jax.torch_weights.files import write_state_dict
from prnet_jax.torch_weights.network import metadata_of

MODEL, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
MOST_BYTES = {CONFIG: 2**20, MODEL: 2**32}
_FORMAT = "prnet_jax weights 1"
# Of provenance.json; the rest names folders or is large.
_PROVENANCE = (
    *("git_revision", "python", "packages", "devices", "processes", "records"),
    *("split_manifest_sha256", "seed", "checkpoint_chosen_by"),
)


def save_pretrained(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    license: str,
    about: str = "",
    repo: str = "USER/REPOSITORY",
) -> None:
    """Writes the weights of a run's best checkpoint as a folder that `from_pretrained` reads.

    Where a run averages its weights, these are the averaged ones. They are written as float32.

    Args:
        path: a run, or a folder of imported weights.
        folder: a new or an empty one.
        license: of the weights, as the Hub names licences: "apache-2.0", "cc-by-nc-4.0", "other".
            That of the images that they were trained on may narrow the choice.
        about: Markdown for the card: what the weights are for, where they fail.
        repo: the repository that the card names.

    Raises:
        InputError: another folder, a folder that holds files, or no licence.
    """
    path, folder = pathlib.Path(path), pathlib.Path(folder)
    if not license.strip() or license != printable(license):
        raise InputError(f"license={license!r} names no licence: give one such as 'apache-2.0'")
    name, fields = network_of(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not overwritten: name a new or an empty folder")
    variables = load_variables(path)
    write_state_dict(folder / MODEL, to_torch(name, variables, **fields), metadata_of(path))
    content = (folder / MODEL).read_bytes()
    config = {
        "format": _FORMAT,
        "library_name": "prnet_jax",
        "version": importlib.metadata.version("prnet_jax"),
        "network": name,
        "fields": fields,
        **image_settings_of(path),
        "file": {
            "name": MODEL,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        },
        **_published(origin_of(path)),
    }
    if (path / files.CONFIG).is_file():
        config["training"] = _training(path)
    files.write_whole(folder / CARD, card_text(config, variables, license, about, repo))
    # Last: a folder that has it is complete.
    files.write_json(folder / CONFIG, config)


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """The config.json of a folder of published weights.

    Raises:
        InputError: it is absent, of another program, or of a network that is not known.
    """
    try:
        if path.stat().st_size > MOST_BYTES[CONFIG]:
            raise ValueError("it is too large")
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["format"] != _FORMAT:
            raise ValueError(f"format {config['format']!r}")
        name, file = config["network"], config["file"]
        if not (isinstance(name, str) and type(file["bytes"]) is int and file["sha256"]):
            raise TypeError("network or file")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            printable(
                f"{path} is not what prnet_jax.push_to_hub writes ({type(error).__name__}: "
                f"{error}): name a folder or a repository that it made"
            )
        ) from None
    model_fields(name)  # refuses an unknown network
    return config


def check_weights(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Refuses weights that are not those that a config.json is about.

    Raises:
        InputError: they are absent, damaged or others.
    """
    expected = config["file"]
    try:
        size = path.stat().st_size
        if size == expected["bytes"]:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == expected["sha256"]:
                    return
    except OSError as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): copy it again") from None
    raise InputError(
        f"{path} ({size:,} bytes) is not the file of {expected['bytes']:,} bytes that {CONFIG} is "
        "about, or damaged: copy both again"
    )


def _training(run: pathlib.Path) -> dict[str, Any]:
    """The settings of a run without what belongs to the machine that it was on."""
    fields = files.flat(json.loads((run / files.CONFIG).read_text(encoding="utf-8")))
    private = LOCAL_FIELDS | {"init_from"}
    return {name: value for name, value in fields.items() if name not in private}


def _published(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What `origin_of` gives, without paths; `started_from` are the data of the runs before."""
    published = {key: origin[key] for key in ("weights_from", "metrics") if key in origin}
    if provenance := origin.get("provenance"):
        kept = {key: provenance[key] for key in _PROVENANCE if key in provenance}
        earlier, chain = provenance.get("init_from"), []
        while earlier:
            chain.append(earlier.get("records") or "weights of unknown training")
            earlier = earlier.get("init_from")
        published["provenance"] = kept | ({"started_from": chain} if chain else {})
    return published

"""The files of an export: model.stablehlo, model.npz beside it, and model.json about both.

The JSON file has the settings of the run, where the weights are from, how they scored, and the
SHA-256 of the others; see docs/guides/export.md.
"""

import datetime
import hashlib
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import jaxlib
import ml_collections
import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.export.program import PLATFORMS, export_program
from prnet_jax.export.validity import validity
from prnet_jax.run.files import write_json, write_whole

MODEL = "model.stablehlo"
_SUFFIX = ".stablehlo"
_FORMAT = "prnet_jax export 1"
_ABOUT = ("unit", "flips", "seen", "weights_from", "provenance", "metrics")

_LACKING = (
    "exported programs need the package flatbuffers, which JAX does not bring: pip install "
    '"prnet_jax[export]"'
)


def program_path(path: pathlib.Path) -> pathlib.Path | None:
    """The exported program that a path names, itself or the folder of one `MODEL`; or None."""
    if path.suffix == _SUFFIX:
        return path
    return path / MODEL if (path / MODEL).is_file() else None


def check_new(path: pathlib.Path) -> None:
    """Refuses the path of a program where it or what lies beside it exists.

    Raises:
        InputError: naming what exists.
    """
    for suffix in (_SUFFIX, ".npz", ".json"):
        if (beside := path.with_suffix(suffix)).exists():
            raise InputError(f"{beside} exists and is not overwritten: name a new file or folder")


def write_export(
    path: pathlib.Path,
    config: ml_collections.ConfigDict,
    weights: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    released: datetime.date | None = None,
) -> None:
    """Writes the program of a network with its weights, and what is to be known of them.

    Args:
        path: of the program, *.stablehlo; the others lie beside it. They are replaced.
        config: a run's settings.
        weights: of `prnet_jax.export.program.flat_weights`.
        about: `unit`, `flips` and `seen` of a predictor, and what `origin_of` gives; of JSON.
        released: the day of this jaxlib's release, if it is known.

    Raises:
        InputError: another suffix, or what `export_program` raises.
    """
    if path.suffix != _SUFFIX:
        raise InputError(f"an exported program is called *{_SUFFIX}, found {path}")
    program = _serialized(export_program(config, weights, about["flips"]))
    write_files(path, program, config, weights, about, released)


def write_files(
    path: pathlib.Path,
    program: bytes,
    config: ml_collections.ConfigDict,
    weights: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    released: datetime.date | None = None,
) -> None:
    """Writes a program that is serialized, and what lies beside it; arguments of `write_export`."""
    packed = io.BytesIO()
    np.savez(packed, **weights)
    contents = {path.name: program, path.with_suffix(".npz").name: packed.getvalue()}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_whole(path.with_name(name), content)
    # Last: a folder that has it is complete.
    header = {
        "format": _FORMAT,
        "network": config.model.name,
        "input": _input(config, about["unit"]),
        "output": "float32 [N, H, W], the probability of foreground in 0..1 for each pixel",
        "threshold": config.threshold,
        "platforms": list(PLATFORMS),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "readable": validity(jaxlib.__version__, datetime.date.today(), released),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        **about,
        "config": json.loads(config.to_json()),
    }
    write_json(path.with_suffix(".json"), header)


def refresh(path: pathlib.Path, released: datetime.date | None = None) -> None:
    """Writes a program again, of the same weights, so that later versions of JAX can read it.

    Args:
        path: of the program, which itself need not be there.
        released: as for `write_export`.

    Raises:
        InputError: what lies beside it cannot be used.
    """
    config, header = read_header(path)
    about = {name: header[name] for name in _ABOUT if name in header}
    write_export(path, config, read_weights(path, header), about, released)


def read_header(path: pathlib.Path) -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
    """The settings of the run that a program is of, and all that its JSON file says.

    Raises:
        InputError: the file is absent or of another kind.
    """
    beside = path.with_suffix(".json")
    try:
        header = json.loads(beside.read_text(encoding="utf-8"))
        if header["format"] != _FORMAT:
            raise ValueError(header["format"])
        return ml_collections.ConfigDict(header["config"]), header
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{beside} is not what python -m prnet_jax.export writes beside a program "
            f"({type(error).__name__}): copy the files of an export together, or export again"
        ) from None


def read_weights(path: pathlib.Path, header: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights beside a program, by name.

    Raises:
        InputError: they are not those that the header is of.
    """
    content = _checked(path.with_suffix(".npz"), header)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def read_program(path: pathlib.Path, header: Mapping[str, Any]) -> jax.export.Exported:
    """The program.

    Raises:
        InputError: it is not the one that the header is of, or this JAX cannot read it.
    """
    content = _checked(path, header)
    try:
        return jax.export.deserialize(bytearray(content))
    except ImportError:
        raise InputError(_LACKING) from None
    except ValueError as error:
        raise InputError(
            f"{path} was written by jax {header['jax']}, and jax {jax.__version__} cannot read it "
            f"({str(error).splitlines()[0]}): make it again by "
            f"python -m prnet_jax.export --refresh {path.parent}"
        ) from None


def _serialized(program: jax.export.Exported) -> bytes:
    """The program as bytes.

    Raises:
        InputError: the package `flatbuffers` is not installed.
    """
    try:
        return bytes(program.serialize())
    except ImportError:
        raise InputError(_LACKING) from None


def _input(config: ml_collections.ConfigDict, unit: str) -> dict[str, Any]:
    """What the program takes, and what happens to it inside."""
    data = config.dataset
    return {
        "weights": "the arrays of the .npz file by name, float32",
        "slices": "float32 [N, H, W], any N, H and W, all finite: axial slices as they are "
        "displayed",
        "unit": "Hounsfield units" if unit == "HU" else "grey values, 0 to 255",
        "window": list(data.window_hu),
        "image_size": data.image_size,
        "resize": data.resize,
    }


def _checked(path: pathlib.Path, header: Mapping[str, Any]) -> bytes:
    """The content of a file whose SHA-256 is in the header."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): copy it again") from None
    if hashlib.sha256(content).hexdigest() not in header["sha256"].values():
        raise InputError(
            f"{path} is not the file that {path.with_suffix('.json').name} is about: copy the "
            "files of an export together"
        )
    return content

"""Greyscale PNG and TIFF files as pixels. Volumes (NIfTI, DICOM, NumPy) are read by `volumes`."""

import contextlib
import io
import os
import pathlib
import sys
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from prnet_jax.data.hounsfield import as_hu
from prnet_jax.errors import InputError

_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339  # TIFF tags
_KINDS = {1: "uint", 2: "int", 3: "float"}  # by SampleFormat

_stderr_lock = threading.Lock()


def read_tiff(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """Reads a greyscale TIFF of one page.

    Args:
        file: a path, or the file's bytes.
        name: what messages call the file; the path by default.

    Returns:
        [H, W] in the file's own type: bool, uint8, int16, uint16, int32, float32, ...

    Raises:
        InputError: truncated, damaged, not a TIFF, in colour, or with several pages.
    """
    name = str(file) if name is None else name
    try:
        data = file if isinstance(file, bytes) else pathlib.Path(file).read_bytes()
        with _silent_decoder(), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            mode, pages = image.mode, image.n_frames
            bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]
            kind = _KINDS.get(image.tag_v2.get(_SAMPLE_FORMAT, (1,))[0])
            pixels = np.asarray(image)
    except Exception as error:  # a damaged header can fail anywhere in Pillow, with any error
        raise InputError(
            f"{name} cannot be read: it is truncated, damaged or not a TIFF that Pillow knows; "
            "export or download it again"
        ) from error
    if pages != 1:
        raise InputError(f"{name} has {pages} pages; expected one slice per file: export it alone")
    if pixels.ndim != 2 or mode == "P":
        raise InputError(f"{name} is in colour ({mode}); expected greyscale: export it in grey")
    if bits == 1 or kind is None:
        return pixels
    return pixels.astype(f"{kind}{bits}")  # Pillow widens int16 to int32


def read_png(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """Reads a greyscale PNG.

    A palette, RGB or RGBA file with equal channels counts as grey, because many tools write masks
    that way. A fully opaque alpha channel is ignored; grey of 2 or 4 bits is spread over 0 to 255.

    Args:
        file: a path, or the file's bytes.
        name: what messages call the file; the path by default.

    Returns:
        [H, W]: bool from a 1-bit grey file, uint16 from a 16-bit one, else uint8.

    Raises:
        InputError: truncated, damaged, not a PNG, in colour, partly transparent, or animated.
    """
    name = str(file) if name is None else name
    try:
        data = file if isinstance(file, bytes) else pathlib.Path(file).read_bytes()
        if b"IEND" not in data[-4096:]:  # Pillow accepts a file without its end
            raise EOFError
        with _silent_decoder(), Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            bits, mode, pages = data[24], image.mode, getattr(image, "n_frames", 1)
            image.load()
            if mode in ("P", "PA"):
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            pixels = np.asarray(image)
    except Exception as error:  # as for TIFF
        raise InputError(
            f"{name} cannot be read: it is truncated, damaged or not a PNG that Pillow knows; "
            "export or download it again"
        ) from error
    if pages != 1:
        raise InputError(f"{name} has {pages} frames; expected one slice per file: export it alone")
    if pixels.ndim == 2:
        return pixels.astype(np.uint16) if bits == 16 else pixels  # older Pillow: int32
    if bits == 16:  # Pillow drops the lower eight
        raise InputError(f"{name} has 16 bits in each of several channels; export it as greyscale")
    if pixels.shape[2] in (2, 4):
        if np.any(pixels[..., -1] != 255):
            raise InputError(f"{name} is partly transparent; export it without an alpha channel")
        pixels = pixels[..., :-1]
    if np.any(pixels != pixels[..., :1]):
        raise InputError(f"{name} is in colour ({mode}); expected greyscale: export it in grey")
    return np.ascontiguousarray(pixels[..., 0])


def read_hu(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """Reads a CT slice: `read_tiff`, then `as_hu`, with the errors of both. int16 [H, W]."""
    name = str(file) if name is None else name
    return as_hu(read_tiff(file, name), name)


@contextlib.contextmanager
def _silent_decoder() -> Iterator[None]:
    """Silences Pillow's warnings and libtiff, which prints about damaged files on its own.

    libtiff writes to file descriptor 2 and bypasses `sys.stderr`, so the descriptor is redirected.
    """
    with _stderr_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kept = os.dup(2)
        except OSError:  # no standard error at all
            yield
            return
        if sys.stderr is not None:
            sys.stderr.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

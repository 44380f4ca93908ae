"""Greyscale PNG, TIFF and JPEG pictures as pixels. `volumes` reads files of any format.

Pillow changes some values on the way. What is returned is what the file stores (its labels, its
Hounsfield units); a file of which the numbers and the display differ is refused.
"""

import contextlib
import io
import os
import pathlib
import struct
import sys
import threading
from collections.abc import Iterator

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from prnet_jax.data.hounsfield import as_hu
from prnet_jax.data.untrusted import (
    DEFLATE,
    MAX_PIXELS,
    UNKNOWN,
    check_bytes,
    check_number,
    one_line,
)
from prnet_jax.errors import InputError

# TIFF tags; EXIF, which PNG and JPEG may hold, has the same orientation.
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES_PER_PIXEL, _SAMPLE_FORMAT = 274, 277, 339
_KINDS = {1: "uint", 2: "int", 3: "float"}  # by SampleFormat
_WHITE_IS_ZERO = 0
_JPEG_IN_TIFF = (6, 7)
# How many times smaller TIFF's compressions make data at most: none, LZW, Deflate, PackBits.
_RATIOS = {1: 1, 5: 2731, 8: DEFLATE, 32946: DEFLATE, 32773: 64}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
_JPEG_RATIO = 512  # pixels in a byte at most: 64 have one code, of a bit or more
_ROUNDING = 2  # grey levels by which JPEG's conversion may part equal channels

JPEG_MASK = (
    "which changes the values of pixels, so that labels are lost; expected a mask without loss: "
    "export it from its source as PNG, do not convert it"
)

_stderr_lock = threading.Lock()


def read_tiff(
    file: pathlib.Path | bytes, name: str | None = None, mask: bool = False
) -> np.ndarray:
    """Reads a greyscale TIFF of one page.

    Args:
        file: a path, or the file's bytes.
        name: what messages call the file; the path by default.
        mask: whether the values are labels: of a palette the index, and of 2 or 4 bits the stored
            number. In images a palette must be grey, and 2 or 4 bits are spread over 0 to 255.

    Returns:
        [H, W] in the file's own type: bool, uint8, int16, uint16 (also of 12 bits), float32, ...

    Raises:
        InputError: truncated, damaged, not a TIFF, in colour, with several pages, of a type that
            Pillow cannot read, stored turned or with zero as white, or a mask compressed by JPEG.
    """
    name = str(file) if name is None else name
    with one_line(name, "a TIFF that Pillow knows"):
        data = _content(file)
        tags = _tags_of_first_page(data)
        bits, kind = _check_tags(tags, len(data), name, mask)
        with _silent_decoder():
            try:
                image = TiffImageFile(io.BytesIO(data))
            except SyntaxError as error:  # what Pillow raises for each form that it does not know
                raise InputError(
                    f"{name} is a TIFF of {bits}-bit {kind} samples, PhotometricInterpretation "
                    f"{tags.get(_PHOTOMETRIC)}, compression {tags.get(_COMPRESSION, 1)}, which "
                    "Pillow cannot read; save it as integers of 8 or 16 bits or floats of 32 bits"
                ) from error
            with image:
                mode, pages = image.mode, image.n_frames
                if pages != 1:
                    raise InputError(
                        f"{name} has {pages} pages; expected one slice per file: export it alone"
                    )
                if mode == "P":
                    return _of_palette(image, name, mask)
                pixels = np.asarray(image)
        if pixels.ndim != 2:
            raise _in_colour(name, mode)
        if bits in (2, 4):
            return _stored(pixels, bits) if mask else pixels
        if bits == 1:
            return pixels
        return pixels.astype("uint16" if bits == 12 else f"{kind}{bits}")  # Pillow widens int16


def read_png(file: pathlib.Path | bytes, name: str | None = None, mask: bool = False) -> np.ndarray:
    """Reads a greyscale PNG.

    An RGB or RGBA file with equal channels counts as grey, because many tools write masks that
    way. A fully opaque alpha channel is ignored.

    Args:
        file: a path, or the file's bytes.
        name: what messages call the file; the path by default.
        mask: as for `read_tiff`.

    Returns:
        [H, W]: bool from a 1-bit grey file, uint16 from a 16-bit one, else uint8.

    Raises:
        InputError: truncated, damaged, not a PNG, in colour, partly transparent, animated, or
            stored turned.
    """
    name = str(file) if name is None else name
    with one_line(name, "a PNG that Pillow knows"):
        data = _content(file)
        # Pillow accepts a file without its end, and any chunk first.
        if b"IEND" not in data[-4096:] or data[12:16] != b"IHDR":
            raise EOFError
        width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
        check_number(name, (height, width), MAX_PIXELS)
        row = 1 + -(-width * bits * _CHANNELS[colour] // 8)
        check_bytes(name, height * row, len(data), DEFLATE)
        with PngImageFile(io.BytesIO(data)) as image:
            if image.size != (width, height):
                raise ValueError("two headers")
            mode, pages = image.mode, getattr(image, "n_frames", 1)
            if pages != 1:
                raise InputError(
                    f"{name} has {pages} frames; expected one slice per file: export it alone"
                )
            image.load()
            _check_upright(image.getexif().get(_ORIENTATION, 1), name)
            if mode == "P":
                return _of_palette(image, name, mask)
            pixels = np.asarray(image)
        if pixels.ndim == 2:
            if bits in (2, 4) and mask:
                return _stored(pixels, bits)
            return pixels.astype(np.uint16) if bits == 16 else pixels  # older Pillow: int32
        if bits == 16:  # Pillow drops the lower eight
            raise InputError(
                f"{name} has 16 bits in each of several channels; export it as greyscale"
            )
        return _one_channel(pixels, mode, name)


def read_jpeg(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """Reads a greyscale JPEG, which has lost detail and cannot be a mask.

    A colour JPEG whose channels differ by 2 or less counts as grey: conversion between colours
    rounds that much.

    Args:
        file: a path, or the file's bytes.
        name: what messages call the file; the path by default.

    Returns:
        uint8 [H, W].

    Raises:
        InputError: truncated, damaged, not a JPEG of 8 bits, in colour, or stored turned.
    """
    name = str(file) if name is None else name
    with one_line(name, "a JPEG of 8 bits"):
        data = _content(file)
        if b"\xff\xd9" not in data[-4096:]:  # libjpeg fills the rest of a cut file with grey
            raise EOFError
        with _silent_decoder(), JpegImageFile(io.BytesIO(data)) as image:
            check_number(name, image.size[::-1], MAX_PIXELS)
            check_bytes(name, image.width * image.height, len(data), _JPEG_RATIO)
            _check_upright(image.getexif().get(_ORIENTATION, 1), name)
            mode, pixels = image.mode, np.asarray(image)
            if mode == "RGB" and np.all(np.ptp(pixels, axis=2) <= _ROUNDING):
                pixels = np.asarray(image.convert("L"))
            elif mode != "L":
                raise _in_colour(name, mode)
        return pixels


def read_hu(file: pathlib.Path | bytes, name: str | None = None) -> np.ndarray:
    """Reads a CT slice: `read_tiff`, then `as_hu`, with the errors of both. int16 [H, W]."""
    name = str(file) if name is None else name
    return as_hu(read_tiff(file, name), name)


def _content(file: pathlib.Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else pathlib.Path(file).read_bytes()


def _tags_of_first_page(data: bytes) -> ImageFileDirectory_v2:
    """The tags of a TIFF, which are needed to say what it is where Pillow refuses it."""
    tags = ImageFileDirectory_v2(data[: 16 if data[2:3] == b"+" else 8])  # BigTIFF has 16
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _check_tags(tags: ImageFileDirectory_v2, length: int, name: str, mask: bool) -> tuple[int, str]:
    """(bits, kind) of a sample, such as (16, "int"), of a TIFF whose numbers mean themselves.

    Args:
        tags: of the first page.
        length: of the file in bytes.
        name: what messages call the file.
        mask: whether it is one.

    Raises:
        InputError: too large, zero is white, stored turned, or a mask compressed by JPEG.
    """
    shape = tags[_HEIGHT], tags[_WIDTH]
    bits, samples = tags.get(_BITS_PER_SAMPLE, (1,))[0], tags.get(_SAMPLES_PER_PIXEL, 1)
    compression = tags.get(_COMPRESSION, 1)
    check_number(name, shape, MAX_PIXELS)
    declared = shape[0] * -(-shape[1] * bits * samples // 8)
    check_bytes(name, declared, length, _RATIOS.get(compression, UNKNOWN))
    if tags[_PHOTOMETRIC] == _WHITE_IS_ZERO:
        raise InputError(
            f"{name} has PhotometricInterpretation {_WHITE_IS_ZERO} (WhiteIsZero): shown, its "
            "values are inverted, so which are meant is unclear; save it with zero as black (in "
            "ImageJ: Image > Lookup Tables > Invert LUT)"
        )
    _check_upright(tags.get(_ORIENTATION, 1), name)
    if mask and compression in _JPEG_IN_TIFF:
        raise InputError(f"{name} is compressed by JPEG, {JPEG_MASK}")
    kind = tags.get(_SAMPLE_FORMAT, (1,))[0]
    return bits, _KINDS.get(kind, f"SampleFormat {kind}")


def _check_upright(orientation: int, name: str) -> None:
    """Refuses a picture that programs show turned or mirrored, as some do and others do not."""
    if orientation != 1:
        raise InputError(
            f"{name} has the Orientation (tag {_ORIENTATION}) {orientation}, so programs show it "
            "turned or mirrored; expected 1: save it upright, and check that image and mask agree"
        )


def _of_palette(image: Image.Image, name: str, mask: bool) -> np.ndarray:
    """uint8 [H, W]: the index of each pixel in a mask, the grey of its colour in an image."""
    if mask:
        indices = np.asarray(image)
        colours = np.reshape(image.getpalette("RGB"), (-1, 3))
        black = [i for i in np.unique(indices) if i < len(colours) and not colours[i].any()]
        if black and 0 not in black and colours[0].any():
            raise InputError(
                f"{name} has a palette whose index {black[0]} is black while 0, the background, is "
                "not, so which of the two is meant is unclear; export it in grey"
            )
        return indices
    mode = "RGBA" if "transparency" in image.info else "RGB"
    return _one_channel(np.asarray(image.convert(mode)), image.mode, name)


def _stored(pixels: np.ndarray, bits: int) -> np.ndarray:
    """The numbers of 2 or 4 bits that Pillow spread over 0 to 255."""
    return pixels // np.uint8(255 // (2**bits - 1))


def _one_channel(pixels: np.ndarray, mode: str, name: str) -> np.ndarray:
    """[H, W] of [H, W, C] with equal channels; an opaque alpha channel is dropped."""
    if pixels.shape[2] in (2, 4):
        if np.any(pixels[..., -1] != 255):
            raise InputError(f"{name} is partly transparent; export it without an alpha channel")
        pixels = pixels[..., :-1]
    if np.any(pixels != pixels[..., :1]):
        raise _in_colour(name, mode)
    return np.ascontiguousarray(pixels[..., 0])


def _in_colour(name: str, mode: str) -> InputError:
    return InputError(f"{name} is in colour ({mode}); expected greyscale: export it in grey")


@contextlib.contextmanager
def _silent_decoder() -> Iterator[None]:
    """Silences libtiff, which prints about damaged files on its own.

    libtiff writes to file descriptor 2 and bypasses `sys.stderr`, so the descriptor is redirected.
    """
    with _stderr_lock:
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

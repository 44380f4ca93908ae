"""NumPy's `.npy` and `.npz` files as `Scan`s."""

import io
import math
import os
import pathlib
import zipfile
from typing import IO

import numpy as np

from prnet_jax.data.scan import AXES, Scan, two_or_three_axes
from prnet_jax.data.untrusted import DEFLATE, MAX_VOXELS, check_bytes, check_number, one_line
from prnet_jax.errors import InputError

_ZIP = b"PK"
_LONGEST_HEADER = 2**14  # bytes; NumPy refuses more than 10,000 as unsafe
_HEADERS = {  # by version; the third is the second with other letters in names of fields
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}


def read_numpy(
    file: pathlib.Path, name: str | None = None, key: str = "image", axes: str | None = None
) -> Scan:
    """Reads a `.npy` or `.npz` file of one picture or volume, in the order that it has.

    Without `axes` a volume is [H, W, D] unless its shape speaks against it; [H, W, 3] or
    [H, W, 4] is one picture if its channels are equal, and otherwise refused if it holds bytes or
    fractions from 0 to 1, as pictures in colour do.

    Args:
        file: the path.
        name: what messages call the file; the path by default.
        key: the array to take from a `.npz` that holds several.
        axes: "HWD" or "DHW": which axis of a volume counts its slices.

    Returns:
        [H, W] or [H, W, D] in the file's own type.

    Raises:
        InputError: damaged, Python objects (which are never unpickled), several arrays of which
            none is called `key`, in colour, other dimensions, or a shape that leaves the axis of
            the slices open.
    """
    name = str(file) if name is None else name
    with one_line(name, "numbers saved by NumPy"):
        with open(file, "rb") as opened:
            found = os.fstat(opened.fileno()).st_size
            is_zip = opened.read(2) == _ZIP
            opened.seek(0)
            pixels = _member(opened, found, name, key) if is_zip else _array(opened, found, name)
        pixels = two_or_three_axes(pixels, name)
        if axes is None:
            return Scan(_checked_axes(pixels, name))
        pixels = _in_order(pixels, axes, name)
        moved = axes == "DHW" and pixels.ndim == 3
        return Scan(pixels, axes=(1, 2, 0) if moved else (0, 1, 2))


def _member(opened: IO[bytes], found: int, name: str, key: str) -> np.ndarray:
    """The only array of a `.npz` file, or the one called `key`."""
    with zipfile.ZipFile(opened) as archive:
        arrays = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = next(iter(arrays)) if len(arrays) == 1 else key
        if chosen not in arrays:
            raise InputError(
                f"{name} holds the arrays {', '.join(arrays) or 'none'}; "
                f"expected a single one, or one called {key!r}"
            )
        info = arrays[chosen]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{name} is compressed in a way that NumPy does not use; save it with "
                "numpy.savez_compressed"
            )
        ratio = 1 if info.compress_type == zipfile.ZIP_STORED else DEFLATE
        check_bytes(name, info.file_size, min(info.compress_size, found), ratio)
        with archive.open(info) as member:
            pixels = _array(member, info.file_size, name)
            member.read(1)  # zipfile compares the checksum at the end
        return pixels


def _array(opened: IO[bytes], found: int, name: str) -> np.ndarray:
    """Reads an array, whose header is compared with the number of bytes that are there."""
    start = io.BytesIO(opened.read(_LONGEST_HEADER))  # NumPy would take the memory of any length
    version = np.lib.format.read_magic(start)
    shape, fortran_order, dtype = _HEADERS[version](start)
    opened.seek(start.tell())
    if dtype.hasobject:
        raise InputError(
            f"{name} holds Python objects, which are never loaded; save a plain array of numbers"
        )
    if dtype.kind not in "buif":
        raise InputError(f"{name} holds {dtype}; expected numbers: save them as int16")
    check_number(name, shape, MAX_VOXELS)
    count = math.prod(shape)
    declared = start.tell() + count * dtype.itemsize
    check_bytes(name, declared, found)
    if declared != found:
        raise ValueError("more bytes than the header declares")
    pixels = np.empty(count, dtype)
    if opened.readinto(pixels.view(np.uint8)) != pixels.nbytes:
        raise EOFError
    return pixels.reshape(shape, order="F" if fortran_order else "C")


def _in_order(pixels: np.ndarray, axes: str, name: str) -> np.ndarray:
    """[H, W] or [H, W, D] of two or three axes that a person has named."""
    if axes not in AXES:
        raise InputError(f"axes is {axes!r}; expected one of {', '.join(AXES)}")
    if pixels.ndim == 3 and axes == "DHW":
        return two_or_three_axes(np.moveaxis(pixels, 0, -1), name)
    return pixels


def _checked_axes(pixels: np.ndarray, name: str) -> np.ndarray:
    """[H, W] or [H, W, D], where nobody has named the axes."""
    if pixels.ndim == 2:
        return pixels
    first, second, third = pixels.shape
    shape = "x".join(map(str, pixels.shape))
    if third in (3, 4) and first > third:
        grey = _grey_of_channels(pixels)
        if grey is not None:
            return grey
        if pixels.dtype == np.uint8 or _is_fraction(pixels):
            raise InputError(
                f"{name} is {shape}, a picture in colour or {third} slices; expected greyscale: "
                f"save one channel, or, for slices, set {_option('HWD')}"
            )
    if first == second == third:
        found = "is a cube, whose slices may be first or last"
    elif first < min(second, third) or second == third:
        found = "seems to have the slices first"
    else:
        return pixels
    raise InputError(
        f"{name} is {shape}, which {found}; expected [H, W, slices]: set {_option('DHW')} for "
        'slices first, "HWD" for slices last'
    )


def _option(axes: str) -> str:
    said = f'the option axes="{axes}" (--config.dataset.options.axes={axes})'
    return f"{said} or predict's --axes {axes}"


def _is_fraction(pixels: np.ndarray) -> bool:
    """Whether all are from 0 to 1 and floats, as colours often are."""
    return pixels.dtype.kind == "f" and bool(pixels.min() >= 0 and pixels.max() <= 1)


def _grey_of_channels(pixels: np.ndarray) -> np.ndarray | None:
    """[H, W] of [H, W, 3 or 4] with equal channels, of which a fourth may be opaque alpha."""
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    same = np.all(colours == colours[..., :1])
    if same and (np.all(alpha == colours[..., :1]) or np.all(alpha == opaque)):
        return np.ascontiguousarray(pixels[..., 0])
    return None

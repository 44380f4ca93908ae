"""NumPy files: which axis has the slices, pictures saved with channels, sizes that lie."""

import io
import zipfile

import numpy as np
import pytest

from prnet_jax.data.numpy_files import read_numpy
from prnet_jax.errors import InputError

VOLUME = np.random.default_rng(0).integers(-1000, 400, (7, 6, 5)).astype(np.int16)
GREY = np.random.default_rng(1).integers(0, 255, (6, 5)).astype(np.uint8)


@pytest.fixture
def read(tmp_path):
    def save_and_read(array, axes=None):
        np.save(tmp_path / "a.npy", array)
        return read_numpy(tmp_path / "a.npy", "a.npy", axes=axes).pixels

    return save_and_read


def test_named_axes_are_taken(read):
    np.testing.assert_array_equal(read(VOLUME, "HWD"), VOLUME)
    np.testing.assert_array_equal(read(VOLUME, "DHW"), np.moveaxis(VOLUME, 0, -1))
    for axes in ("HWD", "DHW"):
        np.testing.assert_array_equal(read(VOLUME[:, :, 0], axes), VOLUME[:, :, 0])
    np.testing.assert_array_equal(read(VOLUME[None, :, :, 0], "DHW"), VOLUME[:, :, 0])
    for axes in ("HWD", "DHW"):  # one channel
        np.testing.assert_array_equal(read(VOLUME[:, :, :1], axes), VOLUME[:, :, 0])
    np.testing.assert_array_equal(read(VOLUME[..., None], "DHW"), np.moveaxis(VOLUME, 0, -1))
    with pytest.raises(InputError, match="axes is 'DWH'; expected one of DHW, HWD"):
        read(VOLUME, "DWH")


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 16, 12), (1, 16, 12), (12, 16, 14)])
def test_an_unclear_order_names_the_option(shape, read):
    match = r'slices first; expected .* option axes="DHW" \(--config\.dataset\.options\.axes=DHW\)'
    match += " or predict's --axes DHW"
    with pytest.raises(InputError, match=match):
        read(np.zeros(shape, np.int16))
    assert read(np.zeros(shape, np.int16), "DHW").shape[:2] == shape[1:]


def test_a_cube_names_the_option(read):
    with pytest.raises(InputError, match=r"8x8x8, which is a cube.*options\.axes=DHW"):
        read(np.zeros((8, 8, 8), np.int16))
    assert read(np.zeros((8, 8, 8), np.int16), "HWD").shape == (8, 8, 8)


@pytest.mark.parametrize("shape", [(16, 12, 3), (16, 16, 30), (16, 12, 40)])
def test_other_volumes_have_their_slices_last(shape, read):
    volume = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    np.testing.assert_array_equal(read(volume), volume)


def test_equal_channels_are_one_picture(read):
    opaque = np.full_like(GREY, 255)
    for channels in ([GREY] * 3, [GREY] * 4, [GREY, GREY, GREY, opaque]):
        np.testing.assert_array_equal(read(np.stack(channels, -1)), GREY)
    mask = np.stack([GREY > 99] * 3, -1)
    np.testing.assert_array_equal(read(mask), GREY > 99)
    fraction = np.stack([GREY / np.float32(255)] * 3, -1)
    np.testing.assert_array_equal(read(fraction), GREY / np.float32(255))
    for colour in (
        np.stack([GREY, GREY, GREY // 2], -1),
        np.stack([GREY, GREY, GREY, GREY // 2], -1),
        np.stack([GREY, GREY, GREY // 2], -1) / np.float32(255),
    ):
        with pytest.raises(InputError, match=r"a picture in colour or [34] slices; .*axes=HWD"):
            read(colour)
        np.testing.assert_array_equal(read(colour, "HWD"), colour)


def header(shape: tuple, dtype: str = "<i2", fortran: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": fortran, "descr": dtype}
    )
    return file.getvalue()


def test_orders_and_types_of_bytes_come_back(read):
    np.testing.assert_array_equal(read(np.asfortranarray(VOLUME)), VOLUME)
    for dtype in (">i2", ">f4", "f2", "f8", np.longdouble, "i8"):
        np.testing.assert_array_equal(read(VOLUME.astype(dtype)), VOLUME)
    np.testing.assert_array_equal(read(VOLUME[:, ::2, ::-1]), VOLUME[:, ::2, ::-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((4000, 4000)) + b"12", "declares 32,000,128 bytes of pixels but 130 bytes are th"),
        (header((10**6, 10**6)), "a size of 1000000 x 1000000; expected at most 2,147,483,648"),
        (header((2, -2)) + bytes(8), "a size of 2 x -2; expected at least one"),
        (header((2, 2)) + bytes(9), "cannot be read: it is truncated, damaged or not numbers"),
        (header((2, 2), "|O") + bytes(32), "holds Python objects, which are never loaded"),
        (header((2, 2), "<U4") + bytes(64), "holds <U4; expected numbers"),
        (b"\x93NUMPY\x09\x00" + b"\xff" * 40, "cannot be read: it is truncated"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "cannot be read: it is truncated"),
        (header((2, 2))[:-30] + b"((((" * 200, "cannot be read"),
    ],
)
def test_headers_that_lie(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("took memory"))
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=rf"^a\.npy .*{message}"):
        read_numpy(tmp_path / "a.npy", "a.npy")


def test_a_changed_bit_in_a_zip_is_found(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, VOLUME)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="a.npz cannot be read: it is truncated, damaged"):
        read_numpy(file, "a.npz")


def test_zips_that_lie(tmp_path):
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", header((300, 300)) + bytes(180_000))
    assert read_numpy(file, "a.npz").pixels.shape == (300, 300)
    # Of the central directory: the uncompressed size.
    content = bytearray(file.read_bytes())
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = (2**31).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"declares 2,147,483,648 bytes .* compressed bytes are"):
        read_numpy(file, "a.npz")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("image.npy", header((300, 300)) + bytes(180_000))
    with pytest.raises(InputError, match="compressed in a way that NumPy does not use"):
        read_numpy(file, "a.npz")
    with zipfile.ZipFile(file, "w"):
        pass
    with pytest.raises(InputError, match="holds the arrays none; expected a single one"):
        read_numpy(file, "a.npz")

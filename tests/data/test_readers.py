"""Readers: every pixel type of a TIFF or PNG, and damaged files."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data.readers import read_hu, read_png, read_tiff
from prnet_jax.errors import InputError

HU = np.array([[-32768, -1000, 0], [40, 400, 32767]], np.int16)
SIGNED = {339: 2}  # SampleFormat: Pillow writes 16 bits as unsigned unless told


def tiff(pixels: np.ndarray, **options) -> bytes:
    signed = pixels.dtype == np.int16
    file = io.BytesIO()
    image = Image.fromarray(pixels.view(np.uint16) if signed else pixels)
    image.save(file, "TIFF", **({"tiffinfo": SIGNED} if signed else {}), **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate", "tiff_lzw"])
def test_int16_comes_back_exactly(compression):
    pixels = read_tiff(tiff(HU, compression=compression), "a.tif")
    assert pixels.dtype == np.int16
    np.testing.assert_array_equal(pixels, HU)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_whole_values_of_other_types_are_hu(dtype):
    pixels = np.array([[0, 7], [1000, 32767]], dtype)
    assert read_tiff(tiff(pixels), "a.tif").dtype == dtype
    hu = read_hu(tiff(pixels), "a.tif")
    assert hu.dtype == np.int16
    np.testing.assert_array_equal(hu, pixels)


def test_masks_of_eight_bits_and_one():
    mask = np.array([[0, 255], [255, 0]], np.uint8)
    np.testing.assert_array_equal(read_tiff(tiff(mask), "m.tif"), mask)
    np.testing.assert_array_equal(read_tiff(tiff(mask > 0), "m.tif"), mask > 0)


def test_reads_a_path(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(HU))
    np.testing.assert_array_equal(read_hu(tmp_path / "a.tif"), HU)
    with pytest.raises(InputError, match=r"b\.tif cannot be read"):
        read_hu(tmp_path / "b.tif")


@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate"])
def test_truncated_at_any_point_is_one_line_and_silent(compression, capfd):
    noise = np.random.default_rng(0).integers(-1000, 400, (40, 40)).astype(np.int16)
    whole = tiff(noise, compression=compression)
    for length in range(0, len(whole) - 4, 97):  # the last four bytes only point to a next page
        with pytest.raises(InputError, match=r"^2d_images/a\.tif cannot be read: .*truncated"):
            read_tiff(whole[:length], "2d_images/a.tif")
    assert capfd.readouterr() == ("", "")  # libtiff prints by itself


def test_standard_error_works_after_a_damaged_file(capfd):
    with pytest.raises(InputError):
        read_tiff(tiff(HU, compression="tiff_adobe_deflate")[:-9], "a.tif")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_other_formats_are_refused():
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(file, "PNG")
    with pytest.raises(InputError, match="cannot be read"):
        read_tiff(file.getvalue(), "a.tif")


def test_colour_and_pages_are_refused():
    with pytest.raises(InputError, match=r"a\.tif is in colour \(RGB\)"):
        read_tiff(tiff(np.zeros((2, 2, 3), np.uint8)), "a.tif")
    page = Image.fromarray(np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="has 2 pages"):
        read_tiff(tiff(np.zeros((2, 2), np.uint8), save_all=True, append_images=[page]), "a.tif")


GREY = np.random.default_rng(1).integers(0, 256, (9, 7)).astype(np.uint8)


def png(pixels, **options) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "pixels", [GREY, GREY > 99, GREY.astype(np.uint16) * 257, np.uint16([[0, 7], [65535, 256]])]
)
def test_png_of_every_grey_depth_comes_back_exactly(pixels, tmp_path):
    (tmp_path / "a.png").write_bytes(png(pixels))
    for file in (png(pixels), tmp_path / "a.png"):
        read = read_png(file)
        assert read.dtype == pixels.dtype
        np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("mode", ["P", "RGB", "LA", "RGBA"])
def test_grey_written_as_colour_is_grey(mode):
    read = read_png(png(Image.fromarray(GREY).convert(mode)), "a.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, GREY)


def test_png_of_a_two_coloured_palette():
    image = Image.fromarray((GREY > 99).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    np.testing.assert_array_equal(read_png(png(image), "a.png"), np.where(GREY > 99, 255, 0))
    image.putpalette([0, 0, 0, 128, 0, 0])  # as some labelling tools colour a mask
    with pytest.raises(InputError, match=r"a\.png is in colour"):
        read_png(png(image), "a.png")


def test_png_in_colour_or_transparent_is_refused():
    colour = np.stack([GREY, GREY, GREY // 2], -1)
    with pytest.raises(InputError, match=r"a\.png is in colour \(RGB\)"):
        read_png(png(colour), "a.png")
    with pytest.raises(InputError, match="partly transparent"):
        read_png(png(np.stack([GREY, GREY], -1)), "a.png")
    frame = Image.fromarray(255 - GREY)
    with pytest.raises(InputError, match="has 2 frames"):
        read_png(png(GREY, save_all=True, append_images=[frame]), "a.png")


def test_png_cut_anywhere_or_with_a_bit_changed_is_never_read_wrongly(capfd):
    whole = png(GREY)
    for length in range(len(whole) - 4):  # the last four bytes are a checksum of nothing
        with pytest.raises(InputError, match=r"^m/a\.png cannot be read: .*truncated"):
            read_png(whole[:length], "m/a.png")
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        try:
            np.testing.assert_array_equal(read_png(bytes(changed), "m/a.png"), GREY)
        except InputError:
            pass
    with pytest.raises(InputError, match=r"b\.png cannot be read"):
        read_png(tiff(GREY), "b.png")
    assert capfd.readouterr() == ("", "")

"""Readers: every pixel type of a TIFF or PNG, and damaged files."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from prnet_jax.data import readers
from prnet_jax.data.readers import read_hu, read_jpeg, read_png, read_tiff
from prnet_jax.errors import InputError
from tests.data import pictures

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


@pytest.mark.parametrize("width", [7, 8])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_tiff_of_any_bits_keeps_the_numbers_of_a_mask(bits, width):
    numbers = np.random.default_rng(bits).integers(0, 2**bits, (5, width)).astype(np.uint16)
    read = read_tiff(pictures.tiff(numbers, bits), "a.tif", mask=True)
    assert read.dtype == {1: bool, 12: np.uint16, 16: np.uint16}.get(bits, np.uint8)
    np.testing.assert_array_equal(read, numbers)
    if bits in (2, 4):  # as an image it is shown from black to white
        spread = read_tiff(pictures.tiff(numbers, bits), "a.tif")
        np.testing.assert_array_equal(spread, numbers * (255 // (2**bits - 1)))


def test_png_of_two_and_four_bits_keeps_the_numbers_of_a_mask():
    two, four = pictures.png(4, 1, 2, b"\0\x1b"), pictures.png(4, 1, 4, b"\0\x01\x2f")
    assert read_png(two, "a.png", mask=True).tolist() == [[0, 1, 2, 3]]
    assert read_png(four, "a.png", mask=True).tolist() == [[0, 1, 2, 15]]
    assert read_png(two, "a.png").tolist() == [[0, 85, 170, 255]]


def test_tiff_types_that_are_read_exactly_or_named():
    numbers = np.array([[0, 1, 200], [7, 90, 127]])
    for dtype, kind in (("uint32", 1), ("int32", 2), ("float32", 3), ("int16", 2)):
        pixels = numbers.astype(dtype)
        read = read_tiff(pictures.tiff(pixels, pixels.itemsize * 8, t339=kind), "a.tif")
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, numbers)
    top = np.array([[2**32 - 1, 2**31]], np.uint32)
    np.testing.assert_array_equal(read_tiff(pictures.tiff(top, 32), "a.tif"), top)
    for file, form in (
        (pictures.tiff(numbers.astype(np.float16), 16, t339=3), "16-bit float"),
        (pictures.tiff(numbers.astype(np.uint64), 64), "64-bit uint"),
        (pictures.tiff(numbers.astype(np.uint16), 16, t339=4), "16-bit SampleFormat 4"),
        (pictures.tiff(numbers.astype(np.uint16), 16, t259=99), "compression 99"),
        (pictures.tiff(numbers.astype(np.uint16), 12, ">"), "12-bit uint"),
    ):
        with pytest.raises(InputError, match=f"a.tif is a TIFF of .*{form}.*Pillow.*; save it as"):
            read_tiff(file, "a.tif")


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_zero_as_white_is_refused_in_any_bits(bits, mask):
    """Pillow inverts 1 and 8 bits but not 16, so a mask could be read inverted."""
    file = pictures.tiff(np.uint16([[0, 1], [1, 0]]), bits, t262=0)
    with pytest.raises(
        InputError, match=r"a\.tif has PhotometricInterpretation 0 .*; save it with"
    ):
        read_tiff(file, "a.tif", mask)


def test_pictures_stored_turned_are_refused():
    exif = Image.Exif()
    exif[274] = 6
    jpeg = io.BytesIO()
    Image.fromarray(GREY).save(jpeg, "JPEG", exif=exif)
    for read, file in (
        (read_tiff, pictures.tiff(GREY.astype(np.uint16), 8, t274=3)),
        (read_png, png(GREY, exif=exif)),
        (read_jpeg, jpeg.getvalue()),
    ):
        with pytest.raises(InputError, match=r"^a has the Orientation \(tag 274\) [36], .*upright"):
            read(file, "a")
    exif[274] = 1
    np.testing.assert_array_equal(read_png(png(GREY, exif=exif), "a"), GREY)
    upright = pictures.tiff(GREY.astype(np.uint16), 8, t274=1)
    np.testing.assert_array_equal(read_tiff(upright, "a"), GREY)


@pytest.mark.parametrize(("form", "read"), [("PNG", read_png), ("TIFF", read_tiff)])
def test_the_index_of_a_palette_is_the_label_of_a_mask(form, read):
    labels = np.random.default_rng(2).integers(0, 3, (9, 7)).astype(np.uint8)
    for colours in ([0, 0, 0, 128, 0, 0, 0, 128, 0], [0] * 9, [0] * 3 + [120] * 6):
        image = Image.fromarray(labels).convert("P")
        image.putpalette(colours)
        file = io.BytesIO()
        image.save(file, form)
        np.testing.assert_array_equal(read(file.getvalue(), "a", mask=True), labels)
        if colours[3] == 128:
            with pytest.raises(InputError, match=r"a is in colour \(P\)"):
                read(file.getvalue(), "a")
        else:
            grey = np.array(colours[::3], np.uint8)[labels]
            np.testing.assert_array_equal(read(file.getvalue(), "a"), grey)


def test_a_mask_whose_background_is_another_index_is_refused():
    """Programs that sort palettes may write a mask of 255 on 0 with the indices 0 on 1."""
    image = Image.fromarray(np.uint8([[0, 1], [1, 1]])).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    with pytest.raises(InputError, match="a has a palette whose index 1 is black while 0, the ba"):
        read_png(png(image), "a", mask=True)
    assert read_png(png(image), "a").tolist() == [[255, 0], [0, 0]]


def jpeg(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def test_jpeg_is_grey():
    smooth = np.add.outer(np.arange(0, 160, 5), np.arange(0, 64, 2)).astype(np.uint8)
    for file in (jpeg(smooth, quality=98), jpeg(np.stack([smooth] * 3, -1), quality=98)):
        read = read_jpeg(file, "a.jpg")
        assert read.dtype == np.uint8
        np.testing.assert_allclose(read.astype(int), smooth, atol=2)
    red = np.stack([smooth, smooth // 2, smooth // 2], -1)
    with pytest.raises(InputError, match=r"a\.jpg is in colour \(RGB\)"):
        read_jpeg(jpeg(red), "a.jpg")
    whole = jpeg(smooth)
    for length in range(0, len(whole) - 1, 7):
        with pytest.raises(InputError, match=r"^a\.jpg cannot be read: .*truncated"):
            read_jpeg(whole[:length], "a.jpg")


def test_a_tiff_that_is_a_jpeg_inside_is_no_mask():
    file = tiff(np.uint8(255) * (GREY > 99), compression="jpeg")
    assert read_tiff(file, "a.tif").shape == GREY.shape
    with pytest.raises(InputError, match=r"a\.tif is compressed by JPEG, which changes the values"):
        read_tiff(file, "a.tif", mask=True)


def test_declared_sizes_are_refused_before_memory_is_taken(monkeypatch):
    wide = pictures.tiff(np.zeros((2, 2), np.uint16), 16, t256=9000)
    huge = pictures.tiff(np.zeros((2, 2), np.uint16), 16, t256=2**20, t257=2**20)
    large = bytearray(jpeg(GREY))
    place = large.index(b"\xff\xc0") + 5
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("took memory"))
    for read, file, message in (
        (
            read_png,
            pictures.png(9000, 9000, 8, b"\0"),
            "81,009,000 bytes of pixels but .*compressed",
        ),
        (read_png, pictures.png(2**20, 2**20, 8, b"\0"), "size of 1048576 x 1048576; expected at"),
        (read_tiff, wide, f"36,000 bytes of pixels but {len(wide)} bytes are there"),
        (read_tiff, huge, "size of 1048576 x 1048576; expected at most 134,217,728 pixels"),
        (read_jpeg, bytes(large[:place] + b"\x27\x10\x27\x10" + large[place + 4 :]), "100,000,000"),
        (read_jpeg, bytes(large[:place] + b"\xff" * 4 + large[place + 4 :]), "65535 x 65535"),
    ):
        with pytest.raises(InputError, match=f"^a .*declares .*{message}"):
            read(file, "a")
    assert readers.MAX_PIXELS == 2**27

"""Pictures that Pillow does not write: TIFF of any bits and tags, and PNG of any chunks."""

import struct
import zlib

import numpy as np

PNG_START = b"\x89PNG\r\n\x1a\n"


def tiff(pixels: np.ndarray, bits: int, order: str = "<", **tags: int) -> bytes:
    """An uncompressed greyscale TIFF of one strip, whose numbers are those of `pixels`.

    Args:
        pixels: [H, W], unsigned of up to 16 bits, or of the type that is stored.
        bits: of a sample; those below 16 are packed.
        order: "<" or ">".
        **tags: by number, such as t262=0, in addition to or in place of the usual ones.
    """
    height, width = pixels.shape
    if bits < 16:
        single = np.unpackbits(
            pixels.astype(">u2").view(np.uint8).reshape(height, width, 2), axis=2
        )
        data = np.packbits(single[:, :, 16 - bits :].reshape(height, -1), axis=1).tobytes()
    else:
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    usual = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    all_tags = usual | {279: len(data)} | {int(name[1:]): value for name, value in tags.items()}
    entries = [struct.pack(order + "HHII", t, 4, 1, value) for t, value in sorted(all_tags.items())]
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return start + data + directory


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """A greyscale PNG; `rows` are packed, each with its filter byte before it."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return PNG_START + b"".join(png_chunk(*chunk) for chunk in chunks)

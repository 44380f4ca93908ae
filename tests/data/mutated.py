"""Reads mutated files of every format and says in JSON what became of them.

`python -m tests.data.mutated NUMBER SEED FOLDER` does so under a limit of memory.
"""

import collections
import gzip
import io
import json
import pathlib
import re
import resource
import struct
import sys
import time
import zipfile

import numpy as np
import pydicom
from PIL import Image

from prnet_jax.data.volumes import format_of, read_scan
from prnet_jax.errors import InputError
from tests.data.pictures import PNG_START, png, png_chunk, tiff
from tests.data.scans import dicom, nifti

SPARE = 2**31  # bytes of address space beyond those that the libraries take


def save(pixels: np.ndarray | Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, form, **options)
    return file.getvalue()


def originals(folder: pathlib.Path) -> dict[str, bytes]:
    """{file name: content}: good files of every format and of several kinds each."""
    random = np.random.default_rng(0)
    hu = random.integers(-1000, 400, (24, 20, 3)).astype(np.int16)
    grey = (hu[..., 0] + 1000 >> 3).astype(np.uint8)
    wide = hu[..., 0].view(np.uint16)
    palette = Image.fromarray(grey & 7).convert("P")
    palette.putpalette(np.repeat(np.arange(0, 240, 30), 3).tolist())
    colour = Image.fromarray(grey).convert("RGB")
    files = {
        "grey.png": save(grey, "PNG"),
        "one.png": save(grey > 99, "PNG"),
        "two.png": png(8, 8, 2, b"\0\x1b\xe4" * 8),
        "wide.png": save(wide, "PNG"),
        "palette.png": save(palette, "PNG"),
        "alpha.png": save(colour.convert("RGBA"), "PNG"),
        "grey.jpg": save(grey, "JPEG"),
        "colour.jpg": save(colour, "JPEG"),
        "progressive.jpg": save(grey, "JPEG", progressive=True),
        "signed.tif": save(wide, "TIFF", tiffinfo={339: 2}),
        "big.tif": save(wide, "TIFF", big_tiff=True),
        "float.tif": save(hu[..., 0].astype(np.float32), "TIFF"),
        "twelve.tif": tiff(wide & 4095, 12),
        "four.tif": tiff(wide & 15, 4, ">"),
        "palette.tif": save(palette, "TIFF"),
        "fax.tif": save(grey > 99, "TIFF", compression="group4", tiffinfo={262: 1}),
    }
    for way in ("tiff_adobe_deflate", "tiff_lzw", "packbits", "jpeg"):
        files[f"{way}.tif"] = save(grey, "TIFF", compression=way)
    for name, array in (("c", hu), ("fortran", np.asfortranarray(hu)), ("bool", grey > 99)):
        file = io.BytesIO()
        np.save(file, array)
        files[f"{name}.npy"] = file.getvalue()
    for name, write in (("stored", np.savez), ("deflated", np.savez_compressed)):
        file = io.BytesIO()
        write(file, image=hu, mask=hu > 0)
        files[f"{name}.npz"] = file.getvalue()
    files["a.nii"] = nifti(folder / "a.nii", hu, np.eye(4)).read_bytes()
    files["float.nii"] = nifti(folder / "a.nii", hu / np.float32(3), np.eye(4)).read_bytes()
    files["a.nii.gz"] = nifti(folder / "a.nii.gz", hu, np.eye(4)).read_bytes()
    stored = (hu[..., 0] + 1024).astype(np.uint16)
    for name in ("ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian"):
        syntax = getattr(pydicom.uid, name)
        files[f"{name}.dcm"] = dicom(folder / "a.dcm", stored, syntax=syntax).read_bytes()
    files["explicit.dcm"] = dicom(folder / "a.dcm", stored).read_bytes()
    packed = pydicom.dcmread(folder / "a.dcm")
    packed.compress(pydicom.uid.RLELossless)
    packed.save_as(folder / "a.dcm")
    files["rle.dcm"] = (folder / "a.dcm").read_bytes()
    frame = pydicom.encaps.encapsulate([files["grey.jpg"]])
    jpeg = dicom(folder / "a.dcm", grey, syntax=pydicom.uid.JPEGBaseline8Bit, data=frame)
    files["jpeg.dcm"] = jpeg.read_bytes()
    return files


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """One to three changes of the kinds that damage, carelessness or malice make."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        size = len(changed)
        if not size:
            break
        # Headers are short, at the start or, in TIFF and zip, at the end; most changes go there.
        where = random.integers(3)
        low, high = ((0, min(size, 400)), (max(0, size - 400), size), (0, size))[where]
        place = int(random.integers(low, high))
        length = int(random.integers(1, 64))
        match int(random.integers(9)):
            case 0:
                changed[place] ^= 1 << int(random.integers(8))
            case 1:
                del changed[place:]
            case 2:
                changed[place] = int(random.integers(256))
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4:
                changed[place : place + length] = bytes(len(changed[place : place + length]))
            case 5:
                number = (2**32 - 1, 2**31 - 1, 2**24, 65535)[random.integers(4)]
                changed[place : place + 4] = struct.pack("<>"[random.integers(2)] + "I", number)
            case 6:
                changed[place : place + 2] = b"\xff\xff"
            case 7:
                del changed[place : place + length]
            case 8:
                changed[place : place + length] = random.bytes(length)
    return bytes(changed)


def with_checksums(name: str, data: bytes, random: np.random.Generator) -> bytes:
    """Mutates what lies beneath checksums, which would reveal most changes at once."""
    if name.endswith(".gz"):
        return gzip.compress(mutate(gzip.decompress(data), random))
    if name.endswith(".npz"):
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
            for info in old.infolist():
                new.writestr(info.filename, mutate(old.read(info), random), info.compress_type)
        return file.getvalue()
    if name.endswith(".png"):
        chunks, place = [], len(PNG_START)
        while place < len(data):
            length = int.from_bytes(data[place : place + 4], "big")
            chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
            place += length + 12
        chosen = int(random.integers(len(chunks)))
        chunks[chosen] = chunks[chosen][0], mutate(chunks[chosen][1], random)
        return PNG_START + b"".join(png_chunk(*chunk) for chunk in chunks)
    return mutate(data, random)


def run(number: int, seed: int, folder: pathlib.Path) -> dict:
    """Reads `number` mutated files, and counts those read and refused for each format."""
    files = originals(folder)
    read, refused = collections.Counter(), collections.Counter()
    traces, slowest = [], 0.0
    for name, data in files.items():
        (folder / name).write_bytes(data)
        read_scan([folder / name])
    for i in range(number):
        random = np.random.default_rng((seed, i))
        name = list(files)[i % len(files)]
        file = folder / name
        beneath = random.integers(2)
        data = files[name]
        file.write_bytes(with_checksums(name, data, random) if beneath else mutate(data, random))
        form = format_of(file)[1]
        start = time.perf_counter()
        try:
            pixels = read_scan([file], "images/x", mask=bool(random.integers(2))).pixels
            if pixels.ndim not in (2, 3) or not pixels.size or pixels.dtype.kind not in "buif":
                raise TypeError(f"{pixels.dtype} {pixels.shape}")
            read[form] += 1
        except InputError as error:
            refused[form] += 1
            line = str(error)
            if not line.startswith("images/x ") or not line.isprintable() or "memory" in line:
                traces.append(f"{name} {i}: {line}")
        except Exception as error:
            traces.append(f"{name} {i}: {error!r}")
        slowest = max(slowest, time.perf_counter() - start)
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # ru_maxrss has the parent's
    return {
        "read": read,
        "refused": refused,
        "traces": traces,
        "slowest_s": slowest,
        "peak_bytes": peak,
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE, taken + SPARE))
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]))))

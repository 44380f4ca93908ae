"""NIfTI files under wrong names, of two versions, and with sizes that lie."""

import gzip

import numpy as np
import pytest

from prnet_jax.data.volumes import read_scan
from prnet_jax.errors import InputError
from tests.data.scans import nifti

HU = np.random.default_rng(0).integers(-1000, 400, (6, 5, 4)).astype(np.int16)


def test_compression_is_told_by_content(tmp_path):
    plain = nifti(tmp_path / "a.nii", HU, np.eye(4)).read_bytes()
    expected = read_scan([tmp_path / "a.nii"]).pixels
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "D.Nii.Gz").write_bytes(gzip.compress(plain))
    for name in ("b.nii.gz", "c.nii", "D.Nii.Gz"):
        np.testing.assert_array_equal(read_scan([tmp_path / name]).pixels, expected)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_large_volumes(suffix, tmp_path):
    volume = np.arange(100 * 120 * 130, dtype=np.int32).reshape(100, 120, 130)
    scan = read_scan([nifti(tmp_path / f"a.{suffix}", volume, np.eye(4))])
    np.testing.assert_array_equal(scan.pixels, volume[::-1, ::-1].transpose(1, 0, 2))


def test_second_version_and_other_order_of_bytes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    expected = read_scan([nifti(tmp_path / "a.nii", HU, np.eye(4))]).pixels
    nibabel.Nifti2Image(HU, np.eye(4)).to_filename(tmp_path / "b.nii")
    swapped = nibabel.Nifti1Image(HU, np.eye(4)).header.as_byteswapped()
    nibabel.Nifti1Image(HU, np.eye(4), swapped).to_filename(tmp_path / "c.nii.gz")
    for name in ("b.nii", "c.nii.gz"):
        np.testing.assert_array_equal(read_scan([tmp_path / name]).pixels, expected)


def test_half_of_a_pair_says_so(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.Nifti1Pair(HU, np.eye(4)).to_filename(tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(
        InputError, match=r"a\.nii is the header of a pair of files \.hdr and \.img"
    ):
        read_scan([tmp_path / "a.nii"])


def changed(content: bytes, place: int, dtype: str, *values: float) -> bytes:
    data = np.array(values, dtype).tobytes()
    return content[:place] + data + content[place + len(data) :]


@pytest.mark.parametrize("compressed", [False, True])
def test_declared_sizes_are_refused_before_memory_is_taken(compressed, tmp_path, monkeypatch):
    nibabel = pytest.importorskip("nibabel")
    plain = nifti(tmp_path / "a.nii", HU, np.eye(4)).read_bytes()
    monkeypatch.setattr(
        nibabel.arrayproxy.ArrayProxy, "__array__", lambda *_, **__: pytest.fail("took memory")
    )
    how = "compressed bytes" if compressed else f"{len(plain)} bytes"
    for content, message in (
        (changed(plain, 42, "<i2", 3000, 3000), f"declares 72,000,352 bytes of pixels but .*{how}"),
        (changed(plain, 42, "<i2", *[30000] * 3), "30000 x 30000 x 30000; expected at most 2,147"),
        (changed(plain, 42, "<i2", -5), "a size of -5 x 5 x 4; expected at least one pixel"),
        (changed(plain, 108, "<f4", 1e9), "declares 1,000,000,240 bytes of pixels"),
        (changed(plain, 70, "<i2", 128, 24), "holds .*; expected one number per voxel"),
    ):
        file = tmp_path / "b.nii.gz"
        file.write_bytes(gzip.compress(content) if compressed else content)
        with pytest.raises(InputError, match=message):
            read_scan([file])


def test_gzip_is_read_to_its_checksum_but_not_further(tmp_path):
    plain = nifti(tmp_path / "a.nii", HU, np.eye(4)).read_bytes()
    packed = bytearray(gzip.compress(plain))
    packed[-8] ^= 1  # of the checksum
    (tmp_path / "b.nii.gz").write_bytes(packed)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(plain + bytes(2**21)))
    (tmp_path / "e.nii").write_bytes(plain + bytes(2**21))
    for name in ("b.nii.gz", "c.nii.gz", "e.nii"):
        with pytest.raises(
            InputError, match="cannot be read: it is truncated, damaged or not NIfTI"
        ):
            read_scan([tmp_path / name])
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(plain + bytes(100)))
    assert read_scan([tmp_path / "d.nii.gz"]).pixels.shape == (5, 6, 4)

"""The real data sets, in a folder beside the checkout; without them their tests are skipped."""

import pathlib

import pytest

_DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
LUNGS, LIDC = _DATA / "finding_lungs", _DATA / "LIDC-IDRI-slices"
VOLUME = _DATA / "ct_volume"

needs_lungs = pytest.mark.skipif(not LUNGS.is_dir(), reason=f"no {LUNGS}")
needs_lidc = pytest.mark.skipif(not LIDC.is_dir(), reason=f"no {LIDC}")
needs_volume = pytest.mark.skipif(not VOLUME.is_dir(), reason=f"no {VOLUME}")

"""Whether two splits share a patient or a picture, checked on all records before training.

A patient or an identical picture in two splits is an error. Pictures of a single value, such as
padding above a volume, look the same in everyone and are allowed. A near-identical picture, such as
a JPEG copy or one of another size, is a warning, because pictures of different people can be very
similar.

Near-identical means: both pictures are resized to 32x32 (mean over the covered area), and the
rank correlation (Spearman's) of their values is at least `NEAR`. Ranks do not change under any
increasing change of intensity, such as another window or gamma, as long as the window clips little.

`NEAR` separates copies from different people in two real sets, 267 chest slices of 512x512
(finding_lungs) and 1312 nodule crops of 128x128 of 80 patients (lidc_nodules). The closest slices
of two patients have 0.943 and 0.832; in the generated lung_phantom, whose pictures are plainer,
0.960. Lowest and median correlation of a picture with its copy, and the share of copies found, over
every second chest slice and every tenth crop:

    copy                                   512x512 slices         128x128 crops
    JPEG of quality 50 in 8 bits           0.986  0.995  100 %    0.975  0.996  100 %
    noise, SD 3 % of the grey range        0.994  0.998  100 %    0.957  0.993   98 %
    halved intensity, rounded              1.000  1.000  100 %    0.996  1.000  100 %
    8 bits, window of -1000 to 400 HU      0.983  0.994  100 %    -
    half the size                          0.999  1.000  100 %    0.983  0.998  100 %
    shifted by 1 px along both axes        0.992  0.996  100 %    0.851  0.956   27 %
    shifted by 2 px along both axes        0.979  0.989  100 %    0.719  0.903    0 %
    2 % cut off each edge                  0.872  0.929    1 %    0.891  0.968   57 %

So a copy that is cropped, or shifted by more than about half a percent of its side, may be missed.
Rotated and mirrored copies are not searched for.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import scipy

from prnet_jax.data.preprocess import resize_image
from prnet_jax.errors import InputError

NEAR = 0.965  # correlation from which two pictures count as near-identical: see above
SIDE = 32  # rows and columns of the pictures that are compared


@dataclasses.dataclass(frozen=True)
class Place:
    """A slice and its split."""

    id: str
    split: str

    def __str__(self) -> str:
        return f"{self.id} ({self.split})"


@dataclasses.dataclass(frozen=True)
class Leaks:
    """What splits share. `str()` is one line for the start of a training.

    `patients` holds (patient_id, split, other split), `identical` pairs of places. `near` holds the
    closest of `number_near` pairs of places with their correlation, closest first; identical
    pictures are among them.
    """

    patients: tuple[tuple[str, str, str], ...]
    identical: tuple[tuple[Place, Place], ...]
    near: tuple[tuple[Place, Place, float], ...]
    number_near: int
    number_patients: int
    number_images: int

    def __str__(self) -> str:
        sizes = f"{self.number_patients} patients, {self.number_images} images"
        return (
            f"{_number(len(self.patients), 'patient')} and "
            f"{_number(len(self.identical), 'image')} in two splits ({sizes}); "
            f"{self.number_near} near-identical pair{'s' if self.number_near != 1 else ''}"
            f"{self._closest()}"
        )

    def _closest(self, limit: int = 3) -> str:
        if not self.near:
            return ""
        pairs = ", ".join(f"{a} ~ {b} {value:.3f}" for a, b, value in self.near[:limit])
        return f", look at them: {pairs}" + (", ..." if self.number_near > limit else "")

    def raise_for_leaks(self) -> None:
        """Raises InputError if splits share a patient or an identical picture."""
        if self.patients:
            patient, *splits = self.patients[0]
            raise InputError(
                f"patient {patient} is in two splits, {' and '.join(splits)}{_more(self.patients)};"
                " all slices of a patient must be in one: correct the list of splits, or draw them "
                "by patient"
            )
        if self.identical:
            first, second = self.identical[0]
            raise InputError(
                f"{second} has the same pixels as {first}{_more(self.identical)}; a picture must "
                "not be in two splits: remove one of them, or give both the same patient"
            )


def check(
    slices: Mapping[str, Iterable[tuple[str, str, np.ndarray]]],
    pairs: Iterable[tuple[str, str]] | None = None,
) -> Leaks:
    """`find_leaks`, then `raise_for_leaks`: near-identical pairs alone are returned.

    Raises:
        InputError: a patient or an identical picture is in two splits.
    """
    leaks = find_leaks(slices, pairs)
    leaks.raise_for_leaks()
    return leaks


def find_leaks(
    slices: Mapping[str, Iterable[tuple[str, str, np.ndarray]]],
    pairs: Iterable[tuple[str, str]] | None = None,
    listed: int = 100,
    chunk: int = 1024,
) -> Leaks:
    """Compares all slices of each split with those of the others.

    Memory: 2 KiB per slice, and 4 chunk² bytes for the product of two chunks.

    Args:
        slices: for each split, (id, patient_id, pixels [H, W] as stored) of its slices.
        pairs: the splits to compare with each other, the earlier in `slices` first; None: every
            two.
        listed: the number of near-identical pairs to list; all are counted.
        chunk: slices of a split that are compared at a time.

    Returns:
        What was found; each pair once.
    """
    pairs = list(itertools.combinations(slices, 2) if pairs is None else pairs)
    earlier = {split: [a for a, b in pairs if b == split] for split in slices}
    splits_of: dict[str, dict[str, None]] = {}  # patient -> the splits where it was seen
    patients: dict[tuple[str, str, str], None] = {}
    place_of: dict[bytes, list[Place]] = {}
    places: dict[str, list[Place]] = {}
    features: dict[str, np.ndarray] = {}
    identical = []
    for split, stored in slices.items():
        places[split], rows = [], []
        for id, patient, pixels in stored:
            place = Place(id, split)
            before = splits_of.setdefault(patient, {})
            if other := next((name for name in before if name in earlier[split]), None):
                patients[patient, other, split] = None
            before[split] = None
            if pixels.min() < pixels.max():
                same = place_of.setdefault(_digest(pixels), [])
                other = next((seen for seen in same if seen.split in earlier[split]), None)
                if other is not None:
                    identical.append((other, place))
                same.append(place)
            places[split].append(place)
            rows.append(feature(pixels))
        features[split] = np.stack(rows) if rows else np.zeros((0, SIDE**2), np.float16)
    near, number_near = _near(places, features, pairs, listed, chunk)
    return Leaks(
        patients=tuple(patients),
        identical=tuple(identical),
        near=near,
        number_near=number_near,
        number_patients=len(splits_of),
        number_images=sum(map(len, places.values())),
    )


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.astype("<i4").tobytes()).digest()


def feature(pixels: np.ndarray) -> np.ndarray:
    """The ranks of the resized picture, float16 [SIDE * SIDE] of mean 0 and length 1.

    The product of two is their pictures' rank correlation. All 0 for a uniform picture.
    """
    ranks = scipy.stats.rankdata(resize_image(pixels, SIDE).ravel()).astype(np.float32)
    ranks -= ranks.mean()
    length = np.linalg.norm(ranks)
    return (ranks / length if length else ranks).astype(np.float16)


def _near(
    places: Mapping[str, list[Place]],
    features: Mapping[str, np.ndarray],
    pairs: Iterable[tuple[str, str]],
    listed: int,
    chunk: int,
) -> tuple[tuple[tuple[Place, Place, float], ...], int]:
    """The closest `listed` pairs of slices of `pairs`, and the number of all from `NEAR` on."""
    closest: list[tuple[Place, Place, float]] = []
    number = 0
    for split, other in pairs:
        starts = (range(0, len(features[name]), chunk) for name in (split, other))
        for a, b in itertools.product(*starts):
            left, right = features[split][a : a + chunk], features[other][b : b + chunk]
            values = left.astype(np.float32) @ right.astype(np.float32).T
            rows, columns = np.nonzero(values >= NEAR)
            number += len(rows)
            found = np.minimum(values[rows, columns], 1.0)
            for i in np.argsort(-found, kind="stable")[:listed]:
                pair = places[split][a + rows[i]], places[other][b + columns[i]]
                closest.append((*pair, float(found[i])))
            closest = sorted(closest, key=lambda pair: -pair[2])[:listed]
    return tuple(closest), number


def _number(count: int, what: str) -> str:
    return f"no {what}" if count == 0 else f"{count} {what}{'s' if count > 1 else ''}"


def _more(found: tuple) -> str:
    return f" ({len(found)} such cases)" if len(found) > 1 else ""

"""Who a pair is of, and when the answer is doubtful."""

import collections
import hashlib
import re
from collections.abc import Sequence

from prnet_jax.data.scan import Scan

from .metadata import Entry
from .pairs import METADATA, Pair, patient_of, within_split

FOLDER, FILE_NAME = "folder", "file name"

_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")


def patient(pair: Pair, image: Scan, entry: Entry) -> tuple[str, str]:
    """The patient's id and where it comes from."""
    if entry.patient_id:
        return entry.patient_id, METADATA
    if image.patient:  # hashed, because tables of results are passed on
        return hashlib.sha256(image.patient.encode()).hexdigest()[:10], "DICOM PatientID"
    return patient_of(pair.id), FOLDER if "/" in within_split(pair.id) else FILE_NAME


def doubt(patients: Sequence[tuple[str, str]], are_volumes: bool) -> str:
    """Why the files may be of other people than it seems; empty where nothing says so.

    Args:
        patients: of each pair, as `patient` gives it.
        are_volumes: whether there are volumes, of which each person often has one.
    """
    advice = (
        "slices of one person may be in several splits; give patient ids in "
        f"{METADATA} unless this is right"
    )
    counts = f"{len({id for id, _ in patients})} patients for {len(patients)} files"
    files = collections.Counter(id for id, source in patients if source == FILE_NAME)
    alike = collections.defaultdict(list)
    for id in sorted(id for id, number in files.items() if number == 1):
        alike[_LAST_NUMBER.sub("#", id)].append(id)
    largest = max(alike.values(), key=len, default=[])
    if len(largest) > 1 and (len(alike) > 1 or not are_volumes):
        return f"{counts}, and names differ only in a number ({largest[0]}, {largest[1]}): {advice}"
    folders = sorted({id for id, source in patients if source == FOLDER})
    inside = sum(source == FOLDER for _, source in patients)
    if 0 < len(folders) <= 3 and inside > len(folders):
        return (
            f"{counts}, since a folder ({', '.join(folders)}) counts as one person; if it holds "
            f"several, give patient ids in {METADATA}"
        )
    return ""

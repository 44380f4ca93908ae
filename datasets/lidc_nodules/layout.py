"""The folder `LIDC-IDRI-slices`: its slices and their files."""

import os
import pathlib
import re
from collections.abc import Iterable

from prnet_jax.data.folders import read_bytes
from prnet_jax.errors import InputError

READERS = 4
IMAGES = "images"
FOLDERS = (IMAGES, *(f"mask-{reader}" for reader in range(READERS)))

_SLICE = re.compile(r"(LIDC-IDRI-\d+)_(nodule-\d+)_(slice-\d+)")


class Layout:
    """The slices of `<root>/LIDC-IDRI-0001/nodule-0/{images,mask-0,...,mask-3}/slice-3.png`.

    A slice's id is `LIDC-IDRI-0001_nodule-0_slice-3`. Anything with another name in a patient's
    folder is listed in `skipped`, unless it is hidden.
    """

    def __init__(self, manual_dir: str | os.PathLike):
        """Lists the files of `manual_dir`, or of the folder `LIDC-IDRI-slices` in it.

        Raises:
            InputError: it holds no patient's folder.
        """
        manual_dir = pathlib.Path(manual_dir)
        self.root = manual_dir
        self.patients = _folders(manual_dir, r"LIDC-IDRI-\d+")
        if not self.patients:
            self.root = manual_dir / "LIDC-IDRI-slices"
            self.patients = _folders(self.root, r"LIDC-IDRI-\d+")
        if not self.patients:
            raise InputError(
                f"{manual_dir} holds no folder LIDC-IDRI-0001 or the like, nor a folder "
                "LIDC-IDRI-slices with one; give the directory that holds the patients' folders"
            )
        self.nodules: list[str] = []  # LIDC-IDRI-0001/nodule-0
        self.missing_folders: list[str] = []  # LIDC-IDRI-0001/nodule-0/mask-2
        self.skipped: list[str] = []  # LIDC-IDRI-0001/nodule-0/images/notes.txt
        self.ids: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
        for patient in self.patients:
            nodules = _folders(self.root / patient, r"nodule-\d+")
            self._skip(patient, nodules)
            for nodule in nodules:
                self.nodules.append(f"{patient}/{nodule}")
                self._skip(f"{patient}/{nodule}", FOLDERS)
                for folder in FOLDERS:
                    self._list(patient, nodule, folder)

    def file(self, id: str, folder: str) -> str:
        """The name of a file in messages: its path below the root."""
        patient, nodule, name = _SLICE.fullmatch(id).groups()
        return f"{patient}/{nodule}/{folder}/{name}.png"

    def read(self, id: str, folder: str) -> bytes:
        """The content of a file, with the errors of `read_bytes`."""
        return read_bytes(self.root / self.file(id, folder))

    def _list(self, patient: str, nodule: str, folder: str) -> None:
        path = self.root / patient / nodule / folder
        if not path.is_dir():
            self.missing_folders.append(f"{patient}/{nodule}/{folder}")
            return
        known = []
        for file in path.iterdir():
            id = f"{patient}_{nodule}_{file.stem}"
            if file.suffix == ".png" and _SLICE.fullmatch(id):
                self.ids[folder].add(id)
                known.append(file.name)
        self._skip(f"{patient}/{nodule}/{folder}", known)

    def _skip(self, folder: str, known: Iterable[str]) -> None:
        names = {path.name for path in (self.root / folder).iterdir()} - set(known)
        self.skipped += [f"{folder}/{name}" for name in sorted(names) if name[0] != "."]


def patient_of(id: str) -> str:
    """`LIDC-IDRI-0001` of `LIDC-IDRI-0001_nodule-0_slice-3`."""
    return id.partition("_")[0]


def _folders(parent: pathlib.Path, pattern: str) -> list[str]:
    if not parent.is_dir():
        return []
    return sorted(p.name for p in parent.iterdir() if re.fullmatch(pattern, p.name) and p.is_dir())

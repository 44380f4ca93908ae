"""Reads every pair once before anything is written and reports facts and defects."""

import collections
import contextlib
import dataclasses
import os
import pathlib

import numpy as np

from prnet_jax.data import volumes
from prnet_jax.data.grey import NORMALISED, grey_of_normalised
from prnet_jax.data.hounsfield import rounded_hu
from prnet_jax.data.hu_check import HuCheck
from prnet_jax.data.integrity import Report, counted, listed
from prnet_jax.data.scan import Scan
from prnet_jax.data.stacks import Placed
from prnet_jax.errors import InputError

from . import labels, patients
from .geometry import misfit
from .labels import Label, checked_label
from .metadata import Entry, read_metadata
from .pairs import METADATA, Pair, find_pairs, split_of


@dataclasses.dataclass(frozen=True)
class Choices:
    """The options that affect pixels and masks; see `make_config`."""

    label: Label | int = None
    slices: str = "all"
    hu_offset: int = 0
    axes: str | None = None
    rescale_optional: bool | None = None
    hu_as_stored: bool | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """A pair without defects, and what is known about it."""

    pair: Pair
    patient_id: str
    spacing_mm: tuple[float, float] | None
    slices: tuple[int, ...] | None  # the slices of a volume to keep; None: a picture
    placed: Placed | None = None  # where the slices of a volume are; None: a picture

    @property
    def ids(self) -> list[str]:
        """The ids of the records."""
        if self.slices is None:
            return [self.pair.id]
        return [f"{self.pair.id}_z{z:04d}" for z in self.slices]


@dataclasses.dataclass
class Inspection:
    """What `inspect` found."""

    report: Report
    cases: list[Case]
    metadata: dict[str, Entry]
    choices: Choices  # the given ones; `label` has all values that the masks use for it


def inspect(manual_dir: str | os.PathLike, choices: Choices) -> Inspection:
    """Reads every pair below `manual_dir`, and `metadata.csv` if it exists.

    Raises:
        InputError: a folder is missing, or the table has a mistake. The report has all else.
    """
    manual_dir = pathlib.Path(manual_dir)
    found = find_pairs(manual_dir)
    report = Report(manual_dir)
    report.match(found.image_ids, found.mask_ids)
    for problem in found.problems:
        report.defect(problem)
    if not found.pairs:
        report.defect(
            f"{manual_dir} has no pair of files images/NAME and masks/NAME (found "
            f"{len(found.image_ids)} images, {len(found.mask_ids)} masks); check names and formats"
        )
    metadata = {} if report.defects else read_metadata(manual_dir / METADATA, report.pairs)
    choices = dataclasses.replace(choices, label=checked_label(choices.label))
    choices = dataclasses.replace(choices, label=_as_written(found.pairs, choices))
    facts = _Facts(choices)
    cases = []
    for pair in found.pairs:
        case = _inspect_pair(pair, metadata.get(pair.id, Entry()), report, facts)
        if case is not None:
            cases.append(case)
    _report_all_pairs(report, facts, cases)
    report.facts["skipped"] = listed(found.skipped)
    return Inspection(report, cases, metadata, choices)


def read_image(pair: Pair, choices: Choices) -> tuple[Scan, np.ndarray, float]:
    """Reads the image of a pair.

    Returns:
        The scan as it is in the file; its values for the record, [H, W] or [H, W, D], uint8 for
        8-bit files and normalised ones and int16 HU for all others; and the largest change by
        rounding to HU.

    Raises:
        InputError: the file cannot be read, or its values are neither grey nor HU.
    """
    image = volumes.read_scan(
        pair.image.files,
        pair.image.name,
        "image",
        axes=choices.axes,
        rescale_required=not choices.rescale_optional,
    )
    if image.pixels.dtype == bool:
        raise InputError(
            f"{pair.image.name} has 1 bit per pixel; expected an image: were images and masks "
            "swapped?"
        )
    if not choices.hu_offset:
        if image.pixels.dtype == np.uint8:
            return image, image.pixels, 0.0
        grey = grey_of_normalised(image.pixels)
        if grey is not None:
            values, note = grey
            return dataclasses.replace(image, notes=(*image.notes, note)), values, 0.0
    values, change = rounded_hu(image.pixels, pair.image.name, choices.hu_offset)
    return image, values, change


def read_mask(pair: Pair, choices: Choices) -> tuple[Scan, np.ndarray]:
    """The mask with its values as whole labels, and its foreground, bool of the same shape.

    Raises:
        InputError: the file cannot be read, or its values are no labels.
    """
    mask = volumes.read_scan(pair.mask.files, pair.mask.name, "mask", True, choices.axes)
    mask = dataclasses.replace(mask, pixels=labels.as_labels(mask.pixels, pair.mask.name))
    return mask, labels.foreground(mask.pixels, choices.label)


def _as_written(pairs: list[Pair], choices: Choices) -> Label:
    """The chosen labels as the masks write them, for which all masks are read if need be."""
    if not labels.can_mean_one(choices.label):
        return choices.label
    found = []
    for pair in pairs:
        with contextlib.suppress(InputError):  # reported where the pair is read
            mask, _ = read_mask(pair, Choices(axes=choices.axes))
            found.append(labels.labels_in(mask.pixels))
    return labels.with_equals(choices.label, found)


class _Facts:
    """Facts collected over all pairs."""

    def __init__(self, choices: Choices):
        self.choices = choices
        self.first_of_unit: dict[str, str] = {}
        self.first_of_label: dict[float, str] = {}
        self.hu = HuCheck(choices.hu_offset)
        self.rounded: list[tuple[float, str]] = []
        self.notes: dict[str, list[str]] = collections.defaultdict(list)
        self.without_label: list[str] = []
        self.shares: list[float] = []  # of the foreground, of each slice
        self.patients: list[tuple[str, str]] = []
        self.split_folders: collections.Counter = collections.Counter()
        self.misplaced: list[Pair] = []  # in the folder of a split, and no patient is named
        self.volumes: list[int] = []
        self.blank = 0


def _inspect_pair(pair: Pair, entry: Entry, report: Report, facts: _Facts) -> Case | None:
    choices = facts.choices
    image = mask = None
    try:
        image, values, change = read_image(pair, choices)
    except InputError as error:
        report.add_unreadable(pair.image.name, error)
    try:
        mask, foreground = read_mask(pair, choices)
    except InputError as error:
        report.add_unreadable(pair.mask.name, error)
        mask = None
    if image is None or mask is None:
        return None
    facts.first_of_unit.setdefault("grey" if values.dtype == np.uint8 else "HU", pair.image.name)
    if values.dtype != np.uint8:
        facts.hu.add(pair.image.name, values)
    if change:
        facts.rounded.append((change, pair.image.name))
    for note in image.notes:
        facts.notes[note].append(pair.image.name)
    found = labels.labels_in(mask.pixels)
    for label in found:
        facts.first_of_label.setdefault(label, pair.mask.name)
    undecided = choices.label is None and len(found) > 1
    if undecided:
        report.defect(labels.several_defect(pair.mask.name, found))
    if found and not foreground.any():
        facts.without_label.append(pair.mask.name)
    problem = misfit(pair.image.name, image, pair.mask.name, mask)
    problem = problem or _other_spacing(pair, image, entry)
    if problem:
        report.defect(problem)
        return None
    patient_id, source = patients.patient(pair, image, entry)
    facts.split_folders[split_of(pair.id)] += 1
    if split_of(pair.id) and source in (patients.FOLDER, patients.FILE_NAME):
        facts.misplaced.append(pair)
    facts.patients.append((patient_id, source))
    if values.ndim == 3:
        facts.volumes.append(values.shape[2])
    shown = foreground if undecided else mask.pixels * foreground
    numbers = [None] if values.ndim == 2 else list(range(values.shape[2]))
    kept = [z for z in numbers if choices.slices == "all" or np.any(_slice(foreground, z))]
    for z in kept:
        pixels = np.ascontiguousarray(_slice(values, z))
        blank = bool(pixels.min() == pixels.max())
        facts.blank += blank
        # Blank slices of two people may be identical; that is no leak.
        owner = "" if blank else patient_id
        report.add_image(_name(pair.image.name, z), pixels, image.pixels.dtype, owner)
        report.add_mask(
            _name(pair.mask.name, z), _slice(shown, z), several=choices.label is not None
        )
        if not undecided:
            facts.shares.append(float(_slice(foreground, z).mean()))
    if not kept:
        return None
    spacing_mm = entry.spacing_mm or image.spacing_mm
    if values.ndim == 2:
        return Case(pair, patient_id, spacing_mm, None)
    return Case(pair, patient_id, spacing_mm, tuple(kept), Placed.of(image))


def _other_spacing(pair: Pair, image: Scan, entry: Entry) -> str:
    """Why the spacing of the table does not fit the file; empty where it does."""
    if entry.spacing_mm and image.spacing_mm:
        if not np.allclose(entry.spacing_mm, image.spacing_mm, rtol=0.01):
            stated, found = (
                "{:g} x {:g} mm".format(*spacing)
                for spacing in (entry.spacing_mm, image.spacing_mm)
            )
            return (
                f"{METADATA} gives {pair.id!r} a spacing of {stated} but {pair.image.name} states "
                f"{found}; remove the wrong one"
            )
    return ""


def _report_all_pairs(report: Report, facts: _Facts, cases: list[Case]) -> None:
    """Adds the defects and facts that only all pairs together show."""
    choices, units, first_of = facts.choices, facts.first_of_unit, facts.first_of_label
    if len(units) > 1:
        normalised = any(units["grey"] in facts.notes.get(note, ()) for note in NORMALISED)
        report.defect(
            f"{units['grey']} {'is normalised' if normalised else 'has 8 bits'} (grey values) but "
            f"{units['HU']} has more (HU); expected one kind in all images: export the grey ones "
            "again in HU"
        )
    scalings = {note: facts.notes[note][0] for note in NORMALISED if note in facts.notes}
    if len(scalings) > 1:
        (a, file), (b, other) = scalings.items()
        report.defect(
            f"{file} is {a} but {other} {b}; expected one scaling in all images: multiply them "
            "so that all are grey values from 0 to 255, in 8 bits"
        )
    report.unit = next(iter(units), "HU") if len(units) < 2 else "mixed"
    not_hu, mend = facts.hu.finding()
    if not_hu and choices.hu_as_stored:
        report.facts["HU as stored"] = not_hu
    elif not_hu:
        report.defect(f"{not_hu}: {mend}")
    several = not labels.is_one_label(first_of)
    if several or choices.label is not None:
        report.facts["labels"] = labels.chosen_text(choices.label, first_of)
    if facts.without_label:
        report.facts["other labels only"] = listed(facts.without_label)
    if absent := labels.absent_defect(choices.label, first_of):
        report.defect(absent)
    if choices.label is None and several:
        if not any("holds the labels" in line for line in report.defects):
            report.defect(labels.different_defect(first_of))
    if facts.shares:
        report.facts["foreground"] = labels.share_text(facts.shares)
    if facts.misplaced and facts.split_folders[""]:
        pair = facts.misplaced[0]
        report.defect(
            f"{pair.image.name} is in a folder {pair.id.split('/')[0]!r}, where the patient's name "
            "is expected, since other images are in no split's folder; move all images into such "
            f"folders or none, or name patients and splits in {METADATA}"
        )
    if choices.slices == "with_mask" and not cases and not report.defects:
        report.defect("no slice has a mask, so slices='with_mask' keeps none; use slices='all'")
    ids = collections.Counter(id for case in cases for id in case.ids)
    for id in (id for id, number in ids.items() if number > 1):
        report.defect(f"a volume's slice and another image have the same id {id!r}; rename one")
    people = len({case.patient_id for case in cases})
    by = collections.Counter(source for _, source in facts.patients)
    report.facts["patients"] = f"{people}, of {len(cases)} by: {counted(by)}"
    if doubt := patients.doubt(facts.patients, bool(facts.volumes)):
        report.facts["same person?"] = doubt
    if facts.volumes:
        report.facts["volumes"] = (
            f"{len(facts.volumes)} of {min(facts.volumes)} to {max(facts.volumes)} slices"
        )
    if facts.hu.not_below_0:
        report.facts["nothing below 0"] = listed(facts.hu.not_below_0)
    report.facts["spacing mm"] = _spacing_text([case.spacing_mm for case in cases])
    if facts.blank:
        report.facts["blank slices"] = f"{facts.blank} of one value"
    if facts.rounded:
        change, name = max(facts.rounded)
        files = f"{len(facts.rounded)} images to whole HU"
        report.facts["rounded"] = f"{files}, by {change:.2g} at most ({name})"
    for note, names in facts.notes.items():
        report.facts["note"] = "; ".join(
            filter(None, [report.facts.get("note"), f"{note} ({listed(names, limit=2)})"])
        )


def _spacing_text(spacings: list[tuple[float, float] | None]) -> str:
    known = [value for spacing in spacings if spacing for value in spacing]
    if not known:
        return "unknown"
    return f"{min(known):g} to {max(known):g}, known for {len(known) // 2} of {len(spacings)}"


def _slice(pixels: np.ndarray, z: int | None) -> np.ndarray:
    return pixels if z is None else pixels[:, :, z]


def _name(name: str, z: int | None) -> str:
    return name if z is None else f"{name} z{z:04d}"

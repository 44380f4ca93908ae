"""Which files lie below `images` and `masks`, and which image belongs to which mask."""

import collections
import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

from prnet_jax.data.folders import files_below
from prnet_jax.data.volumes import format_of, how_to_convert
from prnet_jax.errors import InputError

IMAGES, MASKS = "images", "masks"
METADATA = "metadata.csv"

# Endings that the name of an image or a mask may have and its partner's may lack.
_IMAGE_END = re.compile(r"[_-](0000|image|img|ct)$", re.IGNORECASE)
_MASK_END = re.compile(r"[_-](masks?|seg|segmentation|labels?|gt)$", re.IGNORECASE)
# Folders in the place of a patient's folder that are not patients.
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}
_SLICE_END = re.compile(r"[_-](z|slice)[_-]?\d+$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, or the DICOM files of a folder that make one volume."""

    name: str  # for messages: `images/a/b.png`
    files: tuple[pathlib.Path, ...]
    format: str


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    id: str  # the path below `images` without suffix: `a/b`; NFC, as `plain_name` gives it
    image: Source
    mask: Source


@dataclasses.dataclass
class Found:
    """What `find_pairs` found; `problems` has a line for each thing to fix."""

    pairs: list[Pair]
    image_ids: list[str]  # of all images, with a mask or without
    mask_ids: list[str]
    files: list[pathlib.Path]  # of all images and masks
    skipped: list[str]  # files of unknown formats
    problems: list[str]


def find_pairs(manual_dir: str | os.PathLike) -> Found:
    """Pairs the files below `<manual_dir>/images` and `masks`, at any depth.

    An image and its mask have the same path without suffix. Files without a partner are tried again
    without `_mask`, `_masks`, `_seg`, `_segmentation`, `_label`, `_labels` or `_gt` at the end of
    the mask's name, and without `_0000`, `_image`, `_img` or `_ct` at the end of the image's; `-`
    serves as well as `_`.

    A folder of DICOM files below `images` or `masks` is one volume under the folder's name, unless
    its files have partners of their own.

    Raises:
        InputError: a folder is missing.
    """
    parent = pathlib.Path(manual_dir)
    problems: list[str] = []
    skipped: list[str] = []
    images = _files(parent, IMAGES, skipped, problems)
    masks = _files(parent, MASKS, skipped, problems)
    files = [source.files[0] for source in (*images.values(), *masks.values())]
    matched, _ = _match(images, masks)
    images = _with_series(images, {image for image, _ in matched.values()}, IMAGES, problems)
    masks = _with_series(masks, {mask for _, mask in matched.values()}, MASKS, problems)
    matched, ambiguous = _match(images, masks)
    problems += [
        f"{' and '.join(sources[key].name for sources, key in fitting)} match one another; "
        "expected one image and one mask per name: rename or remove the others"
        for fitting in ambiguous
    ]
    reported = {sources[key].name for fitting in ambiguous for sources, key in fitting}
    id_of_image = {image: id for id, (image, _) in matched.items()}
    id_of_mask = {mask: id for id, (_, mask) in matched.items()}
    for here, there, others, partner, folder in (
        (images, id_of_image, masks, "mask", MASKS),
        (masks, id_of_mask, images, "image", IMAGES),
    ):
        for key in sorted(here.keys() - there.keys()):
            if here[key].name not in reported:
                near = _near(f"{folder}/{key}", others, skipped)
                problems.append(
                    f"{here[key].name} has no {partner} {folder}/{key} in any known format; "
                    + (near or f"add the {partner} or remove this file")
                )
    return Found(
        pairs=[Pair(id, images[a], masks[b]) for id, (a, b) in sorted(matched.items())],
        image_ids=[id_of_image.get(key, key) for key in sorted(images)],
        mask_ids=[id_of_mask.get(key, key) for key in sorted(masks)],
        files=files,
        skipped=skipped,
        problems=problems,
    )


def patient_of(id: str) -> str:
    """The first folder of an id, or else the name before `_z0042`, `_slice12` and the like."""
    return id.split("/")[0] if "/" in id else _SLICE_END.sub("", id)


def plain_name(name: str) -> str:
    """The name with each accented letter as one character (Unicode's NFC).

    macOS writes `é` as two characters and other systems as one; to a person they are the same.
    """
    return unicodedata.normalize("NFC", name)


def names_a_split(id: str) -> bool:
    """Whether the first folder of an id is named after a split and so not after a patient."""
    return "/" in id and id.split("/")[0].lower() in _SPLIT_NAMES


def _near(wanted: str, others: Mapping[str, Source], skipped: list[str]) -> str:
    """What to do about a file that is nearly the partner; empty where there is none."""
    for name in skipped:
        if plain_name(name).rpartition(".")[0] == wanted:
            return how_to_convert(name)
    key = wanted.partition("/")[2].lower()
    for other, source in others.items():
        if other.lower() == key:
            return f"{source.name} differs in capitals: rename one"
    return ""


def _files(
    parent: pathlib.Path, name: str, skipped: list[str], problems: list[str]
) -> dict[str, Source]:
    """{path below the folder, without suffix: its file}."""
    folder = parent / name
    if not folder.is_dir():
        if (parent / f"{name}.zip").is_file():
            advice = f"unpack {name}.zip"
        else:
            folders = sorted(path.name for path in parent.glob("*") if path.is_dir())
            found = f" (found {', '.join(folders[:5])})" if folders else ""
            advice = f"it needs images and masks{found}: rename your folders or link to them"
        raise InputError(
            f"{parent} holds no folder {name}; {advice}, see datasets/image_folder/README.md"
        )
    found: dict[str, Source] = {}
    for file in files_below(folder):
        path = file.relative_to(folder)
        known = format_of(file)
        source_name = f"{name}/{path.as_posix()}"
        if known is None:
            skipped.append(source_name)
            continue
        if not file.is_file():
            problems.append(
                f"{source_name} is a broken link; restore the file it points to, or remove the link"
            )
            continue
        key = plain_name(path.with_name(known[0]).as_posix())
        if key in found:
            problems.append(
                f"{found[key].name} and {source_name} have the same id; "
                "an id must be unique: remove or rename one"
            )
            continue
        found[key] = Source(source_name, (file,), known[1])
    return found


def _with_series(
    sources: dict[str, Source], matched: set[str], name: str, problems: list[str]
) -> dict[str, Source]:
    """Merges each folder of DICOM files into one volume, unless a file of it has a partner."""
    folders = collections.defaultdict(list)
    for key, source in sources.items():
        if source.format == "DICOM" and "/" in key:
            folders[key.rpartition("/")[0]].append(key)
    result = dict(sources)
    for folder, keys in folders.items():
        if matched.intersection(keys):
            continue
        files = tuple(result.pop(key).files[0] for key in keys)
        if folder in result:
            problems.append(
                f"{result[folder].name} and the folder {name}/{folder} have the same id; "
                "an id must be unique: remove or rename one"
            )
        else:
            result[folder] = Source(f"{name}/{folder}", files, "DICOM")
    return result


def _match(
    images: dict[str, Source], masks: dict[str, Source]
) -> tuple[dict[str, tuple[str, str]], list[list[tuple[dict[str, Source], str]]]]:
    """{id: (image, mask)}, and each group of files that could make more than one pair."""
    matched: dict[str, tuple[str, str]] = {}
    ambiguous = []
    left_images, left_masks = set(images), set(masks)
    for cut_image, cut_mask in ((False, False), (False, True), (True, False), (True, True)):
        of_image = _by_id(left_images, _IMAGE_END if cut_image else None)
        of_mask = _by_id(left_masks, _MASK_END if cut_mask else None)
        for id in sorted(of_image.keys() & of_mask.keys()):
            if id in matched or len(of_image[id]) > 1 or len(of_mask[id]) > 1:
                group = [(images, key) for key in of_image[id]]
                group += [(masks, key) for key in of_mask[id]]
                if id in matched:
                    group += [(images, matched[id][0]), (masks, matched[id][1])]
                ambiguous.append(group)
            else:
                matched[id] = of_image[id][0], of_mask[id][0]
            left_images -= set(of_image[id])
            left_masks -= set(of_mask[id])
    return matched, ambiguous


def _by_id(keys: Iterable[str], end: re.Pattern | None) -> dict[str, list[str]]:
    ids = collections.defaultdict(list)
    for key in sorted(keys):
        ids[end.sub("", key) if end else key].append(key)
    return ids

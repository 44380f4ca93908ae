"""Which files lie below `images` and `masks`, and which image belongs to which mask."""

import collections
import dataclasses
import itertools
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from prnet_jax.data.folders import files_below
from prnet_jax.data.volumes import format_of, how_to_convert
from prnet_jax.errors import InputError

METADATA = "metadata.csv"

# Names of the two folders, in any capitals; the first that exists is read.
_IMAGES = ("images", "image", "imgs", "img")
_MASKS = ("masks", "mask", "labels", "label", "segmentations")
# What the name of an image or a mask may have at its end or start and its partner's may lack.
_IMAGE_END = re.compile(r"[_-](0000|image|img|ct)$", re.IGNORECASE)
_MASK_END = re.compile(r"[_-](masks?|seg|segmentation|labels?|gt)$", re.IGNORECASE)
_IMAGE_START = re.compile(r"(?<![^/])(volume|image|img|ct|scan)[_-](?=[^/]+$)", re.IGNORECASE)
_MASK_START = re.compile(
    r"(?<![^/])(masks?|seg|segmentation|labels?|gt)[_-](?=[^/]+$)", re.IGNORECASE
)
_SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SLICE_END = re.compile(r"[_-](z|slice)[_-]?\d+$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class _Root:
    """A folder of images and that of their masks, below the directory."""

    prefix: str  # of the ids: empty, or the folder of a split: `train/`
    images: str
    masks: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, or the DICOM files of a folder that make one volume."""

    name: str  # for messages: `images/a/b.png`
    files: tuple[pathlib.Path, ...]
    format: str


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    id: str  # the path below `images` without suffix: `a/b`; NFC, as `plain_name` gives it;
    # below `train/images` and the like `train/a/b`
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

    The two folders may also lie in one for each split (`train/images`, `val/masks`), or have the
    names of nnU-Net (`imagesTr`, `labelsTr`).

    An image and its mask have the same path without suffix. Files without a partner are tried again
    without `_mask`, `_masks`, `_seg`, `_segmentation`, `_label`, `_labels` or `_gt` at the end of
    the mask's name, and without `_0000`, `_image`, `_img` or `_ct` at the end of the image's; then
    also without such a word at the start (`mask_`, `segmentation-`; `volume-`, `img_`); `-` serves
    as well as `_`.

    A folder of DICOM files below `images` or `masks` is one volume under the folder's name, unless
    its files have partners of their own.

    Raises:
        InputError: a folder is missing.
    """
    parent = pathlib.Path(manual_dir)
    problems: list[str] = []
    skipped: list[str] = []
    roots = _roots(parent, skipped)
    images: dict[str, Source] = {}
    masks: dict[str, Source] = {}
    for root in roots:
        images |= _files(parent, root.images, root.prefix, skipped, problems)
        masks |= _files(parent, root.masks, root.prefix, skipped, problems)

    def place(key: str, of_mask: bool) -> str:
        root = next(root for root in roots if key.startswith(root.prefix))
        return f"{root.masks if of_mask else root.images}/{key.removeprefix(root.prefix)}"

    files = [source.files[0] for source in (*images.values(), *masks.values())]
    matched, _ = _match(images, masks)
    images = _with_series(
        images, {image for image, _ in matched.values()}, lambda key: place(key, False), problems
    )
    masks = _with_series(
        masks, {mask for _, mask in matched.values()}, lambda key: place(key, True), problems
    )
    matched, ambiguous = _match(images, masks)
    problems += [
        f"{' and '.join(sources[key].name for sources, key in fitting)} match one another; "
        "expected one image and one mask per name: rename or remove the others"
        for fitting in ambiguous
    ]
    reported = {sources[key].name for fitting in ambiguous for sources, key in fitting}
    id_of_image = {image: id for id, (image, _) in matched.items()}
    id_of_mask = {mask: id for id, (_, mask) in matched.items()}
    for here, there, others, partner in (
        (images, id_of_image, masks, "mask"),
        (masks, id_of_mask, images, "image"),
    ):
        for key in sorted(here.keys() - there.keys()):
            if here[key].name not in reported:
                wanted = place(key, partner == "mask")
                near = _near(wanted, key, others, skipped)
                problems.append(
                    f"{here[key].name} has no {partner} {wanted} in any known format; "
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


def split_of(id: str) -> str:
    """The split that the first folder of an id is named after: of `val/a` "validation"; else ""."""
    return _SPLIT_FOLDERS.get(id.split("/")[0].lower(), "") if "/" in id else ""


def within_split(id: str) -> str:
    """An id without the folder of a split."""
    return id.partition("/")[2] if split_of(id) else id


def patient_of(id: str) -> str:
    """The first folder of an id, or else the name before `_z0042`, `_slice12` and the like.

    The folder of a split is no patient: equal names in two splits are one person's.
    """
    id = within_split(id)
    return id.split("/")[0] if "/" in id else _SLICE_END.sub("", id)


def plain_name(name: str) -> str:
    """The name with each accented letter as one character (Unicode's NFC).

    macOS writes `é` as two characters and other systems as one; to a person they are the same.
    """
    return unicodedata.normalize("NFC", name)


def _roots(parent: pathlib.Path, skipped: list[str]) -> list[_Root]:
    """Where images and masks lie: in two folders, in two for each split, or as nnU-Net has them."""
    if _named(parent, _IMAGES) or _named(parent, _MASKS):
        return [_root(parent, "")]
    folders = sorted(path.name for path in parent.glob("*") if path.is_dir())
    of_splits = [
        name
        for name in folders
        if split_of(f"{name}/") and _named(parent / name, (*_IMAGES, *_MASKS))
    ]
    if of_splits:
        return [_root(parent, f"{name}/") for name in of_splits]
    images, masks = _named(parent, ("imagestr",)), _named(parent, ("labelstr",))
    if not (images and masks):
        return [_root(parent, "")]  # which refuses it
    test_images, test_masks = _named(parent, ("imagests",)), _named(parent, ("labelsts",))
    if test_images and test_masks:
        return [_Root("train/", images, masks), _Root("test/", test_images, test_masks)]
    skipped += [f"{test_images} (it has no labelsTs)"] if test_images else []
    return [_Root("", images, masks)]


def _root(parent: pathlib.Path, prefix: str) -> _Root:
    folder = parent / prefix
    images, masks = _named(folder, _IMAGES), _named(folder, _MASKS)
    if images and masks:
        return _Root(prefix, prefix + images, prefix + masks)
    name = "masks" if images else "images"
    if (folder / f"{name}.zip").is_file():
        advice = f"unpack {name}.zip"
    else:
        folders = sorted(path.name for path in folder.glob("*") if path.is_dir())
        found = f" (found {', '.join(folders[:5])})" if folders else ""
        advice = f"it needs images and masks{found}: rename your folders or link to them"
    raise InputError(
        f"{folder} holds no folder {name}; {advice}, see datasets/image_folder/README.md"
    )


def _named(folder: pathlib.Path, names: Iterable[str]) -> str:
    """The first of these names, in any capitals, that is a folder below `folder`; else ""."""
    found = {path.name.lower(): path.name for path in sorted(folder.glob("*")) if path.is_dir()}
    return next((found[name] for name in names if name in found), "")


def _near(wanted: str, key: str, others: Mapping[str, Source], skipped: list[str]) -> str:
    """What to do about a file that is nearly the partner; empty where there is none."""
    for name in skipped:
        if plain_name(name).rpartition(".")[0] == wanted:
            return how_to_convert(name)
    for other, source in others.items():
        if other.lower() == key.lower():
            return f"{source.name} differs in capitals: rename one"
    return ""


def _files(
    parent: pathlib.Path, name: str, prefix: str, skipped: list[str], problems: list[str]
) -> dict[str, Source]:
    """{prefix and path below the folder `name`, without suffix: its file}."""
    folder = parent / name
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
        key = prefix + plain_name(path.with_name(known[0]).as_posix())
        if key in found:
            problems.append(
                f"{found[key].name} and {source_name} have the same id; "
                "an id must be unique: remove or rename one"
            )
            continue
        found[key] = Source(source_name, (file,), known[1])
    return found


def _with_series(
    sources: dict[str, Source],
    matched: set[str],
    place: Callable[[str], str],
    problems: list[str],
) -> dict[str, Source]:
    """Merges each folder of DICOM files into one volume, unless a file of it has a partner.

    `place` gives the path of a key for messages. The folder of a split is no volume.
    """
    folders = collections.defaultdict(list)
    for key, source in sources.items():
        if source.format == "DICOM" and "/" in key:
            folders[key.rpartition("/")[0]].append(key)
    result = dict(sources)
    for folder, keys in folders.items():
        if matched.intersection(keys) or split_of(f"{folder}/") and "/" not in folder:
            continue
        files = tuple(result.pop(key).files[0] for key in keys)
        if folder in result:
            problems.append(
                f"{result[folder].name} and the folder {place(folder)} have the same id; "
                "an id must be unique: remove or rename one"
            )
        else:
            result[folder] = Source(place(folder), files, "DICOM")
    return result


def _match(
    images: dict[str, Source], masks: dict[str, Source]
) -> tuple[dict[str, tuple[str, str]], list[list[tuple[dict[str, Source], str]]]]:
    """{id: (image, mask)}, and each group of files that could make more than one pair."""
    matched: dict[str, tuple[str, str]] = {}
    ambiguous = []
    left_images, left_masks = set(images), set(masks)
    # Names as they are, then without their ends, then also without their starts.
    image_cuts, mask_cuts = (_IMAGE_END, _IMAGE_START), (_MASK_END, _MASK_START)
    steps = sorted(itertools.product(range(3), repeat=2), key=max)
    for of_images, of_masks in steps:
        of_image = _by_id(left_images, image_cuts[:of_images])
        of_mask = _by_id(left_masks, mask_cuts[:of_masks])
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


def _by_id(keys: Iterable[str], cuts: Iterable[re.Pattern]) -> dict[str, list[str]]:
    ids = collections.defaultdict(list)
    for key in sorted(keys):
        id = key
        for cut in cuts:
            id = cut.sub("", id)
        ids[id].append(key)
    return ids

"""The optional table beside the folders: patients, splits and spacing."""

import csv
import dataclasses
import pathlib
from collections.abc import Iterable

from prnet_jax.data.scan import checked_spacing
from prnet_jax.data.splits import SPLITS
from prnet_jax.errors import InputError

_SPACING = ("spacing_row_mm", "spacing_column_mm")
COLUMNS = ("id", "patient_id", "split", *_SPACING)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row; what the table does not say is empty or None."""

    patient_id: str = ""
    split: str = ""
    spacing_mm: tuple[float, float] | None = None


def read_metadata(file: pathlib.Path, ids: Iterable[str]) -> dict[str, Entry]:
    """The rows by id; an empty dict where there is no such file.

    Args:
        file: a CSV file in UTF-8 with a heading of some of `COLUMNS`, `id` among them.
        ids: those of the pairs.

    Raises:
        InputError: an unknown column, id or split, an id twice, one spacing alone or an impossible
            one; or a column `split` that leaves out an image, or that leaves a split empty.
    """
    if not file.is_file():
        return {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, restkey="", restval="")
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{file.name} cannot be read ({error}); expected a CSV file in UTF-8"
        ) from error
    _check_columns(columns, file.name)
    ids, entries = set(ids), {}
    for line, row in rows:
        if "" in row:
            raise InputError(f"{file.name}, line {line}: more cells than columns; quote the commas")
        row = {column: value.strip() for column, value in row.items()}
        where = f"{file.name}, line {line}: id {row['id']!r}"
        if row["id"] not in ids:
            raise InputError(
                f"{where} is no pair of images and masks; expected the path below images without "
                f"suffix, such as {min(ids, default='case_1')!r}"
            )
        if row["id"] in entries:
            raise InputError(f"{where} is there twice; remove one row")
        entries[row["id"]] = _entry(row, where)
    if "split" in columns:
        _check_splits(ids, entries, file.name)
    return entries


def _check_columns(columns: list[str], name: str) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown or "id" not in columns or len(set(columns)) < len(columns):
        found = f"the unknown column {unknown[0]!r}" if unknown else f"the columns {columns}"
        raise InputError(
            f"{name} has {found}; expected id and any of {', '.join(COLUMNS[1:])}, each once, "
            "separated by commas"
        )
    if len(set(_SPACING) & set(columns)) == 1:
        raise InputError(f"{name} has one of {' and '.join(_SPACING)}; expected both or none")


def _entry(row: dict[str, str], where: str) -> Entry:
    split = row.get("split", "")
    if "split" in row and split not in SPLITS:
        raise InputError(f"{where} has the split {split!r}; expected one of {', '.join(SPLITS)}")
    texts = [row.get(column, "") for column in _SPACING]
    spacing = None
    if any(texts):
        try:
            spacing = checked_spacing([float(text) for text in texts], where)
        except InputError:
            raise
        except ValueError:
            raise InputError(
                f"{where} has the spacing {texts[0]!r} x {texts[1]!r}; expected two numbers in mm"
            ) from None
    return Entry(row.get("patient_id", ""), split, spacing)


def _check_splits(ids: set[str], entries: dict[str, Entry], name: str) -> None:
    without = sorted(ids - entries.keys())
    if without:
        raise InputError(
            f"{name} gives no split to {without[0]!r} ({len(without)} in all); "
            "give every image one, or remove the column split"
        )
    empty = [split for split in SPLITS if split not in {e.split for e in entries.values()}]
    if empty:
        raise InputError(f"{name} puts no image into {empty[0]}; each split needs at least one")

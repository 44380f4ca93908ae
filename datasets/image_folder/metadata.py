"""The optional table beside the folders: patients, splits and spacing."""

import csv
import dataclasses
import pathlib
from collections.abc import Iterable

from prnet_jax.data.scan import checked_spacing
from prnet_jax.data.splits import SPLITS
from prnet_jax.errors import InputError

from .pairs import plain_name

_SPACING = ("spacing_row_mm", "spacing_column_mm")
_TABLES = (".csv", ".tsv", ".txt", ".xls", ".xlsx", ".ods")
COLUMNS = ("id", "patient_id", "split", *_SPACING)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row; whatever the table does not state is empty or None."""

    patient_id: str = ""
    split: str = ""
    spacing_mm: tuple[float, float] | None = None


def read_metadata(file: pathlib.Path, ids: Iterable[str]) -> dict[str, Entry]:
    """The rows by id; empty where the file does not exist.

    Args:
        file: a CSV file in UTF-8, headed by `id` and any other of `COLUMNS`. Blank rows and blank
            cells at the end of a row, which spreadsheets leave behind, are skipped.
        ids: those of the pairs.

    Raises:
        InputError: an unknown column, id or split; a repeated id; a single or impossible spacing;
            a column `split` that omits an image; or no such file but one with nearly the same name.
    """
    if not file.is_file():
        _refuse_other_names(file)
        return {}
    rows = _read_rows(file)
    columns = rows[0][1] if rows else []
    _check_columns(columns, file.name)
    ids, entries = set(ids), {}
    for line, cells in rows[1:]:
        if len(cells) > len(columns):
            raise InputError(f"{file.name}, line {line}: more cells than columns; quote the commas")
        row = dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
        where = f"{file.name}, line {line}: id {row['id']!r}"
        if row["id"] not in ids:
            raise InputError(
                f"{where} is not a pair of images and masks; expected the path below images "
                f"without suffix, such as {min(ids, default='case_1')!r}"
            )
        if row["id"] in entries:
            raise InputError(f"{where} appears twice; remove one row")
        entries[row["id"]] = _entry(row, where)
    if "split" in columns:
        _check_splits(ids, entries, file.name)
    return entries


def _refuse_other_names(file: pathlib.Path) -> None:
    """Refuses a table with nearly the right name: ignored, it would leave the splits to chance."""
    for other in sorted(file.parent.glob("*")):
        name = other.name.lower()
        if name.startswith(f"{file.stem}.") and name.endswith(_TABLES) and other.is_file():
            raise InputError(
                f"{other} is not read; expected a CSV file called {file.name}: save it as that, "
                "or give it another name"
            )


def _read_rows(file: pathlib.Path) -> list[tuple[int, list[str]]]:
    """(line, cells) of every row, without blank rows and blank cells at the end."""
    rows = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.reader(opened, strict=True)
            for row in reader:
                cells = [plain_name(cell.strip()) for cell in row]
                if any(character < " " for cell in cells for character in cell):
                    raise csv.Error(f"line {reader.line_num}: a line break or the like in a cell")
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    rows.append((reader.line_num, cells))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{file.name} cannot be read ({error}); expected a CSV file in UTF-8: check its "
            "encoding and quotes"
        ) from error
    return rows


def _check_columns(columns: list[str], name: str) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown or "id" not in columns or len(set(columns)) < len(columns):
        found = f"the unknown column {unknown[0]!r}" if unknown else f"the columns {columns}"
        raise InputError(
            f"{name} has {found}; expected id and any of {', '.join(COLUMNS[1:])}, each once and "
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
            f"{name} gives no split for {without[0]!r} ({len(without)} in all); "
            "give one for every image, or remove the column split"
        )

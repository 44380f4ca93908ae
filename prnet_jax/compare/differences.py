"""What the rows of a comparison differ in besides the network."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from prnet_jax.compare.rows import Row
from prnet_jax.errors import InputError

HEADING = (
    "Runs were trained or evaluated differently, so a difference need not come from the network:"
)
_NOT_RECORDED = "not recorded"
_OF_EVALUATION = ("tta", "threshold", "trained_on")  # known also without a config
_NAMED = 3  # settings that a refusal names


@dataclasses.dataclass(frozen=True)
class Difference:
    """A setting in which rows differ; as text "batch_size: 4 in PR-Net; 8 in the others".

    Attributes:
        setting: its name.
        groups: {value as printed: labels of the rows that have it}.
        chosen: False where it follows from the course of a training, not from a setting.
    """

    setting: str
    groups: dict[str, list[str]]
    chosen: bool = True

    def __str__(self) -> str:
        return f"{self.setting}: {self.by_value}"

    @property
    def by_value(self) -> str:
        """ "4 in PR-Net; 8 in the others"."""
        return "; ".join(f"{value} in {', '.join(at)}" for value, at in self.groups.items())


def differences(rows: Sequence[Row]) -> list[Difference]:
    """The settings in which rows differ, apart from the network and its own fields."""
    every = [row.runs[0].distinct for row in rows]
    recorded = [row.runs[0].settings is not None for row in rows]
    found = []
    if not all(recorded) and len(rows) > 1:
        values = ["recorded" if known else _NOT_RECORDED for known in recorded]
        found.append(Difference("config.json", _groups(rows, values)))
    names = {name for settings in every for name in settings if not name.startswith("model.")}
    for name in sorted(names - {"settings"}):
        # Of a row without a config, the line above says all.
        silent = [not known and name not in _OF_EVALUATION for known in recorded]
        stated = {
            json.dumps(settings.get(name, _NOT_RECORDED))
            for settings, skip in zip(every, silent, strict=True)
            if not skip
        }
        if len(stated) > 1:
            values = [
                None if skip else _text(row, name, settings)
                for row, settings, skip in zip(rows, every, silent, strict=True)
            ]
            found.append(Difference(name, _groups(rows, values)))
    return found + _epochs(rows)


def refuse(found: Sequence[Difference]) -> None:
    """Refuses rows that differ in a setting.

    Raises:
        InputError: naming the first settings, and which row has which value.
    """
    chosen = [difference for difference in found if difference.chosen]
    if not chosen:
        return
    named = ", ".join(f"{d.setting} ({d.by_value})" for d in chosen[:_NAMED])
    more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    raise InputError(
        f"--strict: the runs differ in {named}{more}: train and evaluate them alike, or leave out "
        "--strict"
    )


def _groups(rows: Sequence[Row], values: Sequence[str | None]) -> dict[str, list[str]]:
    """{value: labels of its rows}; the value of most rows comes last, in "the others" or "all".

    Args:
        rows: of the comparison.
        values: of each; None for a row that another line speaks of.
    """
    groups: dict[str, list[str]] = {}
    for row, value in zip(rows, values, strict=True):
        if value is not None:
            groups.setdefault(value, []).append(row.label)
    most, *others = sorted(groups, key=lambda value: -len(groups[value]))
    if not others:
        return {most: ["all"]}
    if None not in values and len(groups[most]) > len(groups[others[0]]):
        del groups[most]
        groups[most] = ["the others"]
    return groups


def _text(row: Row, name: str, settings: dict[str, Any]) -> str:
    if name not in settings:
        return _NOT_RECORDED
    value = settings[name]
    if name == "trained_on" and (images := row.runs[0].train_images) is not None:
        return f"{images} images of {value}"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _epochs(rows: Sequence[Row]) -> list[Difference]:
    """How long the runs were trained, unless all were trained alike or as long as they should."""
    runs = [part for row in rows for part in row.trainings]
    settings = [run.settings or {} for run in runs]
    ran = [run.epochs for run in runs]
    if len(set(ran)) == 1 or ran == [of_run.get("num_epochs") for of_run in settings]:
        return []
    early = all(of_run.get("early_stopping_epochs") for of_run in settings)
    name = "epochs run (early stopping)" if early else "epochs run"
    values = [_range([part.epochs for part in row.trainings]) for row in rows]
    return [Difference(name, _groups(rows, values), chosen=not early)]


def _range(epochs: Sequence[int | None]) -> str:
    """ "38 to 42"."""
    known = sorted({number for number in epochs if number is not None})
    parts = [f"{known[0]} to {known[-1]}" if len(known) > 1 else str(known[0])] if known else []
    return ", ".join(parts + [_NOT_RECORDED] * (None in epochs))

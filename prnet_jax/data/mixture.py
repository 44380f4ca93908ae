"""Several data sets as one: "finding_lungs+lung_phantom". Each keeps its own splits."""

import bisect
import itertools
import types
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from prnet_jax.data import records
from prnet_jax.errors import InputError


def names_of(name: str) -> list[str]:
    """The data sets that a name stands for: one, or several joined by "+".

    Raises:
        InputError: one is named twice.
    """
    names = name.split("+")
    if len(set(names)) < len(names):
        raise InputError(f"the data set {name!r} names one twice: name each once")
    return names


def share_a_source(name: str, other: str) -> bool:
    """Whether two names have a data set in common, so that equal ids are the same patients."""
    return not set(names_of(name)).isdisjoint(names_of(other))


class Mixture:
    """Prepared data sets, read as if they were one. Has what `Slices` needs of a TFDS builder.

    Attributes:
        name: of the data sets, joined by "+".
        info: `full_name`, the records' names joined by "+"; `splits`, the names of those that any
            of them has; `features`, those that all of them have; `metadata`, that of all.

    Args:
        builders: at least two.

    Raises:
        InputError: they do not hold the same unit.
    """

    def __init__(self, builders: Sequence[tfds.core.DatasetBuilder]):
        self._builders = builders
        self.name = "+".join(builder.name for builder in builders)
        first, *others = (builder.info.features for builder in builders)
        features = {k: v for k, v in first.items() if all(k in other for other in others)}
        self.info = types.SimpleNamespace(
            full_name="+".join(builder.info.full_name for builder in builders),
            splits=dict.fromkeys(itertools.chain(*(builder.info.splits for builder in builders))),
            features=features,
            # Only one of them holds volumes.
            metadata=dict(itertools.chain(*(b.info.metadata.items() for b in builders))),
        )

    def as_data_source(self, split: str, decoders: Any = None) -> "Joined":
        """The records of a split, or of several joined by "+", one data set after the other.

        Pictures are not decoded, whatever `decoders` says.
        """
        sources = []
        for builder in self._builders:
            there = [name for name in split.split("+") if name in builder.info.splits]
            if there:
                # Also of the masks that only this data set has.
                decoders = records.undecoded(builder.info.features)
                sources.append(builder.as_data_source("+".join(there), decoders=decoders))
        units = {source[0]["unit"].decode() for source in sources if len(source)}
        if len(units) > 1:
            raise InputError(
                f"{self.name} cannot be mixed: some hold HU and some grey values; mix data sets of "
                "one unit"
            )
        return Joined(sources)


class Joined(Sequence):
    """Sequences, one after the other, without copying them."""

    def __init__(self, parts: Sequence[Sequence[Any]]):
        self._parts = parts
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < len(self):
            raise IndexError(i)
        part = bisect.bisect_right(self._ends, i)
        return self._parts[part][i - (self._ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self._parts)

"""Which entry of a training program's checkpoint is the state_dict."""

import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.torch_weights.pickled import Tensor, Unknown

# The names that programs save it under; the weights themselves come before their averages.
_NAMES = (
    *("state_dict", "model_state_dict", "network_weights", "model_state", "model", "network"),
    *("net", "weights", "params", "module", "checkpoint"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema"),
)
_DEPTH = 2
_SHOWN = 8

Path = tuple[str, ...]  # the keys down to an entry


def pick_weights(
    content: Any, file: pathlib.Path, entry: str | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The arrays of the state_dict in a file's content, at its top or nested once or twice.

    It is the entry with the most arrays. Of several with about as many, the plain weights are
    preferred to their averages. What is passed over is told in one line.

    Args:
        content: of the file; each array is a NumPy array or a `Tensor`.
        file: its path, for messages.
        entry: its name, as "ema" or "ema.state_dict", or what the names of its arrays begin with;
            None to look for it.
        tell: gets each line for the user.

    Raises:
        InputError: there is none.
    """
    found = dict(_with_arrays(content))
    named = {".".join(path): path for path in found}
    chosen, others = _choose(found)
    if chosen is None:
        raise InputError(
            f"{file} holds {_describe(content)}, expected a state_dict (name -> array): "
            "save model.state_dict()"
        )
    if entry is None and others:
        tell(
            f"{file} holds several sets of weights: {'.'.join(chosen)} was taken; for another "
            f"give --entry {' or '.join(map('.'.join, others))}"
        )
    elif entry in named:
        chosen = named[entry]
    elif entry is not None:
        return _below(found[chosen], entry, file, named)
    weights = {name: value for name, value in found[chosen].items() if _is_array(value)}
    passed_over = [name for name in found[chosen] if name not in weights]
    level = content
    for key in chosen:
        passed_over += [name for name in level if name != key]
        level = level[key]
    if passed_over:
        tell(f"{file}: passed over, as they are not among the weights: {_some(passed_over)}")
    return weights


def _below(
    weights: Mapping[str, Any], part: str, file: pathlib.Path, named: Collection[str]
) -> dict[str, Any]:
    """The arrays whose names begin with `part`, which a network beside a loss has for example."""
    start = f"{part}."
    cut = {
        name.removeprefix(start): value
        for name, value in weights.items()
        if name.startswith(start) and _is_array(value)
    }
    if not cut:
        there = ", ".join(filter(None, named)) or "no other entries"
        raise InputError(f"{file} has no weights under {part!r}: it has {there}")
    return cut


def _with_arrays(content: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each mapping of the content that has arrays, with its path; () is the content itself."""
    level, seen = [((), content)], set()
    for _ in range(_DEPTH + 1):
        below = []
        for path, mapping in level:
            if not isinstance(mapping, Mapping):
                continue
            if _arrays_in(mapping):
                yield path, mapping
            if id(mapping) not in seen:  # a file may repeat one, even inside itself
                seen.add(id(mapping))
                below += [((*path, key), value) for key, value in mapping.items()]
        level = below


def _choose(found: Mapping[Path, Mapping[str, Any]]) -> tuple[Path | None, list[Path]]:
    """The path of the state_dict, None where there is none, and those of others like it."""
    largest = max(map(_arrays_in, found.values()), default=0)
    complete = [path for path in found if 2 * _arrays_in(found[path]) >= largest]
    # Arrays beside a state_dict, such as the last loss, are none of it.
    complete = [
        path
        for path in complete
        if not any(len(other) > len(path) and other[: len(path)] == path for other in complete)
    ]
    chosen = min(complete, key=_rank, default=None)
    return chosen, [path for path in complete if path != chosen]


def _rank(path: Path) -> list[int]:
    """Of several entries the smallest is taken; of equals the first in the file."""
    return [_NAMES.index(name) if name in _NAMES else len(_NAMES) for name in path]


def _arrays_in(mapping: Mapping[str, Any]) -> int:
    return sum(map(_is_array, mapping.values()))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _describe(content: Any) -> str:
    if isinstance(content, Unknown):
        return f"a {content.name}"
    if isinstance(content, Mapping):
        return f"no arrays under {_some(list(content))}" if content else "nothing"
    return f"a {type(content).__name__}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

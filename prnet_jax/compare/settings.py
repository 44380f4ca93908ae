"""The settings of a run that can change its scores, and what a missing one stands for."""

from collections.abc import Mapping, Sequence
from typing import Any

from prnet_jax.errors import InputError
from prnet_jax.run import files
from prnet_jax.run.directory import BEFORE_THE_FIELD, FREE_FIELDS, LOCAL_FIELDS

# Fields of a run's config that make no other experiment: where and how fast it is computed, and
# these. Every other field counts.
EXEMPT = {
    *FREE_FIELDS,
    *LOCAL_FIELDS,
    "seed",  # runs that differ only in it are replicates
    "model.name",  # what is compared
    "threshold",  # the evaluation states its own
    *("eval_batch_size", "log_every_steps"),
    "init_other_patients",  # for the search for leaks
}
# What a field stands for that did not exist when a run was made.
_BEFORE = {
    **BEFORE_THE_FIELD,
    "init_from": None,
    "loss": "bce_dice",
    "head_weights": [],
    "model.encoder": "residual",
    "model.pam": True,
}
_OPTIONS = "dataset.options."


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run's config that count, flat."""
    return {k: plain(v) for k, v in files.flat(config).items() if k not in EXEMPT}


def plain(value: Any) -> Any:
    """A value such that equal ones are equal as JSON: whole numbers as int, tuples as list."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def starting_weights(origin: Mapping[str, Any]) -> str:
    """ "runs/b (weights 1a2b3c4d), itself from runs/a", of the `init_from` of a provenance.json."""
    weights = str(origin.get("weights_sha256", "not recorded"))[:12]
    folders = []
    while isinstance(origin, Mapping):
        folders.append(str(origin.get("folder")))
        origin = origin.get("init_from")
    return ", itself from ".join([f"{folders[0]} (weights {weights})", *folders[1:]])


def fill_missing(every: Sequence[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Adds to each run's settings what others have and it lacks, where the meaning is known.

    A missing augmentation is off, and a missing option of a data set has its default.

    Args:
        every: the result of `settings_of` for each run; None where a run has no config.
    """
    names = {name for settings in every if settings is not None for name in settings}

    def filled(settings: dict[str, Any]) -> dict[str, Any]:
        missing = names - settings.keys()
        found = {name: value for name, value in _BEFORE.items() if name in missing}
        found |= {name: 0 for name in missing if name.startswith("augment.")}
        options = {name for name in missing if name.startswith(_OPTIONS)}
        if options:
            defaults = _defaults(settings.get("dataset.name"))
            found |= {name: value for name, value in defaults.items() if name in options}
        return settings | found

    return [None if settings is None else filled(settings) for settings in every]


def _defaults(dataset: Any) -> dict[str, Any]:
    # Here, because it takes seconds to import and is rarely needed.
    from prnet_jax.data.prepare import dataset_options

    try:
        options = dataset_options(str(dataset))
    except InputError:
        return {}  # this data set is not here
    return {f"{_OPTIONS}{name}": plain(value) for name, value in options.items()}

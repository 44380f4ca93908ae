"""What the builders of `datasets/` share: metadata, features, and configs named after options."""

import hashlib
import inspect
from collections.abc import Iterable, Sequence

import tensorflow_datasets as tfds
from etils import epath

from prnet_jax.data import records
from prnet_jax.data.splits import parse_fold
from prnet_jax.errors import InputError


class SliceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose records are made by `records.example`.

    A subclass is called `Builder` and lives in `<name>_dataset_builder.py`, from which TFDS takes
    the data set's name. `MASKS` lists its masks, the first of which is the default target.
    """

    MASKS: tuple[str, ...] = ("mask",)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # TFDS would look for README.md, CITATIONS.bib and TAGS.txt in prnet_jax/datasets.
        cls.pkg_dir_path = epath.Path(inspect.getfile(cls)).parent

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=records.features(self.MASKS),
            supervised_keys=("image", self.MASKS[0]),
            metadata=tfds.core.MetadataDict(),  # see `prnet_jax.data.stacks`
        )


def config_name(options: Sequence[str], fingerprint: str = "") -> str:
    """The name of a config, and so of its records' folder: `seed1_fold2of5-1a2b3c4d`.

    Args:
        options: those that differ from their defaults; `default` stands for none.
        fingerprint: of the source files; empty where the files do not matter or are not at hand.
    """
    return ("_".join(options) or "default") + (f"-{fingerprint}" if fingerprint else "")


def split_names(split_seed: int | None, fold: str) -> list[str]:
    """The options `split_seed` and `fold` as parts of a config's name: `seed1`, `fold2of5`.

    Raises:
        InputError: an option of the wrong type or form.
    """
    check_whole("split_seed", split_seed, 0)
    names = [] if split_seed is None else [f"seed{split_seed}"]
    return names + (["fold{}of{}".format(*parse_fold(fold))] if fold else [])


def fingerprint_of(files: Iterable[tuple[str, bytes]]) -> str:
    """Eight hex digits over the names and contents of files, in the given order."""
    digest = hashlib.sha256()
    for name, data in files:
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()[:8]


def check_whole(name: str, value: int | None, low: int) -> None:
    """Refuses an option that is neither None nor a whole number of at least `low`.

    Raises:
        InputError: naming the option and the value.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} is {value!r}; expected a whole number of {low} or more, or None")

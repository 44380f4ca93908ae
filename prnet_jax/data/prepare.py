"""From a data set's name to its records: finds the builder and runs it if needed."""

import contextlib
import difflib
import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import types
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

import prnet_jax.datasets
from prnet_jax import processes
from prnet_jax.data.mixture import Mixture, names_of
from prnet_jax.errors import InputError
from prnet_jax.working import Work, working

MANUAL_DIR_VARIABLE = "PRNET_MANUAL_DIR"


def available() -> list[str]:
    """The names of the data sets: the packages in `datasets/`."""
    packages = pkgutil.iter_modules(prnet_jax.datasets.__path__)
    return sorted(package.name for package in packages if package.ispkg)


def dataset_options(name: str) -> dict[str, Any]:
    """The options of a data set, or of several joined by "+", and their defaults, for a config.

    Raises:
        InputError: an unknown name.
    """
    options: dict[str, Any] = {}
    for part in names_of(name):
        options = _options(_module(part)) | options
    return options


def option_meanings(name: str) -> dict[str, str]:
    """What those options mean: the comments beside the fields of what `make_config` returns.

    Raises:
        InputError: an unknown name.
    """
    commented = re.compile(r"^    (\w+): .*  # (.+)$", re.MULTILINE)
    meanings: dict[str, str] = {}
    for part in names_of(name):
        config = inspect.signature(_module(part).make_config).return_annotation
        if inspect.isclass(config):
            meanings = dict(commented.findall(inspect.getsource(config))) | meanings
    return meanings


def prepare(
    name: str,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    **options: Any,
) -> tfds.core.DatasetBuilder | Mixture:
    """A data set with its records on disk, written now unless they exist.

    With several processes all must call this; the first writes the records while the others wait.

    A builder's module defines `Builder` and `make_config`, whose parameters are the options, each
    with a default. Where a person has to download the files, `make_config` takes `manual_dir`
    first and ends the config's name in `-<fingerprint>` of them.

    Args:
        name: one of `available()`, or several joined by "+": then an option is given to each that
            has it, and `manual_dir` to each that needs it.
        data_dir: where records are kept; by default TFDS_DATA_DIR or ~/tensorflow_datasets.
        manual_dir: a person's download; by default PRNET_MANUAL_DIR. Without either, existing
            records with the same options are used. Ignored by data sets that need no download.
        **options: those of the data set's `make_config`.

    Returns:
        A builder for `as_data_source` (ArrayRecord files); of several data sets a `Mixture`.

    Raises:
        InputError: an unknown name or option, no such directory, or files with defects. Nothing is
            written then.
    """
    modules = {part: _module(part) for part in names_of(name)}
    known = dataset_options(name)
    for option in options:
        if option not in known:
            raise InputError(f"{name} has no option {option!r}{_hint(option, list(known))}")
    builders = [
        _prepare(
            part,
            module,
            data_dir,
            manual_dir,
            {k: options[k] for k in _options(module) if k in options},
        )
        for part, module in modules.items()
    ]
    return builders[0] if len(builders) == 1 else Mixture(builders)


def _prepare(
    name: str,
    module: types.ModuleType,
    data_dir: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
    options: dict[str, Any],
) -> tfds.core.DatasetBuilder:
    """`prepare` for one data set."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = pathlib.Path(data_dir).expanduser()
    if "manual_dir" in inspect.signature(module.make_config).parameters:
        manual_dir = manual_dir or os.environ.get(MANUAL_DIR_VARIABLE)
        if not manual_dir:
            return _prepared_before(module, name, data_dir, options)
        manual_dir = _existing(manual_dir)
        with working(f"reading {manual_dir}"):
            config = module.make_config(manual_dir, **options)
    else:
        config = module.make_config(**options)
    arguments = {"data_dir": data_dir, "config": config, "file_format": "array_record"}

    def make_if_absent() -> None:
        with _quiet():
            builder = module.Builder(**arguments)
            if not builder.data_path.exists():
                _make(builder, data_dir, manual_dir)

    # The other processes now find the records, or write them to a disk of their own.
    processes.on_first(make_if_absent)
    make_if_absent()
    with _quiet():
        return module.Builder(**arguments)  # reads what is on disk


def _module(name: str) -> types.ModuleType:
    if name not in available():
        raise InputError(f"no data set {name!r}{_hint(name, available())}")
    return importlib.import_module(f"prnet_jax.datasets.{name}.{name}_dataset_builder")


def _options(module: types.ModuleType) -> dict[str, Any]:
    """The parameters of `make_config` and their defaults."""
    parameters = inspect.signature(module.make_config).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "manual_dir"}


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (f"; did you mean {close[0]!r}?" if close else "") + f" (there are: {', '.join(known)})"


def _existing(manual_dir: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(manual_dir).expanduser()
    if not path.is_dir():
        found = "is a file" if path.exists() else f"does not exist (resolved to {path.resolve()})"
        raise InputError(
            f"manual_dir {manual_dir} {found}; give the directory that holds the download"
        )
    return path


def _prepared_before(
    module: types.ModuleType, name: str, data_dir: pathlib.Path, options: dict[str, Any]
) -> tfds.core.DatasetBuilder:
    """The records with these options, if there are only one folder's."""
    config = module.make_config(**options).name
    found = sorted((data_dir / name).glob(f"{config}-*/{module.Builder.VERSION}"))
    if len(found) == 1:
        print(f"No manual_dir given: using the records in {found[0]}", flush=True)
        with _quiet():
            return tfds.builder_from_directory(found[0])
    if found:
        fingerprints = ", ".join(path.parent.name for path in found)
        raise InputError(
            f"{data_dir / name} holds records of {len(found)} folders ({fingerprints}); "
            f"set manual_dir or {MANUAL_DIR_VARIABLE} to choose one"
        )
    raise InputError(
        f"{name} needs a manual download: set manual_dir or {MANUAL_DIR_VARIABLE} to the directory "
        f"that holds it (datasets/{name}/README.md says what to download and where)"
    )


def _make(
    builder: tfds.core.DatasetBuilder, data_dir: pathlib.Path, manual_dir: pathlib.Path | None
) -> None:
    """Writes the records; a failure leaves nothing behind."""
    downloads, records = data_dir / "downloads", pathlib.Path(builder.data_path)
    folders = [downloads / "extracted", downloads, records.parent, records.parent.parent, data_dir]
    new_folders = [folder for folder in folders if not folder.exists()]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"data_dir {data_dir} cannot be created ({error.strerror}); choose another"
        ) from error
    print(f"Preparing {builder.info.full_name} in {data_dir}", flush=True)
    builder._log_download_bytes = builder._log_download_done = lambda: None  # nothing is downloaded
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        with working("preparing") as work:
            _count_examples(builder, work)
            builder.download_and_prepare(download_config=config)
    except OSError:
        # Another process may have written the same records meanwhile; then those are used.
        if not builder.data_path.exists():
            raise
    finally:
        for folder in new_folders:
            with contextlib.suppress(OSError):  # folders with records stay
                folder.rmdir()


def _count_examples(builder: tfds.core.DatasetBuilder, work: Work) -> None:
    """Has `work` count the examples that the builder generates."""
    make = builder._split_generators

    def counted(examples):
        for example in examples:
            work.images += 1
            yield example

    builder._split_generators = lambda manager: {
        split: counted(examples) for split, examples in make(manager).items()
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's log and its progress bars."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)

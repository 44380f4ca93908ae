"""Trains a network and scores it: python -m prnet_jax.main --config configs/prnet.py:quick

The same command again goes on with a run that was stopped. Every field of the config can be set as
--config.FIELD=VALUE; prnet_jax/config.py lists them with their meaning.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from prnet_jax.errors import InputError, RunError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config file, with :variant behind it: configs/prnet.py:quick."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run directory; runs/<config>_<variant> where not given."
)


def main(argv: list[str]) -> int:
    """Exit code 0 where the run ended, 2 for a person's mistake, 1 where it could not go on."""
    try:
        _parse(argv)
        # Now, because importing JAX takes a while, which --help need not.
        from prnet_jax.train import train_and_evaluate

        config = _CONFIG.value.lock()
        workdir = pathlib.Path(_WORKDIR.value or _default_workdir())
        train_and_evaluate(config, workdir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def _parse(argv: list[str]) -> None:
    """Reads the command line into the flags.

    Raises:
        InputError: what is not a flag, a field of the config or a value of its type.
    """
    app.define_help_flags()
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(_say(error, argv)) from error
    if len(rest) > 1:
        raise InputError(f"unexpected {rest[1]!r}: settings are --config.FIELD=VALUE, see --help")
    if _CONFIG.value is None:
        raise InputError("--config is missing, such as --config configs/prnet.py:quick")
    logging.set_verbosity(logging.WARNING)


def _default_workdir() -> pathlib.Path:
    file, _, variant = flags.FLAGS["config"].config_filename.partition(":")
    return pathlib.Path("runs", "_".join(filter(None, (pathlib.Path(file).stem, variant))))


if __name__ == "__main__":
    sys.exit(main(sys.argv))

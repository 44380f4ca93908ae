"""What all readers of people's files share: one line for any failure, sizes checked beforehand."""

import contextlib
import errno
import math
import warnings
from collections.abc import Iterator, Sequence

from prnet_jax.errors import InputError

MAX_PIXELS = 2**27  # of a picture: 11,585 x 11,585
MAX_VOXELS = 2**31  # of a volume: 1024 x 1024 x 2048
DEFLATE = 1032  # zip, gzip and PNG make data at most this many times smaller
UNKNOWN = math.inf  # a compression without such a limit


@contextlib.contextmanager
def one_line(name: str, form: str) -> Iterator[None]:
    """Reads a person's file: whatever fails within becomes one `InputError` of one line.

    A damaged file can fail anywhere in the library that decodes it, with any error. Warnings of
    that library are dropped.

    Args:
        name: what messages call the file.
        form: what it should be, such as "a PNG" or "NIfTI".

    Raises:
        InputError: in place of every `Exception`; one raised within is kept, as one line.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError as error:
        line = printable(str(error))
        if line == str(error):
            raise
        raise InputError(line) from error.__cause__
    except MemoryError as error:
        line = f"{name} needs more memory than this process may take; crop it or save it in parts"
        raise InputError(printable(line)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            line = f"{name} cannot be read ({error.strerror}); check the path and its permissions"
        else:
            line = f"{name} cannot be read: it is truncated, damaged or not {form}; export it again"
        raise InputError(printable(line)) from error


def check_number(name: str, shape: Sequence[int], most: int) -> None:
    """Refuses a picture or volume that a header declares too large to be one.

    Raises:
        InputError: `shape` has more than `most` elements, or an axis without any.
    """
    size = " x ".join(map(str, shape))
    if min(shape, default=1) < 1:
        raise InputError(f"{name} declares a size of {size}; expected at least one pixel")
    if math.prod(map(int, shape)) > most:
        raise InputError(
            f"{name} declares a size of {size}; expected at most {most:,} pixels: it is damaged, "
            "or crop it"
        )


def check_bytes(name: str, declared: int, found: int, ratio: float = 1) -> None:
    """Refuses a file that cannot hold what its header declares, before memory is taken for it.

    Args:
        name: what messages call the file.
        declared: bytes of pixels according to the header.
        found: bytes that are there, compressed or not.
        ratio: how many times smaller the compression can make them.

    Raises:
        InputError: `found` bytes cannot hold `declared` ones.
    """
    if declared > found * ratio:
        how = "" if ratio == 1 else " compressed"
        raise InputError(
            f"{name} cannot be read: it is truncated or damaged, since its header declares "
            f"{declared:,} bytes of pixels but {found:,}{how} bytes are there; export it again"
        )


def printable(text: str) -> str:
    """One line: line breaks and control characters, of names or headers, become spaces."""
    return "".join(character if character.isprintable() else " " for character in text)

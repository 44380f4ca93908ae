"""What a failing decoder becomes, and sizes that are refused."""

import pytest

from prnet_jax.data.untrusted import check_bytes, check_number, one_line
from prnet_jax.errors import InputError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("x"), "a b cannot be read: it is truncated, damaged or not a PNG; export it ag"),
        (RecursionError(), "a b cannot be read: it is truncated"),
        (OSError("broken data"), "a b cannot be read: it is truncated"),
        (OSError(22, "Invalid argument"), "a b cannot be read: it is truncated"),  # an odd seek
        (
            FileNotFoundError(2, "No such file"),
            r"a b cannot be read \(No such file\); check the pa",
        ),
        (MemoryError(), "a b needs more memory than this process may take; crop it"),
        (InputError("a b is wrong:\r\nmend it\x1b[0m"), r"a b is wrong:  mend it \[0m$"),
    ],
)
def test_any_failure_is_one_line(error, line):
    with pytest.raises(InputError, match=f"^{line}") as caught:
        with one_line("a\nb", "a PNG"):
            raise error
    assert str(caught.value).isprintable()


def test_requests_to_stop_pass():
    with pytest.raises(KeyboardInterrupt):
        with one_line("a", "a PNG"):
            raise KeyboardInterrupt


def test_sizes():
    check_number("a", (4, 5), 20)
    check_bytes("a", 1000, 10, ratio=100)
    with pytest.raises(InputError, match="^a declares a size of 4 x 6; expected at most 20 pixels"):
        check_number("a", (4, 6), 20)
    with pytest.raises(InputError, match="^a declares a size of 4 x 0; expected at least one"):
        check_number("a", (4, 0), 20)
    with pytest.raises(InputError, match=r"^a .* declares 1,001 bytes of pixels but 10 compressed"):
        check_bytes("a", 1001, 10, ratio=100)

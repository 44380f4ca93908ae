"""What is said while something takes long."""

import io
import re
import sys
import types
from contextlib import redirect_stdout

import pytest

from prnet_jax.working import working
from tests.programs import until


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def out(request, monkeypatch):
    """For standard output: a terminal or not, where any silence is too long."""
    file = io.StringIO()
    file.isatty = lambda: request.param
    monkeypatch.setattr("prnet_jax.working.quiet_s", lambda terminal: 0.001)
    return file


def says(out, text):
    return until(lambda: text in out.getvalue(), every_s=0.001)


def left_on_screen(text):
    """What a terminal shows in the end."""
    return "\n".join(line.split("\r\x1b[K")[-1] for line in text.split("\n"))


def test_long_work_says_so_again_and_again(out):
    with redirect_stdout(out), working("reading") as work:
        assert until(lambda: out.getvalue().count("reading: 00:0") > 3)
        work.images = 12
        assert says(out, "reading: 12 images, 00:0")
    ended = out.getvalue()
    if out.isatty():
        assert left_on_screen(ended) == ""
    else:
        assert all(
            re.fullmatch(r"reading: (12 images, )?\d\d:\d\d\n", x) for x in ended.splitlines(True)
        )
    assert not until(lambda: out.getvalue() != ended, timeout_s=0.02)


def test_what_is_printed_meanwhile_stays(out):
    with redirect_stdout(out), working("preparing"):
        assert says(out, "preparing: ")
        print("one")
        before = out.getvalue().count("preparing")
        assert until(lambda: out.getvalue().count("preparing") > before)
        print("two", end=" ")
        print("parts")
    if out.isatty():
        assert left_on_screen(out.getvalue()) == "one\ntwo parts\n"
    else:
        assert {"one", "two parts"} <= set(out.getvalue().splitlines())


def test_an_error_inside_leaves_the_screen_clean(out):
    before = sys.stdout
    with pytest.raises(ValueError, match="^why$"), redirect_stdout(out), working("preparing"):
        assert says(out, "preparing: ")
        raise ValueError("why")
    assert left_on_screen(out.getvalue()) == "" or not out.isatty()
    assert sys.stdout is before


def test_short_work_is_silent(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("prnet_jax.working.quiet_s", lambda terminal: 1e6)
    with redirect_stdout(file), working("making the network"):
        pass
    assert file.getvalue() == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_no_silence_is_longer_than_ten_seconds(terminal):
    from prnet_jax.progress import progress
    from prnet_jax.working import quiet_s

    file = io.StringIO()
    file.isatty = lambda: terminal
    assert quiet_s(terminal) < 9
    with progress(2, file=file) as bar:
        # A drawn bar is at most so old when the thread looks again.
        assert bar._quiet_s + 1 < 10 and bar.mininterval < 9


def test_the_silence_of_short_works_adds_up(monkeypatch):
    file, clock = io.StringIO(), types.SimpleNamespace(monotonic=lambda: seconds)
    seconds = 1e9
    monkeypatch.setattr("prnet_jax.working.time", clock)
    with redirect_stdout(file):
        for what in ("reading", "making"):
            with working(what):
                print(what)  # ends the silence before
                seconds += 5
        assert "00:05" not in file.getvalue()
        with working("restoring"):
            seconds += 3
            assert until(lambda: file.getvalue() == "reading\nmaking\nrestoring: 00:03\n")

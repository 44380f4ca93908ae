import contextlib
import os
import pathlib
import signal

import pytest


@pytest.fixture
def fake(tmp_path):
    """The folder in which the fakes record their calls. Whatever was started with it is killed."""
    folder = tmp_path / "fake folder"
    folder.mkdir()
    yield folder
    while left := _started_with(folder):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _started_with(folder):
    """The ids of the processes with this folder in $FAKE; Linux only."""
    found = []
    for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"FAKE={folder}".encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found

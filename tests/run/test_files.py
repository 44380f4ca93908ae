"""How files are written."""

import os
import stat

import pytest

from prnet_jax.run.files import write_whole


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    for content in ("old", "new, of another length"):
        write_whole(path, content)
        assert path.read_text() == content
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    """As /dev/null would: a rename would replace it, for everybody on the machine."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(path, "content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, "content")

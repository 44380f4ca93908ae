"""Folders and zips: where files may lie, links, and damage."""

import os
import zipfile

import pytest

from prnet_jax.data.folders import Folder, files_below
from prnet_jax.errors import InputError


def zip_file(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("prefix", ["", "2d_images/", "download/2d_images/"])
def test_zip_with_and_without_the_folder(tmp_path, prefix):
    files = {f"{prefix}b.TIFF": b"bb", f"{prefix}a.tif": b"a", f"{prefix}notes.txt": b""}
    files |= {f"__MACOSX/{prefix}._a.tif": b"x", f"{prefix}.hidden.tif": b"x"}
    zip_file(tmp_path / "2d_images.zip", files)
    folder = Folder(tmp_path, "2d_images")
    assert folder.ids == ("a", "b")
    assert (folder.read("a"), folder.read("b")) == (b"a", b"bb")
    assert folder.file("b") == "2d_images/b.TIFF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2d_images.zip"]


def test_plain_folder_comes_before_the_zip_unless_it_is_empty(tmp_path):
    zip_file(tmp_path / "2d_images.zip", {"zipped.tif": b"z"})
    (tmp_path / "2d_images").mkdir()
    assert Folder(tmp_path, "2d_images").ids == ("zipped",)
    (tmp_path / "2d_images" / "2d_images").mkdir()  # as some unpackers nest it
    (tmp_path / "2d_images" / "2d_images" / "plain.tif").write_bytes(b"p")
    folder = Folder(tmp_path, "2d_images")
    assert (folder.ids, folder.read("plain")) == (("plain",), b"p")


def test_missing_folder_and_an_id_twice(tmp_path):
    with pytest.raises(InputError, match=r"neither a folder 2d_masks nor 2d_masks\.zip"):
        Folder(tmp_path, "2d_masks")
    zip_file(tmp_path / "2d_masks.zip", {"one/a.tif": b"1", "two/a.tif": b"2"})
    with pytest.raises(InputError, match=r"one/a\.tif and two/a\.tif"):
        Folder(tmp_path, "2d_masks")


def test_damaged_zip(tmp_path):
    path = tmp_path / "2d_images.zip"
    zip_file(path, {"a.tif": bytes(range(256)) * 20})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # the directory at its end is gone
    with pytest.raises(InputError, match="is a damaged zip file"):
        Folder(tmp_path, "2d_images")
    path.write_bytes(whole[:60] + bytes(20) + whole[80:])  # only the data is damaged
    with pytest.raises(InputError, match="is a damaged zip file"):
        Folder(tmp_path, "2d_images").read("a")


def test_links_are_followed_but_not_in_circles(tmp_path):
    """A broken link is listed, so that reading it fails instead of losing the file."""
    (tmp_path / "store/.hidden").mkdir(parents=True)
    (tmp_path / "store/.hidden/c.tif").write_bytes(b"")
    (tmp_path / "store/a.tif").write_bytes(b"a")
    (tmp_path / "2d_images").mkdir()
    os.symlink(tmp_path / "store", tmp_path / "2d_images/more")
    os.symlink(tmp_path / "2d_images", tmp_path / "2d_images/again")
    os.symlink(tmp_path / "store", tmp_path / "store/itself")
    os.symlink(tmp_path / "gone.tif", tmp_path / "2d_images/b.tif")
    names = ["b.tif", "more/a.tif"]
    found = files_below(tmp_path / "2d_images")
    assert [file.relative_to(tmp_path / "2d_images").as_posix() for file in found] == names
    folder = Folder(tmp_path, "2d_images")
    assert folder.read("a") == b"a"
    with pytest.raises(InputError, match=r"b\.tif cannot be read \(No such file"):
        folder.read("b")
    assert files_below(tmp_path / "nothing") == []

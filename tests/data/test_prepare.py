"""From a name to records: reuse; mistakes in names, options and folders; nothing left behind."""

import importlib
import os
import textwrap

import numpy as np
import pytest
from PIL import Image

import prnet_jax.datasets
from prnet_jax.data import records
from prnet_jax.data.prepare import available, dataset_options, prepare
from prnet_jax.errors import InputError

TOY = '''
    """A data set that needs no download: `number` times the value `value`."""
    import dataclasses
    import pathlib

    import numpy as np
    import tensorflow_datasets as tfds
    from etils import epath

    before_writing = []  # functions that a test puts here


    @dataclasses.dataclass(eq=False)
    class ToyConfig(tfds.core.BuilderConfig):
        number: int = 3
        value: int = 0


    def make_config(number: int = 3, value: int = 0) -> ToyConfig:
        return ToyConfig(name=f"n{number}_v{value}", number=number, value=value)


    class Builder(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = epath.Path(__file__).parent

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict({"x": tfds.features.Scalar(np.int32)})
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            while before_writing:
                before_writing.pop()(self)
            for i in range(self.builder_config.number):
                yield i, {"x": self.builder_config.value}
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The module of a data set `toy`, found as those of the repository are."""
    packages = tmp_path_factory.mktemp("packages")
    (packages / "toy").mkdir()
    (packages / "toy" / "__init__.py").touch()
    (packages / "toy" / "toy_dataset_builder.py").write_text(textwrap.dedent(TOY))
    path = [*prnet_jax.datasets.__path__, str(packages)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(prnet_jax.datasets, "__path__", path)
        yield importlib.import_module("prnet_jax.datasets.toy.toy_dataset_builder")


@pytest.fixture(autouse=True)
def no_directories_by_variable(monkeypatch):
    monkeypatch.delenv("PRNET_MANUAL_DIR", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


@pytest.fixture
def lungs(tmp_path):
    """Four pairs in the layout of finding_lungs."""
    folder = tmp_path / "lungs"
    for name in ("2d_images", "2d_masks"):
        (folder / name).mkdir(parents=True)
    for i in range(4):
        hu = Image.fromarray(np.full((8, 8), 1000 + i, np.uint16))
        hu.save(folder / f"2d_images/ID_000{i}_Z_0001.tif")
        mask = Image.fromarray(np.eye(8, dtype=np.uint8) * 255)
        mask.save(folder / f"2d_masks/ID_000{i}_Z_0001.tif")
    return folder


def test_the_repositorys_data_sets_are_found(toy):
    assert {"finding_lungs", "toy"} <= set(available())


def test_options_and_defaults(toy):
    assert dataset_options("toy") == {"number": 3, "value": 0}
    expected = {"split_seed": None, "fold": "", "include_leaking": False}
    assert dataset_options("finding_lungs") == expected


def test_a_data_set_without_download_is_made_once(toy, tmp_path, capfd):
    data_dir = tmp_path / "new" / "data"
    builder = prepare("toy", data_dir, "no such folder, and none needed", number=2, value=7)
    assert [int(record["x"]) for record in builder.as_data_source("train")] == [7, 7]
    assert sorted(path.name for path in data_dir.iterdir()) == ["toy"]  # no empty downloads/
    out, err = capfd.readouterr()
    assert out == f"Preparing toy/n2_v7/1.0.0 in {data_dir}\n"
    assert err == ""
    made = os.stat(builder.data_path).st_mtime_ns
    again = prepare("toy", data_dir, number=2, value=7)
    assert again.info.splits["train"].num_examples == 2
    assert os.stat(again.data_path).st_mtime_ns == made
    assert capfd.readouterr() == ("", "")


def test_the_default_data_dir(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare("toy")
    assert (tmp_path / "home" / "tensorflow_datasets" / "toy" / "n3_v0" / "1.0.0").is_dir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "by_variable"))
    prepare("toy")
    assert (tmp_path / "by_variable" / "toy" / "n3_v0" / "1.0.0").is_dir()


def test_two_processes_at_once(toy, tmp_path):
    def other_process(builder):
        other = toy.Builder(
            data_dir=tmp_path / "data", config=builder.builder_config, file_format="array_record"
        )
        other.download_and_prepare()

    toy.before_writing.append(other_process)
    builder = prepare("toy", tmp_path / "data")
    assert len(builder.as_data_source("train")) == 3
    assert [path.name for path in (tmp_path / "data/toy/n3_v0").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("disk full")])
def test_a_failure_comes_out_as_it_is_and_leaves_nothing(toy, tmp_path, error):
    def fail(_):
        raise error

    toy.before_writing.append(fail)
    with pytest.raises(type(error)) as raised:
        prepare("toy", tmp_path / "data")
    assert raised.value is error
    assert not (tmp_path / "data").exists()


def test_misspelt_names(toy, tmp_path):
    with pytest.raises(InputError, match="no data set 'toi'; did you mean 'toy'"):
        prepare("toi", tmp_path)
    with pytest.raises(InputError, match=r"no data set '\.\.' \(there are: "):
        prepare("..", tmp_path)
    with pytest.raises(InputError, match="toy has no option 'valeu'; did you mean 'value'"):
        prepare("toy", tmp_path, valeu=1)
    with pytest.raises(InputError, match="has no option 'version'"):  # TFDS' own, not the data's
        prepare("toy", tmp_path, version="2")
    with pytest.raises(InputError, match="'foldd'; did you mean 'fold'"):
        prepare("finding_lungs", tmp_path, foldd="2/5")


def test_manual_dir_by_argument_and_variable(lungs, tmp_path, monkeypatch):
    data_dir = tmp_path / "data"
    monkeypatch.setenv("PRNET_MANUAL_DIR", str(lungs))
    builder = prepare("finding_lungs", data_dir)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 2,
        "validation": 1,
        "test": 1,
    }
    monkeypatch.delenv("PRNET_MANUAL_DIR")
    assert prepare("finding_lungs", data_dir, lungs).data_path == builder.data_path


def test_records_of_another_folder_are_not_taken(lungs, tmp_path):
    first = prepare("finding_lungs", tmp_path / "data", lungs)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(lungs / "2d_masks/ID_0000_Z_0001.tif")
    second = prepare("finding_lungs", tmp_path / "data", lungs)
    assert first.data_path != second.data_path
    with pytest.raises(InputError, match="records of 2 folders .*set manual_dir"):
        prepare("finding_lungs", tmp_path / "data")


def test_without_manual_dir_only_records_serve(lungs, tmp_path, capsys):
    with pytest.raises(InputError, match="finding_lungs needs a manual download: set manual_dir"):
        prepare("finding_lungs", tmp_path / "data")
    made = prepare("finding_lungs", tmp_path / "data", lungs)
    capsys.readouterr()
    found = prepare("finding_lungs", tmp_path / "data")
    assert str(found.data_path) == str(made.data_path)
    assert f"using the records in {made.data_path}" in capsys.readouterr().out
    skip = records.undecoded(made.info.features)
    for split in ("train", "validation", "test"):
        one, other = (list(b.as_data_source(split, decoders=skip)) for b in (made, found))
        assert [r["id"] for r in one] == [r["id"] for r in other]
        assert [r["image"] for r in one] == [r["image"] for r in other]
    with pytest.raises(InputError, match="needs a manual download"):  # other options, other records
        prepare("finding_lungs", tmp_path / "data", split_seed=1)


def test_folders_that_are_none(lungs, tmp_path):
    with pytest.raises(InputError, match="manual_dir .*nowhere does not exist .resolved to /"):
        prepare("finding_lungs", tmp_path / "data", tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file"):
        prepare("finding_lungs", tmp_path / "data", lungs / "2d_masks" / "ID_0000_Z_0001.tif")
    with pytest.raises(InputError, match="neither a folder 2d_images nor"):
        prepare("finding_lungs", tmp_path / "data", tmp_path)
    assert not (tmp_path / "data").exists()
    (tmp_path / "a_file").touch()
    with pytest.raises(InputError, match="data_dir .*a_file.* cannot be created"):
        prepare("finding_lungs", tmp_path / "a_file" / "data", lungs)


def test_a_defect_leaves_nothing(lungs, tmp_path):
    (lungs / "2d_masks" / "ID_0002_Z_0001.tif").unlink()
    with pytest.raises(InputError, match="ID_0002_Z_0001.tif has no mask"):
        prepare("finding_lungs", tmp_path / "data", lungs)
    assert not (tmp_path / "data").exists()

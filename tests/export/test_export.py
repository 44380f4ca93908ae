"""A run as a program: its files, what it computes, and that JAX alone runs it."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax._src.export._export import _CUSTOM_CALL_TARGETS_GUARANTEED_STABLE as STABLE

import prnet_jax
from prnet_jax import steps
from prnet_jax.data.preprocess import window
from prnet_jax.errors import InputError
from prnet_jax.export import folder, program
from prnet_jax.export.__main__ import main
from prnet_jax.predict.__main__ import main as predict
from prnet_jax.run.variables import load_variables
from tests.model_tester import noise
from tests.runs import PRNET, blobs, tiny_config

SIZES = [(1, 64, 64), (3, 64, 64), (1, 512, 400), (3, 512, 400)]


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """The finished run as `python -m prnet_jax.export` writes it."""
    out = tmp_path_factory.mktemp("exported") / "lungs"
    assert main(["--workdir", str(finished_run), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def checkpoint(finished_run):
    return prnet_jax.load(finished_run)


@pytest.fixture(scope="module")
def loaded(exported):
    return prnet_jax.load(exported)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


@pytest.mark.parametrize("shape", SIZES)
def test_equals_the_checkpoint(checkpoint, loaded, shape):
    expected, found = (network.predict(blobs(shape)) for network in (checkpoint, loaded))
    assert np.ptp(expected.prob) > 0.05
    np.testing.assert_allclose(found.prob, expected.prob, atol=1e-6, rtol=0)
    assert found.mask.dtype == bool and found.prob.dtype == np.float32
    assert found.warnings == expected.warnings


def test_predicts_files_and_volumes_of_many_batches(checkpoint, loaded, tmp_path):
    volume = blobs((6, 40, 24))  # batches of 4
    np.save(tmp_path / "ct.npy", np.moveaxis(volume, 0, -1))
    for how in (
        lambda network: network.predict_file(tmp_path / "ct.npy", axes="HWD"),
        lambda network: network.predict(np.moveaxis(volume, 0, -1), axes="HWD"),
        lambda network: network.predict(volume[0].astype(np.float64), spacing_mm=(0.7, 0.7)),
    ):
        expected, found = how(checkpoint), how(loaded)
        np.testing.assert_allclose(found.prob, expected.prob, atol=1e-6, rtol=0)
        assert found.warnings == expected.warnings


def test_the_predict_command_takes_a_program(exported, finished_run, tmp_path):
    np.save(tmp_path / "ct.npy", blobs((1, 80, 50))[0])
    options = [str(tmp_path / "ct.npy"), "--prob"]
    of_program = ["--weights", str(exported / "model.stablehlo"), "--out", str(tmp_path / "a")]
    of_run = ["--workdir", str(finished_run), "--out", str(tmp_path / "b")]
    for extra in ([], ["--tile", "--overwrite"]):
        assert predict([*options, *of_program, *extra]) == 0
        assert predict([*options, *of_run, *extra]) == 0
        found, expected = (np.load(tmp_path / name / "ct_prob.npy") for name in "ab")
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=0)


BLOCKED = """
import runpy, sys
class Absent:
    def find_spec(self, name, *_):
        if name in {absent}: raise ImportError(name)
sys.meta_path.insert(0, Absent())
sys.argv = {argv}
runpy.run_path(sys.argv[0], run_name="__main__")
print(*sorted(set(sys.modules) & {absent}))
"""
ABSENT = {
    *("prnet_jax", "flax", "optax", "orbax", "clu", "grain", "ml_collections", "absl"),
    *("tensorflow_datasets", "array_record", "etils", "PIL", "matplotlib", "tqdm"),
}


def test_the_documented_script_needs_jax_flatbuffers_and_numpy(root, copy, tmp_path):
    page = (root / "docs" / "guides" / "export.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert sum(bool(line.strip()) for line in script.splitlines()) <= 12
    (tmp_path / "script.py").write_text(script)
    header = (copy / "model.json").read_text()
    (copy / "model.json").write_text(header.replace('"threshold": 0.5', '"threshold": 0.43'))
    slices = blobs((2, 50, 70))
    np.save(tmp_path / "ct.npy", slices)
    argv = ["script.py", str(copy), "ct.npy"]
    code = BLOCKED.format(absent=ABSENT, argv=argv)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    expected = prnet_jax.load(copy).predict(slices).mask
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), expected)


# ---- the files


def test_the_header_says_what_the_program_is(exported, finished_run, checkpoint):
    header = json.loads((exported / "model.json").read_text())
    provenance = json.loads((finished_run / "provenance.json").read_text())
    summary = json.loads((finished_run / "test" / "summary.json").read_text())
    assert sorted(path.name for path in exported.iterdir()) == [
        *("model.json", "model.npz", "model.stablehlo")
    ]
    for name, digest in header["sha256"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert set(header["sha256"]) == {"model.npz", "model.stablehlo"}
    assert header["provenance"] == provenance and header["seen"] == provenance["images"]
    assert header["metrics"]["metrics"] == summary["metrics"]
    assert header["weights_from"] == f"run, step {summary['checkpoint_step']}"
    assert header["config"] == json.loads(checkpoint.config.to_json())
    assert header["input"]["unit"] == "Hounsfield units" and header["threshold"] == 0.5
    assert header["jax"] == jax.__version__
    assert set(header["readable"]) == {"jaxlib_from", "jaxlib_until", "derived_from"}


def test_the_program_takes_its_weights_as_arguments(exported, finished_run):
    path = exported / "model.stablehlo"
    _, header = folder.read_header(path)
    read, weights = folder.read_program(path, header), folder.read_weights(path, header)
    assert read.platforms == ("cpu", "cuda", "tpu")
    assert len(read.in_avals) == len(weights) + 1
    assert [str(side) for side in read.in_avals[-1].shape] == ["n", "h", "w"]
    variables = load_variables(finished_run)
    expected = jax.tree_util.tree_leaves_with_path(variables)
    assert len(weights) == len(expected)
    for names, array in expected:
        np.testing.assert_array_equal(weights["/".join(name.key for name in names)], array)


def test_every_custom_call_is_stable(exported):
    path = exported / "model.stablehlo"
    module = folder.read_program(path, folder.read_header(path)[1]).mlir_module()
    assert set(re.findall(r"custom_call @([\w.]+)", module)) <= STABLE


@pytest.fixture
def prnet_config(records_dir):
    return tiny_config(records_dir, "prnet", **PRNET)


def test_prnet_too_is_itself_as_a_program(prnet_config):
    """Attention and InstanceNorm, whose axes have no sizes while it is exported."""
    model = steps.make_model(prnet_config)
    variables, _ = noise(model, (1, 32, 32, 1))
    weights = program.flat_weights(variables)
    exported = program.export_program(prnet_config, weights)
    slices = np.float32(blobs((3, 32, 32)))
    images = window(slices, *prnet_config.dataset.window_hu)[..., None]
    expected = jax.jit(lambda v, x: steps.logits_and_prob(model, v, x)[1])(variables, images)
    found = jax.jit(exported.call)(weights, slices)
    assert np.ptp(found) > 0.5
    np.testing.assert_allclose(found, expected[..., 0], atol=1e-5, rtol=0)


def test_cudnns_attention_is_replaced(prnet_config):
    """It is for half precision; here there is no GPU, so that the network would refuse it."""
    prnet_config.dtype, prnet_config.model.attention = "bfloat16", "cudnn"
    model = steps.make_model(prnet_config)
    with pytest.raises(InputError, match="attention 'cudnn' needs"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 32, 32, 1)), train=False))
    model = model.clone(attention="dense")
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), np.zeros((1, 32, 32, 1), np.float32), train=False)
    )
    weights = program.flat_weights(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables))
    assert program.export_program(prnet_config, weights).platforms == ("cpu", "cuda", "tpu")


def test_what_no_other_jax_may_read_is_refused(tiny_config, monkeypatch):
    def unstable(model, variables, image, flips):
        call = jax.ffi.ffi_call("ours_alone", jax.ShapeDtypeStruct(image.shape, image.dtype))
        return image, call(image)

    monkeypatch.setattr(steps, "logits_and_prob", unstable)
    with pytest.raises(InputError, match="no other version of JAX is sure to read"):
        program.export_program(tiny_config, {"scale": np.ones(1, np.float32)})


def test_refresh_makes_the_program_again(copy, loaded, capsys):
    header = json.loads((copy / "model.json").read_text())
    (copy / "model.stablehlo").unlink()
    assert main(["--refresh", str(copy), "--jaxlib-date", "2026-01-31"]) == 0
    assert "by jaxlib released from 2026-01-10 to 2026-07-31" in capsys.readouterr().out
    again = json.loads((copy / "model.json").read_text())
    changed = {"readable", "sha256"}
    assert {k for k in header if again[k] != header[k]} <= changed and again.keys() == header.keys()
    slices = blobs((3, 64, 64))
    np.testing.assert_array_equal(
        prnet_jax.load(copy).predict(slices).prob, loaded.predict(slices).prob
    )


def test_mirror_images_are_chosen_at_the_export(finished_run, exported, tmp_path):
    with_flips = prnet_jax.load(finished_run, flips=True)
    with_flips.export(tmp_path / "flips.stablehlo")
    found = prnet_jax.load(tmp_path / "flips.stablehlo", flips=True).predict(blobs((2, 48, 64)))
    expected = with_flips.predict(blobs((2, 48, 64)))
    np.testing.assert_allclose(found.prob, expected.prob, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="was exported without flips: export it again"):
        prnet_jax.load(exported, flips=True)


# ---- mistakes


def test_files_that_do_not_belong_together(copy):
    weights = dict(np.load(copy / "model.npz"))
    np.savez(copy / "model.npz", **weights | {name: x + 1 for name, x in weights.items()})
    with pytest.raises(InputError, match="is not the file that model.json is about"):
        prnet_jax.load(copy)
    (copy / "model.npz").unlink()
    with pytest.raises(InputError, match=r"model.npz cannot be read \(FileNotFoundError\)"):
        prnet_jax.load(copy)
    (copy / "model.json").write_text('{"format": "another"}')
    with pytest.raises(InputError, match="copy the files of an export together"):
        prnet_jax.load(copy)


def test_a_program_of_another_time_names_the_command(copy, monkeypatch):
    def deserialize(_):
        raise ValueError("calling convention version 99\nand more")

    monkeypatch.setattr(jax.export, "deserialize", deserialize)
    with pytest.raises(InputError, match=rf"version 99\).*prnet_jax.export --refresh {copy}$"):
        prnet_jax.load(copy)


def test_without_flatbuffers_the_extra_is_named(checkpoint, tmp_path, monkeypatch):
    def serialize(_):
        raise ImportError("flatbuffers")

    monkeypatch.setattr(jax.export.Exported, "serialize", serialize)
    with pytest.raises(InputError, match=r"prnet_jax\[export\]"):
        checkpoint.export(tmp_path / "model.stablehlo")


def test_nothing_is_overwritten(exported, checkpoint, finished_run, tmp_path, capsys):
    with pytest.raises(InputError, match="model.npz exists and is not overwritten|stablehlo exi"):
        checkpoint.export(exported / "model.stablehlo")
    with pytest.raises(InputError, match=r"is called \*.stablehlo, found"):
        checkpoint.export(tmp_path / "model.bin")
    assert main(["--workdir", str(finished_run), "--out", str(exported)]) == 2
    assert "already exists: name a new or an empty folder" in capsys.readouterr().err
    assert main(["--refresh", str(tmp_path)]) == 2
    assert main(["--refresh", str(exported), "--flips"]) == 2
    with pytest.raises(SystemExit):
        main(["--workdir", str(finished_run)])


def test_what_a_program_cannot_do(loaded, exported, tiny_config):
    with pytest.raises(InputError, match="so image_size, name cannot be chosen"):
        prnet_jax.load(exported, name="unet", image_size=64)
    with pytest.raises(InputError, match="evaluate the run that it is of"):
        loaded.step(None, None)

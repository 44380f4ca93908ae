"""python -m prnet_jax.torch_weights import, export and compare."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import create_model, model_fields
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.variables import load_variables, network_of, save_variables
from prnet_jax.torch_weights import layers, to_torch
from prnet_jax.torch_weights.__main__ import main
from prnet_jax.torch_weights.files import read_state_dict, write_state_dict
from tests.model_tester import noise

SMALL = {"widths": (4, 8), "heads": 2}
OWN = "prnet_jax.torch_weights.reference"
FLAGS = ["--model", "prnet", "--field", "widths=[4, 8]", "--field", "heads=2"]


@pytest.fixture(scope="module")
def small():
    """Random variables of a narrow PR-Net."""
    return noise(create_model("prnet", **SMALL), (1, 16, 16, 1))[0]


@pytest.fixture
def weights_file(tmp_path, small):
    path = tmp_path / "weights.npz"
    write_state_dict(path, to_torch("prnet", small, **SMALL))
    return path


def test_import_then_export_gives_the_same_bits(tmp_path, small, weights_file, capsys):
    out = tmp_path / "imported"
    assert main(["import", *FLAGS, str(weights_file), str(out)]) == 0
    assert f"--config.init_from={out}" in capsys.readouterr().out
    assert network_of(out) == ("prnet", model_fields("prnet") | SMALL)
    np.testing.assert_equal(load_variables(out), small)

    again = tmp_path / "again.npz"
    assert main(["export", "--model", "prnet", str(out), str(again)]) == 0
    before, after = read_state_dict(weights_file), read_state_dict(again)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert (after[name].dtype, after[name].shape) == (array.dtype, array.shape)
        assert after[name].tobytes() == array.tobytes(), name


def test_imported_parameters_are_float32(tmp_path, weights_file, capsys):
    half = {k: v.astype(np.float16) for k, v in read_state_dict(weights_file).items()}
    write_state_dict(tmp_path / "half.npz", half)
    assert main(["import", *FLAGS, str(tmp_path / "half.npz"), str(tmp_path / "out")]) == 0
    assert "float16 converted to float32" in capsys.readouterr().out
    variables = load_variables(tmp_path / "out")
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


@pytest.fixture
def trained(tmp_path, small):
    """A run directory with two checkpoints, the first of which is the better one."""
    run = tmp_path / "run"
    run.mkdir()
    fields = model_fields("prnet") | SMALL
    (run / "config.json").write_text(json.dumps({"model": {"name": "prnet", **fields}}))

    def save(ema):
        with Checkpoints(run) as checkpoints:
            for step, score in ((1, 0.9), (2, 0.8)):
                arrays = jax.tree.map(lambda x, k=step: x * k, small)
                averaged = jax.tree.map(lambda x: x + 1, arrays["params"]) if ema else None
                state = {"step": np.int32(step), **arrays, "opt_state": {}, "ema_params": averaged}
                checkpoints.save(step, state, {"epochs": step}, score)
        return run

    return save


@pytest.mark.parametrize("ema", [False, True])
def test_a_run_gives_its_best_checkpoint(tmp_path, small, trained, ema):
    path = tmp_path / "best.npz"
    assert main(["export", str(trained(ema)), str(path)]) == 0
    expected = small["params"]["head"]["bias"] + (1 if ema else 0)
    found = read_state_dict(path)
    np.testing.assert_array_equal(found["head.bias"], expected)
    stats = small["batch_stats"]["decoder.0.double_conv"]["1"]["mean"]
    np.testing.assert_array_equal(found["decoder.0.double_conv.1.running_mean"], stats)


def test_mistakes_end_in_one_line_and_exit_code_2(tmp_path, small, weights_file, capsys):
    def fails(*arguments):
        assert main([str(a) for a in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        return error

    out = tmp_path / "out"
    assert "is not a file" in fails("import", *FLAGS, tmp_path / "absent.npz", out)
    assert "another variant" in fails("import", "--model", "prnet", weights_file, out)
    assert "unknown network 'vnet'" in fails("import", "--model", "vnet", weights_file, out)
    assert "no field 'width'" in fails("import", *FLAGS, "--field", "width=2", weights_file, out)
    assert not out.exists()
    assert "neither a run directory" in fails("export", tmp_path, tmp_path / "new.npz")
    save_variables(out, "prnet", SMALL, small)
    assert "out holds prnet, not unet" in fails("export", "--model", "unet", out, tmp_path / "n.pt")
    assert "is not overwritten: name a new file" in fails("export", out, weights_file)
    assert "is not overwritten: name a new folder" in fails("import", *FLAGS, weights_file, out)
    assert "is not a file" in fails("compare", *FLAGS, tmp_path / "absent.npz")
    unet = ["--model", "unet", weights_file]
    assert "PyTorch module of unet here: name one by --reference" in fails("compare", *unet)

    for arguments, message in (
        (["import", "--field", "heads", str(weights_file), str(out)], "NAME=VALUE, found 'heads'"),
        (["compare", "--reference", "a:B"], "required: weights"),
    ):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--model", "prnet"])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_broken_folders_are_refused(tmp_path, small):
    save_variables(tmp_path / "a", "prnet", SMALL, small)
    (tmp_path / "a" / "variables").rename(tmp_path / "a" / "gone")
    with pytest.raises(InputError, match="is not a complete checkpoint"):
        load_variables(tmp_path / "a")
    (tmp_path / "a" / "network.json").write_text("{")
    with pytest.raises(InputError, match="neither a run directory"):
        network_of(tmp_path / "a")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model": {"name": "prnet"}}')
    with pytest.raises(InputError, match="a run without a checkpoint yet"):
        load_variables(tmp_path / "run")


def test_layers_are_compared_with_torch(weights_file, capsys):
    pytest.importorskip("torch")
    assert main(["compare", *FLAGS, "--size", "16", str(weights_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0].strip(): line.split() for line in lines[4:]}
    assert {"encoder.1.norm3", "enhance", "decoder.1.double_conv.4"} < set(rows)
    assert rows["enhance.pam.dsa2"][1] == "1x8x4x4"
    assert lines[-1].startswith("output 0")
    assert all(float(row[2]) < 1e-5 for name, row in rows.items() if name != "output 0")


def test_a_layer_that_differs_is_seen(small):
    torch = pytest.importorskip("torch")
    reference = layers.load_reference(f"{OWN}:PRNet", SMALL)

    def half(module, inputs, output):
        return output / 2

    reference.decoder[1].up.register_forward_hook(half)
    found = layers.layer_differences("prnet", small, SMALL, reference, 16)
    by_name = {d.part: d for d in found}
    assert by_name["decoder.0.double_conv"].value < 1e-5
    assert by_name["decoder.1.up"].value == pytest.approx(1, rel=1e-4)  # of the halved peak
    assert by_name["output 0"].fails
    assert "FAILS" in layers.table(found).splitlines()[-1]
    with pytest.raises(InputError, match="Linear does not take the weights of prnet: .*Missing"):
        layers.layer_differences("prnet", small, SMALL, torch.nn.Linear(1, 1), 16)


def test_a_difference_ends_in_exit_code_1(tmp_path, monkeypatch, weights_file, capsys):
    pytest.importorskip("torch")
    (tmp_path / "doubled_prnet.py").write_text(
        f"import {OWN} as own\n\n"
        "class PRNet(own.PRNet):\n"
        "    def forward(self, image):\n"
        "        return 2 * super().forward(image)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    doubled = ["--reference", "doubled_prnet:PRNet", "--reference-field", "widths=[4, 8]"]
    doubled += ["--reference-field", "heads=2"]
    assert main(["compare", *FLAGS, *doubled, "--size", "16", str(weights_file)]) == 1
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["output", "0", "1x1x16x16", "5.0e-01", "2e-05", "FAILS"]


def test_references_that_cannot_be_made(monkeypatch):
    pytest.importorskip("torch")
    for where in ("absent_package:Net", f"{OWN}:Absent", OWN):
        with pytest.raises(InputError, match="cannot be made .*: see --reference"):
            layers.load_reference(where, {})
    with pytest.raises(InputError, match="unexpected keyword argument 'gate_norm'"):
        layers.load_reference(f"{OWN}:PRNet", {"gate_norm": True})
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, OWN)
    with pytest.raises(InputError, match=r"needs PyTorch: pip install 'prnet_jax\[torch\]'"):
        layers.load_reference(f"{OWN}:PRNet", {})


def test_importing_the_conversion_stays_cheap(root):
    code = (
        "import sys, prnet_jax.torch_weights.convert, prnet_jax.torch_weights.__main__\n"
        "print([m for m in ('torch', 'orbax', 'grain') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

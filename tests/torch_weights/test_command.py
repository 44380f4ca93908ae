"""python -m prnet_jax.torch_weights import, export and compare."""

import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from prnet_jax.errors import InputError
from prnet_jax.models import model_fields
from prnet_jax.run.checkpoint import Checkpoints
from prnet_jax.run.variables import load_variables, network_of, save_variables
from prnet_jax.torch_weights import convert, layers
from prnet_jax.torch_weights.__main__ import main
from prnet_jax.torch_weights.files import read_state_dict, write_state_dict
from tests.goldens import weights

SMALL = {"widths": (4, 8), "heads": 2}
NARROW = {"widths": (4,), "heads": 2}
FLAGS = ["--model", "prnet", "--field", "widths=[4, 8]", "--field", "heads=2"]


@pytest.fixture(scope="module")
def small():
    """Variables of a narrow PR-Net with random values."""
    rng = np.random.default_rng(0)
    flat = {
        path: (np.abs(rng.normal(size=x.shape)) + 0.1).astype(np.float32)
        for path, x in convert._template("prnet", SMALL).items()
    }
    return convert._nest(flat)


@pytest.fixture
def weights_file(tmp_path, small):
    path = tmp_path / "weights.npz"
    write_state_dict(path, convert.to_torch("prnet", small, **SMALL))
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
    assert "float16 made float32" in capsys.readouterr().out
    variables = load_variables(tmp_path / "out")
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


@pytest.fixture
def trained(tmp_path, small):
    """A run directory with two checkpoints of which the first is the better one."""
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
    assert "name their file" in fails("compare", *FLAGS, "--reference", "a:B")
    with pytest.raises(SystemExit) as caught:
        main(["import", "--model", "prnet", "--field", "heads", str(weights_file), str(out)])
    assert caught.value.code == 2
    assert "must be NAME=VALUE, found 'heads'" in capsys.readouterr().err


def test_broken_folders_are_refused(tmp_path, small):
    save_variables(tmp_path / "a", "prnet", SMALL, small)
    (tmp_path / "a" / "variables").rename(tmp_path / "a" / "gone")
    with pytest.raises(InputError, match="is not a whole checkpoint"):
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
    reference = layers.load_reference("prnet_jax.torch_reference:PRNet", SMALL)

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


def test_references_that_cannot_be_made(monkeypatch):
    pytest.importorskip("torch")
    own = "prnet_jax.torch_reference"
    for where in ("absent_package:Net", f"{own}:Absent", own):
        with pytest.raises(InputError, match="cannot be made .*: see --reference"):
            layers.load_reference(where, {})
    with pytest.raises(InputError, match="unexpected keyword argument 'gate_norm'"):
        layers.load_reference(f"{own}:PRNet", {"gate_norm": True})
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, own)
    with pytest.raises(InputError, match=r"needs PyTorch: pip install 'prnet_jax\[torch\]'"):
        layers.load_reference(f"{own}:PRNet", {})


@pytest.fixture
def vectors(tmp_path, monkeypatch, root):
    """Parity vectors of a narrow PR-Net, made as the real ones were, instead of the real ones."""
    torch = pytest.importorskip("torch")
    reference = layers.load_reference("prnet_jax.torch_reference:PRNet", NARROW)
    norms = [k.removesuffix("running_var") for k in reference.state_dict() if "running_var" in k]

    def kind(name):
        of_norm = {f"{norm}weight" for norm in norms}
        known = {"num_batches_tracked": "counter", "running_mean": "running_mean"}
        known |= {"running_var": "running_var", "weight": "norm_weight" if name in of_norm else ""}
        return known.get(name.rpartition(".")[2], "")

    spec = {
        "state_dict": [[k, list(v.shape), kind(k)] for k, v in reference.state_dict().items()],
        **{"weight_prefix": "", "gain": 1.0, "cotangent_seed": 1},
        "input": {"shape": [2, 1, 16, 16], "seed": 0},
        "heads": [
            {"key": "eval_output", "train_key": "train_output", "shape": [2, 1, 16, 16]},
        ],
    }
    (tmp_path / "prnet_narrow.json").write_text(json.dumps(spec))
    (tmp_path / "weights.py").write_bytes((root / "tests/goldens/weights.py").read_bytes())
    _, state_dict = weights.load(tmp_path / "prnet_narrow.json")
    reference.load_state_dict({k: torch.tensor(v) for k, v in state_dict.items()})
    reference.double().eval()
    image = torch.tensor(weights.inputs(spec)).double().requires_grad_()
    arrays = {"eval_output": reference(image)}
    (arrays["eval_output"] * torch.tensor(weights.cotangents(spec)[0])).sum().backward()
    arrays |= {"grad_input": image.grad, "train_output": reference.train()(image)}
    pinned = "decoder.0.double_conv.1.running_var"
    arrays[f"after_train.{pinned}"] = reference.state_dict()[pinned]
    arrays = {k: v.detach().numpy().astype(np.float32) for k, v in arrays.items()}
    np.savez(tmp_path / "prnet_narrow.npz", **arrays)
    monkeypatch.setattr(layers, "_GOLDENS", tmp_path)
    return tmp_path / "prnet_narrow.npz"


def test_the_report_on_parity_vectors(vectors, capsys, monkeypatch):
    fields = ["--field", "widths=(4,)", "--field", "heads=2"]
    assert main(["compare", "--model", "prnet", *fields]) == 0
    report = capsys.readouterr().out
    assert "\nprnet_narrow, float32\n" in report and "\nprnet_narrow, float64\n" in report
    rows = [line.split() for line in report.splitlines() if "2x1x16x16" in line]
    assert [row[0] for row in rows] == 2 * ["eval_output", "grad_input", "train_output"]
    assert [row[3] for row in rows] == ["2e-05", "-", "2e-04", "1e-06", "1e-06", "1e-06"]
    assert max(float(row[2]) for row in rows[3:]) < 1e-6

    arrays = dict(np.load(vectors))
    arrays["train_output"] *= 1.01
    np.savez(vectors, **arrays)
    _, _, single = next(layers.parity("prnet", NARROW))
    assert [d.part for d in single if d.fails] == ["train_output"]
    assert single[2].value == pytest.approx(0.01 / 1.01, rel=1e-3)
    monkeypatch.setattr(layers, "parity", lambda *_: [("vectors", "float32", single)])
    assert main(["compare", "--model", "prnet"]) == 1
    assert re.search("train_output .* 9.9e-03    2e-04  FAILS\n", capsys.readouterr().out)


def test_vectors_that_are_not_there(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="are of other fields than {'norm_affine': True}"):
        next(layers.parity("prnet", {"norm_affine": True}))
    monkeypatch.setattr(layers, "_GOLDENS", tmp_path)
    with pytest.raises(InputError, match="no parity vectors of prnet .* a checkout"):
        next(layers.parity("prnet", {}))


def test_importing_the_mapping_stays_cheap(root):
    code = (
        "import sys, prnet_jax.torch_weights, prnet_jax.torch_weights.__main__\n"
        "print([m for m in ('torch', 'safetensors', 'orbax', 'grain') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

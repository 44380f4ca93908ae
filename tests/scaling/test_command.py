"""The collectives of the compiled step, and how long they take."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from prnet_jax.models import create_model
from prnet_jax.scaling import __main__, step
from prnet_jax.scaling.collectives import Collective, collectives
from prnet_jax.scaling.interconnect import MACHINES, communication_s, grid, least_batch
from prnet_jax.scaling.step import Step, compile_step, image_flops, read_config

V5E, H100 = MACHINES

# PR-Net with one stage of 8 channels, counted by hand.
#   encoder: 1x1 from 1 channel, twice 3x3            16 + 584 + 584
#   enhancement: twice 3x3, two BatchNorms             584 + 584 + 32
#     3x3; q, k, v twice; four 1x1                     584 + 6 * 584 + 4 * 72
#   decoder: 2x2 up; 3x3 from 16, 3x3, two BatchNorms  264 + 1160 + 584 + 32
#   head                                               9
PARAMETERS = 1184 + 1200 + 4376 + 264 + 1776 + 9
CHANNELS = 4 * 8
CONFIG = """
from prnet_jax import config as settings

def get_config(variant=""):
    config = settings.make_config("prnet", "quick")
    config.model.widths = (8,)
    return config
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scaling") / "tiny.py"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def tiny(config_file):
    """The compiled steps of the tiny network for 1, 2 and 4 devices."""
    return {devices: compile_step(config_file, {}, devices, side=16) for devices in (1, 2, 4)}


def test_a_fused_all_reduce_holds_all_its_arrays():
    line = (
        "  %all-reduce.7 = (f32[8]{0}, f32[3,3,8,8]{3,2,1,0:T(8,128)S(1)}, /*index=2*/bf16[2]{0}, "
        "f32[]) all-reduce(%a, %b, %c, %d), channel_id=1, replica_groups={{0,1},{2,3}}, "
        'to_apply=%sum, metadata={op_name="jit(step)/transpose(jvp(Net))/conv/reduce_sum"}'
    )
    [found] = collectives(line, devices=4)
    assert found == Collective(
        "all-reduce",
        (("f32", (8,)), ("f32", (3, 3, 8, 8)), ("bf16", (2,)), ("f32", ())),
        2,
        "jit(step)/transpose(jvp(Net))/conv/reduce_sum",
    )
    assert found.bytes == 32 + 4 * 576 + 4 + 4


@pytest.mark.parametrize(
    ("line", "kind", "size", "group"),
    [
        ("%a = f32[8]{0} all-reduce(%x), replica_groups={}", "all-reduce", 32, 16),
        ("%a = (f8e4m3fn[8], f8e5m2[2]) all-reduce(%x, %y)", "all-reduce", 10, 16),
        ("ROOT a = f32[8] all-reduce(x), replica_groups=[2,4]<=[8]", "all-reduce", 32, 4),
        (
            "%a = f32[8] all-reduce(%x), replica_groups=mesh['d'=2,'e'=3,'f'=5] {'d','f'}, c=1",
            "all-reduce",
            32,
            10,
        ),
        ("%a = (f32[8], pred[3]) all-reduce-start(%x, %y)", "all-reduce", 35, 16),
        (
            "%g = (f32[2,4], f32[8,4]) all-gather-start(%x), replica_groups=[1,4]<=[4]",
            "all-gather",
            128,
            4,
        ),
        ("%g = f32[8,4]{1,0} all-gather(%x), replica_groups=[1,4]<=[4]", "all-gather", 128, 4),
        ("%s = f32[2,4] reduce-scatter(%x), replica_groups={{0,1,2,3}}", "reduce-scatter", 128, 4),
        ("%s = f32[2,4] reduce-scatter(%x), replica_groups={}", "reduce-scatter", 512, 16),
        ("%t = (s8[4], s8[4]) all-to-all(%x, %y), replica_groups={{0,1}}", "all-to-all", 8, 2),
        (
            "%p = (f32[4], f32[4], u32[], u32[]) collective-permute-start(%x), "
            "source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            16,
            16,
        ),
    ],
)
def test_every_kind(line, kind, size, group):
    [found] = collectives("  " + line, devices=16)
    assert (found.kind, found.bytes, found.group) == (kind, size, group)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%a = () all-reduce(%x), replica_groups={}", "no arrays"),
        ("%a = q9[8] all-reduce(%x), replica_groups={}", "no arrays"),
        ("%a = f32[8] all-reduce(%x), replica_groups=new{0:4}", "unknown replica_groups"),
    ],
)
def test_what_cannot_be_read_is_an_error(line, says):
    with pytest.raises(ValueError, match=says):
        collectives(line, devices=4)


def test_a_line_that_only_mentions_a_collective_does_not_count():
    program = """
  %all-reduce-done.1 = f32[8]{0} all-reduce-done(%all-reduce-start.1)
  %fusion.2 = f32[8]{0} fusion(%all-reduce.3), kind=kLoop, calls=%all-gather.fused
  %add = f32[8]{0} add(%x, %y), metadata={op_name="jit(f)/all-reduce(x)"}
ENTRY %all-reduce (x: f32[8]) -> f32[8] {
"""
    assert collectives(program, devices=4) == []


def test_bytes_that_a_ring_sends():
    hundred = (("f32", (25,)),)
    expected = {"all-reduce": 150, "all-gather": 75, "reduce-scatter": 75, "all-to-all": 75}
    expected["collective-permute"] = 100
    assert {kind: Collective(kind, hundred, 4, "").sent_bytes for kind in expected} == expected
    assert Collective("all-reduce", hundred, 2, "").sent_bytes == 100


def test_purposes():
    compiled = Step([], 0, 0, 0, norms=("down/1",))

    def purpose(name, *shapes, kind="all-reduce"):
        arrays = tuple(("f32", shape) for shape in shapes)
        return compiled.purpose(Collective(kind, arrays, 2, name))

    assert purpose("jit(s)/jvp(N)/down/1/reduce_sum", (8,)) == "forward"
    assert purpose("jit(s)/transpose(jvp(N))/down/1/reduce_sum", (8,), (8,)) == "backward"
    assert purpose("jit(s)/transpose(jvp(N))/down/1/reduce_sum", (8,), (3, 3, 8, 8)) == "gradient"
    assert purpose("jit(s)/transpose(jvp(N))/down/10/reduce_sum", (8,)) == "gradient"
    assert purpose("jit(s)/jvp()/reduce_sum", ()) == "other"
    assert purpose("jit(s)/jvp(N)/down/1/x", (3, 3, 8, 8), kind="all-gather") == "other"


def test_seconds_by_hand():
    def hundred_mb(devices):
        return [Collective("all-reduce", (("f32", (25_000_000,)),), devices, "")]

    # 150 MB at 100 GB/s, and twice across the 2x2 chips at 1 us per hop
    assert communication_s(hundred_mb(4), V5E) == pytest.approx(1.5e-3 + 4e-6)
    # The full pod is a torus: 200 GB/s, and 8 + 8 hops. Half of it is a grid of 8x16.
    assert communication_s(hundred_mb(256), V5E) == pytest.approx(199.21875 / 200e3 + 32e-6)
    assert communication_s(hundred_mb(128), V5E) == pytest.approx(198.4375 / 100e3 + 44e-6)
    # 175 MB at 450 GB/s in one node; 187.5 MB at 400 GB/s out of each of two nodes
    assert communication_s(hundred_mb(8), H100) == pytest.approx(175 / 450e3 + 10e-6)
    assert communication_s(hundred_mb(16), H100) == pytest.approx(187.5 / 400e3 + 20e-6)
    assert communication_s([], V5E) == 0


def test_batch_where_communication_is_a_tenth():
    assert least_batch(seconds=1.0, image_s=1.0) == 9  # 1 / (1 + 9)
    assert least_batch(seconds=1.0, image_s=0.9) == 10
    assert least_batch(seconds=1.0, image_s=0.91) == 10  # 9.89 images
    assert least_batch(seconds=1.0, image_s=1.0, share=0.5) == 1
    assert least_batch(seconds=0.0, image_s=1.0) == 1


@pytest.mark.parametrize(
    ("number", "sides"), [(1, (1, 1)), (8, (2, 4)), (7, (1, 7)), (256, (16, 16))]
)
def test_grid(number, sides):
    assert grid(number) == sides


@pytest.mark.slow  # three processes that start JAX and compile
def test_bytes_of_the_compiled_step(tiny):
    assert tiny[1].collectives == []
    for devices in (2, 4):
        compiled = tiny[devices]
        assert (compiled.parameters, compiled.channels) == (PARAMETERS, CHANNELS)
        assert {c.kind for c in compiled.collectives} == {"all-reduce"}
        assert {c.group for c in compiled.collectives} == {devices}
        total = sum(c.bytes for c in compiled.collectives)
        assert total == 4 * (PARAMETERS - compiled.zero_gradient + 4 * CHANNELS + 1)
        forward = [c for c in compiled.collectives if compiled.purpose(c) == "forward"]
        assert [c.bytes for c in forward] == [4 * 8] * 8  # mean and variance of four BatchNorms
        gradient = [c for c in compiled.collectives if compiled.purpose(c) == "gradient"]
        kernels = [shape for c in gradient for _, shape in c.arrays if len(shape) > 1]
        assert kernels.count((3, 3, 8, 8)) == 2 + 2 + 1 + 6 + 1
        assert len(kernels) == 3 + 2 + 1 + 6 + 4 + 3 + 1


@pytest.mark.slow
def test_parameters_with_a_gradient_of_zero(tiny):
    model = create_model("prnet", widths=(8,))
    image = jax.random.normal(jax.random.key(0), (2, 16, 16, 1))
    variables = model.init(jax.random.key(1), image, train=False)

    def total(params):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, _ = model.apply(state, image, train=True, mutable=["batch_stats"])
        return jnp.square(logits).sum()

    gradient = jax.jit(jax.grad(total))(variables["params"])
    assert tiny[1].zero_gradient == sum(g.size for g in jax.tree.leaves(gradient) if not g.any())


@pytest.mark.slow
def test_the_command_prints_both_tables(tiny, config_file, capsys, monkeypatch):
    monkeypatch.setattr(step, "compile_step", lambda *given: tiny[given[2]])
    assert __main__.main(["--config", config_file, "--devices", "4,1,2"]) == 0
    out = capsys.readouterr().out
    total = 4 * (PARAMETERS - tiny[2].zero_gradient + 4 * CHANNELS + 1)
    sent = [line for line in out.splitlines() if line.endswith("| yes |")]
    assert [line.split(" | ")[0] for line in sent] == ["| 1", "| 2", "| 4"]
    assert f"| {total:,} | yes |" in sent[1] and "8: 256 B" in sent[1]
    times = [line for line in out.splitlines() if line.startswith(("| TPU v5e", "| H100"))]
    assert [line.split(" | ")[:2] for line in times] == [
        [f"| {machine.title}", devices] for machine in MACHINES for devices in "24"
    ]


def test_operations_are_three_forward_passes():
    config = read_config("configs/unet.py", {})
    assert config.dataset.image_size == 256
    # python -m prnet_jax.models: 380.7 GFLOP forward at 512x512. The backward pass takes two more.
    assert image_flops(config) == pytest.approx(3 * 380.7e9 / 4, rel=0.1)


def test_operations_of_attention_count_for_every_block():
    config = read_config("configs/prnet.py:quick", {})
    config.model.enhance_skips, config.model.widths, config.model.heads = (0,), (4, 8), 2
    assert config.dataset.image_size == 64  # 4,096 positions at the finest level
    # Two attentions of four channels, each two products forward and four backward.
    assert image_flops(config) > 2 * 6 * 2 * 4096**2 * 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config", "configs/none.py"], "configs/none.py is not a file"),
        (["--config", "setup.py"], "is not a file"),
        (["--config", "configs/prnet.py:fast"], "no variant 'fast'"),
        (["--config", "configs/prnet.py", "--set", "sharding=True"], "no such top-level field"),
        (["--config", "configs/prnet.py", "--set", "model=3"], "no such top-level field"),
        (["--config", "configs/prnet.py", "--set", "seed=word"], "must be of type int"),
        (["--config", "configs/prnet.py", "--set", "dtype=int8"], "float32 or bfloat16"),
    ],
)
def test_mistakes_are_one_line(arguments, says, capsys):
    assert __main__.main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("devices", ["0", "two", "", "1,-2"])
def test_numbers_of_devices(devices, capsys):
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["--config", "configs/prnet.py", "--devices", devices])
    assert "numbers from 1 to 1024" in capsys.readouterr().err


def test_help_needs_no_jax():
    code = """
import runpy, sys
sys.argv = ["scaling", "--help"]
try:
    runpy.run_module("prnet_jax.scaling", run_name="__main__")
except SystemExit as end:
    print(end.code, {"jax", "numpy", "scipy", "flax", "ml_collections"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--compile-size" in done.stdout and done.stdout.endswith("\n0 set()\n")

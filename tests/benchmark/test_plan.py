"""What is compared with what, and how growth is fitted."""

import pytest

from prnet_jax.benchmark import growth
from prnet_jax.benchmark.choices import Choices
from prnet_jax.benchmark.plan import Plan


def plan(tmp_path, platform="cpu", **chosen):
    choices = {
        "models": ("prnet", "infnet"),
        "parts": ("train",),
        "batch": 1,
        "size": 64,
        "dtype": "float32",
        "against": ("torch", "torch-compile"),
        "torch_python": "python",
        "fields": {},
        "repetitions": 7,
        "slices": 16,
        "json": None,
    }
    made = Plan(Choices(**choices | chosen), tmp_path, platform, ["prnet", "unet"])
    return list(made.comparisons())


def sides(comparisons):
    return [(c.task.model, c.task.variant, list(c.sides)) for c in comparisons]


def test_training_beside_the_peers_that_have_the_network(tmp_path):
    assert sides(plan(tmp_path)) == [
        ("prnet", "", ["ours", "torch", "torch-compile"]),
        ("infnet", "", ["ours"]),
    ]


@pytest.mark.parametrize(
    "size, platform, dtype, others",
    [
        (64, "cpu", "float32", ["dense"]),  # 4,096 positions
        (256, "cpu", "float32", []),  # 65,536: a dense map of 128 GiB
        (64, "gpu", "bfloat16", ["dense", "cudnn"]),
    ],
)
def test_attention_beside_what_fits(tmp_path, size, platform, dtype, others):
    (found,) = plan(
        tmp_path, platform, parts=("attention",), size=size, dtype=dtype, against=("torch",)
    )
    assert list(found.sides) == ["ours", *others, "torch"]
    assert found.sides["ours"][1].variant == "blockwise"
    for name in others:
        assert found.sides[name][1].variant == name


def test_the_parts_that_read_records_share_a_folder(tmp_path):
    found = plan(tmp_path, models=("unet",), parts=("predict", "data", "evaluate"))
    assert sides(found) == [
        ("unet", "", ["ours"]),
        ("unet", "prepare", ["ours"]),
        ("unet", "read", ["ours"]),
        ("unet", "kept", ["ours"]),
        ("unet", "all", ["ours", "device", "host"]),
    ]
    for comparison in found:
        for _, task in comparison.sides.values():
            assert (task.folder, task.slices) == (str(tmp_path), 16)


def test_startup(tmp_path):
    *commands, first_step = plan(tmp_path, models=("unet",), parts=("startup",))
    assert [list(c.sides) for c in commands] == [["ours"]] * 4
    assert list(first_step.sides) == ["ours", "empty cache"]
    assert first_step.sides["ours"][1].part == "train"


def test_growth_changes_one_thing_at_a_time(tmp_path):
    found = plan(tmp_path, models=("unet",), parts=("growth",), fields={"bilinear": True})
    values = {}
    for comparison in found:
        task = comparison.task
        assert task.part == "growth" and task.fields["bilinear"]
        row = {
            "variant": task.variant,
            "fields": task.fields,
            "batch": task.batch,
            "size": task.size,
            "slices": task.slices,
            "devices": task.devices,
        }
        values.setdefault(task.variant, []).append(growth.value(row))
    assert values == {
        "batch": [1, 2, 4, 8, 16],
        "size": [64, 128, 256, 512],
        "width": [16, 32, 64],
        "slices scored": [25, 50, 100, 200],
        "slices predicted": [100, 1_000, 10_000],
        "devices": [1, 2, 4, 8],
    }
    on_gpu = plan(tmp_path, "gpu", models=("unet",), parts=("growth",))
    assert "devices" not in {comparison.task.variant for comparison in on_gpu}


def test_exponents():
    rows = [
        {
            "model": "unet",
            "variant": "size",
            "size": size,
            "ours_ms": 5e-4 * size**3,
            "gflop": 1e-3 * size**2,
            "program_mib": 2.0 * size**2,
            "peak_mib": None,
        }
        for size in (64, 128, 256)
    ]
    (found,) = growth.exponents(rows)
    assert (found["from"], found["to"]) == (64, 256)
    assert found["ours_ms"] == pytest.approx(3) and found["gflop"] == pytest.approx(2)
    assert found["over_work"] == pytest.approx(1)  # slower than its work
    assert found["program_mib"] == pytest.approx(2) and found["peak_mib"] is None
    assert "| unet | size | 64 | 256 | 3.00 | 2.00 | 1.00 | 2.00 | - |" in growth.table([found])
    assert growth.exponents(rows[:1]) == []  # of one value there is no exponent

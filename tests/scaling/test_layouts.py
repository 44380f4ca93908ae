"""Arrays and instructions of the text of a compiled TPU program; padding counted by hand."""

import pytest

from prnet_jax.scaling.layouts import Array, arrays, entry


def test_an_array_as_the_compiler_writes_it():
    [found] = arrays("bf16[8,256,256,64]{3,0,2,1:T(8,128)(2,1)S(1)}")
    assert found == Array("bf16", (8, 256, 256, 64), (1, 2, 0, 3), ((8, 128), (2, 1)), 1)


@pytest.mark.parametrize(
    ("text", "values", "padded"),
    [
        # 64 channels on 128 lanes
        ("bf16[8,256,256,64]{3,0,2,1:T(8,128)(2,1)}", 2 * 8 * 65536 * 64, 2 * 8 * 65536 * 128),
        # one channel on 128 lanes; the same with the image's rows on them
        ("bf16[8,256,256,1]{3,0,2,1:T(8,128)(2,1)}", 2 * 8 * 65536, 2 * 8 * 65536 * 128),
        ("f32[8,256,256,1]{2,1,3,0:T(8,128)}", 4 * 8 * 65536, 4 * 8 * 65536),
        # two images on eight sublanes, 130 channels on two times 128 lanes
        ("f32[2,4,4,130]{3,0,2,1:T(8,128)}", 4 * 2 * 16 * 130, 4 * 16 * 8 * 256),
        ("bf16[8,256,256,1]{0,3,2,1:T(2,128)(2,1)}", 2 * 8 * 65536, 2 * 65536 * 2 * 128),
        ("f32[64]{0:T(128)}", 256, 512),
        ("f32[]{:T(128)}", 4, 512),
        ("pred[3,200]{1,0:T(8,128)(4,1)}", 600, 8 * 256),
        ("f32[3,5]{1,0}", 60, 60),
        ("s32[7]", 28, 28),
        # a tile of three rows in pairs: rounded up twice
        ("bf16[3,128]{1,0:T(3,128)(2,1)}", 2 * 3 * 128, 2 * 4 * 128),
    ],
)
def test_bytes_of_values_and_with_padding(text, values, padded):
    [found] = arrays(text)
    assert (found.bytes, found.padded_bytes) == (values, padded)


def test_a_tuple_is_its_arrays():
    found = arrays("(f32[2]{0:T(128)S(1)}, f32[2]{0:T(128)}, u32[]{:S(2)})")
    assert [(a.dtype, a.shape, a.space) for a in found] == [
        ("f32", (2,), 1),
        ("f32", (2,), 0),
        ("u32", (), 2),
    ]


def test_an_unknown_tile_is_an_error():
    with pytest.raises(ValueError, match="unknown form"):
        arrays("f32[8,8]{1,0:T(*,128)}")


PROGRAM = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%fused (p: f32[8]) -> f32[8] {
  ROOT %inside = f32[8]{0:T(128)} negate(%p)
}

ENTRY %main.3 (x.1: f32[8], y.1: f32[8]) -> (f32[8], f32[]) {
  %x.1 = f32[8]{0:T(128)} parameter(0), sharding={mesh[], [{}]}
  %y.1 = f32[8]{0:T(128)} parameter(1)
  %both = (f32[8]{0:T(128)}, /*index=1*/f32[]{:T(128)}) fusion(%x.1, /*index=1*/%y.1), kind=kLoop, \
calls=%fused, metadata={op_name="jit(f)/a(b)/neg"}
  %part = f32[8]{0:T(128)} get-tuple-element(%both), index=0

  ROOT %end = (f32[8]{0:T(128)}) tuple(%part)
}

%later (p: f32[8]) -> f32[8] {
  ROOT %not_in_the_entry = f32[8]{0:T(128)} negate(%p)
}
"""


def test_the_entry_in_its_order():
    found = entry(PROGRAM)
    assert [i.name for i in found] == ["x.1", "y.1", "both", "part", "end"]
    assert [i.kind for i in found[:3]] == ["parameter", "parameter", "fusion"]
    both = found[2]
    assert both.operands == ("x.1", "y.1") and [a.shape for a in both.arrays] == [(8,), ()]
    assert "kind=kLoop" in both.text and found[3].text == ", index=0"


def test_a_program_without_an_entry_is_an_error():
    with pytest.raises(ValueError, match="no entry"):
        entry("HloModule jit_f")

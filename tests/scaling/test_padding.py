"""What a program moves and holds, counted by hand for a small one."""

import pytest

from prnet_jax.scaling.layouts import entry
from prnet_jax.scaling.padding import Bytes, by_tile, cycles, live, moved, total

KIB = 1024
# a, b, c and d: 8 x 64 floats, 2 KiB of values on 4 KiB. `fast` is on the chip itself.
ARRAY = "f32[8,64]{1,0:T(8,128)}"
FAST = "f32[8,64]{1,0:T(8,128)S(1)}"
PROGRAM = f"""\
HloModule jit_f, is_scheduled=true

ENTRY %main (x: f32[8,64]) -> f32[8,64] {{
  %x = {ARRAY} parameter(0)
  %pair = ({ARRAY}, {ARRAY}) fusion(%x), kind=kLoop, calls=%f, \
backend_config={{"window_config":{{"estimated_cycles":"100"}}}}
  %a = {ARRAY} get-tuple-element(%pair), index=0
  %b = {ARRAY} get-tuple-element(%pair), index=1
  %start = ({FAST}, {ARRAY}, u32[]{{:S(2)}}) copy-start(%a)
  %fast = {FAST} copy-done(%start)
  %c = {ARRAY} fusion(%b), kind=kLoop, calls=%g, \
backend_config={{"window_config":{{"estimated_cycles":"20"}}}}
  %view = {ARRAY} bitcast(%c)
  ROOT %d = {ARRAY} add(%view, %fast)
}}
"""


@pytest.fixture(scope="module")
def program():
    return entry(PROGRAM)


def test_moved_are_operands_and_results_in_the_large_memory(program):
    # pair: x, a, b; start: a; c: b and c; d: c and d
    assert total(moved(program)) == Bytes(8 * 2 * KIB, 8 * 4 * KIB)
    assert total(moved(program)).padding == 0.5


def test_most_is_held_while_both_of_the_pair_are_there(program):
    # x stays; a ends with the copy. x, a, b; then x, b, c; then x, c, d.
    assert total(live(program)) == Bytes(3 * 2 * KIB, 3 * 4 * KIB)


def test_a_part_of_a_tuple_that_nothing_takes_is_not_held():
    unused = PROGRAM.replace("fusion(%b)", "fusion(%a)")
    # x, a; then x, a, c; then x, c, d
    assert total(live(entry(unused))).padded == 3 * 4 * KIB
    without_copy = unused.replace("copy-start(%a)", "copy-start(%x)")
    assert total(live(entry(without_copy))).padded == 3 * 4 * KIB


def test_a_slice_that_is_started_reads_only_itself():
    half = "f32[4,64]{1,0:T(4,128)S(1)}"
    text = f"""\
HloModule m

ENTRY %main (x: f32[8,64]) -> f32[4,64] {{
  %x = {ARRAY} parameter(0)
  %start = (({ARRAY}), {half}, s32[]{{:S(2)}}) slice-start(%x), slice={{[0:4], [0:64]}}
  ROOT %done = {half} slice-done(%start)
}}
"""
    assert total(moved(entry(text))) == Bytes(1 * KIB, 2 * KIB)
    assert total(live(entry(text))) == Bytes(2 * KIB, 4 * KIB)


def test_arguments_are_held_to_the_end():
    twice = f"""\
HloModule m

ENTRY %main (x: f32[8,64]) -> f32[8,64] {{
  %x = {ARRAY} parameter(0)
  %a = {ARRAY} negate(%x)
  %b = {ARRAY} negate(%a)
  ROOT %c = {ARRAY} negate(%b)
}}
"""
    assert total(live(entry(twice))).padded == 3 * 4 * KIB


def test_groups_by_the_inner_axes(program):
    assert by_tile(moved(program)) == {(8, 64): Bytes(8 * 2 * KIB, 8 * 4 * KIB)}
    text = "HloModule m\n\nENTRY %m (x: f32[]) -> f32[] {\n  ROOT %x = f32[] parameter(0)\n}\n"
    assert by_tile(entry(text)[0].arrays) == {(1, 1): Bytes(4, 4)}


def test_the_compilers_cycles_are_added(program):
    assert cycles(program) == 120


def test_nothing_has_no_padding():
    assert total([]).padding == 0.0

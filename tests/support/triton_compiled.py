"""Compiles the kernels for cards that are not here, at the released model's widths. No test itself.

It must come to tensor cores' instructions, copies that pass the registers by, and no more shared memory than a card
has; nothing may be put into slow memory for want of registers.
"""

from triton_for_cards import CARDS, compiled

from holo_lite.eightbit import triton_kernels
from holo_lite.eightbit.rows import FP8, INT8, SMALLEST
from holo_lite.eightbit.triton_rows import TILES, options, row_of

SHARED = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KB
FORMATS = {INT8: ("*i8", 80), FP8: ("*fp8e4nv", 89)}
PRODUCTS = ("mma.sync.aligned.m16n8k32", "wgmma", "tcgen05.mma")
SPILLS = {(100, "fp8"): 64}  # bytes that the largest tile may have in slow memory there
WIDTH = 5120


def check(capability, form, pointer, tile, *, added):
    types = {"x": pointer, "weight": pointer, "out": "*bf16", "x_scale": "*fp32", "weight_scale": "*fp32"}
    types |= {"bias": "*bf16", "rows": "i32", "outputs": "i32", "out_stride": "i32"}
    types |= {"gate": "*bf16"} if added else {}
    chosen = options(tile)
    constants = {name: value for name, value in chosen.items() if name.isupper()}
    how = {name: value for name, value in chosen.items() if not name.isupper()}
    flags = {"INPUTS": WIDTH, "BIASED": True, "WHOLE": form.whole, "ADDED": added, "GATED": added}
    made = compiled(triton_kernels.multiply, types, constants | flags, capability, **how)
    where = capability, form.name, tile, added
    assert made.shared <= SHARED[capability] * 1024, (where, made.shared)
    assert any(word in made.ptx for word in PRODUCTS), where
    assert "cp.async" in made.ptx, where
    registers, slow = made.usage()
    assert registers <= 255, where
    assert slow <= SPILLS.get((capability, form.name), 0), (where, slow)


for capability in CARDS:
    for form, (pointer, least) in FORMATS.items():
        if capability < least:
            continue
        types = {"numbers": "*bf16", "codes": pointer, "scale": "*fp32", "width": "i32"}
        types |= {"numbers_stride": "i32", "codes_stride": "i32"}
        row = row_of(WIDTH)
        constants = {"LARGEST": form.largest, "SMALLEST": SMALLEST, "WHOLE": form.whole, "BLOCK": row["BLOCK"]}
        made = compiled(triton_kernels.quantize, types, constants, capability, num_warps=row["num_warps"])
        assert "ld.global.v4" in made.ptx, capability
        assert made.usage()[1] == 0, capability
        check(capability, form, pointer, TILES[0], added=False)
        check(capability, form, pointer, TILES[1], added=True)

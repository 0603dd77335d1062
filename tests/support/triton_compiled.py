"""Compiles the kernels for cards that are not here, at the released model's widths. No test itself.

It must come to tensor cores' instructions, copies that pass the registers by, and no more shared memory than a card
has.
"""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from holo_lite.eightbit import triton_kernels
from holo_lite.eightbit.rows import FP8, INT8, SMALLEST
from holo_lite.eightbit.triton_rows import TILES, config

SHARED = {80: 163, 86: 99, 89: 99, 90: 227, 120: 99}  # KB
FORMATS = {INT8: ("*i8", 80), FP8: ("*fp8e4nv", 89)}
PRODUCTS = ("mma.sync.aligned.m16n8k32", "wgmma")
WIDTH = 5120


def compiled(kernel, types, constants, capability, **options):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in names if name not in constants},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def check(capability, form, pointer, tile):
    types = {"x": pointer, "weight": pointer, "out": "*bf16", "x_scale": "*fp32", "weight_scale": "*fp32"}
    types |= {"bias": "*bf16", "rows": "i32", "outputs": "i32", "most_rows": "i32"}
    chosen = config(tile)
    constants = {"INPUTS": WIDTH, "BIASED": True, "WHOLE": form.whole, **chosen.kwargs}
    options = {"num_warps": chosen.num_warps, "num_stages": chosen.num_stages, "enable_fp_fusion": False}
    made = compiled(triton_kernels.multiply, types, constants, capability, **options)
    assert made.metadata.shared <= SHARED[capability] * 1024, (capability, tile, made.metadata.shared)
    assert any(word in made.asm["ptx"] for word in PRODUCTS), (capability, tile)
    assert "cp.async" in made.asm["ptx"], (capability, tile)


for capability in SHARED:
    for form, (pointer, least) in FORMATS.items():
        if capability < least:
            continue
        types = {"numbers": "*bf16", "codes": pointer, "scale": "*fp32", "width": "i32"}
        types |= {"numbers_stride": "i32", "codes_stride": "i32"}
        constants = {"LARGEST": form.largest, "SMALLEST": SMALLEST, "WHOLE": form.whole, "BLOCK": 8192}
        made = compiled(triton_kernels.quantize, types, constants, capability, num_warps=8)
        assert "ld.global.v4" in made.asm["ptx"], capability
        for tile in TILES[:2]:
            check(capability, form, pointer, tile)

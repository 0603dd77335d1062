"""Compiles the fused operations for cards that are not here, at the released model's widths. No test itself.

A row goes from memory to registers and back in pieces of 16 bytes; nothing is put into slow memory for want of
registers, and no more than 128 of them are taken, so that two programs share a processor. A norm has two kinds that
differ by a constant: every other card has the one, the rest the other, and `make thorough` compiles both for all.
"""

from thorough import THOROUGH
from triton_for_cards import CARDS, compiled

from holo_lite.config import HOLOCINE_14B
from holo_lite.eightbit.rows import FP8, INT8, SMALLEST
from holo_lite.eightbit.triton_rows import row_of
from holo_lite.kernels import fused_language as kernels
from holo_lite.model.equations import rope_parts

D, F, H = HOLOCINE_14B.dim, HOLOCINE_14B.ffn_dim, HOLOCINE_14B.num_heads
HEAD = D // H
FORMATS = {None: ("*bf16", 80), INT8: ("*i8", 80), FP8: ("*fp8e4nv", 89)}
MOST_REGISTERS = 128
PIECE = 16  # bytes
TABLES = ("cos_frames", "cos_rows", "cos_columns", "sin_frames", "sin_rows", "sin_columns")


def coding(form):
    form = form or INT8
    return {"LARGEST": form.largest, "SMALLEST": SMALLEST, "WHOLE": form.whole}


def check(name, capability, types, constants, *, reads, writes, **how):
    """reads, writes: so many accesses of 16 bytes there are. Smaller ones are of scales and angles, in fp32."""
    made = compiled(getattr(kernels, name), types, constants, capability, **how)
    registers, slow = made.usage()
    where = name, capability, registers, slow
    assert slow == 0, where
    assert registers <= MOST_REGISTERS, where
    loads, stores = made.widths("ld.global"), made.widths("st.global")
    assert loads.count(PIECE) == reads, (where, loads)
    assert stores.count(PIECE) == writes, (where, stores)
    assert len(loads) == reads or name == "rms_turn", (where, loads)
    assert len(stores) == writes + int("unit" in types), (where, stores)


def strides(*names):
    return dict.fromkeys(names, "i32")


for capability in CARDS:
    row, wide = row_of(D), row_of(F)
    turns = {"HEADS": H, "HEAD_DIM": HEAD, "FRAME": rope_parts(HEAD)[0] // 2, "SPACE": rope_parts(HEAD)[1] // 2}
    vectors = {"x": "*bf16", "scale": "*bf16", "shift": "*bf16", "weight": "*bf16", "eps": "fp32", "width": "i32"}
    for form, (pointer, least) in FORMATS.items():
        if capability < least:
            continue
        types = vectors | {"out": pointer} | ({"unit": "*fp32"} if form else {})
        types |= strides("x_stride", "out_stride")
        for one in (1.0, 0.0) if THOROUGH else (CARDS.index(capability) % 2,):
            flags = {"ONE": float(one), "CODED": form is not None, **coding(form), "BLOCK": row["BLOCK"]}
            check("norm", capability, types, flags, reads=12, writes=2 if form else 4, num_warps=row["num_warps"])
        if form is not None:
            types = {"x": "*bf16", "codes": pointer, "unit": "*fp32", "width": "i32"}
            types |= strides("x_stride", "codes_stride")
            flags = {**coding(form), "BLOCK": wide["BLOCK"]}
            check("gelu_coded", capability, types, flags, reads=4, writes=2, num_warps=wide["num_warps"])
    for form, (pointer, least) in FORMATS.items():
        if form is None or capability < least:
            continue
        types = dict.fromkeys(("x", "update", "gate", "scale", "shift"), "*bf16")
        types |= {"codes": pointer, "unit": "*fp32", "width": "i32", "eps": "fp32"}
        types |= strides("x_stride", "update_stride", "codes_stride")
        for gated, one in ((True, 0.0), (False, 1.0)):
            check(
                "add_norm",
                capability,
                types,
                {"GATED": gated, "ONE": one, **coding(form), "BLOCK": row["BLOCK"]},
                reads=20 if gated else 16,
                writes=4 + 2,
                num_warps=row["num_warps"],
                enable_fp_fusion=False,
            )
    types = {"x": "*bf16", "weight": "*bf16", "width": "i32", "eps": "fp32", "x_stride": "i32"}
    check("rms", capability, types, {"BLOCK": row["BLOCK"]}, reads=8, writes=4, num_warps=row["num_warps"])
    types = {"x": "*bf16", "weight": "*bf16", "eps": "fp32", **dict.fromkeys(TABLES, "*fp32")}
    types |= strides("first", "rows", "columns", "x_stride")
    turning = {**turns, "MOST_HEADS": 64, "BLOCK": HEAD}
    check("rms_turn", capability, types, turning, reads=8, writes=4, num_warps=8)
    types = {
        "x": "*bf16",
        "update": "*bf16",
        "gate": "*bf16",
        "width": "i32",
        **strides("x_stride", "update_stride"),
    }
    flags = {"GATED": True, "BLOCK": row["BLOCK"]}
    check(
        "gated_add",
        capability,
        types,
        flags,
        reads=12,
        writes=4,
        num_warps=row["num_warps"],
        enable_fp_fusion=False,
    )

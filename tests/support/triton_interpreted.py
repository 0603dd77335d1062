"""Runs the kernels for a card on CPU tensors, by Triton's interpreter, beside the plain functions. No test itself.

The interpreter truncates where a card rounds to bf16 and fp8. So results are in fp32 here, and rows for fp8 such
that nothing is left to be rounded.
"""

from unittest.mock import patch

import torch
from interpreting import without_detours

from holo_lite.eightbit import triton_rows
from holo_lite.eightbit.coding import quantize
from holo_lite.eightbit.product import reference
from holo_lite.eightbit.rows import FP8, INT8, Rows
from holo_lite.eightbit.triton_rows import multiply, quantize_

GENERATOR = torch.Generator().manual_seed(0)
TILES = ((16, 16, 16, 4, 1), (32, 64, 32, 4, 1))


def random(rows, width):
    return torch.randn(rows, width, generator=GENERATOR)


def representable(rows, width):
    """Numbers that fp8 has, times a power of two a row, the format's largest among them."""
    exact = random(rows, width).mul(50).clamp(-448, 448).to(FP8.dtype).float()
    exact[:, 0] = 448
    return exact * 2.0 ** torch.randint(-20, 20, (rows, 1), generator=GENERATOR)


def check_quantizing(form, numbers):
    expected = quantize(numbers, form)
    rows, width = numbers.shape
    found = Rows.empty(rows, width, form, dtype=numbers.dtype, device=numbers.device)
    quantize_(numbers, form, found.codes, found.scale)
    assert torch.equal(found.scale, expected.scale) or expected.scale.isnan().any()
    assert torch.equal(found.scale.isnan(), expected.scale.isnan())
    kept = ~expected.scale[:, 0].isnan()
    assert torch.equal(found.codes[kept].float(), expected.codes[kept].float())


def check_product(form, n, k, o):
    x, weight = quantize(random(n, k), form), quantize(random(o, k), form)
    for bias in (random(1, o)[0].bfloat16(), None):
        expected = reference(x, weight, bias)
        for tile in TILES:
            found = multiply(x, weight, bias, tile=tile)
            if form.whole:
                assert torch.equal(found, expected), (n, k, o)
            else:
                assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * k**0.5), (n, k, o)


without_detours()
for rows, width in ((1, 5), (7, 64), (33, 100), (3, 1500)):
    numbers = random(rows, width)
    if rows > 2:
        numbers[0], numbers[1], numbers[2] = 0, 1e-36, numbers[2] * 1e25
    for dtype in (torch.float32, torch.bfloat16):
        check_quantizing(INT8, numbers.to(dtype))
    check_quantizing(INT8, torch.cat([numbers, numbers], dim=1)[:, :width])  # rows apart
    check_quantizing(FP8, representable(rows, width))
spoilt = random(3, 20)
spoilt[1, 7] = torch.nan
check_quantizing(INT8, spoilt)
for n, k, o in ((1, 16, 16), (5, 33, 7), (40, 100, 70), (70, 48, 130)):
    check_product(INT8, n, k, o)
    check_product(FP8, n, k, o)


def no_time(call):
    """A call counts; how long it takes here says nothing."""
    call()
    measured.append(call)
    return float(len(measured))


measured = []
x, weight = quantize(random(20, 32), INT8), quantize(random(24, 32), INT8)
with patch.multiple(triton_rows, TILES=TILES, _seconds=no_time):
    for _ in range(2):  # measured by the first product of a shape alone
        assert torch.equal(multiply(x, weight, None), reference(x, weight, None))
assert len(measured) == len(TILES)

"""K-quant blocks, which the gguf package reads but cannot write: an encoder, from the format's definition.

A block holds 256 numbers. `*_block` packs given fields into its bytes and returns them with the numbers they
mean, in float64: what a decoder must find. `encode` makes blocks of given weights, well enough for tests.
"""

import numpy as np

BLOCK = 256


def f16(value):
    return np.array([value], "<f2").tobytes()


def pack_scales_and_mins(scales, mins):
    """Eight 6-bit scales and eight 6-bit mins in twelve bytes: the low four whole, the rest in pieces."""
    out = np.zeros(12, np.uint8)
    out[0:4] = scales[0:4] | (scales[4:8] >> 4) << 6
    out[4:8] = mins[0:4] | (mins[4:8] >> 4) << 6
    out[8:12] = (scales[4:8] & 15) | (mins[4:8] & 15) << 4
    return out.tobytes()


def scaled_with_min(codes, scales, mins, d, dmin):
    d, dmin = float(np.float16(d)), float(np.float16(dmin))
    size = BLOCK // len(scales)
    return d * np.repeat(scales.astype(float), size) * codes - dmin * np.repeat(mins.astype(float), size)


def q4_k_block(codes, scales, mins, d, dmin):
    """codes: 256 in 0…15; scales, mins: 8 in 0…63. 64 numbers share 32 bytes, the first half of them low."""
    pairs = codes.astype(np.uint8).reshape(4, 2, 32)
    nibbles = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8)
    block = f16(d) + f16(dmin) + pack_scales_and_mins(scales, mins) + nibbles.tobytes()
    return block, scaled_with_min(codes, scales, mins, d, dmin)


def q5_k_block(codes, scales, mins, d, dmin):
    """As Q4_K, codes in 0…31: byte l of the high bits holds those of the numbers l, 32 + l, 64 + l, …"""
    low = codes.astype(np.uint8).reshape(4, 2, 32) & 15
    nibbles = (low[:, 0] | low[:, 1] << 4).astype(np.uint8)
    high = np.zeros(32, np.uint8)
    for number, part in enumerate(codes.astype(np.uint8).reshape(8, 32)):
        high |= (part >> 4) << number
    block = f16(d) + f16(dmin) + pack_scales_and_mins(scales, mins) + high.tobytes() + nibbles.tobytes()
    return block, scaled_with_min(codes, scales, mins, d, dmin)


def q6_k_block(codes, scales, d):
    """codes: 256 in -32…31; scales: 16 signed bytes, one for 16 numbers."""
    low, high = [], []
    for half in (codes + 32).astype(np.uint8).reshape(2, 4, 32):
        low += [half[0] & 15 | (half[2] & 15) << 4, half[1] & 15 | (half[3] & 15) << 4]
        high += [half[0] >> 4 | half[1] >> 4 << 2 | half[2] >> 4 << 4 | half[3] >> 4 << 6]
    packed = np.concatenate([*low, *high]).astype(np.uint8).tobytes()
    block = packed + scales.astype(np.int8).tobytes() + f16(d)
    return block, float(np.float16(d)) * np.repeat(scales.astype(float), 16) * codes


def two_bit_bytes(codes):
    """256 codes in 0…3: each half of a block is four rows of 32, and a byte holds a column of it."""
    out = np.zeros((2, 32), np.uint8)
    for row in range(4):
        out |= codes.astype(np.uint8).reshape(2, 4, 32)[:, row] << 2 * row
    return out.tobytes()


def q2_k_block(codes, scales, mins, d, dmin):
    """codes: 256 in 0…3; scales, mins: 16 in 0…15."""
    block = (scales | mins << 4).astype(np.uint8).tobytes() + two_bit_bytes(codes) + f16(d) + f16(dmin)
    return block, scaled_with_min(codes, scales, mins, d, dmin)


def q3_k_block(codes, scales, d):
    """codes: 256 in -4…3, the third bit apart; scales: 16 in -32…31, four bits of each and two apart."""
    raw, six = (codes + 4).astype(np.uint8), (scales + 32).astype(np.uint8)
    mask = np.zeros(32, np.uint8)
    for number, part in enumerate(raw.reshape(8, 32)):
        mask |= (part >> 2) << number
    packed = np.zeros(12, np.uint8)
    packed[:8] = six[:8] & 15 | (six[8:] & 15) << 4
    for number in range(16):
        packed[8 + number % 4] |= six[number] >> 4 << 2 * (number // 4)
    block = mask.tobytes() + two_bit_bytes(raw & 3) + packed.tobytes() + f16(d)
    return block, float(np.float16(d)) * np.repeat(scales.astype(float), 16) * codes


def random_block(kind, rng):
    """A block of random valid fields and the numbers it means."""
    d, dmin = rng.uniform(0.001, 0.1, 2)
    if kind in ("Q4_K", "Q5_K"):
        make, most = (q4_k_block, 16) if kind == "Q4_K" else (q5_k_block, 32)
        return make(rng.integers(0, most, BLOCK), rng.integers(0, 64, 8), rng.integers(0, 64, 8), d, dmin)
    if kind == "Q6_K":
        return q6_k_block(rng.integers(-32, 32, BLOCK), rng.integers(-128, 128, 16), d)
    if kind == "Q2_K":
        return q2_k_block(rng.integers(0, 4, BLOCK), rng.integers(0, 16, 16), rng.integers(0, 16, 16), d, dmin)
    return q3_k_block(rng.integers(-4, 4, BLOCK), rng.integers(-32, 32, 16), d)


def encode(weights, kind):
    """Make Q4_K, Q5_K or Q6_K of (rows, columns) float32: bytes (rows, n) uint8. Columns are a multiple of 256."""
    blocks = np.asarray(weights, np.float64).reshape(-1, BLOCK)
    made = [encode_signed(block) if kind == "Q6_K" else encode_with_min(block, kind) for block in blocks]
    return np.frombuffer(b"".join(made), np.uint8).reshape(weights.shape[0], -1)


def encode_with_min(block, kind):
    make, most = (q4_k_block, 15) if kind == "Q4_K" else (q5_k_block, 31)
    parts = block.reshape(8, 32)
    offsets = np.maximum(-parts.min(1), 0)
    steps = (parts.max(1) + offsets) / most
    d, dmin = (float(np.float16(v.max() / 63)) or 1.0 for v in (steps, offsets))
    scales, mins = (np.clip(np.round(v / unit), 0, 63).astype(int) for v, unit in ((steps, d), (offsets, dmin)))
    step = np.maximum(scales * d, 1e-12)[:, None]
    codes = np.clip(np.round((parts + (mins * dmin)[:, None]) / step), 0, most).astype(int)
    return make(codes.reshape(-1), scales, mins, d, dmin)[0]


def encode_signed(block):
    parts = block.reshape(16, 16)
    steps = np.abs(parts).max(1) / 31
    d = float(np.float16(steps.max() / 127)) or 1.0
    scales = np.clip(np.round(steps / d), 1, 127).astype(int)
    codes = np.clip(np.round(parts / (scales * d)[:, None]), -32, 31).astype(int)
    return q6_k_block(codes.reshape(-1), scales, d)[0]

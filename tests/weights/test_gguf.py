"""GGUF files: every block type, every shape, and no damage that is not told in one line."""

import math
import struct

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from gguf_blocks import encode, random_block
from hypothesis import HealthCheck, given, settings, strategies as st
from resident import resident
from small_model import random_model

from holo_lite.config import DiTConfig
from holo_lite.errors import CheckpointError
from holo_lite.model.load import load_expert
from holo_lite.weights import gguf_file
from holo_lite.weights.files import open_weights
from holo_lite.weights.gguf_file import PACKED, GgufFile

RNG = np.random.default_rng(5)
K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
LEGACY = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
ROUNDING = {
    "Q8_0": 0.01,
    "Q5_0": 0.06,
    "Q5_1": 0.06,
    "Q4_0": 0.11,
    "Q4_1": 0.11,
    "Q6_K": 0.04,
    "Q5_K": 0.05,
    "Q4_K": 0.1,
}
CPU = torch.device("cpu")


def write(path, tensors, metadata=None):
    """tensors: name → (bytes or numbers, type's name); a shape of bytes is that of the packed rows."""
    writer = GGUFWriter(path, "wan")
    for key, shape in (metadata or {}).items():
        writer.add_array(key, list(shape))
    writer.add_array("tokenizer.words", ["many", "words"] * 20)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def packed(weights, kind):
    """numbers → (bytes, kind) as `write` takes them."""
    if kind in K_QUANTS:
        return encode(weights, kind), kind
    return quants.quantize(weights, GGMLQuantizationType[kind]), kind


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def random_rows(kind, rows, blocks):
    """Bytes of random blocks and the numbers they mean."""
    made = [[random_block(kind, RNG) for _ in range(blocks)] for _ in range(rows)]
    stored = np.stack([np.frombuffer(b"".join(block for block, _ in row), np.uint8) for row in made])
    return stored, np.stack([np.concatenate([numbers for _, numbers in row]) for row in made])


@pytest.mark.parametrize("kind", K_QUANTS)
def test_a_k_quant_means_what_the_format_says(tmp_path, kind):
    stored, numbers = random_rows(kind, rows=5, blocks=3)
    file = GgufFile(write(tmp_path / "a.gguf", {"w": (stored, kind)}))
    assert file.entries["w"].shape == (5, 768)
    assert file.entries["w"].dtype == torch.float32
    torch.testing.assert_close(file.load("w").double(), torch.from_numpy(numbers), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*LEGACY, "Q4_K", "Q5_K", "Q6_K"])
def test_a_packed_weight_is_close_to_what_was_packed(tmp_path, kind):
    weights = normal(32, 512)
    file = GgufFile(write(tmp_path / "a.gguf", {"w": packed(weights, kind)}))
    found = file.load("w").numpy()
    assert np.linalg.norm(found - weights) / np.linalg.norm(weights) < ROUNDING[kind]


def test_all_types_but_the_plain_ones_are_tested_here():
    assert set(PACKED) == {*LEGACY, *K_QUANTS}


@pytest.mark.parametrize(
    ("kind", "dtype"), [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)]
)
def test_plain_types_keep_their_dtype(tmp_path, kind, dtype):
    weights = torch.from_numpy(normal(3, 5, 1, 2, 2)).to(dtype)
    stored = weights.view(torch.uint8).numpy() if kind == "BF16" else weights.numpy()
    file = GgufFile(write(tmp_path / "a.gguf", {"w": (stored, kind)}))
    assert file.entries["w"].dtype == dtype
    assert torch.equal(file.load("w"), weights)
    assert torch.equal(file.load("w", slice(1, 3)), weights[1:3])
    assert file.packed == frozenset()


@pytest.mark.parametrize("kind", PACKED)
def test_rows_are_the_rows_of_the_whole(tmp_path, kind):
    stored = random_rows(kind, 40, 2)[0] if kind in K_QUANTS else packed(normal(40, 512), kind)[0]
    file = GgufFile(write(tmp_path / "a.gguf", {"w": (stored, kind)}))
    whole = file.load("w")
    for start, stop in ((0, 1), (7, 40), (39, 40), (0, 40)):
        assert torch.equal(file.load("w", slice(start, stop)), whole[start:stop])


def test_a_tensor_larger_than_a_slice_is_put_together_in_order(tmp_path, monkeypatch):
    stored, numbers = random_rows("Q4_K", 17, 3)
    file = GgufFile(write(tmp_path / "a.gguf", {"w": (stored, "Q4_K")}))
    monkeypatch.setattr(gguf_file, "SLICE", 512)
    torch.testing.assert_close(file.load("w").double(), torch.from_numpy(numbers), rtol=1e-5, atol=1e-5)


def test_a_shape_noted_by_the_converter_is_restored(tmp_path):
    weights = normal(24, 4, 1, 2, 4)
    flat = packed(weights.reshape(-1, 256), "Q8_0")
    noted = {"comfy.gguf.orig_shape.patch_embedding.weight": weights.shape}
    file = GgufFile(write(tmp_path / "a.gguf", {"patch_embedding.weight": flat}, noted))
    assert file.entries["patch_embedding.weight"].shape == weights.shape
    found = file.load("patch_embedding.weight")
    assert np.abs(found.numpy() - weights).max() < 0.03
    assert torch.equal(file.load("patch_embedding.weight", slice(3, 9)), found[3:9])


def test_rows_that_end_within_a_block_are_right_too(tmp_path):
    weights = normal(16, 24)  # a row is less than a block of 32
    noted = {"comfy.gguf.orig_shape.w": weights.shape}
    file = GgufFile(write(tmp_path / "a.gguf", {"w": packed(weights.reshape(-1, 64), "Q8_0")}, noted))
    assert torch.equal(file.load("w", slice(5, 7)), file.load("w")[5:7])


@pytest.mark.parametrize("name", ["blocks.0.modulation", "model.head.modulation", "scale_shift_table"])
def test_a_modulation_gets_its_lost_dimension_back(tmp_path, name):
    modulation = normal(6, 64)
    file = GgufFile(write(tmp_path / "a.gguf", {name: (modulation, "F32"), "b": (normal(2, 32), "F32")}))
    assert file.entries[name].shape == (1, 6, 64)
    assert torch.equal(file.load(name), torch.from_numpy(modulation)[None])
    assert file.entries["b"].shape == (2, 32)


def test_a_packed_vector_is_read(tmp_path):
    file = GgufFile(write(tmp_path / "a.gguf", {"w": packed(normal(1, 512).reshape(512), "Q8_0")}))
    assert file.entries["w"].shape == (512,)
    assert torch.equal(file.load("w", slice(3, 40)), file.load("w")[3:40])


def test_an_expert_in_mixed_types_loads_and_computes_nearly_the_same(tmp_path):
    config = DiTConfig(256, 2, 512, 2, text_dim=256, freq_dim=256)
    model = random_model(config)
    kinds = {"self_attn": "Q4_K", "cross_attn": "Q5_K", "ffn.0": "Q6_K", "ffn.2": "Q8_0", "text_emb": "BF16"}
    tensors = {}
    for name, tensor in model.state_dict().items():
        kind = next((kind for part, kind in kinds.items() if part in name), "F32")
        is_weight = tensor.ndim == 2 and kind != "BF16"
        data = tensor.to(torch.bfloat16).view(torch.uint8).numpy() if kind == "BF16" else tensor.numpy()
        squeezed = data.squeeze(0) if "modulation" in name else data
        tensors[f"model.diffusion_model.{name}"] = (
            packed(data, kind) if is_weight else (squeezed, kind if kind == "BF16" else "F32")
        )
    path = write(tmp_path / "sparse_high_noise-Q4_K_M.gguf", tensors)
    loaded = load_expert(path, dtype=torch.float32, device=CPU)
    assert loaded.config == config
    for name, tensor in model.state_dict().items():
        error = (loaded.state_dict()[name] - tensor).norm() / tensor.norm()
        assert error < 0.1, name


def small_file(tmp_path):
    noted = {"comfy.gguf.orig_shape.a": (4, 64)}
    tensors = {"a": packed(normal(1, 256), "Q8_0"), "b": (normal(2, 8), "F32"), "c": packed(normal(2, 256), "Q4_K")}
    return write(tmp_path / "small.gguf", tensors, noted)


def told_in_one_line(path):
    with pytest.raises(CheckpointError) as caught:
        GgufFile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_cut_anywhere_is_told(tmp_path):
    content = small_file(tmp_path).read_bytes()
    data_end = len(content.rstrip(b"\0"))
    for length in [*range(0, data_end - 40, 7), data_end - 40]:
        path = tmp_path / "cut.gguf"
        path.write_bytes(content[:length])
        told_in_one_line(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_never_hangs_nor_crashes(tmp_path, data):
    content = bytearray(small_file(tmp_path).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 1100))
        content[place % len(content)] = data.draw(st.sampled_from([0, 1, 8, 9, 0x7F, 0x80, 0xFF]))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    try:
        file = GgufFile(path)
    except CheckpointError:
        return
    for name, entry in file.entries.items():
        assert file.load(name).shape == entry.shape


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"GG", "is not a GGUF file"),
        (b"PK\x03\x04" + bytes(100), "is not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 4) + bytes(50), "GGUF version 4"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(50), "GGUF version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0) + bytes(64), "(cut short|comes twice|dimensions)"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 2**62), "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 4, 2**62), "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sI", 1, b"k", 13), "unknown type 13"),
    ],
)
def test_what_is_no_gguf_file_is_told(tmp_path, content, message):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        GgufFile(path)
    told_in_one_line(path)


def one_tensor(kind, shape, size, offset=0):
    dimensions = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    entry = struct.pack("<Q1sI", 1, b"w", len(shape)) + dimensions + struct.pack("<IQ", kind, offset)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + entry
    return header + bytes(-len(header) % 32) + bytes(size)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one_tensor(23, (4, 256), 4096), "tensor w is IQ4_XS, which holo-lite cannot read; get one of Q8_0"),
        (one_tensor(999, (4, 256), 4096), "tensor w is 999, which holo-lite cannot read"),
        (one_tensor(8, (4, 33), 4096), "contradicts its type"),
        (one_tensor(0, (0, 8), 4096), "contradicts its type"),
        (one_tensor(0, (2**40, 2**40), 4096), "cut short within tensor w"),
        (one_tensor(8, (4, 32), 4 * 34 - 1), "cut short within tensor w"),
        (one_tensor(0, (4, 4), 128, offset=33), "the place of tensor w is damaged"),
        (one_tensor(0, (4, 4), 128, offset=2**62), "cut short within tensor w"),
        (one_tensor(0, (1,) * 9, 128), "9 dimensions"),
    ],
)
def test_a_tensor_that_cannot_be_right_is_named(tmp_path, content, message):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        GgufFile(path)


@pytest.mark.parametrize("shape", [(4, 65), (-4, -64), (0,), ()])
def test_a_noted_shape_of_another_size_is_told(tmp_path, shape):
    path = tmp_path / "a.gguf"
    noted = {"comfy.gguf.orig_shape.w": shape} if shape else {}
    write(path, {"w": packed(normal(1, 256), "Q8_0")}, noted)
    if shape:
        assert "shape noted for tensor w" in told_in_one_line(path)


def test_open_weights_knows_the_kind_and_the_fingerprint_the_content(tmp_path):
    path = small_file(tmp_path)
    first = open_weights(path)
    assert isinstance(first, GgufFile)
    assert first.fingerprint == GgufFile(path).fingerprint
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    (tmp_path / "other.gguf").write_bytes(content)
    assert GgufFile(tmp_path / "other.gguf").fingerprint != first.fingerprint


def test_one_tensor_of_a_large_file_costs_its_own_size(tmp_path):
    """2 GiB of Q8_0 in holes: unpacking one of its tensors touches no other and makes nothing beside it."""
    rows, columns = 1024, 1024
    each = rows * columns // 32 * 34
    entries = b"".join(
        struct.pack("<Q4sI2QIQ", 4, f"{i:04}".encode(), 2, columns, rows, 8, i * each) for i in range(1900)
    )
    header = b"GGUF" + struct.pack("<IQQ", 3, 1900, 0) + entries
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(-(-len(header) // 32) * 32 + 1900 * each)
    file = GgufFile(path)
    before = resident()
    tensor = file.load("0950")
    after = resident()
    assert tensor.nbytes == math.prod((rows, columns)) * 4
    assert after.file - before.file < 4 * each
    assert after.anonymous - before.anonymous < 4 * tensor.nbytes
    assert file.entries["0950"].nbytes == tensor.nbytes

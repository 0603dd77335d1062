"""The text encoder: the reference's numbers from every layout, and no copy of the vocabulary."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.constants import MODEL_ARCH
from gguf.tensor_mapping import get_tensor_name_map
from safetensors.torch import load_file, save_file
from transformers import UMT5Config, UMT5EncoderModel
from whole_models import write_holes

from holo_lite.errors import CheckpointError
from holo_lite.text.embedding import Embedding
from holo_lite.text.encoder import TextEncoder, pad_rows
from holo_lite.text.encoder_shapes import check_text_encoder
from holo_lite.weights.files import open_weights
from holo_lite.weights.safetensors_file import SafetensorsFile

DATA = Path(__file__).parents[1] / "parity_data"
ORIGINAL = DATA / "text_encoder.safetensors"
CPU = torch.device("cpu")
CONFIG = {
    "model_type": "umt5",
    "feed_forward_proj": "gated-gelu",
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-06,
}
OTHER_NAMES = {  # the test's own copy, fragment by fragment
    "token_embedding": "shared",
    "blocks": "encoder.block",
    "norm1": "layer.0.layer_norm",
    "attn": "layer.0.SelfAttention",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


def in_transformers_names(weights):
    def rename(name):
        if name == "norm.weight":
            return "encoder.final_layer_norm.weight"
        fragments = "|".join(map(re.escape, OTHER_NAMES))
        return re.sub(rf"\b({fragments})\b", lambda match: OTHER_NAMES[match[0]], name)

    return {rename(name): tensor for name, tensor in weights.items()}


def relative(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def weights():
    return load_file(ORIGINAL)


@pytest.fixture(scope="module")
def forward():
    """The reference's ids up to the padding, and its rows for them."""
    stored = load_file(DATA / "text_encoder_forward.safetensors")
    length = int(stored["mask"].sum())
    return stored["ids"][0, :length].tolist(), stored["embeddings"][0]


def write_pth(folder, weights):
    torch.save(weights, folder / "models_t5_umt5-xxl-enc-bf16.pth")
    return folder / "models_t5_umt5-xxl-enc-bf16.pth"


def write_diffusers(folder, weights):
    save_file(in_transformers_names(weights), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def write_sharded(folder, weights):
    renamed = in_transformers_names(weights)
    shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for index, (name, tensor) in enumerate(renamed.items()):
        list(shards.values())[index % 2][name] = tensor
    for shard, tensors in shards.items():
        save_file(tensors, folder / shard)
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def write_with_the_embedding_twice(folder, weights):
    renamed = in_transformers_names(weights)
    renamed["encoder.embed_tokens.weight"] = renamed["shared.weight"].clone()
    save_file(renamed, folder / "model.safetensors")
    return folder


def write_comfyui(folder, weights):
    """ComfyUI's files carry the tokenizer along."""
    renamed = {**in_transformers_names(weights), "spiece_model": torch.zeros(4096, dtype=torch.uint8)}
    save_file(renamed, folder / "umt5_xxl_fp16.safetensors")
    return folder / "umt5_xxl_fp16.safetensors"


def write_gguf(folder, weights):
    """In the names that the gguf package itself gives them."""
    path, renamed = folder / "umt5-xxl-encoder-F32.gguf", in_transformers_names(weights)
    layers = {int(match[1]) for name in renamed if (match := re.match(r"encoder\.block\.(\d+)\.", name))}
    names = get_tensor_name_map(MODEL_ARCH.T5ENCODER, len(layers))
    writer = GGUFWriter(path, "t5encoder")
    for name, tensor in renamed.items():
        writer.add_tensor(names.get_name(name.removesuffix(".weight")) + ".weight", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


LAYOUTS = (
    *(None, write_pth, write_diffusers, write_sharded, write_with_the_embedding_twice),
    *(write_comfyui, write_gguf),
)


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path, weights):
    return request.param(tmp_path, weights) if request.param else ORIGINAL


def test_every_layout_gives_the_references_rows(layout, forward):
    ids, expected = forward
    check_text_encoder(layout)
    rows = TextEncoder.load(layout, dtype=torch.float32, device=CPU).encode(ids)
    assert rows.shape == (len(ids), 64)
    assert relative(pad_rows(rows, len(expected)), expected) <= 1e-5
    original = TextEncoder.load(ORIGINAL, dtype=torch.float32, device=CPU).encode(ids)
    assert torch.equal(rows, original)


def test_leaving_the_padding_out_equals_masking_it(weights, forward):
    ids, _ = forward
    config = UMT5Config(vocab_size=512, d_model=64, d_kv=16, d_ff=96, num_heads=4, num_layers=2)
    whole = UMT5EncoderModel(config).eval()
    renamed = in_transformers_names(weights)
    whole.load_state_dict({**renamed, "encoder.embed_tokens.weight": renamed["shared.weight"]})
    padded = torch.tensor([ids + [0] * (512 - len(ids))])
    with torch.no_grad():
        masked = whole(input_ids=padded, attention_mask=(torch.arange(512) < len(ids))[None].long())
    rows = TextEncoder.load(ORIGINAL, dtype=torch.float32, device=CPU).encode(ids)
    assert relative(rows, masked.last_hidden_state[0, : len(ids)]) <= 1e-6


def test_rows_come_in_the_dtype_asked_for(forward):
    ids, expected = forward
    encoder = TextEncoder.load(ORIGINAL, dtype=torch.bfloat16, device=CPU)
    rows = encoder.encode(ids)
    assert rows.dtype == torch.bfloat16
    assert relative(rows.float(), expected[: len(ids)]) < 0.05


def test_padding_is_zeros_up_to_the_text_length():
    padded = pad_rows(torch.ones(3, 2))
    assert padded.shape == (512, 2)
    assert torch.equal(padded.sum(1), torch.tensor([2.0] * 3 + [0.0] * 509))


def test_blocks_are_the_layers_in_order():
    blocks = TextEncoder.load(ORIGINAL, dtype=torch.float32, device=CPU).blocks
    assert [type(block).__name__ for block in blocks] == ["UMT5Block"] * 2


def test_loading_is_silent(capfd, forward):
    TextEncoder.load(ORIGINAL, dtype=torch.float32, device=CPU).encode(forward[0])
    assert capfd.readouterr() == ("", "")


def test_ids_of_another_vocabulary_are_told():
    encoder = TextEncoder.load(ORIGINAL, dtype=torch.float32, device=CPU)
    with pytest.raises(CheckpointError, match="id 512, but the text encoder knows 512 tokens"):
        encoder.encode([3, 512, 1])


# --- the real size, as a file of holes -------------------------------------------------------------------


def real_shapes(blocks=24):
    """Names and shapes of models_t5_umt5-xxl-enc-bf16.pth, or of its first blocks."""
    shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (256384, 4096), "norm.weight": (4096,)}
    for block in range(blocks):
        inner: dict[str, tuple[int, ...]] = {f"attn.{name}": (4096, 4096) for name in "qkvo"}
        inner |= {"norm1": (4096,), "norm2": (4096,), "pos_embedding.embedding": (32, 64)}
        inner |= {"ffn.gate.0": (10240, 4096), "ffn.fc1": (10240, 4096), "ffn.fc2": (4096, 10240)}
        shapes |= {f"blocks.{block}.{name}.weight": shape for name, shape in inner.items()}
    return shapes


def anonymous_bytes():
    """Memory of this process that is not backed by a file."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("reads /proc: run on Linux")
    return int(re.search(r"RssAnon:\s+(\d+) kB", status.read_text(encoding="utf-8"))[1]) * 1024


def test_the_released_names_and_shapes_are_accepted(tmp_path):
    check_text_encoder(write_holes(tmp_path / "umt5.safetensors", real_shapes()))


def test_a_prompt_reads_its_rows_of_the_vocabulary_and_no_more(tmp_path, weights):
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    path = write_holes(tmp_path / "wide.safetensors", {**shapes, "token_embedding.weight": (16_000_000, 64)})
    encoder = TextEncoder.load(path, dtype=torch.float32, device=CPU)
    before = anonymous_bytes()
    assert encoder.encode([5, 15_999_999, 1]).shape == (3, 64)
    assert anonymous_bytes() - before < 100_000_000  # of 2 GB, 4 GB in fp32


def test_of_a_packed_vocabulary_the_rows_of_a_prompt_are_unpacked_alone(tmp_path):
    """Two million rows of Q8_0, 8.8 GB in fp32, all of them holes."""
    rows, columns = 2**21, 1024
    entry = struct.pack("<Q1sI2QIQ", 1, b"w", 2, columns, rows, GGMLQuantizationType.Q8_0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + entry
    path = tmp_path / "packed.gguf"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(-(-len(header) // 32) * 32 + rows * columns // 32 * 34)
    embedding = Embedding(open_weights(path), "w")
    assert embedding.rows == rows
    before = anonymous_bytes()
    assert embedding.look_up([5, rows - 1, 1]).shape == (3, columns)
    assert anonymous_bytes() - before < 10_000_000


# --- files that are something else -----------------------------------------------------------------------


def without(name):
    return lambda weights: weights.pop(name)


def reshaped(name, *shape):
    return lambda weights: weights.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("spoil", "telling"),
    [
        (without("token_embedding.weight"), "lacks token_embedding.weight or shared.weight"),
        (without("blocks.1.attn.q.weight"), "lacks encoder.block.1.layer.0.SelfAttention.q.weight"),
        (without("blocks.0.attn.q.weight"), "its first block is incomplete"),
        (without("norm.weight"), "lacks encoder.final_layer_norm.weight"),
        (reshaped("lm_head.weight", 2, 2), "unknown lm_head.weight"),
        (reshaped("blocks.1.norm1.weight", 3), "layer_norm.weight is [3], not [64]"),
        (reshaped("blocks.0.pos_embedding.embedding.weight", 32, 5), "64 channels cannot be 5 heads"),
        (reshaped("token_embedding.weight", 512), "its first block is incomplete"),
    ],
)
def test_wrong_names_and_shapes_are_told_before_anything_is_read(spoil, telling, weights, tmp_path, monkeypatch):
    spoilt = dict(weights)
    spoil(spoilt)
    save_file(spoilt, tmp_path / "umt5.safetensors")
    monkeypatch.delattr(SafetensorsFile, "load")
    for use in (check_text_encoder, lambda path: TextEncoder.load(path, dtype=torch.float32, device=CPU)):
        with pytest.raises(CheckpointError) as caught:
            use(tmp_path / "umt5.safetensors")
        assert telling in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        check_text_encoder(tmp_path / "umt5.pth")
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        check_text_encoder(tmp_path)


@pytest.mark.parametrize(
    ("config", "telling"),
    [
        (json.dumps({**CONFIG, "model_type": "t5"}), "model_type is not umt5"),
        (json.dumps({**CONFIG, "feed_forward_proj": "relu"}), "feed_forward_proj is not gated-gelu"),
        ("[]", "model_type is not umt5"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_config_of_another_encoder_is_told(config, telling, tmp_path, weights):
    write_diffusers(tmp_path, weights)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError) as caught:
        check_text_encoder(tmp_path)
    assert telling in str(caught.value)

"""Sizes read off a checkpoint's shapes, and what a dit_config.json beside it may say."""

import json
from pathlib import Path

import pytest

from holo_lite.config import HOLOCINE_14B, DiTConfig, dit_config
from holo_lite.errors import CheckpointError

HERE = Path(__file__).parent
RELEASED = {
    name: tuple(shape) for name, shape in json.loads((HERE / "checkpoints" / "dit_14b.json").read_text()).items()
}
SMALL = {
    "patch_embedding.weight": (64, 16, 1, 2, 2),
    "blocks.0.ffn.0.weight": (96, 64),
    "blocks.1.ffn.0.weight": (96, 64),
    "head.head.weight": (64, 64),
    "text_embedding.0.weight": (64, 24),
    "time_embedding.0.weight": (64, 32),
}


@pytest.fixture
def source(tmp_path):
    return tmp_path / "expert.safetensors"


@pytest.fixture
def beside(source):
    def write(text):
        path = source.parent / "dit_config.json"
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path

    return write


def refusal(shapes, source):
    with pytest.raises(CheckpointError) as raised:
        dit_config(shapes, source)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_released_shapes_give_the_released_sizes(source):
    assert dit_config(RELEASED, source) == HOLOCINE_14B
    assert HOLOCINE_14B.head_dim == 128


def test_every_size_comes_from_its_own_tensor(source, beside):
    beside({"num_heads": 4})
    assert dit_config(SMALL, source) == DiTConfig(64, 4, 96, 2, in_dim=16, out_dim=16, text_dim=24, freq_dim=32)


def test_reference_config_beside_the_weights_is_taken_whole(source, beside):
    whole = {
        "dim": 64, "num_heads": 2, "ffn_dim": 96, "num_layers": 2, "in_dim": 16, "out_dim": 16,
        "text_dim": 24, "freq_dim": 32, "eps": 1e-5, "patch_size": [1, 2, 2], "text_len": 512,
    }  # fmt: skip
    beside(whole)
    config = dit_config(SMALL, source)
    assert (config.num_heads, config.eps) == (2, 1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_tensor_that_decides_a_size_is_named(source, beside, name):
    beside({"num_heads": 4})
    shapes = {key: shape for key, shape in SMALL.items() if key != name}
    if name == "blocks.1.ffn.0.weight":  # decides the number of layers only
        assert dit_config(shapes, source).num_layers == 1
    else:
        assert name in refusal(shapes, source)


@pytest.mark.parametrize("shape", [(), (64,)])
@pytest.mark.parametrize("name", ["patch_embedding.weight", "text_embedding.0.weight", "head.head.weight"])
def test_a_tensor_of_too_few_dimensions_is_no_crash(source, beside, name, shape):
    if (name, shape) != ("head.head.weight", (64,)):
        beside({"num_heads": 4})
        assert str(source) in refusal(SMALL | {name: shape}, source)


def test_a_block_without_a_number_is_no_crash(source):
    refusal(SMALL | {"blocks.x.ffn": (1,)}, source)
    refusal(SMALL | {"blocks.": (1,)}, source)


def test_a_block_of_an_absurd_number_does_not_build_a_model_of_that_depth(source, beside):
    beside({"num_heads": 4})
    assert dit_config(SMALL | {"blocks.999999999.modulation": (1, 6, 64)}, source).num_layers == 3


def test_heads_that_cannot_be_inferred_must_be_given(source, beside):
    """A width of 200 is no multiple of 128: to guess one head of 200 would compute nonsense."""
    shapes = SMALL | {"patch_embedding.weight": (200, 16, 1, 2, 2)}
    assert "num_heads in a dit_config.json" in refusal(shapes, source)
    beside({"num_heads": 7})
    assert "width 200 does not divide into 7 heads" in refusal(shapes, source)
    beside({"num_heads": 200})  # heads of one number cannot be rotated
    assert "200 heads" in refusal(shapes, source)
    beside({"num_heads": 5})
    assert dit_config(shapes, source).head_dim == 40


def test_an_odd_time_embedding_is_refused_before_it_fails_in_the_first_step(source, beside):
    beside({"num_heads": 4})
    assert "freq_dim 33" in refusal(SMALL | {"time_embedding.0.weight": (64, 33)}, source)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        pytest.param("[" * 100_000, "is not JSON", id="nested beyond all depth"),
        ("[1]", "is not a JSON table"),
        ("null", "is not a JSON table"),
        ("5", "is not a JSON table"),
        ('{"num_head": 4}', "unknown key 'num_head'; did you mean 'num_heads'?"),
        ('{"num_heads": "4"}', "num_heads '4'"),
        ('{"num_heads": 4.0}', "num_heads 4.0"),
        ('{"num_heads": true}', "num_heads True"),
        ('{"num_heads": 0}', "num_heads 0"),
        ('{"num_heads": -4}', "num_heads -4"),
        ('{"num_heads": 4, "eps": 0}', "eps 0"),
        ('{"num_heads": 4, "eps": NaN}', "not finite at $.eps"),
        ('{"num_heads": 4, "dim": 128}', "dim is 128, but the weights have 64"),
        ('{"num_heads": 4, "num_layers": 3}', "num_layers is 3, but the weights have 2"),
        ('{"num_heads": 4, "patch_size": [1, 4, 4]}', "patch_size is [1, 4, 4]"),
        ('{"num_heads": 4, "text_len": 256}', "text_len is 256"),
    ],
)
def test_a_config_beside_the_weights_that_is_wrong_is_named(source, beside, text, said):
    path = beside(text)
    message = refusal(SMALL, source)
    assert message.startswith(str(path))
    assert said in message


def test_bytes_that_are_no_text_beside_the_weights(source, beside):
    beside("").write_bytes(b"\xff\xfe{")
    assert "is not JSON" in refusal(SMALL, source)

"""Writing, reading and refusing files of weights, for tests."""

import json
import struct

import pytest
import torch

from holo_lite.errors import CheckpointError
from holo_lite.weights.files import open_weights


def refusal(path, call=open_weights):
    """The message with which a file is refused: one line that begins with its path."""
    with pytest.raises(CheckpointError) as raised:
        call(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.isprintable()
    return message


def write(path, header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def loaded(path):
    file = open_weights(path)
    return {name: file.load(name) for name in file.entries}


def loaded_or_refused(path):
    """The tensors of a file, or nothing when it was refused as it should be."""
    try:
        return loaded(path)
    except CheckpointError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return None


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert (
            found[name]
            .contiguous()
            .view(-1)
            .view(torch.uint8)
            .equal(tensor.contiguous().view(-1).view(torch.uint8))
        )


def fingerprint(path):
    return open_weights(path).fingerprint


# The same sixteen bytes under other names, shapes and dtypes.
SAME_BYTES = [
    {"a": torch.zeros(4)},
    {"b": torch.zeros(4)},
    {"a": torch.zeros(2, 2)},
    {"a": torch.zeros(4, dtype=torch.int32)},
]

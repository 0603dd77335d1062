"""The header of a safetensors file with PyTorch's dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from holo_lite.weights.plain_header import read_plain_header
from holo_lite.weights.weight_file import TensorEntry

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True)
class Header:
    """A checked safetensors header."""

    entries: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    sha256: str


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises `CheckpointError` when the file is missing, cut short, or its header contradicts its length.
    """
    plain = read_plain_header(path)
    entries = {name: TensorEntry(e.shape, DTYPES[e.dtype], e.offset) for name, e in plain.entries.items()}
    return Header(entries, plain.metadata, plain.sha256)

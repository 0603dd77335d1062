"""One way to look into every kind of weight file, without loading it.

A checkpoint arrives as one safetensors file, as shards with an index, as a pickled ``.pth`` or as GGUF. All of
them open as a `WeightFile`: names, shapes and dtypes at once, tensors one by one as they are asked for. Whatever
is wrong with a file is found here, before anything is allocated.
"""

from __future__ import annotations

from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.weights.converted import ConvertedFile
from holo_lite.weights.gguf_file import GgufFile
from holo_lite.weights.manifest import is_converted
from holo_lite.weights.pickled_file import PickledFile
from holo_lite.weights.safetensors_file import SafetensorsFile
from holo_lite.weights.sharded_file import ShardedFile
from holo_lite.weights.weight_file import WeightFile


def open_weights(path: Path) -> WeightFile:
    """Open a file of weights by its kind.

    Raises `CheckpointError` for a missing, damaged or unknown file, and for a pickle that holds anything
    but tensors.
    """
    if is_converted(path):
        return ConvertedFile(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the name")
    if path.name.endswith(".index.json"):
        return ShardedFile(path)
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in {".pth", ".pt", ".bin"}:
        return PickledFile(path)
    if path.suffix == ".gguf":
        return GgufFile(path)
    raise CheckpointError(f"{path}: unknown kind of weight file (known are .safetensors, .index.json, .pth, .gguf)")

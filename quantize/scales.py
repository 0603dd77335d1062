"""8-bit floats and their scales.

A weight in float8 has 3 bits after the point and little range, so tools divide it by a scale first and store
that: ``X.scale_weight`` or ``X.weight_scale`` next to ``X.weight``, one number for all, one per row, or one per
block of a row. There are also things that only matter to arithmetic in 8 bits, and markers that say how
the file was made; a converter passes over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError, RecordError
from holo_lite.reading.trees import parse
from holo_lite.weights.scaled import is_marker, scaled_weight
from holo_lite.weights.weight_file import WeightFile

MARKER = "comfy_quant"
KNOWN_FORMATS = ("float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class Scaling:
    """A weight's scale: shape (), (1,), (rows,), (rows, 1) or (rows, blocks, 1), on the CPU."""

    scale: Tensor

    def apply(self, weight: Tensor, rows: slice) -> Tensor:
        """Multiply out `rows` of a weight, (n, columns) of any float dtype, in float32."""
        scale = self.scale.float()
        if scale.numel() == 1:
            return weight.float() * scale.reshape(())
        scale = scale[rows].reshape(weight.shape[0], -1, 1)
        return (weight.float().view(weight.shape[0], scale.shape[1], -1) * scale).view(weight.shape)


def find_scalings(file: WeightFile) -> tuple[list[str], dict[str, Scaling]]:
    """Separate a file's weights from their scales and markers.

    Returns the weights' names and, for those that have one, their scaling. A scale without a weight counts as
    a weight, so that it is found superfluous. Raises `CheckpointError` for a scale that does not fit.
    """
    scalings: dict[str, Scaling] = {}
    beside = set()
    for name in file.entries:
        if weight := scaled_weight(name, file.entries):
            scalings[weight] = _scaling(file, name, weight)
            beside.add(name)
        elif is_marker(name):
            _check_marker(file, name)
            beside.add(name)
    return [name for name in file.entries if name not in beside], scalings


def _scaling(file: WeightFile, name: str, weight: str) -> Scaling:
    scale, shape = file.entries[name], file.entries[weight].shape
    count = len(scale.shape)
    single = all(size == 1 for size in scale.shape)
    rows = 1 <= count <= 2 and scale.shape in ((shape[:1]), (*shape[:1], 1))
    blocks = count == 3 and len(shape) == 2 and scale.shape[0] == shape[0] and scale.shape[2] == 1
    if not (single or rows or (blocks and scale.shape[1] and shape[1] % scale.shape[1] == 0)):
        raise CheckpointError(
            f"{file.path}: the scale {name} of {list(scale.shape)} is of an unknown kind; take the bf16 file"
        )
    return Scaling(file.load(name))


def _check_marker(file: WeightFile, name: str) -> None:
    """A marker may name formats that look like 8-bit floats and are not; those cannot be read."""
    if name.rpartition(".")[2] != MARKER:
        return
    marker = file.load(name)
    text = bytes(marker.flatten().to(torch.uint8).tolist())
    try:
        found = parse(text)
    except RecordError as error:
        raise CheckpointError(f"{file.path}: the marker {name} is damaged; download it again") from error
    kind = found.get("format") if isinstance(found, Mapping) else found
    if kind not in KNOWN_FORMATS:
        raise CheckpointError(f"{file.path}: {name} says the format is {kind!a:.40}; take the bf16 or fp8 file")

"""What stands next to weights in 8 bits: their scales, and markers of the tools that made them.

``X.scale_weight`` or ``X.weight_scale`` belongs to ``X.weight``; a weight without it is another weight. So a file
with such scales cannot run as it is; `holo-lite quantize` multiplies them out. The markers mean nothing here.
"""

from __future__ import annotations

from collections.abc import Container

from holo_lite.weights.weight_file import Excerpt, WeightFile

SCALES = ("scale_weight", "weight_scale")
PASSED_OVER = ("scale_input", "input_scale", "scaled_fp8", "comfy_quant", "spiece_model")


def scaled_weight(name: str, names: Container[str]) -> str | None:
    """The weight that a tensor scales; None if it is no scale of one in `names`."""
    module, _, leaf = name.rpartition(".")
    weight = f"{module}.weight" if module else "weight"
    return weight if leaf in SCALES and weight in names else None


def is_marker(name: str) -> bool:
    """Whether a tensor only matters to the tool that wrote it."""
    return name.rpartition(".")[2] in PASSED_OVER


def is_scaled(file: WeightFile) -> bool:
    """Whether weights of a file must be multiplied by scales that stand next to them."""
    return any(scaled_weight(name, file.entries) for name in file.entries)


def network_of(file: WeightFile) -> WeightFile:
    """The file without scales and markers: the tensors of the network alone."""
    names = file.entries
    kept = {n: entry for n, entry in names.items() if not (is_marker(n) or scaled_weight(n, names))}
    return file if len(kept) == len(names) else Excerpt(file, kept)

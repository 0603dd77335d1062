"""Facts and tensors from the first rank to all others, in one piece."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from holo_lite.ranks.group import Group
from holo_lite.ranks.meeting import LEAD, Meeting


@dataclass(frozen=True)
class Parcel:
    """facts: numbers and texts for JSON; tensors: by name, on the device of whoever has it."""

    facts: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def passed(meeting: Meeting, parcel: Parcel | None = None) -> Parcel:
    """The first rank's parcel, on this rank's device; the first rank gives it, and gets it back."""
    group, device = meeting.everyone, meeting.place.device
    head = _head(parcel)
    size = torch.tensor([len(head)], device=meeting.word_device)
    group.spread([(LEAD, size)])
    text = torch.empty(int(size.item()), dtype=torch.uint8)
    if parcel is not None:
        text.copy_(torch.frombuffer(bytearray(head), dtype=torch.uint8))
    text = text.to(meeting.word_device)
    group.spread([(LEAD, text)])
    if parcel is not None:
        _spread(group, parcel.tensors)
        return parcel
    found = json.loads(bytes(text.cpu().tolist()))
    tensors = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        for name, shape, dtype in found["tensors"]
    }
    _spread(group, tensors)
    return Parcel(found["facts"], tensors)


def _spread(group: Group, tensors: dict[str, Tensor]) -> None:
    group.spread([(LEAD, tensor.contiguous()) for tensor in tensors.values()])


def _head(parcel: Parcel | None) -> bytes:
    if parcel is None:
        return b""
    shapes = [
        [name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in parcel.tensors.items()
    ]
    return json.dumps({"facts": parcel.facts, "tensors": shapes}).encode()

"""One accelerate hook a block: the block's weights come before it runs, and their slot goes back after it.

The model's code knows nothing of it. A hook sits on a whole block, never on a layer within: a block is one image.
`post_forward` is not called when a forward raises; whoever drives the model then closes the streamer, which takes
every slot back.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar, cast

import torch
from accelerate.hooks import ModelHook
from torch import Tensor, nn

from holo_lite.streaming.streamer import Arrival, Streamer

Key = TypeVar("Key", bound=Hashable)


class StreamHook(ModelHook, Generic[Key]):  # type: ignore[misc]
    """Takes a block from the streamer for each of its forwards."""

    def __init__(self, streamer: Streamer[Key], key: Key, dtype: torch.dtype) -> None:
        self._streamer, self._key, self._dtype = streamer, key, dtype
        self._arrival: Arrival[Key] | None = None
        self._before: dict[str, Tensor] = {}

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Install the block's weights."""
        self._arrival = self._streamer.take(self._key)
        self._before = install(module, self._arrival.image.tensors(self._arrival.slot.data), self._dtype)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Take the weights off, with whatever was cast of them, and give the slot back."""
        assert self._arrival is not None, "a forward that was begun"
        restore(module, self._before)
        self._streamer.give_back(self._arrival)
        self._arrival, self._before = None, {}
        return output


def install(module: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Put tensors in place of a module's own, and give back what stood there.

    Parameters come in `dtype`, parts of packed weights as they are.
    """
    before: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        owner, leaf = _owner(module, name)
        if leaf in owner._parameters:
            before[name] = cast(Tensor, owner._parameters[leaf])
            owner._parameters[leaf] = nn.Parameter(tensor.to(dtype), requires_grad=False)
        else:
            before[name] = cast(Tensor, owner._buffers[leaf])
            owner._buffers[leaf] = tensor
    return before


def restore(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `install` gave."""
    for name, tensor in tensors.items():
        owner, leaf = _owner(module, name)
        if leaf in owner._parameters:
            owner._parameters[leaf] = cast(nn.Parameter, tensor)
        else:
            owner._buffers[leaf] = tensor


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module a dotted name lies in, and its last part."""
    owner, _, leaf = name.rpartition(".")
    return module.get_submodule(owner), leaf

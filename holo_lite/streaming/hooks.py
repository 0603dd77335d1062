"""One accelerate hook a block: the block's weights come before it runs, and their slot goes back after it.

The model's code knows nothing of it. A hook sits on a whole block, never on a layer within: a block is one image.
`post_forward` is not called when a forward raises; whoever drives the model then closes the streamer, which takes
every slot back.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

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

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Install the block's weights."""
        self._arrival = self._streamer.take(self._key)
        install(module, self._arrival.image.tensors(self._arrival.slot.data), self._dtype)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:  # noqa: ARG002
        """Give the slot back."""
        assert self._arrival is not None, "a forward that was begun"
        self._streamer.give_back(self._arrival)
        self._arrival = None
        return output


def install(module: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Put tensors in place of a module's own: parameters in `dtype`, parts of packed weights as they are."""
    for name, tensor in tensors.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor.to(dtype), requires_grad=False)
        else:
            owner._buffers[leaf] = tensor

"""One accelerate hook a block: the block's weights come before it runs, and their slot goes back after it.

Those of a block that stays come before its first forward, and are taken off with the hook.

The model's code knows nothing of it. A hook sits on a whole block, never on a layer within: a block is one image.
`post_forward` is not called when a forward raises; the caller then closes the streamer, which takes
every slot back, and takes the hooks off, which takes the weights off.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch import Tensor, nn

from holo_lite.streaming.streamer import Arrival, Streamer

Key = TypeVar("Key", bound=Hashable)
Gate = Callable[[], None]  # passed before every forward of a block; raises where no more shall run


class GateHook(ModelHook):  # type: ignore[misc]
    """Passes a gate before each forward of a block whose weights are in place."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def pre_forward(self, _: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Pass the gate."""
        self._gate()
        return args, kwargs


class StayHook(ModelHook):  # type: ignore[misc]
    """Passes a gate before each forward of a block that stays; before the first, the block is put in place.

    `come` is called then, and gives the block's tensors where they stay; `changes`: what is added to some of them.
    """

    def __init__(
        self,
        come: Callable[[], Mapping[str, Tensor]],
        dtype: torch.dtype,
        changes: Mapping[str, Tensor] | None = None,
        gate: Gate = lambda: None,
    ) -> None:
        self._come, self._dtype, self._changes, self._gate = come, dtype, changes, gate
        self._before: dict[str, Tensor] | None = None

    def put(self, module: nn.Module) -> None:
        """Install the block's weights, if they are not yet."""
        if self._before is None:
            self._before = install(module, self._come(), self._dtype, self._changes)

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Pass the gate; the first time, the weights come."""
        self._gate()
        self.put(module)
        return args, kwargs

    def detach_hook(self, module: nn.Module) -> nn.Module:
        """Take the weights off."""
        restore(module, self._before or {})
        self._before = None
        return module


class StreamHook(ModelHook, Generic[Key]):  # type: ignore[misc]
    """Passes a gate, and takes a block from the streamer, for each of its forwards.

    `changes`: what is added to tensors of it.
    """

    def __init__(
        self,
        streamer: Streamer[Key],
        key: Key,
        dtype: torch.dtype,
        changes: Mapping[str, Tensor] | None = None,
        gate: Gate = lambda: None,
    ) -> None:
        self._streamer, self._key, self._dtype, self._changes = streamer, key, dtype, changes
        self._gate = gate
        self._arrival: Arrival[Key] | None = None
        self._before: dict[str, Tensor] = {}

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Install the block's weights."""
        self._gate()
        self._arrival = self._streamer.take(self._key)
        tensors = self._arrival.image.tensors(self._arrival.slot.data)
        self._before = install(module, tensors, self._dtype, self._changes)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Take the weights off, with whatever was cast of them, and give the slot back."""
        assert self._arrival is not None, "a forward that was begun"
        self.detach_hook(module)
        self._streamer.give_back(self._arrival)
        self._arrival = None
        return output

    def detach_hook(self, module: nn.Module) -> nn.Module:
        """Take the weights off, also those of a forward that raised."""
        restore(module, self._before)
        self._before = {}
        return module


def hook(block: nn.Module, block_hook: StreamHook[Any] | StayHook | GateHook) -> None:
    """Put a hook on a block."""
    add_hook_to_module(block, block_hook)


def unhook(block: nn.Module) -> None:
    """Take a block's hook off, if it has one.

    With it goes the bound `forward` that accelerate leaves in the block: a circle, which outlives its last user.
    """
    remove_hook_from_module(block)
    block.__dict__.pop("forward", None)


def install(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    changes: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Put tensors in place of a module's own, and return those that were there.

    Parameters come in `dtype`, parts of packed weights unchanged. Where `changes` (float32, on the host) has
    something for a parameter, its sum with that is put in place, and the tensor itself does not change. All or
    nothing: if a cast finds no memory, the module is as it was.
    """
    places, added = {name: _place(module, name) for name in tensors}, changes or {}
    ready = {
        name: _cast(tensor, dtype, added.get(name)) if places[name].parameter else tensor
        for name, tensor in tensors.items()
    }
    before = {}
    for name, place in places.items():
        before[name] = cast(Tensor, place.table[place.leaf])
        place.table[place.leaf] = ready[name]
    return before


def restore(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `install` gave."""
    for name, tensor in tensors.items():
        place = _place(module, name)
        place.table[place.leaf] = tensor


class _Place(NamedTuple):
    """Where a module keeps a tensor: the table, and its name in it."""

    table: Any
    leaf: str
    parameter: bool


def _place(module: nn.Module, name: str) -> _Place:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    is_parameter = leaf in owner._parameters
    return _Place(owner._parameters if is_parameter else owner._buffers, leaf, is_parameter)


def _cast(tensor: Tensor, dtype: torch.dtype, change: Tensor | None) -> nn.Parameter:
    tensor = tensor.to(dtype)
    if change is not None:
        tensor = (tensor + change.to(tensor.device, non_blocking=True)).to(dtype)  # the sum is float32's
    return nn.Parameter(tensor, requires_grad=False)

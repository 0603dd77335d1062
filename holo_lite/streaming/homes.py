"""Where streamed blocks stay once they have come, as the streamer asks it.

A block that stays on the device, or in pinned host memory, is read when it is first needed like any other, only
that it ends in a place of its own. So nothing is read in advance, and the first forward waits no longer than a
streamed one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from holo_lite.streaming.lane import Buffer

Key = TypeVar("Key", bound=Hashable)
Asked = TypeVar("Asked", bound=Hashable, contravariant=True)


@dataclass(frozen=True)
class Ahead(Generic[Key]):
    """A block that is to be where it stays before it is asked for; nobody takes it now."""

    key: Key


class Homes(Protocol[Asked]):
    """The places of blocks that stay. Asked by the streamer's threads."""

    def on_host(self, key: Asked, read: Callable[[Buffer], None]) -> Buffer | None:
        """The host buffer a block stays in, after `read` has filled it once; None for a block that does not stay.

        Raises `PinError` if the system refuses the memory, and what `read` raises.
        """

    def on_device(self, key: Asked) -> Buffer | None:
        """The buffer on the device that a block stays in; None for one that does not stay, or has no place yet."""

    def came(self, key: Asked) -> None:
        """Note that the copy to a block's place on the device has begun."""


class NoHomes:
    """Nothing stays."""

    def on_host(self, _key: Hashable, _read: Callable[[Buffer], None]) -> Buffer | None:
        """No place."""
        return None

    def on_device(self, _key: Hashable) -> Buffer | None:
        """No place."""
        return None

    def came(self, _key: Hashable) -> None:
        """Nothing comes to a place."""

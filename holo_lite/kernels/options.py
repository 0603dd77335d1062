"""What a person chooses about how layers are computed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComputeOptions:
    """What is chosen, or what a choice came to.

    kernel: auto or a name; compute: auto, bf16, fp8 or int8; fuse: auto, on or off.
    """

    kernel: str = "auto"
    compute: str = "auto"
    fuse: str = "auto"

    def or_where_auto(self, other: ComputeOptions) -> ComputeOptions:
        """These options, with those of another in place of every auto."""
        pairs = ((ours, getattr(other, name)) for name, ours in vars(self).items())
        return ComputeOptions(*(theirs if ours == "auto" else ours for ours, theirs in pairs))


AUTO = ComputeOptions()

"""Models with a part taken out, to see that the gate notices.

windows          every shot reads the whole prompt, its neighbours' captions too
representatives  every shot attends to itself alone: no first frame is shared
double           a shot's own first frame counts once in its softmax, not twice
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from holo_lite.errors import SettingsError, nearest
from holo_lite.model.clip import Clip

Ablation = Literal["windows", "representatives", "double"]


class CountedOnce(Clip):
    """Shots see their own first frame once."""

    def repeated_rows(self, shot: int) -> range:  # noqa: ARG002 - nothing is repeated for any
        """No row a second time."""
        return range(0)


class Alone(CountedOnce):
    """Shots see nothing of each other, whatever the attention."""

    @property
    def shared_spans(self) -> tuple[range, ...]:
        """Nothing is shared."""
        return ()

    @property
    def key_rows(self) -> int:
        """Room for the longest shot."""
        return self.layout.longest

    def own_span(self, shot: int) -> range:
        """All tokens of the shot."""
        return self.layout.token_span(shot)


CLIPS: Mapping[Ablation | None, type[Clip]] = MappingProxyType(
    {None: Clip, "windows": Clip, "representatives": Alone, "double": CountedOnce}
)


def check_ablation(name: str) -> Ablation:
    """Return the ablation of that name, or raise `SettingsError`."""
    for known in CLIPS:
        if known is not None and name == known:
            return known
    names = [known for known in CLIPS if known]
    raise SettingsError(f"--ablate '{name}': give one of {', '.join(names)}{nearest(name, names)}")

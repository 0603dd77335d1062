"""The storyboard as it is edited. Unlike a `Storyboard` it may be wrong for a while: an editor has empty captions.

Lengths are latent frames, so nothing is rounded on its way to the page and back. Shots, references and pictures are
named by ids, which stay when they are moved.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from holo_lite.system.record_fields import Natural, Positive
from holo_lite.system.records import FIRST, Codec, Origin

Side = Literal["high", "low"]
TRAINED = (13, 12, 12, 12, 12)  # latent frames of five shots in the trained 241 frames


@dataclass(frozen=True)
class DraftShot:
    """A shot: its caption, its length in latent frames, and the id of the picture with which it begins."""

    id: str
    caption: str = ""
    latents: Positive = 12
    picture: str | None = None


@dataclass(frozen=True)
class DraftReference:
    """A picture that the model sees and the video does not show: the picture's id, and what is seen in it."""

    id: str
    picture: str
    caption: str = ""


@dataclass(frozen=True)
class DraftLora:
    """An adapter by its id, for one expert, and how strongly."""

    id: str
    expert: Side
    strength: float = 1.0


@dataclass(frozen=True)
class DraftSettings:
    """What else is chosen; None: the model's default. cache is as it is typed: 0.1, or high=0.1,low=0.05."""

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    seed: int | None = None
    steps: int | None = None
    cfg: float | None = None
    negative: str | None = None
    cache: str | None = None
    cfg_until: float | None = None
    kappa: float | None = None
    model: str | None = None
    profile: str | None = None
    kernel: str | None = None
    compute: str | None = None
    fuse: str | None = None
    lora: tuple[DraftLora, ...] = ()


@dataclass(frozen=True)
class Draft:
    """All of it. named: how many ids were given, so that none is given twice. file: the TOML it was saved as."""

    title: str = ""
    scene: str = ""
    shots: tuple[DraftShot, ...] = ()
    references: tuple[DraftReference, ...] = ()
    settings: DraftSettings = DraftSettings()
    named: Natural = 0
    file: str | None = None
    origin: Origin = field(default=FIRST, compare=False)  # a change of any field is a new version

    @property
    def latents(self) -> int:
        """Length of the clip in latent frames."""
        return sum(shot.latents for shot in self.shots)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first latent frame of each shot."""
        return tuple(sum(shot.latents for shot in self.shots[:place]) for place in range(len(self.shots)))

    @property
    def frames(self) -> int:
        """Length of the video in frames."""
        return first_frame(self.latents)

    @property
    def cuts(self) -> tuple[int, ...]:
        """First video frames of all shots but the first."""
        return tuple(map(first_frame, self.starts[1:]))

    def place(self, shot: str) -> int:
        """Where a shot is. Raises `LookupError` for an id that is none's."""
        return [each.id for each in self.shots].index(shot)

    def with_shot(self, place: int, **fields: Any) -> Draft:
        """The same with one shot changed."""
        changed = dataclasses.replace(self.shots[place], **fields)
        return dataclasses.replace(self, shots=(*self.shots[:place], changed, *self.shots[place + 1 :]))

    def with_id(self, letter: str) -> tuple[Draft, str]:
        """The same with one id more given, and that id."""
        return dataclasses.replace(self, named=self.named + 1), f"{letter}{self.named + 1}"


DRAFT = Codec(Draft)


def first_frame(latent: int) -> int:
    """The first video frame of a latent frame, also the length of so many: the first is one frame, others four."""
    return 4 * latent - 3 if latent else 0


def latent_of(frame: int) -> int:
    """The latent frame that begins at a frame of the form 4t+1, or at 0."""
    return (frame + 3) // 4


def empty_draft(lengths: tuple[int, ...] = TRAINED) -> Draft:
    """A clip of the trained length, without a word."""
    draft = Draft()
    for latents in lengths:
        draft, name = draft.with_id("s")
        draft = dataclasses.replace(draft, shots=(*draft.shots, DraftShot(name, latents=latents)))
    return draft

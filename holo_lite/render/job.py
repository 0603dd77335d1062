"""A run that is decided and checked, and has not begun: its settings, prompts and plan."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from holo_lite.cancel import Cancel
from holo_lite.directing.given import NOTHING_GIVEN, Given
from holo_lite.model.clip import Clip, MakeClip
from holo_lite.plan.pixels import EncodingPlan
from holo_lite.plan.plan import Plan, plan_record
from holo_lite.plan.rank_plans import Spread
from holo_lite.plan.rung_memory import RungMemory
from holo_lite.settings import RunSettings
from holo_lite.text.windows import Prompt


@dataclass(frozen=True, repr=False)
class Job:
    """A run that is decided and checked, and has not begun.

    `remembered` is the plan that held when memory ran out on such a clip before; `given` is what is given of the
    clip (None: what the settings say is frozen is in a saved state), and `encoding` how pictures in it become
    latents; `clip` says who attends to whom; `cancel` is the token by which its run is cancelled.
    """

    settings: RunSettings
    notes: tuple[str, ...]
    prompt: Prompt
    negative: Prompt
    plan: Plan
    remembered: RungMemory
    given: Given | None = NOTHING_GIVEN
    encoding: EncodingPlan | None = None
    clip: MakeClip = Clip
    spread: Spread | None = None
    cancel: Cancel = field(default_factory=Cancel, compare=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.summary})"

    @property
    def prompts(self) -> list[Prompt]:
        """What the text encoder reads: the negative prompt only with guidance."""
        return [self.prompt, self.negative] if self.settings.is_guided else [self.prompt]

    @property
    def frozen_frames(self) -> tuple[int, ...]:
        """Numbers of the latent frames that are given."""
        return self.settings.frozen.latent_frames(self.settings.layout)

    def planned(self, plan: Plan) -> Job:
        """The same job under another plan."""
        return dataclasses.replace(
            self, plan=plan, settings=dataclasses.replace(self.settings, plan=plan_record(plan))
        )

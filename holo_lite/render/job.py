"""A run that is decided and checked, and has not begun: its settings, prompts and plan."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from holo_lite.cancel import Cancel
from holo_lite.directing.given import NOTHING_GIVEN, Given
from holo_lite.errors import PromptError
from holo_lite.model.clip import Clip, MakeClip
from holo_lite.plan.choose import ProfileChoice
from holo_lite.plan.fit import make_plan
from holo_lite.plan.fit_pixels import plan_encoding
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.pixels import EncodingPlan
from holo_lite.plan.plan import Plan, plan_record
from holo_lite.plan.rung_memory import RungMemory
from holo_lite.plan.sizes import ModelSizes
from holo_lite.plan.spread import Spread, choose_spread
from holo_lite.settings import RunSettings
from holo_lite.system.cache_folder import cache_folder
from holo_lite.text.windows import Prompt, PromptTokenizer, read_captions, read_prompt


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


def plan_job(
    sizes: ModelSizes,
    choice: ProfileChoice,
    tokenizer: PromptTokenizer,
    settings: RunSettings,
    notes: tuple[str, ...],
    given: Given | None = NOTHING_GIVEN,
) -> Job:
    """Read the prompts of a run as tokens and fit it into the profile; reads no weight.

    Raises `PromptError`, or `SettingsError` for a clip that cannot fit.
    """
    prompt = _read(settings, tokenizer)
    assert prompt.shots == len(settings.shot_frames), "captions and shots were compared before"
    negative = _read_negative(settings.negative, tokenizer)
    request = ClipRequest.of(settings)
    spread = None
    if choice.others:
        stations = (choice.station, *choice.others)
        spread = choose_spread(stations, sizes, request, throughout=settings.is_guided_throughout)
        request = dataclasses.replace(request, part=spread.parts[0])
    remembered = RungMemory.of(cache_folder(), choice.machine.name, sizes, request)
    plan = spread.plans[0] if spread else make_plan(choice.profile, sizes, request, choice.machine)
    pictures = given is not None and given.pictures > 0
    encoding = plan_encoding(choice.profile, sizes, request, choice.machine) if pictures else None
    job = Job(settings, notes, prompt, negative, plan, remembered, given, encoding, spread=spread)
    return job.planned(remembered.apply(plan))


def _read(settings: RunSettings, tokenizer: PromptTokenizer) -> Prompt:
    """Read a run's prompt; the base model knows no tags. Raises `PromptError`."""
    board = settings.storyboard
    if settings.attention != "wan":
        return read_prompt(board.prompt, tokenizer)
    captions = [] if board.untagged == board.scene else board.shot_captions()
    return read_captions(board.scene, captions or [""], tokenizer)


def _read_negative(text: str, tokenizer: PromptTokenizer) -> Prompt:
    """Read the negative prompt, which every shot sees whole. Raises `PromptError`."""
    try:
        prompt = read_prompt(text, tokenizer)
    except PromptError as error:
        raise PromptError(f"the negative prompt: {error}") from error
    if prompt.windows is not None:
        raise PromptError("the negative prompt: it has no shots of its own; remove the tags in brackets")
    return prompt

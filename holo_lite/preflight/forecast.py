"""Answers before a run: whether this machine can do it, how, and in what time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holo_lite.config import Defaults, Expert
from holo_lite.opening.options import AS_IT_COMES, ModelOptions
from holo_lite.plan.advice import Advice, largest_advice, longest_advice
from holo_lite.plan.choose import preferred_sizes
from holo_lite.plan.cost import PhaseCost, Rate, phase_costs
from holo_lite.plan.fit import denoising_rows, make_plan
from holo_lite.plan.machine import Machine
from holo_lite.plan.nearest import longest, longest_in_shots
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.plan.profile import Profile, shipped_profiles
from holo_lite.plan.search import Problem
from holo_lite.preflight.deciding import decide
from holo_lite.preflight.target import HERE, ForecastPlace
from holo_lite.settings import NOTHING_SAID, Options, RunSettings
from holo_lite.story.files import AnyStoryboard
from holo_lite.story.shots import ShotLayout, even_cuts, latent_frames

NO_CARD = "no card is known; give --gpu, or run plan on the machine itself"
TRAINED_SHOT = latent_frames(49)  # of the trained 241 frames, a fifth


@dataclass(frozen=True, repr=False)
class Forecast:
    """A plan with everything to show about it. `link` is in bytes per second; None: not known.

    `place` is what it is for: a card, this CPU, or a profile. Without a `rate`, `no_rate` says why there is none.

    `computing` has a line for each choice of how it is computed; `rows` is what the memory of denoising goes to,
    and `read` what each expert's first step reads from disk, in bytes.
    """

    place: str
    why: str
    model: str
    settings: RunSettings
    computing: tuple[str, ...]
    notes: tuple[str, ...]
    plan: Plan
    rows: dict[str, int]
    read: dict[Expert, int]
    costs: dict[str, PhaseCost]
    rate: Rate | None
    no_rate: str
    link: float | None
    longest: Advice | None
    largest: Advice | None

    @property
    def seconds(self) -> float | None:
        """How long the arithmetic of all phases takes; None without a rate."""
        return sum(cost.seconds(self.rate) for cost in self.costs.values()) if self.rate is not None else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model}, {self.settings.summary})"


@dataclass(frozen=True)
class Ability:
    """What a profile can do: a plan for the trained length in five shots, and the longest clips at that size."""

    profile: Profile
    scheme: str
    plan: Plan | None
    in_shots: ClipRequest | None
    as_one_shot: ClipRequest | None


def abilities(machine: Machine) -> list[Ability]:
    """What every shipped profile can run of the released model, stored in the scheme it prefers.

    It is taken to be multiplied as that scheme suggests. Of the machine only the main memory counts, for the CPU's
    profile.
    """
    main = Machine(ram_free=machine.ram_free)
    return [_ability(profile, main if profile.device == "cpu" else Machine()) for profile in shipped_profiles()]


def _ability(profile: Profile, machine: Machine) -> Ability:
    size = Defaults()
    cuts = even_cuts(size.frames, 5)
    five, one = (ShotLayout.from_frames(size.frames, c, size.height, size.width) for c in (cuts, ()))
    sizes = preferred_sizes(profile)
    shots, single = (Problem(profile, sizes, ClipRequest(layout), machine) for layout in (five, one))
    plan = make_plan(profile, sizes, shots.request, machine) if shots.fits() else None
    return Ability(profile, sizes.scheme, plan, longest_in_shots(shots, TRAINED_SHOT), longest(single))


def forecast(
    storyboard: AnyStoryboard,
    options: Options = NOTHING_SAID,
    model: str | Path | None = None,
    how: ModelOptions = AS_IT_COMES,
    where: ForecastPlace = HERE,
) -> Forecast:
    """Plan a storyboard, which may also be a prompt or a path, without loading a weight.

    `model` is a folder; without it the released model is planned for, in the scheme that the profile prefers. `how`
    it would be opened is as for `Pipeline.load`. Raises `FitError` for a clip that cannot fit or a card that cannot
    compute it, `SettingsError` for a profile, card or option that is not known, and what reading storyboard and
    model raises.
    """
    found = decide(storyboard, options, model, how, where)
    problem, target, settings = found.problem, found.target, found.settings
    plan = make_plan(problem.profile, problem.sizes, problem.request, problem.machine)
    return Forecast(
        place=target.name or f"profile {problem.profile.name}",
        why=found.why,
        model=found.model,
        settings=settings,
        computing=found.lines,
        notes=found.notes,
        plan=plan,
        rows=denoising_rows(problem, plan),
        read={expert: stack.rest + stack.total for expert, stack in problem.experts.items()},
        costs=phase_costs(problem.sizes, problem.request, plan, settings.schedule, settings.cfg_until),
        rate=found.rate,
        no_rate=target.card.no_rate if target.card is not None else NO_CARD,
        link=target.card.link if target.card is not None else None,
        longest=longest_advice(problem),
        largest=largest_advice(problem),
    )

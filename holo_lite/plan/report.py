"""What a person asks before a run: can this machine do it, how, and in what time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from holo_lite.adapters import Loras, open_adapters
from holo_lite.config import Attention
from holo_lite.errors import SettingsError
from holo_lite.plan.cards import Card, find_card
from holo_lite.plan.choose import named_profile
from holo_lite.plan.cost import PhaseCost, Rate, phase_costs, vendor_rate
from holo_lite.plan.fit import Plan, make_plan
from holo_lite.plan.machine import THIS_CPU, UNKNOWN, Machine, machine_with
from holo_lite.plan.nearest import largest, longest, longest_in_shots
from holo_lite.plan.opened import folder_sizes
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import AUTO, Profile, shipped_profiles
from holo_lite.plan.rate import device_rate
from holo_lite.plan.search import Problem
from holo_lite.plan.sizes import ModelSizes, released_sizes
from holo_lite.settings import Defaults, Options, RunSettings, resolve
from holo_lite.story.shots import ShotLayout, even_cuts, latent_frames
from holo_lite.story.storyboard import Storyboard
from holo_lite.weights.folder import ModelFolder, open_folder

RELEASED = "HoloCine-14B"
TRAINED_SHOT = latent_frames(49)  # of the trained 241 frames, a fifth


@dataclass(frozen=True)
class Report:
    """A plan with everything said about it. `link` is in bytes a second; None: not known."""

    why: str
    model: str
    settings: RunSettings
    notes: tuple[str, ...]
    plan: Plan
    costs: dict[str, PhaseCost]
    rate: Rate | None
    link: float | None
    longest: ClipRequest | None
    largest: ClipRequest | None


@dataclass(frozen=True)
class Ability:
    """What a profile can do: a plan for the trained length in five shots, and the longest clips at that size."""

    profile: Profile
    scheme: str
    plan: Plan | None
    in_shots: ClipRequest | None
    as_one_shot: ClipRequest | None


def abilities(machine: Machine) -> list[Ability]:
    """What every shipped profile can run of the released model, in the scheme it prefers.

    Of the machine only the main memory counts, for the CPU's profile.
    """
    main = Machine(ram_free=machine.ram_free)
    return [_ability(profile, main if profile.device == "cpu" else Machine()) for profile in shipped_profiles()]


def _ability(profile: Profile, machine: Machine) -> Ability:
    size = Defaults()
    cuts = even_cuts(size.frames, 5)
    five, one = (ShotLayout.from_frames(size.frames, c, size.height, size.width) for c in (cuts, ()))
    sizes = released_sizes(profile.schemes[0])
    shots, single = (Problem(profile, sizes, ClipRequest(layout), machine) for layout in (five, one))
    plan = make_plan(profile, sizes, shots.request, machine) if shots.fits() else None
    return Ability(profile, sizes.scheme, plan, longest_in_shots(shots, TRAINED_SHOT), longest(single))


def report(
    storyboard: Storyboard,
    options: Options,
    machine: Machine,
    *,
    model: Path | None = None,
    profile: str = AUTO,
    gpu: str | None = None,
    lora: Loras | None = None,
    rates: Path,
) -> Report:
    """Plan a storyboard without loading a weight.

    `profile` is auto, a shipped profile's name or a TOML file; `gpu` a card to plan for instead of this machine;
    `lora` are adapters to be added as the model runs; `rates` the folder in which measured rates are kept. Raises
    `SettingsError` for a clip that cannot fit, a profile or card that is not known, and what reading storyboard and
    model raises.
    """
    card = find_card(gpu) if gpu is not None else None
    place = machine_with(card) if card is not None else machine
    opened = open_folder(model, options.attention) if model is not None else None
    found = _sizes(opened, lora or {})
    chosen, why = named_profile(profile, place, found)
    if card is not None and profile != AUTO:
        chosen, why = _on_card(chosen, why, card)
    sizes = found or released_sizes(chosen.schemes[0])
    attention: Attention = opened.attention if opened is not None else options.attention or "sparse"
    defaults = opened.defaults if opened is not None else Defaults()
    settings, notes = resolve(
        storyboard, options, defaults, attention=attention, dtype="", device=chosen.device, model=""
    )
    request = ClipRequest.of(settings)
    room = _room(chosen, machine, place)
    plan = make_plan(chosen, sizes, request, room)
    problem = Problem(chosen, sizes, request, room)
    return Report(
        why=why,
        model=f"{model.name if model is not None else RELEASED} {attention} in {sizes.scheme}",
        settings=settings,
        notes=notes,
        plan=plan,
        costs=phase_costs(sizes, request, plan, settings.steps, settings.cfg_until),
        rate=_rate(chosen, machine, card, rates),
        link=card.link if card is not None else None,
        longest=longest(problem),
        largest=largest(problem),
    )


def _sizes(folder: ModelFolder | None, lora: Loras) -> ModelSizes | None:
    """The sizes of a model that is there, with its adapters."""
    if folder is None and lora:
        raise SettingsError("--lora: needs the model that it is added to; give its folder with --model")
    return None if folder is None else folder_sizes(folder, adapters=open_adapters(folder, lora).by_expert)


def _on_card(profile: Profile, why: str, card: Card) -> tuple[Profile, str]:
    """A profile for a card that was named: its own budget, and no more than that card has."""
    if profile.device == "cpu":
        raise SettingsError(
            f"profile {profile.name}: computes on no card; leave out --gpu, or name another profile"
        )
    return replace(profile, card=min(profile.card, card.memory)), f"{why}, on a free {card.name}"


def _room(profile: Profile, machine: Machine, place: Machine) -> Machine:
    """Whose memory counts: this machine's for its CPU, that of the card here or named, else the profile's word."""
    if profile.device == "cpu":
        return machine
    return place if place.has_card else UNKNOWN


def _rate(profile: Profile, machine: Machine, card: Card | None, folder: Path) -> Rate | None:
    """The named card's rate by its vendor, else this machine's, measured, if it is what the profile is for."""
    if card is not None:
        return vendor_rate(card)
    if profile.device == "cuda" and not machine.has_card:
        return None
    name = machine.name if profile.device == "cuda" else THIS_CPU
    return device_rate(torch.device(profile.device), name, folder)

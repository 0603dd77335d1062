"""Which profile suits a machine and a model, and why.

A shipped profile is for one size of card. Cards come in between (10 GB, 20 GB), give some of their memory to
the desktop, and hold other programs; so the budget is what is there, and a profile gives the rules by which it is
spent. Which one is judged by a trial: the trained length in five shots, planned for this model, this card and this
main memory under each profile whose card is not too large.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from holo_lite.config import Defaults
from holo_lite.kernels.linear_choice import foresee_linear
from holo_lite.plan.cost import Rate
from holo_lite.plan.fit import make_plan
from holo_lite.plan.machine import UNKNOWN, Machine, this_machine
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.plan.profile import AUTO, GIB, Profile, find_profile, shipped_profiles
from holo_lite.plan.rank_plans import ALIKE, Station
from holo_lite.plan.released import released_sizes
from holo_lite.plan.search import Problem
from holo_lite.plan.sizes import ModelSizes
from holo_lite.story.shots import ShotLayout, even_cuts
from holo_lite.system.units import memory_text

SLACK = 100, 95  # a "24 GB" card has a little less: that many parts in the profile are as good as these here
TRIAL_SHOTS = 5


@dataclass(frozen=True)
class ProfileTrial:
    """A profile and the plan it makes of the trained clip; None if that does not fit."""

    profile: Profile
    plan: Plan | None

    @property
    def merit(self) -> tuple[bool, int, int, int]:
        """More is better: that it fits, fewer bytes a step from disk, fewer over the bus, the larger profile."""
        plan = self.plan
        if plan is None:
            return False, 0, 0, self.profile.card
        steps = (plan.high_noise, plan.low_noise)
        return True, -sum(p.from_disk for p in steps), -sum(p.streamed for p in steps), self.profile.card


def named_profile(name: str, machine: Machine, sizes: ModelSizes | None) -> tuple[Profile, str]:
    """The profile of that name, or (``auto``) the one that suits, and why, on one line. Raises `SettingsError`."""
    if name == AUTO:
        return choose_profile(machine, sizes)
    profile = find_profile(name)
    return profile, f"profile {profile.name}: as asked"


def choose_profile(machine: Machine, sizes: ModelSizes | None = None) -> tuple[Profile, str]:
    """Pick a profile by free VRAM, RAM and the model (None: what the profile prefers), and say why on one line."""
    profiles = shipped_profiles()
    if machine.free is None or machine.card is None:
        (profile,) = (each for each in profiles if each.device == "cpu")
        trial = _try(profile, profile, machine, sizes)
        return profile, f"profile {profile.name}: no CUDA card here, {_ram(machine)}, {_found(trial, sizes)}"
    cards = [profile for profile in profiles if profile.device == "cuda"]
    room = min(machine.card, machine.free + cards[0].desktop)
    fitting = [each for each in cards if each.card * SLACK[1] <= room * SLACK[0]] or cards[:1]
    candidates = fitting if sizes is not None else fitting[-1:]  # other schemes' bytes are not to be compared
    trials = [_try(each, dataclasses.replace(each, card=room), machine, sizes) for each in candidates]
    best = max(trials, key=lambda trial: trial.merit)
    why = f"{machine.free / GIB:.1f} of {machine.card / GIB:.1f} GiB free on {machine.name}, {_ram(machine)}"
    chosen = dataclasses.replace(best.profile, card=room)
    return chosen, f"profile {chosen.name}: {why}, {_found(best, sizes)}"


def preferred_sizes(profile: Profile) -> ModelSizes:
    """The released model in the scheme that a profile prefers, multiplied as that suggests."""
    sizes = released_sizes(profile.schemes[0])
    if profile.device == "cpu":
        return sizes
    linear, _ = foresee_linear("auto", None, torch.bfloat16, stored=sizes.scheme)
    return dataclasses.replace(sizes, linear=linear)


def _try(profile: Profile, fitted: Profile, machine: Machine, sizes: ModelSizes | None) -> ProfileTrial:
    """Plan the trained clip by a profile's rules, with the available memory as its budget."""
    model, size = sizes or preferred_sizes(profile), Defaults()
    cuts = even_cuts(size.frames, TRIAL_SHOTS)
    request = ClipRequest(ShotLayout.from_frames(size.frames, cuts, size.height, size.width))
    fits = Problem(fitted, model, request, machine).fits()
    return ProfileTrial(profile, make_plan(fitted, model, request, machine) if fits else None)


def _found(trial: ProfileTrial, sizes: ModelSizes | None) -> str:
    """What the trial showed, for the model's scheme or the preferred one."""
    scheme = f"model in {sizes.scheme}" if sizes is not None else f"{trial.profile.schemes[0]} preferred"
    plan = trial.plan
    if plan is None:
        return f"{scheme}: {Defaults().frames} frames are too many"
    if plan.resident == plan.blocks:
        return f"{scheme}: all blocks stay"
    kept = f", {plan.pinned_cache_blocks} in RAM" if plan.pinned_cache_blocks else ""
    return f"{scheme}: {plan.resident} of {plan.blocks} blocks stay{kept}"


def _ram(machine: Machine) -> str:
    return "RAM not known" if machine.ram is None else f"{memory_text(machine.ram)} of RAM"


@dataclass(frozen=True)
class ProfileChoice:
    """The profile runs are planned for, the machine whose memory it counts on, and why it, on one line.

    `others` are the ranks that compute with this one; `rate` is how fast this one is, where they differ.
    """

    profile: Profile
    machine: Machine
    why: str
    others: tuple[Station, ...] = ()
    rate: Rate = ALIKE

    @property
    def station(self) -> Station:
        """This rank among others."""
        return Station(self.machine.name, self.profile, self.machine, self.rate)


def pick_profile(name: str, device: torch.device, sizes: ModelSizes) -> ProfileChoice:
    """The profile of that name; ``auto`` is what suits the device.

    Raises `SettingsError` for an unknown profile.
    """
    here = this_machine(device.index or 0)
    return profile_for(name, here if device.type == "cuda" else here.without_card(), sizes)


def profile_for(name: str, machine: Machine, sizes: ModelSizes) -> ProfileChoice:
    """The profile of that name for a machine, or what suits it. Raises `SettingsError` for an unknown profile."""
    profile, why = named_profile(name, machine, sizes)
    counts = machine if (profile.device == "cuda") == machine.has_card else UNKNOWN
    return ProfileChoice(profile, counts, why)

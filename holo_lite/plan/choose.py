"""Which profile suits a machine, and why.

A shipped profile stands for a size of card. Cards come in between (10 GB, 20 GB), lend some of their memory to
the desktop, and hold other programs; so the rules are those of the largest profile that fits what is there, and
the budget is what is there.
"""

from __future__ import annotations

import dataclasses

from holo_lite.plan.machine import Machine
from holo_lite.plan.profile import GIB, Profile, shipped_profiles
from holo_lite.units import bytes_text

SLACK = 100, 95  # a "24 GB" card has a little less: that many parts in the profile are as good as these here


def choose_profile(machine: Machine, scheme: str | None = None) -> tuple[Profile, str]:
    """Pick a profile by free VRAM, RAM and the model's scheme (None: no model), and say why on one line."""
    profiles = shipped_profiles()
    if machine.free is None or machine.card is None:
        (profile,) = (each for each in profiles if each.device == "cpu")
        return profile, f"profile {profile.name}: no CUDA card here, {_ram(machine)}{_scheme(profile, scheme)}"
    cards = [profile for profile in profiles if profile.device == "cuda"]
    room = min(machine.card, machine.free + cards[0].desktop)
    fitting = [each for each in cards if each.card * SLACK[1] <= room * SLACK[0]]
    profile = fitting[-1] if fitting else cards[0]
    why = f"{machine.free / GIB:.1f} of {machine.card / GIB:.1f} GiB free on {machine.name}, {_ram(machine)}"
    return dataclasses.replace(profile, card=room), f"profile {profile.name}: {why}{_scheme(profile, scheme)}"


def _ram(machine: Machine) -> str:
    return "RAM not known" if machine.ram is None else f"{bytes_text(machine.ram)} of RAM"


def _scheme(profile: Profile, scheme: str | None) -> str:
    return f", model in {scheme}" if scheme else f", {profile.schemes[0]} preferred"

"""Where a plan is for: this machine's card or processor, or a card that somebody names and that is not here.

What is here can be asked and measured. Of a named card only what its vendor says is known, and of a profile's card,
where neither is there, nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from holo_lite.errors import SettingsError
from holo_lite.kernels.computing import foresee_computing
from holo_lite.kernels.kernel import Site
from holo_lite.kernels.options import ComputeOptions
from holo_lite.opening.options import ModelOptions
from holo_lite.plan.cards import find_card
from holo_lite.plan.choose import named_profile
from holo_lite.plan.cost import Rate, vendor_rate
from holo_lite.plan.known_card import KnownCard
from holo_lite.plan.machine import THIS_CPU, UNKNOWN, Machine, machine_with, this_machine
from holo_lite.plan.profile import AUTO, Profile, find_profile
from holo_lite.plan.rate import device_rate
from holo_lite.plan.sizes import ModelSizes
from holo_lite.system.bf16 import check_bf16
from holo_lite.system.device import pick_device


@dataclass(frozen=True)
class ForecastPlace:
    """What a forecast is for: `gpu`, a card by its name, or this machine.

    `machine` stands for this one if it is given; `rates` is the folder of measured rates, if not the cache folder.
    """

    gpu: str | None = None
    machine: Machine | None = None
    rates: Path | None = None


HERE = ForecastPlace()


@dataclass(frozen=True)
class Target:
    """machine: this one; card: one that is named; device: what computes, in numbers of that dtype."""

    machine: Machine
    card: KnownCard | None
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, where: ForecastPlace, how: ModelOptions, dtype: torch.dtype) -> Target:
        """Find the target.

        Raises `SettingsError` for a card or profile that is not known, `FitError` for a card without bf16.
        """
        if where.gpu is not None and how.device != "auto":
            raise SettingsError("--device names this machine, --gpu another one; give only one of them")
        card = find_card(where.gpu) if where.gpu is not None else None
        if card is not None and dtype == torch.bfloat16:
            check_bf16(card.name, card.capability)
        here = where.machine or _machine(how.device)
        has_card = here.has_card or card is not None
        kind = find_profile(how.profile).device if how.profile != AUTO else "cuda" if has_card else "cpu"
        return cls(here, card, torch.device(how.device if how.device.startswith(kind) else kind), dtype)

    @property
    def place(self) -> Machine:
        """The machine it is in, or one that has the named card."""
        return machine_with(self.card) if self.card is not None else self.machine

    @property
    def name(self) -> str | None:
        """What computes, for a person; None where only a profile says how large it is."""
        if self.device.type == "cpu":
            return THIS_CPU
        return self.place.name if self.place.has_card else None

    @property
    def is_here(self) -> bool:
        """Whether the device can be asked what it can do."""
        return self.device.type == "cpu" or (self.card is None and torch.cuda.is_available())

    def counted(self, said: ComputeOptions, sizes: ModelSizes) -> tuple[ModelSizes, tuple[str, ...]]:
        """The sizes as they are computed with here, and a line for each choice of how. Raises `SettingsError`."""
        heads = sizes.config.num_heads, sizes.config.head_dim
        if self.is_here:
            site = Site.of(self.device, self.dtype, *heads)
        else:
            known = self.card.capability if self.card is not None else None
            site = Site(self.device, self.dtype, *heads, capability=known)
        found = foresee_computing(said, sizes.config, site, scheme=sizes.scheme, here=self.is_here)
        return replace(sizes, linear=found.linear, workspace=found.workspace), found.lines

    def profile(self, name: str, sizes: ModelSizes | None) -> tuple[Profile, str]:
        """The profile of that name, or the one that suits, with what a named card has, and why, on one line."""
        chosen, why = named_profile(name, self.place, sizes)
        if self.card is None or name == AUTO:
            return chosen, why
        if chosen.device == "cpu":
            raise SettingsError(
                f"profile {chosen.name}: computes on no card; leave out --gpu, or name another profile"
            )
        return replace(chosen, card=min(chosen.card, self.card.memory)), f"{why}, on a free {self.card.name}"

    @property
    def room(self) -> Machine:
        """The memory that counts: this machine's for its CPU, that of the card here or named, else unknown."""
        if self.device.type == "cpu":
            return self.machine
        return self.place if self.place.has_card else UNKNOWN

    def rate(self, said: ComputeOptions, sizes: ModelSizes, folder: Path) -> Rate | None:
        """The named card's rate by its vendor, else this machine's, measured, if it is what the profile is for."""
        if self.card is not None:
            found = vendor_rate(self.card, sizes.linear)
        elif self.device.type == "cuda" and not self.machine.has_card:
            found = None
        else:
            name = self.machine.name if self.device.type == "cuda" else THIS_CPU
            found = device_rate(self.device, name, folder, sizes.linear)
        if found is None or said.kernel in {"auto", "sdpa"}:
            return found
        return replace(found, basis=f"{found.basis}, {said.kernel} counted as PyTorch's own attention")


def _machine(device: str) -> Machine:
    """This machine with the card that is meant, or without one."""
    if device == "auto":
        return this_machine()
    place = pick_device(device)
    found = this_machine(place.index or 0)
    return found if place.type == "cuda" else found.without_card()

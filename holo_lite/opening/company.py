"""The cards and machines a model is opened on, where there are several: who they are, and how fast.

The first device is this process's own. Ranks for the others are started here, or torchrun has started them all.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from holo_lite.errors import SettingsError
from holo_lite.opening.options import ModelOptions
from holo_lite.plan.choose import ProfileChoice, pick_profile, profile_for
from holo_lite.plan.cost import Rate
from holo_lite.plan.machine import Machine, this_machine
from holo_lite.plan.rank_plans import ALIKE, Station
from holo_lite.plan.rate import device_rate
from holo_lite.plan.sizes import ModelSizes
from holo_lite.ranks.forming import Formed, Presence, form
from holo_lite.ranks.launch import Ranks
from holo_lite.ranks.team import Team
from holo_lite.ranks.watch import PATIENT, Patience
from holo_lite.ranks.wires import Seat
from holo_lite.system.cache_folder import cache_folder
from holo_lite.system.device import pick_device

ENDING = 10.0  # seconds in which ranks that were started here end by themselves
AUTO = "auto"


@dataclass(frozen=True)
class Company:
    """A team that this process leads. `formed`: who they are; `ranks`: the processes it has started, if any."""

    formed: Formed
    ranks: Ranks | None = None

    @property
    def team(self) -> Team:
        """The team."""
        return self.formed.team

    @property
    def here(self) -> int:
        """How many ranks are on this machine."""
        return Counter(each.host for each in self.formed.present)[self.formed.present[0].host]

    @property
    def told(self) -> str:
        """The devices, for a person."""
        return ", ".join(name.partition("(")[2].rstrip(")") for name in self.team.names)

    def close(self) -> None:
        """Let the others end."""
        _close(self.team, self.ranks)

    def choice(self, profile: str, device: torch.device, sizes: ModelSizes) -> ProfileChoice:
        """The profiles for all, the first rank's among them. Raises `SettingsError` for an unknown one."""
        own, *others = stations(self.formed.present, profile, sizes)
        found = pick_profile(profile, device, sizes)
        return replace(found, machine=own.machine, rate=own.rate, others=tuple(others))


def company_of(devices: Sequence[str], device: str, patience: Patience = PATIENT) -> Company | None:
    """The team of the named devices, or of torchrun's processes; None where this process is alone.

    `device` is this process's.

    Raises `SettingsError` for a device that is not there, and `RanksError` where a rank does not come.
    """
    seat, ranks = Seat.of_torchrun(), None
    if seat is None:
        if len(devices) < 2:
            return None
        ranks = Ranks.started(devices, patience, _environment(devices))
        seat = ranks.seat(0)
    here = pick_device(device)
    found = Company(form(seat, here, facts_here(here, seat.here), ranks, patience), ranks)
    weakref.finalize(found, _close, found.team, ranks)
    return found


def placed(options: ModelOptions) -> tuple[tuple[str, ...], ModelOptions]:
    """The devices that are named, and the options with the one of this process. Raises `SettingsError`."""
    devices, seat = named_devices(options.devices), Seat.of_torchrun()
    if devices and seat is not None:
        raise SettingsError("devices: torchrun has chosen them; leave out --devices")
    if seat is not None and options.device == AUTO:
        return (), replace(options, device=local_device(seat))
    return devices, replace(options, device=devices[0], devices=devices) if devices else options


def named_devices(words: Sequence[str]) -> tuple[str, ...]:
    """Devices by their names; `auto` is all cards of this machine, if there are several. Raises `SettingsError`."""
    if list(words) == [AUTO] and torch.cuda.device_count() < 2:
        return ()
    if list(words) == [AUTO]:
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    found = tuple(str(pick_device(word)) for word in words)
    cards = Counter(each for each in found if each.startswith("cuda"))
    twice = next((name for name, count in cards.items() if count > 1), None)
    if twice is not None:
        raise SettingsError(f"devices: {twice} is named twice; a card computes one part of a clip")
    return found


def local_device(seat: Seat) -> str:
    """The device of a rank that torchrun has started: the card of its number on its machine, or the CPU."""
    return f"cuda:{seat.local}" if torch.cuda.device_count() > seat.local else "cpu"


def facts_here(device: torch.device, ranks: int) -> dict[str, Any]:
    """What a plan needs of this rank, of so many on this machine, which share its main memory."""
    here = this_machine(device.index or 0)
    machine = here if device.type == "cuda" else here.without_card()
    rate = device_rate(device, machine.name, cache_folder()) if device.type == "cuda" else None
    return {
        "machine": asdict(machine.shared_by(ranks)),
        "rate": None if rate is None else [rate.linear, rate.attention, rate.basis],
    }


def stations(present: Sequence[Presence], profile: str, sizes: ModelSizes) -> list[Station]:
    """Every rank as a plan sees it. Cards of one name are as fast as each other: as the first one was measured."""
    machines = [Machine(**each.facts["machine"]) for each in present]
    alike = len({(machine.name, machine.has_card) for machine in machines}) == 1
    found = []
    for each, machine in zip(present, machines, strict=True):
        chosen = profile_for(profile, machine, sizes)
        rate = _rate((present[0] if alike else each).facts)
        found.append(Station(each.device, chosen.profile, chosen.machine, rate))
    return found


def _rate(facts: Mapping[str, Any]) -> Rate:
    if facts["rate"] is None:
        return ALIKE
    linear, attention, basis = facts["rate"]
    return Rate(linear, attention, basis, measured=True)


def _environment(devices: Sequence[str]) -> dict[str, str]:
    """Ranks on a CPU share its cores."""
    count = sum(device == "cpu" for device in devices)
    return {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count))} if count else {}


def _close(team: Team, ranks: Ranks | None) -> None:
    whole = team.is_whole
    team.finish()
    if ranks is not None:
        ranks.stop(ENDING if whole else 0.0)  # others may wait for the one that is lost

"""What a machine has: its card's free memory and its own.

Free memory on a card has two witnesses. CUDA knows its own world, and on Windows overlooks what other programs
hold; NVML, the driver's own monitor, sees them. The smaller word counts. NVML is asked if it is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from holo_lite.errors import RoomError, in_a_line
from holo_lite.plan.container import tightest
from holo_lite.plan.known_card import KnownCard
from holo_lite.system.pinning import pinned_is_scarce


@dataclass(frozen=True)
class Machine:
    """Bytes of memory. None: not known, and then a profile's word is taken.

    `card` and `free` are of the graphics card, before CUDA's context has taken its part; `ram` is all of the main
    memory, `ram_free` what programs can still have of it. `multiprocessors` are the card's.
    `pins_little`: what is pinned of the main memory is taken from the card (`holo_lite.system.pinning`).
    """

    name: str = ""
    card: int | None = None
    free: int | None = None
    ram: int | None = None
    ram_free: int | None = None
    multiprocessors: int | None = None
    pins_little: bool = False

    @property
    def has_card(self) -> bool:
        """Whether there is a graphics card to compute on."""
        return self.card is not None

    def without_card(self) -> Machine:
        """Its main memory alone."""
        return Machine(self.name, ram=self.ram, ram_free=self.ram_free)

    def shared_by(self, ranks: int) -> Machine:
        """What one of so many processes on it may count on, which share its main memory: an equal part of that."""
        ram, free = (nbytes if nbytes is None else nbytes // ranks for nbytes in (self.ram, self.ram_free))
        return replace(self, ram=ram, ram_free=free)


UNKNOWN = Machine()
CONTEXT = 512 * 2**20  # what asking has just taken, as the shipped profiles count it
THIS_CPU = "this CPU"


def machine_with(card: KnownCard) -> Machine:
    """A machine that has this card, all of it free, and an unknown amount of main memory."""
    return Machine(name=card.name, card=card.memory, free=card.memory, multiprocessors=card.multiprocessors)


def this_machine(index: int = 0) -> Machine:
    """Look at this machine: its CUDA card of that index, if any, and its main memory.

    Raises `RoomError` for a card that is so full that it cannot be asked.
    """
    import torch

    main = main_memory()
    ram, ram_free = main["ram"], main["ram_free"]
    if not torch.cuda.is_available():
        return Machine(name=THIS_CPU, ram=ram, ram_free=ram_free)
    properties: Any = torch.cuda.get_device_properties(index)
    try:
        cuda_free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # asking takes a context, and a full card has no room for one
        wrong = f"{properties.name}: cannot be asked for its memory ({in_a_line(error)})"
        raise RoomError(f"{wrong}; close other programs") from error
    return Machine(
        name=properties.name,
        card=total,
        free=smaller_free(cuda_free, _nvml_free(str(properties.uuid))) + CONTEXT,
        multiprocessors=properties.multi_processor_count,
        pins_little=pinned_is_scarce(),
        ram=ram,
        ram_free=ram_free,
    )


def main_memory() -> dict[str, int]:
    """All of the main memory and what is free of it, in bytes: the machine's, or what a container may have."""
    import psutil

    memory, allowed = psutil.virtual_memory(), tightest()
    whole, free = int(memory.total), int(memory.available)
    if allowed is not None:
        whole, free = min(whole, allowed.limit), min(free, allowed.free)
    return {"ram": whole, "ram_free": free}


def smaller_free(cuda: int, nvml: int | None) -> int:
    """The smaller of what CUDA and NVML say is free, in bytes."""
    return cuda if nvml is None else min(cuda, nvml)


def _nvml_free(uuid: str) -> int | None:
    """What NVML reports as free on the card with that id, if available: NVML numbers cards differently."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    except pynvml.NVMLError:
        return None

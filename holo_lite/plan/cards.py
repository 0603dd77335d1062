"""Graphics cards that people have, as their vendor describes them.

`tflops` is the dense bf16 rate of the tensor cores with fp32 accumulation, in 10^12 operations a second: not
the rate with sparsity or fp16 accumulation that boxes print, which is two or four times as much. It
is in NVIDIA's architecture whitepapers; a card whose rate could not be traced to one has its memory here and no
rate, and a plan for it gives no time.

    GA102      NVIDIA Ampere GA102 GPU Architecture, V2.0: tables of the RTX 3080 and 3090
    Ada        NVIDIA Ada GPU Architecture: the appendix on the RTX 4090
    Blackwell  NVIDIA RTX Blackwell GPU Architecture: table 3 (RTX 5090), appendices on the 5080, 5070 Ti and 5070
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from holo_lite.errors import SettingsError, nearest

PCIE_LANES = 16
ENCODING = 128 / 130  # PCIe 3.0 and later send 130 bits for 128
TRANSFERS = {4: 16e9, 5: 32e9}  # a second and lane (PCI-SIG, base specifications 4.0 and 5.0)
SERIES = {"30": (8, 6), "40": (8, 9), "50": (12, 0)}  # compute capability (NVIDIA's CUDA GPU Compute Capability)


@dataclass(frozen=True)
class KnownCard:
    """A card: memory in GB as sold (2^30 bytes), dense bf16 TFLOPS, PCIe generation.

    The last two are None where no source is known here. All cards with a rate have 16 lanes.
    """

    name: str
    memory_gib: int
    tflops: float | None = None
    pcie: int | None = None

    @property
    def memory(self) -> int:
        """Bytes of memory."""
        return self.memory_gib * 2**30

    @property
    def capability(self) -> tuple[int, int]:
        """CUDA's compute capability, which says what numbers it multiplies."""
        return SERIES[self.name.split()[1][:2]]

    @property
    def link(self) -> float | None:
        """Bytes a second over PCIe in one direction, at its theoretical best."""
        return TRANSFERS[self.pcie] * PCIE_LANES * ENCODING / 8 if self.pcie else None


CARDS = (
    KnownCard("RTX 3050 6 GB", 6),
    KnownCard("RTX 3060", 12),
    KnownCard("RTX 3060 Ti", 8),
    KnownCard("RTX 3070", 8),
    KnownCard("RTX 3080", 10, 59.5, 4),  # GA102: 59.5/119 dense/sparse
    KnownCard("RTX 3080 Ti", 12),
    KnownCard("RTX 3090", 24, 71, 4),  # GA102: 71/142
    KnownCard("RTX 3090 Ti", 24),
    KnownCard("RTX 4060", 8),
    KnownCard("RTX 4060 Ti", 8),
    KnownCard("RTX 4060 Ti 16 GB", 16),
    KnownCard("RTX 4070", 12),
    KnownCard("RTX 4070 SUPER", 12),
    KnownCard("RTX 4070 Ti", 12),
    KnownCard("RTX 4070 Ti SUPER", 16),
    KnownCard("RTX 4080", 16),
    KnownCard("RTX 4080 SUPER", 16),
    KnownCard("RTX 4090", 24, 165.2, 4),  # Ada: 165.2/330.4
    KnownCard("RTX 5060", 8),
    KnownCard("RTX 5060 Ti", 8),
    KnownCard("RTX 5060 Ti 16 GB", 16),
    KnownCard("RTX 5070", 12, 61.7, 5),  # Blackwell: 61.7/123.5
    KnownCard("RTX 5070 Ti", 16, 87.9, 5),  # Blackwell: 87.9/175.8
    KnownCard("RTX 5080", 16, 112.6, 5),  # Blackwell: 112.6/225.1
    KnownCard("RTX 5090", 32, 209.5, 5),  # Blackwell: 209.5/419
)


def find_card(name: str) -> KnownCard:
    """Give the card of that name, written as one likes (``rtx4090``). Raises `SettingsError`."""
    known = {_short(card.name): card for card in CARDS}
    if _short(name) in known:
        return known[_short(name)]
    hint = nearest(name.upper(), [card.name for card in CARDS])
    raise SettingsError(f"graphics card '{name}': unknown{hint or '; give --profile instead'}")


def _short(name: str) -> str:
    short = re.sub(r"nvidia|geforce|[\s_-]", "", name.lower())
    return short if short.startswith("rtx") else f"rtx{short}"

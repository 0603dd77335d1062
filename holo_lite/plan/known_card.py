"""A graphics card as its vendor describes it, and how a card of some name is found.

`tflops` is the dense bf16 rate of the tensor cores with fp32 accumulation, in 10^12 operations a second: not the
rate with sparsity or fp16 accumulation that boxes print, which is two or four times as much. From the RTX 30 series
on, a GeForce card does four such operations a core and clock (its whitepapers: 512 a multiprocessor of 128 cores,
half of the rate with fp16 accumulation), and so has a multiprocessor for every 128 cores.
"""

from __future__ import annotations

from dataclasses import dataclass

ENCODING = 128 / 130  # PCIe 3.0 and later send 130 bits for 128
TRANSFERS = {3: 8e9, 4: 16e9, 5: 32e9}  # a second and lane (PCI-SIG, base specifications 3.0, 4.0 and 5.0)
A_CORE_AND_CLOCK = 4
CORES = 128  # of a multiprocessor, from the RTX 30 series on


@dataclass(frozen=True)
class KnownCard:
    """A card: memory in GiB, compute capability, dense bf16 TFLOPS, PCIe generation and lanes, multiprocessors.

    tflops: None where no figure could be confirmed, and `no_rate` says why; pcie: None where it differs from one
    machine to another. `basis` says how NVIDIA's figure comes about; `also` are other names it has.
    """

    name: str
    memory_gib: float
    capability: tuple[int, int]
    tflops: float | None = None
    basis: str = "that NVIDIA states for the"
    pcie: int | None = None
    lanes: int = 16
    no_rate: str = ""
    also: tuple[str, ...] = ()
    multiprocessors: int | None = None

    @property
    def memory(self) -> int:
        """Bytes of memory."""
        return int(self.memory_gib * 2**30)

    @property
    def link(self) -> float | None:
        """Bytes a second over PCIe in one direction, at its theoretical best."""
        return TRANSFERS[self.pcie] * self.lanes * ENCODING / 8 if self.pcie else None


def derived(
    name: str,
    memory_gib: float,
    cores: int,
    boost_mhz: int,
    *,
    capability: tuple[int, int],
    pcie: int | None,
    lanes: int = 16,
    stated: float | None = None,
) -> KnownCard:
    """A GeForce card, whose rate NVIDIA states, or else the one that follows from its cores and boost clock."""
    rate, processors = cores * boost_mhz * A_CORE_AND_CLOCK / 1e6, cores // CORES
    if stated is not None:
        assert abs(rate / stated - 1) < 0.005, f"{name}: cores and clock give {rate}, not {stated}"
        return KnownCard(name, memory_gib, capability, stated, pcie=pcie, lanes=lanes, multiprocessors=processors)
    basis = "that follow from the cores and boost clock of the"
    return KnownCard(name, memory_gib, capability, round(rate, 1), basis, pcie, lanes, multiprocessors=processors)

"""The graphics cards that people have, as NVIDIA describes them.

Memory is in GiB; where error correction takes some of it, a little less than CUDA reports. For the rest see
`holo_lite.plan.known_card`. The figures that NVIDIA states itself:

    GA102      NVIDIA Ampere GA102 GPU Architecture, V2.0: tables of the RTX 3080, 3090 and A6000
    Ada        NVIDIA Ada GPU Architecture: the appendix on the RTX 4090
    Blackwell  NVIDIA RTX Blackwell GPU Architecture: table 3 (RTX 5090), appendices on the 5080, 5070 Ti and 5070
    sheets     data sheets of the A10, A40, A100, H100, H200, L4, L40, L40S and RTX PRO 6000 Blackwell; where they
               print a rate with sparsity alone (L4, H100, H200), half of it

Of other GeForce cards NVIDIA states cores and boost clock, from which the rate follows as it does for those of the
whitepapers. A laptop's clock depends on the power that its maker allows: the highest one counts.

Multiprocessors of GeForce cards follow from their cores, 128 each. Those of the others NVIDIA states in its
whitepapers on GA102 (A6000; A10 and A40 by their cores, as GeForce), A100, H100 (an H200 has an H100's chip) and
Ada (L40; the others by their cores), or they follow from the cores of the data sheet (RTX PRO 6000).
"""

from __future__ import annotations

from functools import partial

from holo_lite.plan.known_card import KnownCard, derived

TURING = "it has no tensor cores for bf16"
ADA_6000 = "published figures for it differ by a factor of two"

_turing = partial(KnownCard, capability=(7, 5), no_rate=TURING, pcie=3)
_ampere = partial(derived, capability=(8, 6), pcie=4)
_ada = partial(derived, capability=(8, 9), pcie=4)
_blackwell = partial(derived, capability=(12, 0), pcie=5)

CARDS = (
    _turing("RTX 2060", 6),
    _turing("RTX 2060 12 GB", 12),
    _turing("RTX 2060 SUPER", 8),
    _turing("RTX 2070", 8),
    _turing("RTX 2070 SUPER", 8),
    _turing("RTX 2080", 8),
    _turing("RTX 2080 SUPER", 8),
    _turing("RTX 2080 Ti", 11),
    _turing("T4", 14.7),
    _ampere("RTX 3050", 8, 2560, 1777, lanes=8),
    _ampere("RTX 3050 6 GB", 6, 2304, 1470, lanes=8),
    _ampere("RTX 3060", 12, 3584, 1777),
    _ampere("RTX 3060 8 GB", 8, 3584, 1777),
    _ampere("RTX 3060 Ti", 8, 4864, 1665),
    _ampere("RTX 3070", 8, 5888, 1725),
    _ampere("RTX 3070 Ti", 8, 6144, 1770),
    _ampere("RTX 3080", 10, 8704, 1710, stated=59.5),  # GA102: 59.5/119 dense/sparse
    _ampere("RTX 3080 12 GB", 12, 8960, 1710),
    _ampere("RTX 3080 Ti", 12, 10240, 1665),
    _ampere("RTX 3090", 24, 10496, 1695, stated=71),  # GA102: 71/142
    _ampere("RTX 3090 Ti", 24, 10752, 1860),
    _ampere("RTX 3060 Laptop", 6, 3840, 1703, pcie=None),
    _ampere("RTX 3070 Laptop", 8, 5120, 1620, pcie=None),
    _ampere("RTX 3080 Laptop", 8, 6144, 1710, pcie=None),
    _ampere("RTX 3080 Laptop 16 GB", 16, 6144, 1710, pcie=None),
    _ada("RTX 4060", 8, 3072, 2460, lanes=8),
    _ada("RTX 4060 Ti", 8, 4352, 2535, lanes=8),
    _ada("RTX 4060 Ti 16 GB", 16, 4352, 2535, lanes=8),
    _ada("RTX 4070", 12, 5888, 2475),
    _ada("RTX 4070 SUPER", 12, 7168, 2475),
    _ada("RTX 4070 Ti", 12, 7680, 2610),
    _ada("RTX 4070 Ti SUPER", 16, 8448, 2610),
    _ada("RTX 4080", 16, 9728, 2505),
    _ada("RTX 4080 SUPER", 16, 10240, 2550),
    _ada("RTX 4090", 24, 16384, 2520, stated=165.2),  # Ada: 165.2/330.4
    _ada("RTX 4050 Laptop", 6, 2560, 2370, pcie=None),
    _ada("RTX 4060 Laptop", 8, 3072, 2370, pcie=None),
    _ada("RTX 4070 Laptop", 8, 4608, 2175, pcie=None),
    _ada("RTX 4080 Laptop", 12, 7424, 2280, pcie=None),
    _ada("RTX 4090 Laptop", 16, 9728, 2040, pcie=None),
    _blackwell("RTX 5050", 8, 2560, 2570, lanes=8),
    _blackwell("RTX 5060", 8, 3840, 2497, lanes=8),
    _blackwell("RTX 5060 Ti", 8, 4608, 2570, lanes=8),
    _blackwell("RTX 5060 Ti 16 GB", 16, 4608, 2570, lanes=8),
    _blackwell("RTX 5070", 12, 6144, 2512, stated=61.7),  # Blackwell: 61.7/123.5
    _blackwell("RTX 5070 Ti", 16, 8960, 2452, stated=87.9),  # Blackwell: 87.9/175.8
    _blackwell("RTX 5080", 16, 10752, 2617, stated=112.6),  # Blackwell: 112.6/225.1
    _blackwell("RTX 5090", 32, 21760, 2407, stated=209.5),  # Blackwell: 209.5/419
    _blackwell("RTX 5090 Laptop", 24, 10496, 2160, pcie=None),
    KnownCard("A10", 22, (8, 6), 125, pcie=4, multiprocessors=72),  # sheet: 125/250
    KnownCard("A40", 44.5, (8, 6), 149.7, pcie=4, multiprocessors=84),  # sheet: 149.7/299.4
    KnownCard("RTX A6000", 47.5, (8, 6), 154.8, pcie=4, multiprocessors=84),  # GA102: 154.8/309.6
    KnownCard(
        "A100", 40, (8, 0), 312, pcie=4, also=("A100 SXM4 40 GB", "A100 PCIe 40 GB"), multiprocessors=108
    ),  # sheet: 312/624
    KnownCard(
        "A100 80 GB",
        80,
        (8, 0),
        312,
        pcie=4,
        also=("A100 SXM4 80 GB", "A100 PCIe 80 GB", "A100 80 GB PCIe"),
        multiprocessors=108,
    ),
    KnownCard("L4", 22, (8, 9), 121, pcie=4, multiprocessors=58),  # sheet: 242 with sparsity
    KnownCard("L40", 44.5, (8, 9), 181, pcie=4, multiprocessors=142),  # sheet: 181.05/362.1
    KnownCard("L40S", 44.5, (8, 9), 362, pcie=4, multiprocessors=142),  # sheet: 362.05/733
    KnownCard("RTX 6000 Ada", 47.5, (8, 9), no_rate=ADA_6000, pcie=4, multiprocessors=142),
    KnownCard(
        "H100", 79, (9, 0), 989, pcie=5, also=("H100 SXM", "H100 SXM5", "H100 80 GB HBM3"), multiprocessors=132
    ),  # sheet: 1979
    KnownCard("H100 PCIe", 79, (9, 0), 756, pcie=5, multiprocessors=114),  # sheet: 1513 with sparsity
    KnownCard("H200", 139, (9, 0), 989, pcie=5, multiprocessors=132),  # sheet: 1979 with sparsity
    KnownCard(
        "RTX PRO 6000 Blackwell", 95, (12, 0), 503.8, pcie=5, also=("RTX PRO 6000",), multiprocessors=188
    ),  # sheet: 503.8/1007.6
)

"""Which cards compute in bf16, and what to say of one that does not.

Without bf16 in hardware PyTorch has no attention for it that works in tiles: all scores would be written out, far
beyond what any plan counts.
"""

from __future__ import annotations

from holo_lite.errors import FitError

BF16_FROM = (8, 0)  # compute capability of the first cards with bf16: Ampere
BF16_CARDS = "an RTX 30xx, an A100, or later"
INSTEAD = "use another card, or --device cpu; --dtype fp32 works on it, but is slow and needs twice the memory"


def has_bf16(capability: tuple[int, ...] | None) -> bool:
    """Whether a card computes in bf16; one of which nothing is known, and a CPU, is taken to."""
    return capability is None or capability >= BF16_FROM


def without_bf16(capability: tuple[int, ...]) -> str:
    """What is wrong with a card that does not, to be put behind its name."""
    needed, found = (".".join(map(str, version)) for version in (BF16_FROM, capability))
    return f"cannot compute in bf16 (it has compute capability {found}, bf16 needs {needed}: {BF16_CARDS})"


def check_bf16(card: str, capability: tuple[int, ...] | None) -> None:
    """Raise `FitError` for a card that cannot compute in bf16; `card` is its name."""
    if capability is not None and not has_bf16(capability):
        raise FitError(
            f"graphics card '{card}': {without_bf16(capability)}; {INSTEAD}", f"no bf16: needs {BF16_CARDS}"
        )

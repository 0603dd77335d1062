"""In which format matrices are multiplied: unrounded, or both sides in 8 bits.

Whether a card can do it is asked of its compute capability first (fp8 from 8.9 on, int8 from 8.0), then of what is
installed, then of a small product, which must come to what the reference comes to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from holo_lite.eightbit.coding import has_triton, quantize
from holo_lite.eightbit.limits import EightBits, LinearMode, unfit
from holo_lite.eightbit.product import CLOSE, SIDES, multiply, off, reference, runs_row_by_row
from holo_lite.eightbit.rows import FORMATS
from holo_lite.errors import FitError, SettingsError, in_a_line, nearest
from holo_lite.kernels.kernel import Capability
from holo_lite.schemes.registry import SCHEMES

PLAIN = "bf16"  # the option's value for products that round nothing
ROUNDED = f"activations are rounded to 8 bits too; --compute {PLAIN} keeps them exact"
SAYINGS = ("auto", PLAIN, *FORMATS)
LEAST: dict[EightBits, tuple[int, int]] = {"fp8": (8, 9), "int8": (8, 0)}  # compute capability
CARDS: dict[EightBits, str] = {"fp8": "an RTX 40xx, an H100, or later", "int8": "an RTX 30xx, an A100, or later"}


@dataclass(frozen=True)
class _Place:
    """Where it is to be: on cuda or cpu, a card's compute capability (None: not known), and what it cannot do."""

    kind: str
    capability: Capability | None
    refusal: Callable[[EightBits], str | None]


def pick_linear(
    said: str, device: torch.device, dtype: torch.dtype, *, stored: str = "", sides: Sequence[int] = ()
) -> tuple[LinearMode, str]:
    """Decide how matrices are multiplied: ``auto``, ``bf16``, ``fp8`` or ``int8`` → mode, and why on one line.

    8 bits change the picture a little, so ``auto`` uses them in one case only: if the weights are `stored` in
    such a format (a scheme's name) and the card multiplies in it. The person who stored them so has
    accepted an error of that size, and unpacking them would only cost time. Otherwise it says what the card can do.
    `sides` are widths of the model's weights, for the remark which of them do not suit.

    Raises `SettingsError` with the reason where the device cannot.
    """
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    here = _Place(device.type, capability, lambda bits: refusal(bits, device, dtype))
    return _decided(said, here, stored, sides)


def foresee_linear(
    said: str, capability: Capability | None, dtype: torch.dtype, *, stored: str = "", sides: Sequence[int] = ()
) -> tuple[LinearMode, str]:
    """Decide the same for a card that is not here, by its compute capability. None: it is taken to be able."""
    there = _Place("cuda", capability, lambda bits: _unable(bits, capability, dtype))
    return _decided(said, there, stored, sides)


def refusal(bits: EightBits, device: torch.device, dtype: torch.dtype) -> str | None:
    """Say why products in 8 bits are not possible there, and what would help; None if they are possible.

    Raises `torch.OutOfMemoryError`, which says nothing about the card.
    """
    if device.type == "cpu":
        return None
    if (reason := _unable(bits, torch.cuda.get_device_capability(device), dtype)) is not None:
        return reason
    if not has_triton() and (bits == "int8" or not runs_row_by_row(device)):
        return "needs Triton, which is not installed; pip install triton"
    return _trial(bits, device, dtype)


def _unable(bits: EightBits, capability: Capability | None, dtype: torch.dtype) -> str | None:
    """What is known to be wrong without a trial."""
    least = LEAST[bits]
    if capability is not None and capability < least:
        return f"needs {CARDS[bits]} (compute capability {_version(least)}); this card has {_version(capability)}"
    if bits == "fp8" and dtype != torch.bfloat16:
        return "its products are written in bf16; give --dtype bf16"
    return None


def _decided(said: str, place: _Place, stored: str, sides: Sequence[int]) -> tuple[LinearMode, str]:
    if said == "auto":
        return _auto(place, stored, sides)
    if said == PLAIN:
        return "plain", f"compute {PLAIN}: as asked"
    for bits in FORMATS:
        if said == bits:
            if (reason := place.refusal(bits)) is not None:
                raise FitError(f"compute '{said}': {reason}; or give --compute {PLAIN}", f"no {said}: {reason}")
            return bits, f"compute {bits}: as asked{_remarks(bits, place, sides)}"
    raise SettingsError(f"compute '{said}': give one of {', '.join(SAYINGS)}{nearest(said, SAYINGS)}")


def _auto(place: _Place, stored: str, sides: Sequence[int]) -> tuple[LinearMode, str]:
    if place.kind == "cpu":
        return "plain", f"compute {PLAIN}: on a CPU 8 bits are no faster"
    kin = SCHEMES[stored].eight_bits if stored in SCHEMES else None
    if kin is not None:
        reason = place.refusal(kin)
        if reason is None:
            return kin, f"compute {kin}: matches the stored weights ({ROUNDED}){_remarks(kin, place, sides)}"
        return "plain", f"compute {PLAIN}: {kin}, the format of the stored weights, {reason}"
    able = [bits for bits, least in LEAST.items() if place.capability and place.capability >= least]
    more = f"; this card can also do {' and '.join(able)}, at a small cost to the picture" if able else ""
    return "plain", f"compute {PLAIN}: matches the stored weights{more}"


def _remarks(bits: EightBits, place: _Place, sides: Sequence[int]) -> str:
    """What else a person should know about it."""
    remarks = ["on a CPU this is slower, and only shows what it costs the picture"] if place.kind == "cpu" else []
    wrong = (unfit(bits, side, sides[0]) for side in sides)
    remarks += [reason for reason in wrong if reason is not None][:1]
    return "".join(f"; {remark}" for remark in remarks)


def _trial(bits: EightBits, device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with a small product there, if something is."""
    generator = torch.Generator().manual_seed(0)
    rows, inputs, outputs = SIDES
    x, weight = (torch.randn(n, inputs, generator=generator).to(dtype) for n in (rows, outputs))
    bias, form = torch.randn(outputs, generator=generator).to(dtype), FORMATS[bits]
    try:
        found = multiply(quantize(x.to(device), form), quantize(weight.to(device), form), bias.to(device)).cpu()
    except torch.OutOfMemoryError:
        raise
    except Exception as raised:  # noqa: BLE001 - a compiler's or a driver's, whose errors have no common root
        return f"does not run here ({in_a_line(raised, whole=True)})"
    error = off(found, reference(quantize(x, form), quantize(weight, form), bias))
    return None if error <= CLOSE else f"gives wrong results here: they are {error:.2g} off"


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))

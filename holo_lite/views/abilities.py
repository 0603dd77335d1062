"""What the shipped profiles can do, as a table for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from holo_lite.plan.profile import GIB
from holo_lite.preflight.forecast import Ability

NOTHING = "-"


def ability_lines(abilities: Iterable[Ability]) -> Iterator[str]:
    """The shipped profiles as a table."""
    yield f"{'241 frames, 5 shots':>53}{'longest clip at 832×480':>34}"
    yield _ability_cells("profile", "budget", "scheme", "guidance", "blocks", "in 3 s shots", "in one shot")
    for ability in abilities:
        yield _ability_row(ability)
    yield ""
    yield "blocks: how many of an expert's stay on the device (+ of the next expert's); the others stream"
    yield "int8 models multiply with 8-bit activations by default; --compute bf16 keeps them exact"
    yield "your own profile: a TOML file like the shipped ones, given as --profile FILE; see docs/profiles.md"


def _ability_row(ability: Ability) -> str:
    plan = ability.plan
    if plan is None:
        return f"{ability.profile.name:8}{'':10}{ability.scheme:>8}  too little memory is free"
    blocks = f"{plan.resident}/{plan.blocks}" + (f" + {plan.resident_other}" if plan.resident_other else "")
    longest = [f"{clip.frames} frames" if clip else NOTHING for clip in (ability.in_shots, ability.as_one_shot)]
    guidance, budget = "joint" if plan.joint else "sequential", f"{plan.budget / GIB:.1f} GiB"
    return _ability_cells(ability.profile.name, budget, plan.scheme, guidance, blocks, *longest)


def _ability_cells(name: str, *cells: str) -> str:
    widths = (10, 8, 12, 15, 19, 15)
    return f"{name:8}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))

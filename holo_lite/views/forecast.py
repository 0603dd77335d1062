"""A plan as lines for a person, none wider than 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from holo_lite.plan.cards import CARDS
from holo_lite.plan.cost import needed_rate
from holo_lite.plan.nearest import size_text
from holo_lite.plan.plan import PhasePlan, Plan
from holo_lite.plan.profile import GIB
from holo_lite.preflight.forecast import Ability, Forecast
from holo_lite.system.units import duration_text, memory_text

WIDTH = 100
HEADS = ("phase", "steps", "pinned", "read a step", "PFLOP a step", "in all")
NOTHING = "-"


def forecast_lines(report: Forecast) -> Iterator[str]:
    """Everything about a plan, line by line."""
    plan, settings = report.plan, report.settings
    shots, guided = len(settings.shot_frames), settings.cfg != 1
    guidance = "" if settings.cfg_until == 1 else f", guidance in the first {settings.guided_steps}"
    yield from _wrapped(report.why)
    yield from _wrapped(
        f"{report.model}: {settings.frames} frames at {size_text(settings.layout)} in "
        f"{shots} {'shot' if shots == 1 else 'shots'}, {settings.steps} steps"
        f"{guidance if guided else ' without guidance'}"
    )
    for line in report.computing:
        yield from _wrapped(line)
    for note in report.notes:
        yield from _wrapped(f"note: {note}")
    yield ""
    yield from _table(report)
    yield ""
    for line in (_memory(plan, guided=guided), _rows(report), _decode(plan), *_time(report), _room(report)):
        yield from _wrapped(line)


def _table(report: Forecast) -> Iterator[str]:
    memory = "peak RAM" if report.plan.device == "cpu" else "peak VRAM"
    yield _row((HEADS[0], HEADS[1], memory, *HEADS[2:]))
    for name, phase in report.plan.phases.items():
        cost = report.costs[name]
        seconds = cost.seconds(report.rate) if report.rate else None
        yield _row(
            (
                name.replace("_", "-"),
                str(cost.steps),
                *_bytes(phase),
                f"{cost.step.total / 1e15:.3g}",
                duration_text(seconds) if seconds is not None else NOTHING,
            )
        )


def _bytes(phase: PhasePlan) -> Iterable[str]:
    return (memory_text(count) if count else NOTHING for count in (phase.peak, phase.pinned, phase.streamed))


def _row(cells: tuple[str, ...]) -> str:
    name, steps, *others = cells
    return f"{name:11}{steps:>6}" + "".join(f"{cell:>14}" for cell in others)


def _memory(plan: Plan, *, guided: bool) -> str:
    others = f" and {plan.resident_other} of the next expert's" if plan.resident_other else ""
    branches = (
        "both guidance branches in one visit of a block" if plan.joint else "one guidance branch at a time"
    ) + ", "
    kept = (
        f", {plan.pinned_cache_blocks} of each expert's others in pinned memory" if plan.pinned_cache_blocks else ""
    )
    cache = ", room for a step cache" if plan.step_cache else ""
    return (
        f"memory: a budget of {memory_text(plan.budget)}; {plan.resident} of {plan.blocks} blocks{others} stay on "
        f"the device{kept}; {branches if guided else ''}"
        f"chunks of {plan.chunks.attention} tokens in attention and {plan.chunks.feed_forward} in the feed-forward"
        f"{cache}"
    )


def _rows(report: Forecast) -> str:
    """What takes the most memory while denoising."""
    rows = [f"{memory_text(nbytes)} {name}" for name, nbytes in report.rows.items() if nbytes]
    return f"denoising at its peak: {', '.join(rows)}"


def _decode(plan: Plan) -> str:
    if plan.tile is None:
        return "decode: whole frames"
    caches = f"their caches take {memory_text(plan.tile_caches)} of main memory"
    return f"decode: in overlapping tiles of {plan.tile[1]}×{plan.tile[0]} latents, blended; {caches}"


def _time(report: Forecast) -> Iterator[str]:
    if report.rate is None:
        known = ", ".join(card.name for card in CARDS if card.tflops is not None)
        yield f"time: no rate is known for this card; run plan on the machine itself, or give --gpu one of {known}"
        return
    total = sum(cost.seconds(report.rate) for cost in report.costs.values())
    yield f"time: {duration_text(total)} of arithmetic, {report.rate.basis}; a prompt counts as 512 tokens"
    if report.plan.step_cache:
        yield "with --cache it will take less; how much depends on the clip"
    device, disk = needed_rate(report.plan, report.costs, report.rate)
    if device:
        yield _streaming(device, disk, report.link)


def _streaming(device: float, disk: float, link: float | None) -> str:
    """How fast weights must arrive, in bytes a second, so that arithmetic never waits; and whether the link can."""
    bound = ""
    if link is not None:
        bound = f" (PCIe gives at most {link / 1e9:.1f}{', so it is the limit' if device > link else ''})"
    from_disk = f", {disk / 1e9:.2f} GB/s of them from disk" if disk else ", none of them from disk"
    return f"streaming: costs no time if weights arrive at {device / 1e9:.2f} GB/s{bound}{from_disk}"


def _room(report: Forecast) -> str:
    found = []
    if report.longest:
        found.append(f"{report.longest.frames} frames with the shots in proportion")
    if report.largest:
        found.append(f"{size_text(report.largest.layout)} at this length")
    return f"most that fits: {', or '.join(found)}"


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


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")

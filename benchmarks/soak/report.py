"""What a soak reports: a table by fault, what the process holds, and every run that was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MIB = 2**20


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    what: what its fault did; None if it came to nothing. told: errors on its way, each one line. litter: files that
    lie beside video and sheet in the end; drafts are those that a killed process may leave. error: of the latents,
    relative, where memory ran out. lost: why, or nothing.
    """

    number: int
    fault: str
    what: str | None
    resumed: int
    told: tuple[str, ...]
    seconds: float
    litter: tuple[str, ...] = ()
    drafts: int = 0
    error: float = 0.0
    lost: str = ""


def figures(
    outcomes: Sequence[Outcome], held: Mapping[str, Any], leaks: Sequence[str], left: Sequence[str]
) -> dict[str, Any]:
    """All figures of the runs, as they are kept. `left` are temporary files that nobody removed."""
    kinds = dict.fromkeys(outcome.fault for outcome in sorted(outcomes, key=lambda each: each.fault != "none"))
    return {
        "runs": len(outcomes),
        "faults": {kind: _of_kind([each for each in outcomes if each.fault == kind]) for kind in kinds},
        "resumed": sum(each.resumed for each in outcomes),
        "lost": sum(bool(each.lost) for each in outcomes),
        "lost_because": {
            str(each.number): f"{each.what or each.fault}: {each.lost}" for each in outcomes if each.lost
        },
        "left_behind": sorted({*left, *(name for each in outcomes for name in each.litter)}),
        "drafts_of_killed": sum(each.drafts for each in outcomes),
        "largest_error": max((each.error for each in outcomes), default=0.0),
        "held": dict(held),
        "leaks": list(leaks),
    }


def _of_kind(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "runs": len(outcomes),
        "struck": sum(each.what is not None for each in outcomes),
        "told": sum(len(each.told) for each in outcomes),
        "resumed": sum(each.resumed for each in outcomes),
        "lost": sum(bool(each.lost) for each in outcomes),
        "seconds": sum(each.seconds for each in outcomes),
    }


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """The figures as lines."""
    yield f"{'fault':14} {'runs':>5} {'struck':>7} {'errors told':>12} {'resumed':>8} {'lost':>5} {'s a run':>8}"
    for kind, row in found["faults"].items():
        seconds = row["seconds"] / row["runs"]
        cells = (
            f"{row['runs']:5} {row['struck']:7} {row['told']:12} {row['resumed']:8} {row['lost']:5} {seconds:8.2f}"
        )
        yield f"{kind:14} {cells}"
    yield ""
    yield from _held(found["held"])
    yield f"left behind    {', '.join(found['left_behind']) or 'nothing'}"
    yield f"               {found['drafts_of_killed']} temporary files of killed processes"
    yield f"after a lack of memory latents differ by at most {found['largest_error']:.1e} of themselves"
    yield from (f"LEAK {leak}" for leak in found["leaks"])
    yield from (f"LOST run {number}: {why}" for number, why in found["lost_because"].items())


def _held(held: Mapping[str, Any]) -> Iterator[str]:
    rss, warm = held["rss"], held["warm_up_runs"]
    begin, end = f"{rss['first'] / MIB:.1f} MiB after {warm} runs", f"{rss['last'] / MIB:.1f} MiB in the end"
    yield f"memory         {begin}, {end}: {rss['bytes_a_run'] / 1024:+.1f} KiB a run"
    for name in ("descriptors", "threads"):
        yield f"{name:14} {held[name]['first']}, {held[name]['last']} in the end"

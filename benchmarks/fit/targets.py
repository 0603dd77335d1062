"""What the runs under the cards' caps should show, and whether they did.

A target is met, missed, or not known, where it does not apply here. At small scale times and sizes say nothing, and
only that things run is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GIB = 2**30
LEAST_PEAK = 4.5 * GIB
UNTILED_FROM = 8
FIRST = ("weights-nf4", "card-8-five", "decode-8", "pinned-five-nf4")  # the most telling parts

Parts = Mapping[str, Mapping[str, Any]]
Check = Callable[[Mapping[str, Any]], tuple[bool | None, str]]


@dataclass(frozen=True)
class Verdict:
    """A target, whether it is met (None: not known), and the figures."""

    part: str
    target: str
    met: bool | None
    figures: str


def targets(parts: Parts, *, small: bool) -> list[Verdict]:
    """Judge every part that has run."""
    return [_judge(parts, *row, small=small) for row in _rows(parts)]


def _rows(parts: Parts) -> Iterator[tuple[str, str, Check]]:
    for name in parts:
        kind, first, *_ = name.split("-")
        if kind == "card":
            yield name, "runs, and no rung of the ladder was needed", _runs
            yield name, "reserved within the cap and 1.05 x allocated", _reserved
            yield name, "peak within the plan and at least 0.85 of it", _as_planned
            yield name, "0.85 of the budget used, or every block resident", _uses
        elif kind == "least":
            yield name, "peak at most 4.5 GiB with no resident blocks", _least
        elif kind == "decode":
            yield name, "decodes" if int(first) < UNTILED_FROM else "decodes untiled", _decodes(int(first))
        elif kind == "pinned":
            yield name, f"pinned at most {2 if first == 'five' else 10} % slower than resident", _slower(first)
        elif kind == "disk":
            yield name, "disk at most 5 % slower than resident, if it can hide", _disk


def _judge(parts: Parts, name: str, target: str, check: Check, *, small: bool) -> Verdict:
    part = parts[name]
    if "skipped" in part or "failed" in part:
        return Verdict(name, target, False if "failed" in part else None, part.get("failed") or part["skipped"])
    met, figures = check(part)
    judged = not small or target.startswith(("runs", "decodes"))
    return Verdict(name, target, met if judged else None, figures)


def _runs(part: Mapping[str, Any]) -> tuple[bool, str]:
    says = f"{part['seconds_a_step']:.2f} s a step, {part['waited_share']:.1%} of it waiting"
    return bool(part["finite"]) and not part["rungs"], "; ".join([says, *part["rungs"]])


def _reserved(part: Mapping[str, Any]) -> tuple[bool | None, str]:
    if part["reserved"] is None:
        return None, "a CPU has no allocator that reserves"
    within = part["reserved"] <= part["budget"] and part["reserved"] <= 1.05 * part["allocated"]
    again = f", {part['retries']} times given back to go on" if part.get("retries") else ""
    sizes = f"{part['reserved'] / GIB:.2f} of {part['budget'] / GIB:.2f} GiB"
    return within, f"{sizes}, {_ratio(part, 'allocated')}{again}"


def _ratio(part: Mapping[str, Any], other: str) -> str:
    return f"{part['reserved'] / part[other]:.3f} x {other}"


def _as_planned(part: Mapping[str, Any]) -> tuple[bool, str]:
    share = part["allocated"] / part["planned"]
    return 0.85 <= share <= 1, f"{part['allocated'] / GIB:.3f} of {part['planned'] / GIB:.3f} GiB: {share:.3f}"


def _uses(part: Mapping[str, Any]) -> tuple[bool, str]:
    share, whole = part["allocated"] / part["budget"], part["resident_blocks"] == part["blocks"]
    return share >= 0.85 or whole, f"{share:.1%}, {part['resident_blocks']} of {part['blocks']} blocks resident"


def _least(part: Mapping[str, Any]) -> tuple[bool, str]:
    return part["allocated"] <= LEAST_PEAK and part["resident_blocks"] == 0, f"{part['allocated'] / GIB:.3f} GiB"


def _decodes(card: int) -> Check:
    def check(part: Mapping[str, Any]) -> tuple[bool, str]:
        tiles = "untiled" if part["tile"] is None else f"tiles of {part['tile']}"
        figures = f"{part['decode_seconds']:.1f} s, {tiles}, {part['allocated'] / GIB:.3f} GiB"
        return part["tile"] is None or card < UNTILED_FROM, figures

    return check


def _slower(film: str) -> Check:
    bound = 0.02 if film == "five" else 0.10
    return lambda part: (part["slower"] <= bound, _against(part, "pinned"))


def _disk(part: Mapping[str, Any]) -> tuple[bool | None, str]:
    rate = f"disk {part['disk_bytes_a_second'] / 1e9:.2f} GB/s: {part['reading_seconds']:.2f} s to read"
    return part["slower"] <= 0.05 if part["could_hide"] else None, f"{_against(part, 'disk')}; {rate}"


def _against(part: Mapping[str, Any], way: str) -> str:
    seconds = [part[name]["seconds_a_step"] for name in (way, "resident")]
    waited = f"{part[way]['waited_share']:.1%} of a step waiting for weights"
    return f"{seconds[0]:.3f} s against {seconds[1]:.3f}: {part['slower']:+.1%}, {waited}"


def table(record: Mapping[str, Any], verdicts: list[Verdict]) -> Iterator[str]:
    """The verdicts as lines."""
    scale = "small, so that times and sizes say nothing" if record["small"] else "full size"
    yield f"{record['device']}, torch {record['torch']}, {scale}"
    words = {True: "met", False: "MISSED", None: "-"}
    for verdict in verdicts:
        yield f"{verdict.part:20} {words[verdict.met]:7} {verdict.target:54} {verdict.figures}"

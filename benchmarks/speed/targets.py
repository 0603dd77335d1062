"""What the speed cells should show on a card at the trained length, whether they did, and the table.

Figures are judged only where they mean something: the full shape on a CUDA card, a step at 241 frames. Elsewhere
they are shown and not judged. A way that does not fit a card has no figure, and what would be compared with it is
not judged.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.speed import levers as speed_levers
from holo_lite.config import DiTConfig
from holo_lite.plan.cost import forward_operations
from holo_lite.story.shots import ShotLayout, even_cuts

LENGTH = 241  # frames
JUDGED = (  # what the targets speak of, parts by name, the cheapest and most telling first
    "gemms",
    f"bf16 sdpa @{LENGTH}",
    f"floor @{LENGTH}",
    f"reference @{LENGTH}",
    f"diffusers resident @{LENGTH}",
    f"fp8 auto @{LENGTH}",
    f"bf16 cudnn @{LENGTH}",
    f"int8 auto @{LENGTH}",
    "start",
)
OVER_THE_FLOOR = 1.10
REFERENCE = 1.07  # by the counts of `benchmarks.count` at 241 frames on an RTX 3090, where it is least
DIFFUSERS, DIFFUSERS_BEST = 2.1, 2.8
EIGHT_BIT = 1.5
START = 10.0
GIB = 2**30

Cell = Mapping[str, Any]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """A target, whether it is met (None: not judged), and the figures."""

    target: str
    met: bool | None
    figures: str


def verdicts(record: Record) -> list[Verdict]:
    """Judge every target of a record."""
    found = [check(record) for check in (_floor, _reference, _diffusers, _diffusers_best)]
    found += [_eight_bit(record, mode) for mode in ("fp8", "int8")]
    found.append(_start(record))
    if record["cuda"] is not None and not record["small"]:
        return found
    return [Verdict(each.target, None, each.figures) for each in found]


def median(cell: Cell) -> float:
    """Seconds of a step: the median."""
    return float(statistics.median(cell["seconds"]))


# --- the targets -----------------------------------------------------------------------------------


def _floor(record: Record) -> Verdict:
    target = f"at most {OVER_THE_FLOOR} x the floor in bf16"
    ours, floor = _fastest(record, "own", _is_bf16), _fastest(record, "floor")
    return _compared(target, ours, floor, lambda ratio: ratio <= OVER_THE_FLOOR, "x the floor", upside_down=True)


def _reference(record: Record) -> Verdict:
    """With the same attention kernel on both sides."""
    target = f"at least {REFERENCE} x as fast as the reference's way"
    theirs = _fastest(record, "reference")
    ours = theirs and _fastest(record, "own", lambda cell: _is_bf16(cell) and cell["kernel"] == theirs["kernel"])
    return _compared(target, ours, theirs, lambda ratio: ratio >= REFERENCE)


def _diffusers(record: Record) -> Verdict:
    target = f"at least {DIFFUSERS} x as fast as diffusers in bf16"
    theirs = _fastest(record, "diffusers", lambda cell: cell["weights"] == "plain")
    return _compared(target, _fastest(record, "own", _is_bf16), theirs, lambda ratio: ratio >= DIFFUSERS)


def _diffusers_best(record: Record) -> Verdict:
    target = f"at least {DIFFUSERS_BEST} x as fast as diffusers with the best formats"
    ours, theirs = _fastest(record, "own"), _fastest(record, "diffusers")
    return _compared(target, ours, theirs, lambda ratio: ratio >= DIFFUSERS_BEST)


def _eight_bit(record: Record, mode: str) -> Verdict:
    """int8 is for RTX cards; on others it is only shown."""
    target = f"{mode} products at least {EIGHT_BIT} x as fast as bf16, quantizing included"
    part = record["parts"].get("gemms")
    found = None if part is None else part["modes"].get(mode)
    if found is None:
        return Verdict(target, None, "not measured")
    if "speed" not in found:
        return Verdict(target, None, str(found["refused"]))
    met = found["speed"] >= EIGHT_BIT if mode == "fp8" or "RTX" in record["device"] else None
    return Verdict(target, met, f"{found['speed']:.2f} x")


def _start(record: Record) -> Verdict:
    target = f"from command to first step in {START:g} s, model in page cache"
    part = record["parts"].get("start")
    if part is None or "new" not in part:
        return Verdict(target, None, "not measured" if part is None else str(part.get("failed")))
    seconds, known = (part[prompt]["until_step"] for prompt in ("new", "known"))
    return Verdict(target, seconds <= START, f"{seconds:.1f} s, {known:.1f} s with a known prompt")


def _is_bf16(cell: Cell) -> bool:
    """Plain arithmetic, and attention that is no approximation."""
    return bool(cell["linear"] == "plain" and cell["exact"] and not cell["streamed"])


def _fastest(record: Record, kind: str, of: Callable[[Cell], bool] = lambda _: True) -> Cell | None:
    """The fastest cell of a kind at the length that is judged."""
    cells = [
        cell
        for cell in record["parts"].values()
        if cell.get("kind") == kind and cell["frames"] == LENGTH and "seconds" in cell and of(cell)
    ]
    return min(cells, key=median, default=None)


def _compared(
    target: str,
    ours: Cell | None,
    theirs: Cell | None,
    met: Callable[[float], bool],
    unit: str = "x as fast",
    *,
    upside_down: bool = False,
) -> Verdict:
    if ours is None or theirs is None:
        return Verdict(target, None, f"no figure of {'ours' if ours is None else 'theirs'}")
    ratio = median(ours) / median(theirs) if upside_down else median(theirs) / median(ours)
    sides = f"{median(ours):.3f} s ({ours['name']}) against {median(theirs):.3f} ({theirs['name']})"
    return Verdict(target, met(ratio), f"{ratio:.2f} {unit}: {sides}")


# --- the table -------------------------------------------------------------------------------------


def table(record: Record) -> Iterator[str]:
    """The record as lines: what ran on what, the cells by length, products, start, and the verdicts."""
    yield from _head(record)
    for frames in sorted({cell["frames"] for cell in _cells(record)}):
        yield from _length(record, frames)
    yield from _products(record)
    yield from _beginning(record)
    if part := record["parts"].get("levers"):
        yield from ("", "a whole denoising with fewer evaluations", *speed_levers.lines(part))
    for verdict in verdicts(record):
        word = {True: "met", False: "MISSED", None: "not judged"}[verdict.met]
        yield f"{word:11} {verdict.target:66} {verdict.figures}"


def _head(record: Record) -> Iterator[str]:
    model, picture = record["model"], record["picture"]
    scale = "small, so that times say little" if record["small"] else "full shape"
    yield f"{record['device']}, torch {record['torch']}, {record['dtype']}, {scale}"
    branches = f"{record['branches']} guidance branches"
    yield f"one denoising step, {branches}, {picture[0]}x{picture[1]}, {record['shots']} shots, random weights"
    if record["layers"] < model["num_layers"]:
        run = f"{record['layers']} of {model['num_layers']} blocks were run"
        yield f"{run}; seconds are scaled to all, and to peaks the weights of the others are added"


def _length(record: Record, frames: int) -> Iterator[str]:
    cells = [cell for cell in _cells(record) if cell["frames"] == frames]
    sparse, full = step_operations(record, frames)
    flop, byte = ("G", "MiB") if record["small"] else ("T", "GiB")
    yield ""
    yield f"{frames} frames: {sparse / 1e12:.4g} TFLOP a step sparse, {full / 1e12:.4g} dense"
    heads = f"{'median s':>10} {'min':>9} {'max':>9} {f'peak {byte}':>9} {f'{flop}FLOP/s':>8} {'per FLOP':>9}"
    yield f"{'':44} {heads}"
    ours = _fastest_of_ours(cells)
    for cell in cells:
        yield _row(cell, full if cell["dense"] else sparse, ours and ours / sparse, small=record["small"])


def step_operations(record: Record, frames: int) -> tuple[int, int]:
    """Operations of a step with sparse and with full attention, all branches."""
    layout = ShotLayout.from_frames(frames, even_cuts(frames, record["shots"]), *record["picture"])
    config = DiTConfig(**record["model"])
    sparse, full = (forward_operations(config, layout, attention).total for attention in ("sparse", "full"))
    return record["branches"] * sparse, record["branches"] * full


def _fastest_of_ours(cells: Iterable[Cell]) -> float | None:
    """Seconds of the fastest of ours in bf16."""
    own = [median(cell) for cell in cells if cell["kind"] == "own" and "seconds" in cell and _is_bf16(cell)]
    return min(own, default=None)


def _row(cell: Cell, operations: int, ours: float | None, *, small: bool) -> str:
    """A line of the table. ours: seconds an operation of our fastest in bf16, of which `per FLOP` is a multiple."""
    if "seconds" not in cell:
        return f"{cell['name']:44} {_why_not(cell)}"
    middle, flop, byte = median(cell), 1e9 if small else 1e12, 2**20 if small else GIB
    peak = f"{cell['peak_bytes'] / byte:9.3f}" if cell.get("peak_bytes") else f"{'':9}"
    share = f"{middle / operations / ours:8.2f}x" if ours else ""
    spread = f"{middle:10.4f} {min(cell['seconds']):9.4f} {max(cell['seconds']):9.4f}"
    whole = "" if cell.get("fits", True) else "  whole it does not fit this card"
    return f"{cell['name']:44} {spread} {peak} {operations / middle / flop:8.2f} {share:>9}{whole}"


def _why_not(cell: Cell) -> str:
    if "does_not_fit" in cell:
        return f"does not fit: {cell['does_not_fit']}"
    return f"failed: {cell.get('failed', 'not known')}"


def _products(record: Record) -> Iterator[str]:
    part = record["parts"].get("gemms")
    if part is None:
        return
    yield ""
    yield "matrix products of a block in 8 bits, quantizing the activations included, against plain ones"
    for mode, found in part["modes"].items():
        shapes = ", ".join(f"{shape} {speed:.2f}" for shape, speed in found.get("shapes", {}).items())
        yield f"{mode:6} {found['speed']:.2f} x ({shapes})" if "speed" in found else f"{mode:6} {found['refused']}"


def _beginning(record: Record) -> Iterator[str]:
    part = record["parts"].get("start")
    if part is None:
        return
    yield ""
    if "new" not in part:
        yield f"from command to first step: failed: {part.get('failed')}"
        return
    for prompt in ("new", "known"):
        found = part[prompt]
        step = f"{found['first_step']:.2f} s until the first step is done, {found['step']:.2f} of it a step"
        yield f"from command, {prompt} prompt: {found['until_step']:.2f} s until the first step's work, {step}"


def _cells(record: Record) -> list[Cell]:
    return [cell for cell in record["parts"].values() if "frames" in cell]

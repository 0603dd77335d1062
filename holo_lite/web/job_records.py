"""Jobs as a page has them, and what can be said of all of them: how long, and how much of the disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from holo_lite.web.book import ENDED, JobEntry
from holo_lite.web.progress import RunProgress
from holo_lite.web.shelf import id_of
from holo_lite.worker.client import Record

COPIES_OF_LATENTS = 4  # two of a run's state, the initial noise, and the kept ones
BYTES_A_PIXEL = 0.2  # of an mp4, generously


def job_record(entry: JobEntry, live: RunProgress | None, pictures: Mapping[str, Path]) -> Record:
    """A job; live: how far it is, if it runs; pictures: those it has, by the names in their addresses."""
    previews = sorted(name for name in pictures if name.startswith("preview-"))
    address = f"/jobs/{entry.id}"
    kept = {
        name: getattr(entry, name) for name in ("id", "title", "kind", "state", "width", "height", "frames", "fps")
    }
    return {
        **kept,
        "why": entry.why or None,
        "steps": entry.steps,
        "made": {"video": entry.made_from} if entry.made_from else None,
        "file": Path(entry.order["out"]).name,
        "video": id_of(Path(entry.order["out"])) if entry.state == "done" and entry.kind != "seeds" else None,
        "preview": f"{address}/{previews[-1]}" if previews else None,
        "shots": _shots(f"{address}/{previews[-1]}", live) if previews and live is not None else [],
        "sheet": f"{address}/sheet" if "sheet" in pictures and entry.state == "done" else None,
        "seeds": [
            {"seed": seed, "url": f"{address}/seed-{seed}" if f"seed-{seed}" in pictures else None}
            for seed in entry.order.get("seeds") or ()
        ],
        **_progress(entry, live),
    }


def seconds_left(
    entries: Sequence[JobEntry], live: Mapping[str, RunProgress], pace: float | None, lanes: int = 1
) -> float | None:
    """Seconds until all that wait are done, shared by so many lanes; None: nobody can say.

    live: jobs that run. pace: seconds a unit of work took in jobs that are done; without one, that of a job that
    runs counts.
    """
    running = [(each, live[each.id]) for each in entries if each.id in live]
    for entry, progress in running:
        if pace is None and progress.left is not None:
            pace = (progress.elapsed + progress.left) / entry.work
    waiting = sum(each.work for each in entries if each.state == "waiting")
    ahead = [_left(entry, progress, pace) for entry, progress in running]
    if (waiting and pace is None) or None in ahead:
        return None
    total = sum(each or 0.0 for each in ahead) + waiting * (pace or 0.0)
    return max(total / lanes, *(each or 0.0 for each in ahead)) if ahead else total / lanes


def _left(entry: JobEntry, progress: RunProgress, pace: float | None) -> float | None:
    """Seconds that a job which runs still takes."""
    if progress.left is not None:
        return progress.left
    return entry.work * pace if pace is not None else None


def disk(entries: Sequence[JobEntry], folder: Path) -> Record | None:
    """Bytes that are free where videos go, and about how many the unfinished ones still take (arithmetic)."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    return {"free": free, "needed": sum(_bytes(each) for each in entries if each.state not in ENDED)}


def _progress(entry: JobEntry, live: RunProgress | None) -> Record:
    if live is None:
        nothing = dict.fromkeys(("phase", "left", "memory", "waited"))
        share = 1.0 if entry.state == "done" else None
        return {**nothing, "done": 0, "total": 0, "unit": "", "share": share, "elapsed": entry.seconds, "notes": []}
    names = ("phase", "done", "total", "unit", "share", "left", "elapsed", "memory", "waited", "notes")
    return {name: getattr(live, name) for name in names}


def _shots(preview: str, live: RunProgress) -> list[Record]:
    """What each shot is heading for."""
    return [
        {"caption": caption, "url": f"{preview}/{number}"} for number, caption in enumerate(live.shots, start=1)
    ]


def _bytes(entry: JobEntry) -> int:
    """About what a job takes on the disk."""
    pixels = entry.frames * entry.width * entry.height
    latents = 16 * 4 * (-(-entry.frames // 4)) * (entry.height // 8) * (entry.width // 8)
    return int(COPIES_OF_LATENTS * latents + BYTES_A_PIXEL * pixels)

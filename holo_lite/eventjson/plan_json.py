"""A plan as a record for JSON; docs/profiles.md names every field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from holo_lite.errors import FitError
from holo_lite.eventjson.event_json import VERSION
from holo_lite.eventjson.form import plain
from holo_lite.plan.cost import first_step_rate, needed_rate
from holo_lite.preflight.comparison import Outlook
from holo_lite.preflight.forecast import Forecast
from holo_lite.preflight.together import TogetherForecast


def plan_json(outlooks: Sequence[Outlook], together: TogetherForecast | FitError | None = None) -> dict[str, Any]:
    """What `plan` finds, as `json.dumps` takes it: a record for each card, in the order they were given.

    And what several make together, where there are several.
    """
    fits = any(outlook.forecast for outlook in outlooks) or isinstance(together, TogetherForecast)
    found = {"version": VERSION, "kind": "plan", "fits": fits, "plans": [_outlook(each) for each in outlooks]}
    return found if together is None else {**found, "together": _together(together)}


def _together(found: TogetherForecast | FitError) -> dict[str, Any]:
    if isinstance(found, FitError):
        return {"fits": False, "why_not": str(found), "in_short": found.short}
    spread = found.spread
    ranks = [
        {
            "device": station.name,
            "branches": list(part.branches),
            "tokens": [part.start, part.stop],
            "seconds": seconds if found.known else None,
            "plan": plain(plan),
        }
        for station, part, seconds, plan in zip(
            found.stations, spread.parts, spread.seconds, spread.plans, strict=True
        )
    ]
    return {
        "fits": True,
        "way": spread.way,
        "gain": spread.gain,
        "step": spread.step if found.known else None,
        "sent_a_block": spread.sent,
        "sent_a_step": found.sent_a_step,
        "ranks": ranks,
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    found = outlook.found
    if isinstance(found, FitError):
        return {"gpu": outlook.gpu, "fits": False, "why_not": str(found), "in_short": found.short}
    return {"gpu": outlook.gpu, "fits": True, **plain(_fields(found))}


def _fields(found: Forecast) -> dict[str, Any]:
    settings, rate = found.settings, found.rate
    return {
        "place": found.place,
        "seconds": found.seconds,
        "measured": rate.measured if rate is not None else None,
        "basis": rate.basis if rate is not None else found.no_rate,
        "model": found.model,
        "clip": {
            "frames": settings.shown.num_frames,
            "seconds": settings.shown.num_frames / settings.fps,
            "width": settings.width,
            "height": settings.height,
            "shots": len(settings.shown_captions),
            "steps": settings.steps,
        },
        "settings": json.loads(settings.to_json()),
        "notes": found.notes,
        "computing": found.computing,
        "why": found.why,
        "plan": found.plan,
        "denoising": found.rows,
        "phases": _phases(found),
        "streaming": _streaming(found),
        "first_step": _first_step(found),
        "longest": found.longest,
        "largest": found.largest,
    }


def _phases(found: Forecast) -> dict[str, Any]:
    return {
        name: {
            "steps": cost.steps,
            "operations": cost.step.total,
            "seconds": cost.seconds(found.rate) if found.rate is not None else None,
        }
        for name, cost in found.costs.items()
    }


def _first_step(found: Forecast) -> dict[str, Any]:
    """Bytes that each expert's first step reads from disk, and how many a second hide that; None: not known."""
    rate = first_step_rate(found.read, found.costs, found.rate) if found.rate is not None else None
    return {"read": found.read, "needed": rate}


def _streaming(found: Forecast) -> dict[str, Any] | None:
    """Bytes a second that must arrive so that nothing waits; of them from disk; and what the link can."""
    if found.rate is None:
        return None
    device, disk = needed_rate(found.plan, found.costs, found.rate)
    return {"needed": device, "from_disk": disk, "link": found.link}

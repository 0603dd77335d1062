"""What the first rank tells the others before a clip's steps: the run, who computes what, and what is given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from holo_lite.model.clip import Clip
from holo_lite.model.parts import Part
from holo_lite.opening.options import RecordedOptions
from holo_lite.plan.rank_plans import Spread
from holo_lite.ranks.parcel import Parcel, passed
from holo_lite.ranks.team import Team
from holo_lite.render.together import Together, WithOthers, why_of
from holo_lite.runs.record import Record
from holo_lite.sampling.frozen import FrozenLatents
from holo_lite.sampling.sampler import Context
from holo_lite.settings import RunSettings

STEPS = "steps"


@dataclass(frozen=True)
class Task:
    """The steps of a clip: its settings, how its model is opened, and how it is laid over the ranks."""

    settings: RunSettings
    opening: RecordedOptions
    spread: Spread

    def to_json(self) -> dict[str, Any]:
        """The task as the others read it: each rank's record has its own plan."""
        records = [Record(self.settings, plan, self.opening, "", {}).to_json() for plan in self.spread.plans]
        return {"do": STEPS, "records": records, "parts": [asdict(part) for part in self.spread.parts]}


def parts_of(task: dict[str, Any]) -> list[Part]:
    """Who computes what, of a task that was read."""
    return [Part(**{**part, "branches": tuple(part["branches"])}) for part in task["parts"]]


@contextmanager
def led(team: Team, task: Task, contexts: Sequence[Context], frozen: FrozenLatents | None) -> Iterator[Together]:
    """Have the others follow through a clip's steps, for as long as the context lasts.

    Raises `RanksError` where one of them cannot, or is lost.
    """
    name = team.give(task.to_json())
    together = WithOthers(team, name, task.spread.parts, Clip(task.settings.layout, task.settings.attention))
    try:
        with together.meeting("begin") as meeting:
            passed(meeting, packed(contexts, frozen))
        yield together
    except BaseException as error:
        team.end(name, why_of(error))
        raise


def packed(contexts: Sequence[Context], frozen: FrozenLatents | None) -> Parcel:
    """Prompts, and what is given of a clip, for others."""
    facts: dict[str, Any] = {"contexts": [], "frozen": None}
    tensors: dict[str, Tensor] = {}
    for number, context in enumerate(contexts):
        tensors[f"rows {number}"] = context.rows
        for shot, window in enumerate(context.windows or ()):
            tensors[f"window {number} {shot}"] = window
        relay = [[rows.start, rows.stop] for rows in context.relay] if context.relay is not None else None
        windows = None if context.windows is None else len(context.windows)
        facts["contexts"].append({"windows": windows, "relay": relay})
    if frozen is not None:
        facts["frozen"] = {"frames": frozen.frames, "kappa": frozen.kappa}
        tensors |= {"clean": frozen.clean, "noise": frozen.noise}
    return Parcel(facts, tensors)


def unpacked(parcel: Parcel) -> tuple[list[Context], FrozenLatents | None]:
    """Prompts, and what is given of a clip, as `packed` has them."""
    contexts, tensors = [], parcel.tensors
    for number, fact in enumerate(parcel.facts["contexts"]):
        windows, relay = fact["windows"], fact["relay"]
        rows = None if windows is None else tuple(tensors[f"window {number} {shot}"] for shot in range(windows))
        heard = None if relay is None else tuple(range(*bounds) for bounds in relay)
        contexts.append(Context(tensors[f"rows {number}"], rows, heard))
    given = parcel.facts["frozen"]
    if given is None:
        return contexts, None
    return contexts, FrozenLatents(tuple(given["frames"]), tensors["clean"], tensors["noise"], given["kappa"])


def record_of(task: dict[str, Any], rank: int) -> Record:
    """A rank's record of a task that was read."""
    return Record.from_json(json.dumps(json.loads(task["records"][rank])))

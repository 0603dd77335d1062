"""A clip's steps on a rank that follows: the same as on the first, which alone reads prompts, saves and decodes."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

from holo_lite.model.clip import Clip
from holo_lite.model.parts import Part
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.rung_memory import RungMemory
from holo_lite.ranks.parcel import passed
from holo_lite.ranks.team import Team
from holo_lite.render.denoise_phase import Denoiser, restored_cache
from holo_lite.render.leading import parts_of, record_of, unpacked
from holo_lite.render.pipeline import Pipeline
from holo_lite.render.together import WithOthers
from holo_lite.runs.record import Record
from holo_lite.sampling.sampler import Guidance
from holo_lite.settings import RunSettings
from holo_lite.system.cache_folder import cache_folder
from holo_lite.weights.audit import Audit


@dataclass
class Follower:
    """One rank of a team, which does what the first one tells it. The model of the last task stays open."""

    team: Team
    device: str
    _opened: tuple[Any, Pipeline] | None = None

    def steps(self, name: str, task: dict[str, Any]) -> None:
        """Compute this rank's part of a clip's steps. Raises what a run raises, and `RanksError`."""
        record = record_of(task, self.team.rank)
        pipeline = self._pipeline(record)
        settings, parts = record.settings, parts_of(task)
        together = WithOthers(self.team, name, parts, Clip(settings.layout, settings.attention))
        remembered = _remembered(pipeline, settings, parts[self.team.rank])
        with pipeline.session(record.plan) as audit:
            with together.meeting("begin") as meeting:
                contexts, frozen = unpacked(passed(meeting))
            experts = [pipeline.model.folder.experts[step.expert] for step in settings.schedule]
            audit.streamed(*dict.fromkeys(experts), rest=True)
            guidance = Guidance.of(contexts, settings.cfg, settings.cfg_until, settings.cfg_low)
            denoiser = Denoiser(
                pipeline.model.experts,
                settings,
                guidance,
                torch.empty(0),  # the first rank's come with the first attempt
                0,
                restored_cache(settings, {}, pipeline.model.device),
                keep=remembered.keep,
                frozen=frozen,
                witness=audit.saw,
                settle=_settling(audit, experts),
                together=together,
            )
            deque(denoiser.run(remembered.apply(record.plan)), maxlen=0)

    def _pipeline(self, record: Record) -> Pipeline:
        """The model of a task, opened here."""
        model, options = record.opening.to_load({"device": self.device, "devices": ()})
        if self._opened is None or self._opened[0] != (model, options):
            self._opened = None
            self._opened = (model, options), Pipeline.load(model, options)
        return self._opened[1]


def _remembered(pipeline: Pipeline, settings: RunSettings, part: Part) -> RungMemory:
    """What this rank's machine had to take for such a part of such a clip: a run that goes on begins with it."""
    request = dataclasses.replace(ClipRequest.of(settings), part=part)
    return RungMemory.of(cache_folder(), pipeline.choice.machine.name, pipeline.model.sizes, request)


def _settling(audit: Audit, experts: list[Any]) -> Any:
    def settle(done: int) -> None:
        audit.settle(experts[done - 1])

    return settle

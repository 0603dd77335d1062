"""What a run of the gate found, in one record: for the table, the JSON line, and a file to compare with later."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holo_lite.errors import OutputError
from holo_lite.evaluation.kinds import Directing
from holo_lite.evaluation.likeness import Likeness
from holo_lite.evaluation.marks import Marks
from holo_lite.evaluation.outcome import Outcome, Verdict
from holo_lite.evaluation.scores import Estimate, Score, mean, ratios, score_all
from holo_lite.evaluation.seeds import DEVELOPMENT
from holo_lite.settings import RunSettings
from holo_lite.system.outputs import write_output, writing
from holo_lite.system.whole_files import make_folder
from holo_lite.tiny.drawing import describe

DIGITS = 4  # of a share, in JSON
TARGETS = {"cuts": 0.98, "adherence": 0.95, "identity": 0.95}  # of a model that was trained on this world
DIRECTING_TARGETS = {
    "retake": {"cuts": 0.97, "adherence": 0.97, "trait": 0.88},
    "extend": {"cuts": 0.93, "adherence": 0.97, "trait": 0.95, "adherence, 3": 0.92, "trait, 3": 0.85},
    "reference, 1 picture": {"trait": 0.75},
    "reference, 2 pictures": {"trait": 0.92},
    "first frame": {"trait": 0.90},
}
MOST_APART = 3.0  # of 255: from its picture to the first frame of a shot


@dataclass(frozen=True)
class ModelNames:
    """What was compared, as the person named it. directing: what became of the storyboards."""

    model: str
    baseline: str | None = None
    ablation: str | None = None
    directing: Directing | None = None

    @property
    def beside(self) -> str | None:
        """What the second column of scores is of; None: there is none."""
        if self.directing is not None:
            return None if self.directing.alone else "nothing given"
        return None if self.baseline is None else "baseline"

    @property
    def targets(self) -> Mapping[str, float]:
        """The least that scores should be; an ablation has no targets."""
        if self.ablation is not None:
            return {}
        return TARGETS if self.directing is None else DIRECTING_TARGETS[self.directing.name]


@dataclass(frozen=True)
class QualityReport:
    """All scores of a run, pooled over its seeds. The three after them are empty without a baseline."""

    names: ModelNames
    settings: RunSettings  # of the first storyboard
    storyboards: int
    scores: Mapping[str, Score]
    baseline: Mapping[str, Score]
    ratios: Mapping[str, Estimate]
    likeness: Mapping[str, Estimate]
    skipped: int = 0  # steps, of all storyboards
    seeds: tuple[int, ...] = DEVELOPMENT
    apart: Estimate | None = None  # the first frame of a shot from its picture, of 255

    @classmethod
    def of(
        cls, names: ModelNames, outcomes: Sequence[Outcome], seeds: Sequence[int] = DEVELOPMENT
    ) -> QualityReport:
        """Add up the storyboards marked so far, at least one."""
        marks = [each.verdict.marks for each in outcomes]
        baseline = [each.baseline.marks for each in outcomes if each.baseline]
        alike = [each.likeness for each in outcomes if each.likeness]
        apart = [each.apart for each in outcomes if each.apart is not None]
        return cls(
            names,
            outcomes[0].settings,
            len(outcomes),
            score_all(marks),
            score_all(baseline) if baseline else {},
            ratios(marks, baseline) if baseline else {},
            _likeness(alike) if alike else {},
            sum(each.skipped for each in outcomes),
            tuple(seeds),
            mean(apart) if apart else None,
        )

    @property
    def short(self) -> Mapping[str, float]:
        """The targets that scores fall short of, by score."""
        found = {name: score.share.value for name, score in self.scores.items()}
        return {name: least for name, least in self.names.targets.items() if found.get(name, 1.0) < least}

    @property
    def is_apart(self) -> bool:
        """Whether first frames are further from their pictures than they should be."""
        return self.apart is not None and bool(self.names.targets) and self.apart.value > MOST_APART

    def record(self) -> dict[str, Any]:
        """Everything but the storyboards, ready for JSON."""
        settings, directing = self.settings, self.names.directing
        asked = ("height", "width", "steps", "cfg", "cfg_until", "cache")
        kept = (*asked, "dtype", "device", "attention", "computing", "made_with")
        return {
            "evaluation": "drawn world",
            "model": self.names.model,
            "baseline": self.names.baseline,
            "ablate": self.names.ablation,
            "directing": directing.kind if directing else None,
            "pictures": directing.pictures if directing and directing.kind == "reference" else None,
            "kappa": settings.frozen.kappa if directing else None,
            "storyboards": self.storyboards,
            "seeds": list(self.seeds),
            **{name: getattr(settings, name) for name in kept},
            "weights": settings.model,
            "lora": [dataclasses.asdict(each) for each in settings.lora],
            "skipped": self.skipped,
            "scores": _plain(self.scores),
            "baseline_scores": _plain(self.baseline),
            "ratios": _plain(self.ratios),
            "likeness": _plain(self.likeness),
            "apart": _numbers(self.apart) if self.apart else None,
            "below_target": dict(self.short),
            "above_target": {"apart": MOST_APART} if self.is_apart else {},
        }

    def to_json(self) -> str:
        """The record on one line."""
        return json.dumps(self.record(), ensure_ascii=False)


def check_place(path: Path) -> None:
    """Make sure, before hours of work, that a file can be written; its folder is made. Raises `OutputError`."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")
    with writing(path):
        make_folder(path.parent)
        tempfile.TemporaryFile(dir=path.parent).close()


def save(path: Path, report: QualityReport, outcomes: Sequence[Outcome]) -> None:
    """Write the record with every storyboard in it. Raises `OutputError`."""
    found = {**report.record(), "each": [_one(each) for each in outcomes]}
    write_output(path, json.dumps(found, ensure_ascii=False, indent=1).encode())


def _likeness(alike: Sequence[Likeness]) -> dict[str, Estimate]:
    names = [field.name for field in dataclasses.fields(Likeness)]
    return {name: mean([getattr(each, name) for each in alike]) for name in names}


def _plain(found: Mapping[str, Score] | Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """For each name its value and the ends of its interval; for scores, of how many chances."""
    return {name: _numbers(value) for name, value in found.items()}


def _numbers(found: Score | Estimate) -> dict[str, float]:
    if isinstance(found, Score):
        return {**_numbers(found.share), "of": found.of}
    return {name: round(value, DIGITS) for name, value in dataclasses.asdict(found).items()}


def _one(outcome: Outcome) -> dict[str, Any]:
    return {
        "index": outcome.index,
        "seed": outcome.settings.seed,
        "skipped": outcome.skipped,
        "frames": outcome.scene.frames,
        "prompt": outcome.settings.storyboard.prompt,
        "cuts": list(outcome.scene.cuts),
        "model": _verdict(outcome.verdict),
        "baseline": outcome.baseline and _verdict(outcome.baseline),
        "likeness": outcome.likeness and dataclasses.asdict(outcome.likeness),
        "apart": None if outcome.apart is None else round(outcome.apart, DIGITS),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    shots = [
        {
            "framing": reading.framing,
            "motion": reading.motion,
            "characters": [describe(character) for character in reading.characters],
            "wall": f"{reading.wall.pattern} {reading.wall.colour}",
            "residual": round(reading.residual, 4),
        }
        for reading in verdict.readings
    ]
    return {"cuts": list(verdict.cuts), "shots": shots, "marks": _hits(verdict.marks)}


def _hits(marks: Marks) -> dict[str, list[int]]:
    return {name: [count.hits, count.of] for name, count in marks.items()}

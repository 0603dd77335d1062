"""The gate of directing: a film, then a shot of it again or more of its story; or a film with pictures given.

It is a generator of events, as the gate's run is. A storyboard's scene, what it is asked for next and its noise
follow from seed and number alone. In an outcome the *baseline* is the same model with the same prompt and noise, of
which nothing is frozen. There is none where films are judged alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial

import numpy as np

from holo_lite.cancel import Cancel
from holo_lite.evaluation.kinds import Directing
from holo_lite.evaluation.old_films import extend, retake
from holo_lite.evaluation.outcome import EvaluationStarted, Event, StoryboardJudged
from holo_lite.evaluation.pictured_films import begin_with_picture, refer
from holo_lite.evaluation.reading import Reader
from holo_lite.evaluation.run import scene_of, strangeness, turns_of
from holo_lite.evaluation.seeds import DEVELOPMENT
from holo_lite.evaluation.studio import Set, Studio, Turn
from holo_lite.settings import NOTHING_SAID, Options
from holo_lite.tiny.words import storyboard

NEXT = 1  # what is drawn for what comes after a film, next to its seed and number
Direct = Callable[[Set, Turn], StoryboardJudged]


def evaluate_directing(
    directing: Directing,
    model: Studio,
    storyboards: int = 200,
    options: Options = NOTHING_SAID,
    seeds: Sequence[int] = DEVELOPMENT,
    cancel: Cancel | None = None,
) -> Generator[Event, None, None]:
    """Make films and direct them: `EvaluationStarted`, then `StoryboardJudged` for each.

    Raises, before the first event, `SettingsError` for what cannot be run.
    """
    turns = list(_turns(model, turns_of(storyboards, seeds), options))
    settings = turns[0].job.settings
    stage = Set(model, Reader.of(settings.height, settings.width), directing.alone)
    return (cancel or Cancel()).between(_events(_way(directing), stage, turns))


def _turns(model: Studio, turns: Sequence[tuple[int, int]], options: Options) -> Iterator[Turn]:
    """Everything about each storyboard, decided and checked."""
    scenes = [scene_of(*turn) for turn in turns]
    each = [dataclasses.replace(options, seed=seed + index) for seed, index in turns]
    jobs = model.prepare([storyboard(scene) for scene in scenes], each)
    for index, turn in enumerate(turns):
        rng = np.random.default_rng([*turn, NEXT])
        yield Turn(index, scenes[index], jobs[index], each[index], rng)


def _way(directing: Directing) -> Direct:
    """What is done with a storyboard in its turn."""
    ways: dict[str, Direct] = {
        "retake": retake,
        "extend": partial(extend, chain=directing.chain),
        "reference": partial(refer, pictures=directing.pictures),
        "first frame": begin_with_picture,
    }
    return ways[directing.kind]


def _events(direct: Direct, stage: Set, turns: Sequence[Turn]) -> Generator[Event, None, None]:
    lines = stage.studio.pipeline.model.setup.lines
    yield EvaluationStarted(len(turns), turns[0].job.settings, tuple(strangeness(stage.studio)), lines)
    stage.studio.read([turn.job for turn in turns])
    for turn in turns:
        yield direct(stage, turn)

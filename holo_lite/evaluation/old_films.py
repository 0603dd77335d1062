"""A film made first, then a shot of it again, or more of its story."""

from __future__ import annotations

import dataclasses

from holo_lite.directing.retake import retaken
from holo_lite.evaluation.held_film import Continuation
from holo_lite.evaluation.new_shots import Traits, traits_shown
from holo_lite.evaluation.outcome import StoryboardJudged, Verdict
from holo_lite.evaluation.redrawn import again, further
from holo_lite.evaluation.studio import Made, Set, Turn, judged
from holo_lite.tiny.words import act_caption, storyboard


def retake(stage: Set, turn: Turn) -> StoryboardJudged:
    """One shot again from another seed, all others frozen; and nothing frozen."""
    old = stage.make(turn.scene, turn.job)
    place, scene = again(old.scene, turn.rng)
    traits = traits_shown(old.scene, old.readings, but=place)
    board, given = retaken(old.held, {place + 1: act_caption(scene.acts[place])})
    said = dataclasses.replace(turn.options, seed=old.job.settings.seed + 1)
    new = stage.make(scene, stage.studio.job(board, said, given))
    free = stage.make_free(scene, lambda: stage.studio.job(board, said))
    return judged(turn, new, free, lambda made: made.verdict([place], traits))


def extend(stage: Set, turn: Turn, chain: int) -> StoryboardJudged:
    """Continuations in a row, of which every one remembers the one before; and the first without memory."""
    old = stage.make(turn.scene, turn.job)
    traits = traits_shown(old.scene, old.readings)
    made = [old]
    for _ in range(chain):
        scene = further(made[-1].scene, turn.rng)
        following = Continuation(made[-1].held, storyboard(scene))
        made.append(stage.make(scene, stage.studio.job(following, turn.options)))
    _, first, *others = made
    free = stage.make_free(first.scene, lambda: stage.studio.job(storyboard(first.scene), turn.options))
    found = judged(turn, first, free, lambda film: _marked(film, traits))
    marks = dict(found.outcome.verdict.marks)
    for number, film in enumerate(others, start=2):
        marks |= {f"{name}, {number}": count for name, count in _marked(film, traits).marks.items()}
    verdict = dataclasses.replace(found.outcome.verdict, marks=marks)
    return dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, verdict=verdict))


def _marked(film: Made, traits: Traits) -> Verdict:
    return film.verdict(range(len(film.scene.acts)), traits)

"""A film that drawn pictures are given to: do its characters have the trait that only a picture shows?

The pictures are files that a storyboard names, and go the way that anybody's pictures go.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from holo_lite.evaluation.new_shots import Traits
from holo_lite.evaluation.outcome import StoryboardJudged, Verdict
from holo_lite.evaluation.studio import Made, Set, Turn, judged
from holo_lite.film.fitting import Pixels
from holo_lite.story.storyboard import Reference, Storyboard
from holo_lite.tiny.drawing import still
from holo_lite.tiny.words import act_caption, storyboard
from holo_lite.tiny.world import FRAMINGS, Act, Scene

OTHERS = "trait, other shots"


def refer(stage: Set, turn: Turn, pictures: int) -> StoryboardJudged:
    """A film with so many drawn pictures of every character as references; and without any."""
    with TemporaryDirectory() as folder:
        board = with_references(turn.scene, stage.size(turn.job), pictures, Path(folder))
        new = stage.make(turn.scene, stage.studio.job(board, turn.options))
    free = stage.make_free(turn.scene, lambda: turn.job)
    every = range(len(turn.scene.acts))
    traits = {index: character.trait for index, character in enumerate(turn.scene.characters)}
    return judged(turn, new, free, lambda made: made.verdict(every, traits))


def begin_with_picture(stage: Set, turn: Turn) -> StoryboardJudged:
    """A film of which one shot begins with a drawn picture; and without."""
    place = int(turn.rng.integers(len(turn.scene.acts)))
    act = turn.scene.acts[place]
    picture = still(turn.scene, act, *stage.size(turn.job))
    with TemporaryDirectory() as folder:
        path = _written(Path(folder) / "first.png", picture)
        board = storyboard(turn.scene).with_images({place + 1: str(path)})
        new = stage.make(turn.scene, stage.studio.job(board, turn.options))
    free = stage.make_free(turn.scene, lambda: turn.job)
    traits = {index: turn.scene.characters[index].trait for index in act.cast}
    found = judged(turn, new, free, lambda made: _marked(made, place, traits))
    apart = _apart(new, place, picture)
    return dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, apart=apart))


def with_references(scene: Scene, size: tuple[int, int], pictures: int, folder: Path) -> Storyboard:
    """A scene's storyboard with so many drawn pictures of every character: a close-up, then a medium shot."""
    acts = [
        Act(framing, "still", (index,)) for index in range(len(scene.characters)) for framing in FRAMINGS[:pictures]
    ]
    references = tuple(
        Reference(act_caption(act), str(_written(folder / f"{number}.png", still(scene, act, *size))))
        for number, act in enumerate(acts)
    )
    return dataclasses.replace(storyboard(scene), references=references)


def _marked(made: Made, place: int, traits: Traits) -> Verdict:
    """All shots marked; the trait by itself in the shot that begins with the picture, and in the others."""
    every = range(len(made.scene.acts))
    found, alone = made.verdict(every, traits), made.verdict([place], traits)
    others = made.verdict([other for other in every if other != place], traits)
    marks = {**found.marks, "trait": alone.marks["trait"], OTHERS: others.marks["trait"]}
    return dataclasses.replace(found, marks=marks)


def _apart(made: Made, place: int, picture: Pixels) -> float:
    """How far the frame with which a shot begins is from a picture: the mean over its pixels, of 255."""
    start, _ = made.job.settings.shown.shot_frames[place]
    frame = made.film.frames[start].numpy()
    return float(np.abs(frame.astype(np.int16) - picture).mean())


def _written(path: Path, picture: Pixels) -> Path:
    Image.fromarray(picture).save(path)
    return path

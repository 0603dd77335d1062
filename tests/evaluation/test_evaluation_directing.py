"""The gate of directing: what it asks for, how it marks what comes back, and its way through the product."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from drawn import SCENE, truth, with_act, with_character

from holo_lite import Extension, Options, Pipeline, finish
from holo_lite.directing.old_film import OldFilm
from holo_lite.errors import SettingsError
from holo_lite.evaluation.directing import evaluate_directing
from holo_lite.evaluation.held_film import Continuation, HeldFilm
from holo_lite.evaluation.kinds import Directing
from holo_lite.evaluation.new_shots import mark_new, traits_shown
from holo_lite.evaluation.outcome import Film, StoryboardJudged
from holo_lite.evaluation.redrawn import again, further
from holo_lite.evaluation.run import scene_of
from holo_lite.evaluation.studio import Set, Studio
from holo_lite.render.preparing import Preparer
from holo_lite.runs.kept_latents import read_latents
from holo_lite.tiny.drawing import draw_frame, still
from holo_lite.tiny.words import act_caption, storyboard
from holo_lite.tiny.world import FRAMINGS, Act, Trait

OTHER = Trait(pale=True, spotted=True)  # than that of the red square of SCENE
FIRST_FRAME = Directing("first frame")
SCENES = [scene_of(0, index) for index in range(60)]


def hits(marks):
    return {name: (count.hits, count.of) for name, count in marks.items()}


def changed(scene):
    """The same with the opposite trait of every character."""
    for index, character in enumerate(scene.characters):
        trait = Trait(not character.trait.pale, not character.trait.spotted)
        scene = with_character(scene, index, trait=trait)
    return scene


def draw_still(scene, act):
    return still(scene, act, 64, 112)


def latents_given(job):
    """The latents of all frozen frames, none of which have to be encoded."""
    reading = job.given.latents(None)
    with pytest.raises(StopIteration) as end:
        next(reading)
    return end.value.value


def drawn(scene, spans):
    """A scene drawn as a video of these shots."""
    frames = [
        draw_frame(scene, act, time, 64, 112)
        for act, (start, end) in zip(scene.acts, spans, strict=True)
        for time in range(end - start)
    ]
    return torch.from_numpy(np.round(np.stack(frames) * 255).astype(np.uint8))


@pytest.fixture
def as_if_made(monkeypatch):
    """Films are drawn: what is given is kept, and what is not comes with the opposite traits. → all jobs."""
    jobs = []

    def make(self, scene, job):
        is_new = len(jobs) > 0
        jobs.append(job)
        shown = changed(scene) if is_new and not job.settings.frozen.shots else scene
        latents = torch.zeros(16, job.settings.layout.latent_frames, 8, 14)
        return self.read(scene, job, Film(drawn(shown, job.settings.shown.shot_frames), latents))

    monkeypatch.setattr(Set, "make", make)
    monkeypatch.setattr(Studio, "read", lambda *_: None)
    return jobs


@pytest.fixture(scope="module")
def studio():
    return Studio(Pipeline.load())


def judged(studio, directing, storyboards=1, **options):
    events = evaluate_directing(directing, studio, storyboards, Options(**options), seeds=(4,))
    return [event for event in events if isinstance(event, StoryboardJudged)]


def test_a_shot_again_is_framed_and_moves_in_another_way_and_every_cut_can_be_seen():
    for number, scene in enumerate(SCENES):
        place, new = again(scene, np.random.default_rng(number))
        assert new.acts[place].framing != scene.acts[place].framing
        assert new.acts[place].motion != scene.acts[place].motion
        assert dataclasses.replace(new, acts=scene.acts) == scene
        assert [act for at, act in enumerate(new.acts) if at != place] == [
            act for at, act in enumerate(scene.acts) if at != place
        ]
        assert new.cuts == scene.cuts
        assert new.acts[place].cast == scene.acts[place].cast
        assert all(one.framing != other.framing for one, other in pairwise(new.acts))


def test_more_shots_have_the_same_characters_and_follow_the_last_one():
    for number, scene in enumerate(SCENES):
        new = further(scene, np.random.default_rng(number))
        assert (new.wall, new.characters, len(new.acts)) == (scene.wall, scene.characters, 3)
        assert all(one.framing != other.framing for one, other in pairwise([scene.acts[-1], *new.acts]))


def test_a_trait_is_that_of_most_shots_of_the_old_film_as_it_was_read():
    readings = truth(with_character(SCENE, 0, trait=OTHER))
    blue = SCENE.characters[1].trait
    assert traits_shown(SCENE, readings) == {0: OTHER, 1: blue}
    odd = [*readings[:3], dataclasses.replace(readings[3], characters=SCENE.characters)]
    assert traits_shown(SCENE, odd)[0] == OTHER, "two shots of three"
    assert traits_shown(SCENE, odd, but=0)[0] == OTHER, "of as many the earlier"
    lost = [dataclasses.replace(reading, characters=()) for reading in readings]
    assert traits_shown(SCENE, lost) == {}


def test_only_new_shots_are_marked_and_each_fault_by_its_own_score():
    traits = traits_shown(SCENE, truth(SCENE))
    full = {"adherence": (1, 1), "who": (1, 1), "framing": (1, 1), "motion": (1, 1), "setting": (1, 1)}

    def marked(shown, cuts=SCENE.cuts):
        return hits(mark_new(SCENE, cuts, truth(shown), [1], traits))

    assert marked(SCENE) == {"cuts": (1, 1), **full, "trait": (2, 2)}
    assert marked(with_act(SCENE, 0, framing="wide shot")) == marked(SCENE), "an old shot"
    assert marked(with_character(SCENE, 0, trait=OTHER)) == {**marked(SCENE), "trait": (1, 2)}
    assert marked(SCENE, cuts=SCENE.cuts[1:]) == {**marked(SCENE), "cuts": (0, 1)}
    lost = marked(with_act(SCENE, 1, cast=(0,)))
    assert lost == {**marked(SCENE), "who": (0, 1), "adherence": (0, 1), "trait": (0, 2)}
    still = marked(with_act(SCENE, 1, motion="still"))
    assert still == {**marked(SCENE), "motion": (0, 1), "adherence": (0, 1)}


def test_a_retake_is_compared_with_the_same_prompt_and_noise_and_nothing_given(studio, as_if_made):
    (found,) = judged(studio, Directing("retake"))
    old, new, free = (job.settings for job in as_if_made)
    assert new.seed == free.seed == old.seed + 1
    assert new.storyboard == free.storyboard != old.storyboard
    assert len(new.frozen.shots) == new.layout.shots - 1
    assert not free.frozen.shots
    kept, lost = hits(found.outcome.verdict.marks), hits(found.outcome.baseline.marks)
    assert all(count == (of, of) for count in kept.values() for of in (count[1],))
    assert kept["trait"][0] > 0
    assert lost == {**kept, "trait": (0, kept["trait"][1])}


def test_every_continuation_remembers_the_one_before_it(studio, as_if_made):
    (found,) = judged(studio, Directing("extend", chain=3))
    old, first, second, third, free = (job.settings for job in as_if_made)
    assert first.frozen.memory == old.layout.shots
    assert second.frozen.memory == third.frozen.memory == 5, "three shots of its film, and two of those before"
    assert all(shot.frames == 2 for shot in third.frozen.shots)
    assert free.storyboard.shots == first.storyboard.shots
    assert not free.frozen.memory
    kept, lost = hits(found.outcome.verdict.marks), hits(found.outcome.baseline.marks)
    assert {"trait", "trait, 2", "trait, 3", "cuts, 3"} < {*kept}
    assert all(count[0] == count[1] for count in kept.values())
    assert lost == {**{name: kept[name] for name in lost}, "trait": (0, kept["trait"][1])}
    assert len(found.film.frames) == found.outcome.scene.frames, "the picture compares it with the drawing"


def test_a_film_in_memory_is_continued_as_its_file_is(toy_copy, tmp_path):
    """The same memory, captions, options and notes, and the same latents given."""
    pipeline = Pipeline.load(toy_copy)
    board, next_board = (storyboard(scene) for scene in SCENES[:2])
    film = tmp_path / "film.mp4"
    finish(pipeline.generate(board, film, Options(height=32, width=64, steps=1, cfg=1.0, seed=3)))
    old = OldFilm.read(film)
    held = HeldFilm.of(Film(torch.zeros(0), read_latents(old.kept, old.settings)), old.settings)
    jobs = [pipeline.prepare(each) for each in (Extension(film, next_board), Continuation(held, next_board))]
    on_disk, in_memory = (job.settings for job in jobs)
    assert in_memory.storyboard == on_disk.storyboard
    assert in_memory.options == on_disk.options
    assert jobs[0].notes == jobs[1].notes
    shots = [dataclasses.replace(shot, fingerprint="") for shot in on_disk.frozen.shots]
    assert shots == [dataclasses.replace(shot, fingerprint="") for shot in in_memory.frozen.shots]
    one, other = (latents_given(job) for job in jobs)
    assert torch.equal(one, other)
    assert one.shape[1] == 2 * len(shots)


def test_a_memory_that_the_card_has_no_room_for_is_cut_in_the_gate_too(studio, as_if_made, monkeypatch):
    monkeypatch.setattr(Preparer, "_fits", lambda _, board, __: len(board.references) <= 2)
    judged(studio, Directing("extend"))
    old, first, _ = (job.settings for job in as_if_made)
    assert old.layout.shots > 2
    assert first.frozen.memory == 2
    assert any("left out shots" in note for note in as_if_made[1].notes)


@pytest.mark.parametrize("pictures", [1, 2])
def test_references_show_every_character_as_it_is_drawn_and_nothing_else_does(studio, as_if_made, pictures):
    (found,) = judged(studio, Directing("reference", pictures=pictures))
    scene, (new, free) = found.outcome.scene, as_if_made
    shown = [Act(f, "still", (i,)) for i in range(len(scene.characters)) for f in FRAMINGS[:pictures]]
    assert [each.caption for each in new.settings.storyboard.references] == [act_caption(act) for act in shown]
    assert [shot.frames for shot in new.settings.frozen.shots] == [2] * len(shown)
    for act, source in zip(shown, new.given.sources, strict=True):
        assert all((frame == draw_still(scene, act)).all() for frame in source.open())
    assert free.settings.storyboard.shots == new.settings.storyboard.shots
    assert not free.settings.storyboard.references
    kept, lost = hits(found.outcome.verdict.marks), hits(found.outcome.baseline.marks)
    appearances = sum(len(act.cast) for act in scene.acts)
    assert kept["adherence"] == (len(scene.acts), len(scene.acts))
    assert kept["trait"] == (appearances, appearances)
    assert lost == {**kept, "trait": (0, appearances)}
    assert found.outcome.apart is None


def test_a_shot_begins_with_the_drawn_picture_and_the_other_shots_are_scored_apart(studio, as_if_made):
    (found,) = judged(studio, Directing("first frame"))
    scene, (new, free) = found.outcome.scene, as_if_made
    (place,) = [at for at, shot in enumerate(new.settings.storyboard.shots) if shot.image]
    memory, begun = new.settings.frozen.shots
    assert (memory.shot, memory.frames) == (1, 2)
    assert (begun.shot, begun.frames) == (place + 2, 1)
    for source in new.given.sources:
        assert all((frame == draw_still(scene, scene.acts[place])).all() for frame in source.open())
    assert not free.given.sources
    cast = scene.acts[place].cast
    others = sum(index in cast for at, act in enumerate(scene.acts) for index in act.cast if at != place)
    kept, lost = hits(found.outcome.verdict.marks), hits(found.outcome.baseline.marks)
    assert kept["trait"] == (len(cast), len(cast))
    assert kept["trait, other shots"] == (others, others)
    assert lost == {**kept, "trait": (0, len(cast)), "trait, other shots": (0, others)}
    assert kept["adherence"] == (len(scene.acts), len(scene.acts))
    assert found.outcome.apart == 0


@pytest.mark.usefixtures("as_if_made")
def test_how_far_a_first_frame_is_from_its_picture_is_the_mean_over_its_pixels(studio, monkeypatch):
    """Only the frame with which the shot begins is another, by two of 255 in half of its columns."""
    made = Set.make

    def altered(self, scene, job):
        film = made(self, scene, job)
        if not job.settings.frozen.shots:
            return film
        (place,) = [at for at, shot in enumerate(job.settings.storyboard.shots) if shot.image]
        start, _ = job.settings.shown.shot_frames[place]
        film.film.frames[start, :, ::2] ^= 2
        return film

    monkeypatch.setattr(Set, "make", altered)
    for found in judged(studio, Directing("first frame"), storyboards=4):
        assert found.outcome.apart == 1.0


@pytest.mark.parametrize("kind", ["retake", "extend", "reference", "first frame"])
def test_alone_a_film_is_what_it_is_next_to_another_which_is_not_made(studio, as_if_made, kind):
    (both,) = judged(studio, Directing(kind))
    jobs = [job.settings for job in as_if_made]
    as_if_made.clear()
    (found,) = judged(studio, Directing(kind, alone=True))
    assert len(as_if_made) == len(jobs) - 1
    assert [job.settings.storyboard.prompt for job in as_if_made] == [each.storyboard.prompt for each in jobs[:-1]]
    assert found.outcome.verdict == both.outcome.verdict
    assert (both.baseline_film is None, both.outcome.baseline is None) == (False, False)
    assert (found.baseline_film, found.outcome.baseline) == (None, None)


def test_kappa_reaches_the_clips(studio, as_if_made):
    judged(studio, Directing("retake"), kappa=0.25)
    assert as_if_made[1].settings.frozen.kappa == 0.25


def test_a_small_model_is_directed_through_the_whole_product(toy_copy):
    studio = Studio(Pipeline.load(toy_copy))
    for directing in (Directing("retake"), Directing("extend", chain=2), Directing("reference"), FIRST_FRAME):
        (found,) = judged(studio, directing, height=32, width=64, steps=1, cfg=1.0)
        assert found.outcome.verdict.marks["cuts"].of == 1
        assert not torch.equal(found.film.frames, found.baseline_film.frames[: len(found.film.frames)])


def test_a_chain_of_no_length_and_too_many_pictures_are_refused():
    with pytest.raises(SettingsError, match="--chain 0: give a number from 1 to 10"):
        Directing("extend", 0)
    with pytest.raises(SettingsError, match="--pictures 3: give 1 or 2"):
        Directing("reference", pictures=3)

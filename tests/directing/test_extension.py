"""A film continued: its shots are seen and not shown, the memory stays small, and two films are joined whole."""

import dataclasses
from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file
from toy_files import toy_model

from holo_lite import Options, Pipeline, Shot, Storyboard, finish
from holo_lite.directing.extension import Extension
from holo_lite.directing.joined import join
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.remembering import USUAL, ranking, remembered, tags_and_framing
from holo_lite.directing.retake import Retake
from holo_lite.errors import HoloError, OutputError, SettingsError
from holo_lite.film.video import probe, read_metadata
from holo_lite.film.video_frames import video_frames
from holo_lite.runs.kept_latents import latents_path
from holo_lite.settings import RunSettings
from holo_lite.story.memory import behind, without
from holo_lite.story.shots import ShotLayout

BOARD = Storyboard(
    "[character1] is a man. [character2] is a dog.",
    (Shot("Wide shot of [character1]."), Shot("Close-up of [character2]."), Shot("A door.", frames=None)),
)
NEXT = Storyboard(
    "[character1] is a man. [character2] is a dog.", (Shot("[character2] runs."), Shot("He follows."))
)
SMALL = Options(frames=25, height=16, width=32, steps=2)


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


@pytest.fixture(scope="module")
def old(toy, tmp_path_factory):
    video = tmp_path_factory.mktemp("old") / "old.mp4"
    finish(toy.generate(BOARD, video, SMALL))
    return video


@pytest.fixture(scope="module")
def part(toy, old):
    video = old.with_name("part.mp4")
    finish(toy.extend(old, NEXT, video, Options(frames=17)))
    return video


def latents(video):
    return load_file(latents_path(video))["latents"]


def settings_of(video):
    return RunSettings.from_json(read_metadata(video))


def test_the_beginning_of_every_old_shot_is_seen_and_not_shown(old, part):
    found, before = settings_of(part), settings_of(old)
    begins = [span for shot in range(3) for span in before.layout.frame_span(shot)[:2]]
    assert torch.equal(latents(part)[:, :6], latents(old)[:, begins])
    assert (found.frozen.memory, found.layout.latent_frames) == (3, 6 + 5)
    assert probe(part).frames == found.shown.num_frames == 20
    assert [shot.source_shot for shot in found.frozen.shots] == [1, 2, 3]
    assert found.storyboard.prompt.count("[shot cut]") == 4


def test_a_continuation_can_be_continued_and_the_memory_does_not_grow(toy, part, tmp_path):
    video = part
    for turn in range(4):
        following = tmp_path / f"part{turn}.mp4"
        finish(toy.extend(video, NEXT, following, Options(frames=9, steps=1)))
        assert settings_of(following).frozen.memory == min(USUAL, settings_of(video).frozen.memory + 2)
        video = following


def test_a_shot_of_a_continuation_can_be_made_again(toy, part, tmp_path):
    finish(toy.retake(part, {2: "He sits."}, tmp_path / "new.mp4"))
    now, before = latents(tmp_path / "new.mp4"), latents(part)
    first = settings_of(part).layout.frame_span(4).start
    assert torch.equal(now[:, :first], before[:, :first])
    assert not torch.equal(now[:, first:], before[:, first:])
    assert probe(tmp_path / "new.mp4").frames == 20


def test_two_films_are_one_without_loss_and_it_goes_on(toy, old, part, tmp_path):
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(part.read_bytes())
    latents_path(joined).write_bytes(latents_path(part).read_bytes())
    join(old, joined)
    expected = [*video_frames(old), *video_frames(part)]
    found = list(video_frames(joined))
    assert len(found) == 45
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))
    assert settings_of(joined).frozen.before == 25
    join(old, joined)
    assert probe(joined).frames == 45
    assert toy.prepare(Extension(joined, NEXT), Options(frames=9)).settings.frozen.memory == 5
    with pytest.raises(SettingsError, match="is two videos joined"):
        toy.prepare(Retake(joined, {1: "A door."}))


def test_films_that_do_not_fit_together_stay_as_they_are(toy, old, tmp_path):
    other = tmp_path / "other.mp4"
    finish(toy.generate(BOARD, other, dataclasses.replace(SMALL, height=32)))
    was = other.read_bytes()
    with pytest.raises(OutputError, match="cannot be joined"):
        join(old, other)
    assert other.read_bytes() == was


def test_shots_to_remember_can_be_chosen(toy, old):
    job = toy.prepare(Extension(old, NEXT, (3, 1)), Options(frames=9))
    assert [shot.source_shot for shot in job.settings.frozen.shots] == [1, 3]


@pytest.mark.parametrize(
    ("remember", "options", "said"),
    [
        ((4,), {}, "shot 4: old.mp4 has shots 1 to 3"),
        ((), {}, "no shot is to be remembered"),
        (None, {"height": 32}, "height: stays that of old.mp4"),
        (None, {"frames": 1}, "2 shots do not fit into 1 frames"),
    ],
)
def test_what_cannot_be_continued_is_one_line(toy, old, remember, options, said):
    with pytest.raises(HoloError) as caught:
        toy.prepare(Extension(old, NEXT, remember), Options(**options))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_the_prompt_is_too_long_captions_are_cut_and_then_shots_left_out(old):
    film = OldFilm.read(old)
    whole = film.captions
    for most, shots in ((3, 3), (2, 2), (1, 1)):
        memory, notes = remembered(film, ["[character2] runs."], partial(_has_room, most))
        assert len(memory) == shots
        assert [each.place for each in memory] == sorted(each.place for each in memory)
        assert bool(notes) == (shots < len(whole))
    assert [each.place for each in memory] == [1]  # who is named
    with pytest.raises(SettingsError, match=r"no room for a memory of old\.mp4"):
        remembered(film, ["x"], lambda _: False)


def _has_room(most, memory):
    return len(memory) <= most


captions = st.lists(st.sampled_from(["[a] walks.", "[b] sits.", "[a] and [b].", "A door."]), min_size=1, max_size=9)


@given(captions, captions)
def test_every_old_shot_is_ranked_once_and_whoever_is_named_comes_first(old_shots, new_shots):
    order = list(ranking(old_shots, new_shots))
    assert sorted(order) == list(range(len(old_shots)))
    named = {tag for caption in new_shots for tag in ("[a]", "[b]") if tag in caption}
    showing = [any(tag in old_shots[place] for tag in named) for place in order]
    assert showing == sorted(showing, reverse=True)
    for tag in named:
        places = [place for place in range(len(old_shots)) if tag in old_shots[place]]
        if places:
            assert places[0] in order[: len(named)]


@pytest.mark.parametrize(
    ("caption", "short"),
    [
        ("Wide shot of [a], rain.", "Wide shot of [a], rain."),
        ("Wide shot of [a]. He waits. [b] comes.", "Wide shot of [a]. With [b]."),
        ("远景。他等。", "远景。"),
    ],
)
def test_a_short_caption_keeps_framing_and_all_who_are_seen(caption, short):
    assert tags_and_framing(caption) == short


@settings(deadline=None)
@given(st.lists(st.integers(1, 3), max_size=5), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_a_memory_moves_every_shot_by_its_own_length(memory, shots):
    ends = [sum(shots[: n + 1]) for n in range(len(shots))]
    plain = 4 * ends[-1] - 3, tuple(4 * end - 3 for end in ends[:-1])
    frames, cuts = behind(*plain, memory)
    layout = ShotLayout.from_frames(frames, cuts, 16, 16)
    assert [len(layout.frame_span(n)) for n in range(layout.shots)] == [*memory, *shots]
    assert without(frames, cuts, len(memory)) == plain

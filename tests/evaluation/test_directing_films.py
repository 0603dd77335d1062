"""The gate of directing on the built-in model itself: films are made, and every count is what was read in them."""

import json

import pytest

from holo_lite.evaluation.kinds import Directing
from holo_lite.evaluation.report import DIRECTING_TARGETS
from holo_lite.evaluation.studio import Set

SEED = 552  # its first storyboard has three shots of two characters in 33 frames
FEW = ("--steps", 3, "--cfg", 1, "--dtype", "bf16", "--seed", SEED, "--storyboards", 1, "--save", "all.json")


@pytest.fixture
def gate(run, monkeypatch, tmp_path):
    """Runs the gate. → all films as they were made and read, and what it saved."""
    films, make = [], Set.make

    def kept(self, scene, job):
        films.append(make(self, scene, job))
        return films[-1]

    monkeypatch.setattr(Set, "make", kept)

    def go(*words):
        outcome = run("evaluate", *FEW, *words)
        assert outcome.code == 0, outcome.err
        *table, line = outcome.out.splitlines()
        saved = json.loads((tmp_path / "all.json").read_text())
        assert {**json.loads(line), "each": saved["each"]} == saved
        check_table(table, saved)
        (tmp_path / "all.json").unlink()
        return films, saved

    return go


def check_table(table, saved):
    """Every score has its row, with its share and next to it that with nothing given."""
    assert table[0].split() == ["score", "of", "model", "nothing", "given", "ratio"]
    rows = {row[:19].strip(): row[19:].split() for row in table[1:] if "below its target" not in row}
    for name, score in saved["scores"].items():
        assert rows[name][:2] == [str(score["of"]), f"{100 * score['value']:.1f}"]
    for name, least in saved["below_target"].items():
        assert (
            f"{name}: {100 * saved['scores'][name]['value']:.1f} % is below its target, {100 * least:.1f} %"
            in table
        )


def asked(scene, place):
    """What a shot should read as, its traits left out."""
    act = scene.acts[place]
    return act.framing, act.motion, scene.wall, [scene.characters[index].words for index in act.cast]


def read(film, place):
    reading = film.readings[place]
    return reading.framing, reading.motion, reading.wall, [character.words for character in reading.characters]


def traits_of(film, places, index):
    """The traits of a character in those of the shots where it is known, in order."""
    shots = [(film.scene.acts[place].cast, film.readings[place].characters) for place in places]
    return [found[cast.index(index)].trait for cast, found in shots if index in cast and len(found) == len(cast)]


def usual(traits):
    """The one that is there most often, of as many the first; None of none."""
    return max(traits, key=traits.count, default=None)


def check_shots(marks, film, places, suffix=""):
    """The marks of these shots, counted again."""
    shots = [(asked(film.scene, place), read(film, place)) for place in places]
    assert marks[f"adherence{suffix}"] == [sum(one == other for one, other in shots), len(places)]
    for at, name in enumerate(("framing", "motion", "setting", "who")):
        assert marks[f"{name}{suffix}"] == [sum(one[at] == other[at] for one, other in shots), len(places)]
    assert marks[f"cuts{suffix}"] == [film.cuts == film.scene.cuts, 1]


def kept(film, places, wanted):
    """Of all characters in these shots of whom the trait is known: how many have it, and how many there are."""
    chances = [(place, index) for place in places for index in film.scene.acts[place].cast if wanted.get(index)]
    return [sum(traits_of(film, [place], index) == [wanted[index]] for place, index in chances), len(chances)]


def shown(film, but=None):
    places = [place for place in range(len(film.scene.acts)) if place != but]
    return {index: usual(traits_of(film, places, index)) for index in range(len(film.scene.characters))}


def test_a_shot_again_is_counted_against_the_old_film(gate):
    (old, new, free), saved = gate("--retake")
    (place,) = [at for at, acts in enumerate(zip(old.scene.acts, new.scene.acts, strict=True)) if len({*acts}) > 1]
    wanted = shown(old, but=place)
    (each,) = saved["each"]
    for film, found in ((new, each["model"]), (free, each["baseline"])):
        check_shots(found["marks"], film, [place])
        assert found["marks"]["trait"] == kept(film, [place], wanted)
    start = old.scene.spans[place].start
    assert (old.film.frames[:start] == new.film.frames[:start]).all(), (
        "what is kept before it is the same to the bit"
    )
    assert not (old.film.frames[start:] == new.film.frames[start:]).all()


def test_alone_a_film_has_no_column_next_to_it(run, tmp_path):
    outcome = run("evaluate", *FEW, "--retake", "--alone")
    assert outcome.code == 0, outcome.err
    *table, _ = outcome.out.splitlines()
    assert table[0].split() == ["score", "of", "model"]
    saved = json.loads((tmp_path / "all.json").read_text())
    assert (saved["baseline_scores"], saved["ratios"], saved["each"][0]["baseline"]) == ({}, {}, None)
    assert saved["scores"]["cuts"]["of"] == 1


def test_continuations_in_a_row_are_counted_against_the_first_film(gate):
    (old, first, second, free), saved = gate("--extend", "--chain", 2)
    wanted, three = shown(old), range(3)
    (each,) = saved["each"]
    for film, found, suffix in ((first, "model", ""), (second, "model", ", 2"), (free, "baseline", "")):
        check_shots(each[found]["marks"], film, three, suffix=suffix)
        assert each[found]["marks"][f"trait{suffix}"] == kept(film, three, wanted)


def test_a_film_with_references_is_counted_against_the_drawing(gate):
    (new, free), saved = gate("--reference", "--pictures", 1)
    places, (each,) = range(len(new.scene.acts)), saved["each"]
    wanted = {index: character.trait for index, character in enumerate(new.scene.characters)}
    for film, found in ((new, each["model"]), (free, each["baseline"])):
        check_shots(found["marks"], film, places)
        assert found["marks"]["trait"] == kept(film, places, wanted)
    assert each["apart"] is None
    assert {*saved["below_target"]} <= {*DIRECTING_TARGETS[Directing("reference", pictures=1).name]}


def test_a_film_that_begins_a_shot_with_a_picture_is_counted_in_that_shot_and_in_the_others(gate):
    (new, free), saved = gate("--first-frame")
    (each,) = saved["each"]
    places = range(len(new.scene.acts))
    (place,) = [at for at, shot in enumerate(new.job.settings.storyboard.shots) if shot.image]
    wanted = {index: new.scene.characters[index].trait for index in new.scene.acts[place].cast}
    for film, found in ((new, each["model"]), (free, each["baseline"])):
        check_shots(found["marks"], film, places)
        assert found["marks"]["trait"] == kept(film, [place], wanted)
        assert found["marks"]["trait, other shots"] == kept(film, [at for at in places if at != place], wanted)
    assert 0 < each["apart"] < 20, "it is the picture, as the VAE gives it back"

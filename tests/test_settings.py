"""What determines a run: who has the last word, what is refused, and that nothing is lost on the way to JSON."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, reject, strategies as st

from holo_lite.config import PUBLISHED_NEGATIVE, Defaults
from holo_lite.errors import LaterRecordError, RecordError, SettingsError, StoryboardError
from holo_lite.settings import SETTINGS, Options, RunSettings, check_attention, resolve
from holo_lite.story.storyboard import Shot, Storyboard

DATA = Path(__file__).parent / "parity_data"
MACHINE = {"attention": "sparse", "dtype": "bf16", "device": "cpu", "model": "0123", "made_with": "tests"}
SHOTS = (Shot("a"), Shot("b"))
SAID = {
    "frames": 81,
    "cuts": (41,),
    "height": 64,
    "width": 96,
    "fps": 12.0,
    "steps": 7,
    "cfg": 2.5,
    "seed": 3,
    "negative": "said",
}
WRITTEN = {
    "frames": 121,
    "cuts": (61,),
    "height": 128,
    "width": 160,
    "fps": 24.0,
    "steps": 9,
    "cfg": 3.5,
    "seed": 4,
    "negative": "written",
}
DEFAULT = {
    "frames": 49,
    "height": 32,
    "width": 48,
    "fps": 10.0,
    "steps": 5,
    "cfg": 1.5,
    "negative": "default",
}


def decide(board=None, **said):
    return resolve(board or Storyboard("G", SHOTS), Options(**said), Defaults(**DEFAULT), **MACHINE)[0]


def refused(kind=SettingsError, board=None, **said):
    with pytest.raises(kind) as caught:
        decide(board, **said)
    message = str(caught.value)
    assert message.splitlines() == [message]
    return message


# --- who has the last word -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAID)
def test_the_command_line_goes_before_the_file_and_that_before_the_model(name):
    written = Storyboard("G", SHOTS, **WRITTEN)
    others = {"cuts": (25,)} if name == "frames" else {}  # a cut that both lengths have room for
    assert getattr(decide(written, **others, **{name: SAID[name]}), name) == SAID[name]
    assert getattr(decide(written), name) == WRITTEN[name]
    if name in DEFAULT:
        assert getattr(decide(), name) == DEFAULT[name]


def test_without_a_word_the_seed_is_0_and_the_cuts_are_even():
    settings = decide()
    assert (settings.seed, settings.cuts, settings.frames) == (0, (25,), 49)


def test_a_word_that_is_false_is_still_a_word():
    written = Storyboard("G", SHOTS, seed=4, negative="written")
    settings = decide(written, seed=0, negative="")
    assert (settings.seed, settings.negative) == (0, "")


def test_what_the_caller_knows_of_the_machine_is_kept():
    settings = decide()
    assert {name: getattr(settings, name) for name in MACHINE} == MACHINE


def test_seconds_become_frames_at_the_frame_rate_that_won():
    board = Storyboard("G", (Shot("a", seconds=2.0), Shot("b", seconds=2.0)), fps=24.0)
    assert decide(board).cuts == (49,)
    assert decide(board, fps=12.0).cuts == (25,)


def test_shots_lie_where_the_cuts_are():
    settings = decide(frames=49, cuts=(17,))
    assert settings.shot_frames == [(0, 17), (17, 49)]
    assert (settings.layout.starts, settings.layout.latent_frames) == ((0, 5), 13)
    assert (settings.layout.rows, settings.layout.columns) == (2, 3)


def test_rounding_is_noted():
    _, notes = resolve(Storyboard("G", SHOTS), Options(frames=80, cuts=(50,)), Defaults(), **MACHINE)
    assert notes == ("rounded length 80 → 81, cut 50 → 49: cuts and length must be 1, 5, 9, 13, …",)


def test_the_published_values_are_the_defaults():
    runs = json.loads((DATA / "sampling.json").read_text(encoding="utf-8"))
    assert {run["negative_prompt"] for run in runs} == {PUBLISHED_NEGATIVE} == {Defaults().negative}
    assert Defaults() == Defaults(241, 480, 832, 15.0, 50, 5.0, PUBLISHED_NEGATIVE)


# --- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"height": 50}, "height 50: must be a multiple of 16 up to 4096; the nearest is 48"),
        ({"width": 0}, "width 0: must be a multiple of 16 up to 4096; the nearest is 16"),
        ({"width": -16}, "width -16: must be a multiple of 16 up to 4096; the nearest is 16"),
        ({"height": 4112}, "height 4112: must be a multiple of 16 up to 4096; the nearest is 4096"),
        ({"steps": 0}, "steps 0: give a number from 1 to 1000"),
        ({"steps": 1001}, "steps 1001: give a number from 1 to 1000"),
        ({"cfg": 0.99}, "cfg 0.99: give a number from 1 to 100"),
        ({"cfg": math.nan}, "cfg nan: give a number from 1 to 100"),
        ({"cfg": math.inf}, "cfg inf: give a number from 1 to 100"),
        ({"seed": -1}, "seed -1: no seed is random here"),
        ({"seed": 2**64}, "give a number from 0 to 18446744073709551615"),
        ({"fps": 0.0}, "fps 0.0: give a number from 0.1 to 240"),
        ({"fps": 241.0}, "fps 241.0: give a number from 0.1 to 240"),
        ({"height": 10**400}, "the nearest is 4096"),
        ({"seed": 10**400}, "give a number from 0 to 18446744073709551615"),
        ({"negative": "\udcff"}, r"negative: '\udcff' is not UTF-8"),
    ],
)
def test_what_no_model_can_do_is_refused_from_either_side(said, message):
    assert message in refused(**said)
    if said != {"negative": "\udcff"}:  # which a storyboard refuses by itself
        assert message in refused(board=Storyboard("G", SHOTS, **said))


@pytest.mark.parametrize(
    "said",
    [{"height": 16, "width": 4096}, {"steps": 1}, {"steps": 1000}, {"cfg": 1.0}, {"fps": 0.1}, {"seed": 2**64 - 1}],
)
def test_the_bounds_themselves_are_allowed(said):
    settings = decide(**said)
    assert {name: getattr(settings, name) for name in said} == said


def test_bad_timing_is_the_storyboards_error():
    assert "cut 97" in refused(StoryboardError, frames=49, cuts=(97,))
    assert "2 shots need 1 cuts but there are 2" in refused(StoryboardError, cuts=(9, 17))


def test_a_misspelt_attention_is_told_the_nearest():
    assert [check_attention(name) for name in ("sparse", "full")] == ["sparse", "full"]
    with pytest.raises(SettingsError, match=r"attention 'sparce': .*; did you mean 'sparse'\?"):
        check_attention("sparce")


# --- there and back --------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8"))
whole = st.integers(0, 2**64 - 1)
number = st.floats(1, 240)
shots = st.lists(st.builds(Shot, text, st.none() | whole, st.none() | number), min_size=1, max_size=3)
optional = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("frames", "height", "width", "steps", "seed"), whole),
        **dict.fromkeys(("fps", "cfg"), number),
        **dict.fromkeys(("title", "negative"), text),
        "cuts": st.lists(whole, max_size=3).map(tuple),
    },
)


@st.composite
def storyboards(draw):
    try:
        if draw(st.booleans()):
            return Storyboard(None, (), raw=draw(text), **draw(optional))
        return Storyboard(draw(text), tuple(draw(shots)), **draw(optional))
    except StoryboardError:
        reject()


@st.composite
def records(draw):
    """Any settings that a run can have."""
    board = draw(storyboards())
    shots = board.shot_count
    last = draw(st.integers(max(2, shots), 60))
    starts = sorted(draw(st.sets(st.integers(1, last - 1), min_size=shots - 1, max_size=shots - 1)))
    sides = st.integers(1, 256).map(lambda tokens: 16 * tokens)
    return RunSettings(
        storyboard=board,
        frames=4 * (last - 1) + 1,
        cuts=tuple(4 * (start - 1) + 1 for start in starts),
        height=draw(sides),
        width=draw(sides),
        fps=draw(number),
        steps=draw(st.integers(1, 1000)),
        cfg=draw(st.floats(1, 100)),
        seed=draw(whole),
        **{name: draw(text) for name in ("negative", "model", "made_with")},
        attention=draw(st.sampled_from(["sparse", "full"])),
        dtype=draw(st.sampled_from(["bf16", "fp32"])),
        device=draw(st.sampled_from(["cpu", "cuda"])),
        computing=draw(st.dictionaries(text, text, max_size=3)),
        cache=draw(st.tuples(st.floats(0, 1), st.floats(0, 1))),
        cfg_until=draw(st.floats(0.01, 1)),
    )


@given(records())
def test_any_record_survives_json(settings):
    written = settings.to_json()
    assert written.splitlines() == [written] or "\n" not in written
    assert RunSettings.from_json(written) == settings
    assert written.encode("utf-8")


def test_json_holds_every_field_as_it_was_resolved():
    settings = decide(Storyboard("G", SHOTS, title="T", source="x.toml"), **SAID)
    found = json.loads(settings.to_json())
    names = [field.name for field in dataclasses.fields(RunSettings)]
    assert list(found) == ["version", "runs_from", *(name for name in names if name != "origin")]
    assert found["storyboard"]["source"] is None  # a path on somebody's machine is nobody else's business
    assert (found["version"], found["seed"], found["negative"]) == (3, 3, "said")


def changed(**places):
    """A record with other values, as JSON."""
    return json.dumps({**json.loads(decide().to_json()), **places})


def refused_record(text):
    with pytest.raises(RecordError) as caught:
        RunSettings.from_json(text)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("version", [0, "1", None, True, -1, 1.0])
def test_what_is_no_version_is_told(version):
    assert refused_record(changed(version=version)) == f"{version!r} is no version at $"


def test_a_later_version_is_told_apart_from_damage_and_may_be_looked_at():
    later = changed(version=4, runs_from=4, lens="35 mm")
    with pytest.raises(LaterRecordError, match=r"by a later holo-lite \(record version 4\); update"):
        RunSettings.from_json(later)
    assert SETTINGS.read(later, to_run=False).origin.unknown == ((("lens",), "35 mm"),)
    assert RunSettings.from_json(changed(version=4, runs_from=1)).seed == 0


@pytest.mark.parametrize(
    "spoilt", ["", "[]", "1", "null", "{}", '{"version": 1}', '{"version": 1, "storyboard": 2}', "[" * 100_000]
)
def test_what_is_no_record_is_told(spoilt):
    assert " at $" in refused_record(spoilt)


@pytest.mark.parametrize("name", ["seed", "storyboard", "cuts"])
def test_a_field_that_is_gone_is_named(name):
    found = json.loads(decide().to_json())
    del found[name]
    assert refused_record(json.dumps(found)) == f"object missing required field '{name}' at $"


def test_what_is_not_known_is_kept_where_it_was():
    found = json.loads(decide().to_json())
    found["lens"] = {"mm": 35}
    found["storyboard"]["shots"][1]["camera"] = None
    settings = RunSettings.from_json(json.dumps(found))
    assert json.loads(settings.to_json()) == found
    assert set(settings.origin.lines()) == {"$.storyboard.shots[1].camera = null", '$.lens = {"mm": 35}'}
    assert json.loads(dataclasses.replace(settings, seed=9).to_json()) == found | {"seed": 9}


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ({"frames": 48}, "frames and cuts are not of the form 4t+1: 48, (25,) at $"),
        ({"cuts": [26]}, "frames and cuts are not of the form 4t+1: 49, (26,) at $"),
        ({"cuts": []}, "2 shots need 1 cuts but there are 0"),
        ({"cuts": [49]}, "cut 49 leaves a shot without frames"),
        ({"frames": True}, "expected 'int', got 'bool' at $.frames"),
        ({"height": 50}, "height 50: must be a multiple of 16"),
        ({"steps": 0}, "steps 0: give a number from 1"),
        ({"seed": 2**64}, "a number out of range at $.seed"),
        ({"seed": 10**50}, "a number out of range at $.seed"),
        ({"cfg": math.nan}, "a number that is not finite at $.cfg"),
        ({"cache": []}, "expected 'array' of length 2, got 0 at $.cache"),
        ({"cache": [2, 0]}, "cache 2.0: give a number from 0 to 1"),
        ({"cfg_until": 0}, "cfg_until 0.0: give a number above 0"),
        ({"plan": [1]}, "expected 'object', got 'array' at $.plan"),
        ({"attention": "sparse; touch x #"}, "invalid enum value 'sparse; touch x #' at $.attention"),
        ({"dtype": "fp64"}, "at $.dtype"),
        ({"device": "cpu\n"}, "at $.device"),
        ({"computing": {"kernel": 1}}, "expected 'str', got 'int' at $.computing.kernel"),
        ({"negative": "\ud800"}, "half of a character at $.negative"),
        ({"storyboard": {"global_caption": "", "shots": [{"caption": "a"}]}}, "there is no global caption"),
        ({"storyboard": {"global_caption": "G", "shots": [{"caption": 7}]}}, "at $.storyboard.shots[0].caption"),
    ],
)
def test_settings_no_run_could_have_are_told_with_their_place(places, why):
    assert why in refused_record(changed(**places))


# --- from programs without a type checker ----------------------------------------------------------


class Index:
    """As NumPy's whole numbers are."""

    def __index__(self):
        return 9


def test_numbers_of_other_libraries_are_kept_as_plain_ones():
    said = Options(frames=Index(), cuts=[Index()], fps=24, cache=[0, 0.5])
    assert said == Options(frames=9, cuts=(9,), fps=24.0, cache=(0.0, 0.5))
    assert [type(value) for value in (said.frames, said.cuts, said.fps)] == [int, tuple, float]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": "4"}, "steps: give a whole number, not '4'"),
        ({"steps": 4.5}, "steps: give a whole number, not 4.5"),
        ({"seed": True}, "seed: give a whole number, not True"),
        ({"cfg": "5"}, "cfg: give a number, not '5'"),
        ({"fps": 1j}, "fps: give a number, not an object of type complex"),
        ({"cuts": 5}, "cuts: give whole numbers such as (49, 97), not 5"),
        ({"cuts": "49"}, "cuts: give whole numbers such as (49, 97), not '49'"),
        ({"cuts": (4, None)}, "cuts: give a whole number, not None"),
        ({"cache": 0.1}, "cache: give two numbers such as (0.1, 0.05), not 0.1"),
        ({"negative": b"rain"}, "negative: give a text, not an object of type bytes"),
        ({"negative": ["two\nlines" * 20]}, "negative: give a text, not an object of type list"),
    ],
)
def test_an_option_of_another_type_is_one_line(given, message):
    with pytest.raises(SettingsError) as caught:
        Options(**given)
    assert str(caught.value) == message


def test_a_number_too_large_for_a_float_is_refused_as_one_out_of_range():
    with pytest.raises(SettingsError, match="cfg inf: give a number from 1 to 100"):
        resolve(Storyboard("a", SHOTS), Options(cfg=10**400), Defaults(), **MACHINE)

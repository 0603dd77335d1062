"""What determines a run: who has the last word, what is refused, and that nothing is lost on the way to JSON."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, reject, strategies as st

from holo_lite.config import PUBLISHED_NEGATIVE, Defaults
from holo_lite.errors import OutputError, SettingsError, StoryboardError
from holo_lite.settings import Options, RunSettings, check_attention, resolve
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
    assert notes == ("length 80 → 81 frames", "cut 50 → 49")


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
        ({"seed": -1}, "seed -1: give a number from 0 to 9223372036854775807"),
        ({"seed": 2**63}, "give a number from 0 to 9223372036854775807"),
        ({"fps": 0.0}, "fps 0.0: give a number from 0.1 to 240"),
        ({"fps": 241.0}, "fps 241.0: give a number from 0.1 to 240"),
        ({"height": 10**400}, "the nearest is 4096"),
        ({"seed": 10**400}, "give a number from 0 to 9223372036854775807"),
        ({"negative": "\udcff"}, r"negative: '\udcff' is not UTF-8"),
    ],
)
def test_what_no_model_can_do_is_refused_from_either_side(said, message):
    assert message in refused(**said)
    if said != {"negative": "\udcff"}:  # which a storyboard refuses by itself
        assert message in refused(board=Storyboard("G", SHOTS, **said))


@pytest.mark.parametrize(
    "said",
    [{"height": 16, "width": 4096}, {"steps": 1}, {"steps": 1000}, {"cfg": 1.0}, {"fps": 0.1}, {"seed": 2**63 - 1}],
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
whole = st.integers(0, 2**63 - 1)
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


records = st.builds(
    RunSettings,
    storyboard=storyboards(),
    cuts=st.lists(whole, max_size=3).map(tuple),
    **dict.fromkeys(("frames", "height", "width", "steps", "seed"), whole),
    **dict.fromkeys(("fps", "cfg"), number),
    **dict.fromkeys(("negative", "dtype", "device", "model", "made_with"), text),
    attention=st.sampled_from(["sparse", "full"]),
    computing=st.dictionaries(text, text, max_size=3),
    version=st.just(1),
)


@given(records)
def test_any_record_survives_json(settings):
    written = settings.to_json()
    assert written.splitlines() == [written] or "\n" not in written
    assert RunSettings.from_json(written) == settings
    assert written.encode("utf-8")


def test_json_holds_every_field_as_it_was_resolved():
    settings = decide(Storyboard("G", SHOTS, title="T", source="x.toml"), **SAID)
    found = json.loads(settings.to_json())
    assert list(found) == [field.name for field in dataclasses.fields(RunSettings)]
    assert found["storyboard"]["source"] is None  # a path on somebody's machine is nobody else's business
    assert (found["version"], found["seed"], found["negative"]) == (1, 3, "said")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_told(version):
    found = {**json.loads(decide().to_json()), "version": version}
    with pytest.raises(OutputError, match=f"of version {version}; update holo-lite"):
        RunSettings.from_json(json.dumps(found))


@pytest.mark.parametrize(
    "spoilt", ["", "[]", "1", "null", "{}", '{"version": 1}', '{"version": 1, "storyboard": 2}']
)
def test_what_is_no_record_is_told(spoilt):
    with pytest.raises(OutputError, match="not the settings of a holo-lite run"):
        RunSettings.from_json(spoilt)


@pytest.mark.parametrize("name", ["seed", "storyboard", "cuts", "extra"])
def test_a_record_of_other_fields_is_told(name):
    found = json.loads(decide().to_json())
    found.pop(name, None) or found.update(extra=1)
    with pytest.raises(OutputError, match="not the settings of a holo-lite run"):
        RunSettings.from_json(json.dumps(found))

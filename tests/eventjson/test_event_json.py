"""Every event of every job has a JSON form, and docs/events.md names its kinds and fields exactly."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import get_args

import pytest
import torch
from conversions import plan, write_source
from hypothesis import given, strategies as st
from test_resume import BOARD, SMALL, WORDS
from toy_files import toy_model

from holo_lite import Pipeline, RunSettings, evaluation, events
from holo_lite.evaluation.likeness import Likeness
from holo_lite.evaluation.marks import Count
from holo_lite.evaluation.outcome import EvaluationStarted, Film, Outcome, StoryboardJudged, Verdict
from holo_lite.evaluation.run import scene_of
from holo_lite.eventjson.event_json import VERSION, event_json
from holo_lite.eventjson.form import plain
from holo_lite.fetch.order import Fetched, FetchOrder
from holo_lite.fetch.run import FetchEvent
from holo_lite.fetch.wanted import HOLOCINE
from holo_lite.jobs.batch import BatchEvent
from holo_lite.jobs.items import BatchItem, ItemEnded, ItemStarted
from holo_lite.jobs.preview import colours_of, with_previews
from holo_lite.progress import UNITS, Note, Phase, PhaseAdvanced, PhaseStarted
from holo_lite.sampling.sampler import Progress
from holo_lite.sampling.schedule import Schedule
from quantize.convert import ConversionFinished
from quantize.job import ConversionEvent, run_conversion

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
ALL = {*get_args(events.Event), *get_args(FetchEvent), *get_args(ConversionEvent), *get_args(BatchEvent)}
ALL |= {*get_args(evaluation.run.Event), FetchOrder}


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


@pytest.fixture(scope="module")
def examples(toy, tmp_path_factory):
    """One event of each class."""
    folder = tmp_path_factory.mktemp("records")
    job = toy.prepare(BOARD, SMALL)
    settings, item = job.settings, BatchItem(folder / "a.toml", folder / "a.mp4")
    latents = torch.zeros(16, 2, 2, 2)
    step = Progress(Schedule.of(4).steps[1], 4, latents, latents)
    verdict = Verdict((5,), (), {"cuts": Count(1, 1), "who": Count(3, 4)})
    outcome = Outcome(2, scene_of(0, 2), settings, verdict, verdict, Likeness(31.5, 0.9, 0.01), 1)
    film = Film(torch.zeros(5, 16, 16, 3, dtype=torch.uint8), latents)
    conversion = plan(write_source(folder / "source"), folder / "out", roles=("text_encoder",))
    converted = [event for event in run_conversion(conversion) if isinstance(event, ConversionFinished)]
    found = [
        events.Resolved(settings, ("cut 6 → 5",), job.plan, "profile cpu", ("kernel sdpa",)),
        events.GoingOn(folder, 3, 4, ("threads 1, now 2",)),
        events.NotSaved("full", 2),
        events.StepDone(step, 2**40, 2**41, 3.5, float("nan")),
        events.PreviewDone(folder / "a.png", 2),
        events.NoPreview("no colours"),
        events.NoLatents("full"),
        events.SteppedDown(replace(job.plan, tile=(8, 8)), "smaller tiles"),
        events.FrameDone(4, torch.zeros(16, 16, 3, dtype=torch.uint8)),
        events.LatentsDone(latents, settings, job.plan),
        events.Finished(item.video, folder / "a.png", settings),
        PhaseStarted("fetch", 10, 4, "a.safetensors"),
        PhaseAdvanced(7),
        Note("the hub is slow"),
        FetchOrder("sparse", folder, (), (HOLOCINE,), 0),
        Fetched(FetchOrder("sparse", folder, (), (), 0)),
        *converted,
        EvaluationStarted(3, settings, ("a note",), ("kernel sdpa",)),
        StoryboardJudged(outcome, film),
        ItemStarted(item, 1, 2),
        ItemEnded(item, "done", "", 3.5),
    ]
    return {type(event): event for event in found}


def documented():
    """Fields by kind, in the order of the page's table."""
    table, kind = {}, None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| (?:`(\w+)` )?\| (?:`(\w+)` )?\| (.+) \|$", line):
            kind = match[1] or kind
            if match[1]:
                table[kind] = []
            if match[2]:
                table[kind].append(match[2])
            assert len(match[3]) > 2, line
    return table


def test_there_is_an_example_of_every_event_of_every_job(examples):
    assert {*examples} == ALL


@pytest.mark.parametrize("event", sorted(ALL, key=attrgetter("__name__")))
def test_every_event_has_a_record_that_is_json(examples, event):
    found = event_json(examples[event])
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found, "nothing became something else on the way, a tuple a list or a number's key a text"
    assert list(found)[:2] == ["version", "kind"]
    assert found["version"] == VERSION


def test_the_page_names_every_kind_and_field_exactly(examples):
    records = [event_json(event) for event in examples.values()]
    found = {each["kind"]: [name for name in each if name not in {"version", "kind"}] for each in records}
    assert len(found) == len(records), "two events are of one kind"
    assert documented() == found


def test_the_pages_example_is_a_record(examples):
    line = re.search(r"```json\n(.+)\n```", PAGE.read_text(encoding="utf-8"))[1]
    assert list(json.loads(line)) == list(event_json(examples[events.StepDone]))


def test_the_page_names_every_phase_and_unit():
    text = PAGE.read_text(encoding="utf-8")
    assert {*UNITS} == {*get_args(Phase)}
    assert all(f"`{name}`" in text for name in (*UNITS, *UNITS.values()) if name)


def test_settings_in_a_record_make_the_video_again(examples):
    event = examples[events.Finished]
    assert RunSettings.from_json(json.dumps(event_json(event)["settings"])) == event.settings


def test_a_whole_run_tells_by_its_records_how_far_it_is(toy, tmp_path):
    run = toy.generate(BOARD, tmp_path / "a.mp4", SMALL, run=tmp_path / "a.mp4.run")
    seen = [
        event_json(event)
        for event in with_previews(run, lambda: colours_of(toy.model.folder), tmp_path / "p.png", 2)
    ]
    text = json.dumps(seen, allow_nan=False)
    assert len(text) < 40_000, "a tensor would be more"
    begun, last = [], {}
    for each in seen:
        last = each if "total" in each else last
        if "done" in each and each["kind"] != "preview":
            begun.append((last.get("phase", "denoise"), each["done"], last["total"]))
    assert begun[-1] == ("decode", SMALL.frames, SMALL.frames)
    assert ("denoise", SMALL.steps, SMALL.steps) in begun
    assert seen[-1]["kind"] == "finished"


def test_what_is_no_event_is_no_record(toy):
    for wrong in (3, "step", Outcome, toy):
        with pytest.raises(TypeError, match="is no event of a job"):
            event_json(wrong)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_whatever_numbers_there_are_they_are_json(value):
    json.dumps(plain(value), allow_nan=False)
    json.dumps(plain({"a": (value, Path("b")), 3: Count(1, 2)}), allow_nan=False)


def test_a_tensor_gets_into_no_record():
    with pytest.raises(TypeError, match="Tensor has no form in JSON"):
        plain({"latents": [torch.zeros(1)]})


# --- the command line ------------------------------------------------------------------------------


def test_a_command_writes_a_record_a_line_and_nothing_else(run, toy_copy):
    words = ("generate", *WORDS, "--model", toy_copy, "--out", "a.mp4")
    outcome = run(*words, "--keep-run", "--progress", "json", "--preview", 2)
    assert (outcome.code, outcome.err) == (0, "")
    seen = [json.loads(line) for line in outcome.out.splitlines()]
    kinds = [each["kind"] for each in seen]
    assert (kinds[0], kinds[-1]) == ("resolved", "finished")
    assert (kinds.count("step"), kinds.count("frame"), kinds.count("preview")) == (4, 5, 2)
    again = run("resume", "a.mp4", "--progress", "json")
    assert [json.loads(line)["kind"] for line in again.out.splitlines()][:3] == ["resolved", "going_on", "phase"]


def test_drafts_write_records_too(run, toy_copy):
    words = ("generate", *WORDS, "--model", toy_copy, "--draft", "--progress", "json")
    assert json.loads(run(*words).out.splitlines()[-1])["video"] == "video-draft.mp4"


def test_an_error_is_a_line_for_people(run, toy_copy):
    outcome = run("generate", *WORDS, "--model", toy_copy, "--height", 17, "--progress", "json")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: height 17: ")


def test_records_of_a_fetch_need_no_torch():
    code = (
        "import sys\n"
        "from holo_lite import PhaseAdvanced, event_json\n"
        "print(event_json(PhaseAdvanced(3)), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'version': 1, 'kind': 'advance', 'done': 3, 'detail': ''} False\n"

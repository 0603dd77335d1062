"""The whole way, against a server on loopback: good answers, those that are mended, and what is sent."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chat_server import DONE, STREAM, Said, chat_server, delta, event, refused, said
from guard import HANGS, wait_until

from holo_lite.cancel import Cancel, Cancelled
from holo_lite.errors import CheckpointError, SettingsError, WritingError
from holo_lite.progress import Note
from holo_lite.writing.answer import LONGEST_ANSWER, LONGEST_CAPTION, LONGEST_SCENE
from holo_lite.writing.asking import RULES
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.events import AnswerGrew, Connecting, StoryboardWritten, TryJudged, TryStarted
from holo_lite.writing.wire import LARGEST_ANSWER
from holo_lite.writing.writing import TRIES, USUAL_TIMEOUT, write_storyboard

IDEA = "a lighthouse keeper loses the light"
KEY = "sk-very-secret"
SCENE = "A lighthouse at night. [character1] is a man in a yellow coat."
CAPTIONS = ("Wide shot of [character1] on the rocks.", "Close-up of the dark lamp, [character1] behind it.")
GOOD = json.dumps(
    {"title": "Dark", "global": SCENE, "shots": [{"caption": each, "seconds": 5} for each in CAPTIONS]}
)
UNKNOWN = GOOD.replace("Close-up of the dark lamp, [character1]", "Close-up of the dark lamp, [character2]")
TWICE = UNKNOWN.replace("Wide shot of [character1]", "Wide shot of [character3]")


def write(chat, llm=None, key="", **more):
    return write_storyboard(IDEA, 2, 10, Endpoint(chat.url, llm, key), **more)


def kinds(events):
    return [type(each) for each in events if not isinstance(each, AnswerGrew)]


def test_a_good_answer_needs_one_try():
    with chat_server(said(GOOD)) as chat:
        events = [*write(chat)]
    assert kinds(events) == [Connecting, TryStarted, TryJudged, StoryboardWritten]
    assert events[0].route == chat.url
    assert events[1] == TryStarted(1, TRIES, "tiny-writer")
    assert "".join(each.text for each in events if isinstance(each, AnswerGrew)) == GOOD
    assert events[-1].found == ()
    assert events[-1].board.shot_captions() == [*CAPTIONS]
    assert events[-1].report.frames == 149


def test_what_is_found_goes_back_with_the_answer_it_was_found_in():
    with chat_server(said(UNKNOWN), said(GOOD)) as chat:
        events = [*write(chat)]
    judged = [each for each in events if isinstance(each, TryJudged)]
    (line,) = judged[0].found
    assert line.startswith("unknown tag: [character2] in shot 2 is not introduced")
    assert judged[1].found == ()
    assert events[-1].board.shot_captions() == [*CAPTIONS]
    first, second = (question["messages"] for question in chat.questions)
    assert second[: len(first)] == first
    assert json.loads(second[-2]["content"]) == json.loads(UNKNOWN)
    assert (second[-2]["role"], second[-1]["role"]) == ("assistant", "user")
    assert second[-1]["content"].endswith(f"- {line}")


def test_three_tries_are_made_and_the_best_is_kept_with_what_remains():
    with chat_server(said(TWICE), said(UNKNOWN), said(TWICE)) as chat:
        events = [*write(chat)]
    assert [len(each.found) for each in events if isinstance(each, TryJudged)] == [3, 1, 3]
    assert len(chat.questions) == TRIES
    assert len(events[-1].found) == 1
    assert events[-1].board.shot_captions()[0] == CAPTIONS[0]


def test_an_answer_that_cannot_be_used_is_asked_for_again_without_it():
    with chat_server(said("I would rather not. \x1b[2J"), said("{}"), said(GOOD)) as chat:
        events = [*write(chat)]
    assert events[-1].found == ()
    second, third = (question["messages"] for question in chat.questions[1:])
    assert [each["role"] for each in second] == [each["role"] for each in third] == ["system", "user"]
    assert second[-1]["content"].endswith("could not be used: the answer holds no JSON object")
    assert "rather" not in json.dumps(second)
    assert "missing required field" in third[-1]["content"]


def test_three_answers_that_cannot_be_used_are_one_line():
    with chat_server(said("no")) as chat, pytest.raises(WritingError) as caught:
        [*write(chat)]
    assert len(chat.questions) == TRIES
    assert str(caught.value) == (
        f"{chat.url}: no answer of 3 could be used (the answer holds no JSON object); try another model with --llm"
    )


def test_what_came_before_a_fault_is_kept():
    with chat_server(said(UNKNOWN), refused(500, "out of memory")) as chat:
        events = [*write(chat)]
    assert kinds(events)[-2:] == [Note, StoryboardWritten]
    assert "is busy or has trouble (HTTP 500: out of memory)" in events[-2].text
    assert len(events[-1].found) == 1


def test_thoughts_are_told_and_are_no_part_of_the_answer():
    parts = (delta(reasoning_content='{"global": '), delta(reasoning="hm"), *said(GOOD).parts)
    with chat_server(Said(parts)) as chat:
        events = [*write(chat)]
    assert [each.text for each in events if isinstance(each, AnswerGrew) and each.is_thought] == [
        '{"global": ',
        "hm",
    ]
    assert events[-1].found == ()


# --- what is sent ------------------------------------------------------------------------------------


def test_nothing_is_sent_before_it_is_said_where_to():
    with chat_server(said(GOOD)) as chat:
        events = write(chat)
        assert next(events) == Connecting(chat.url)
        assert chat.asked == []
        events.close()
        assert chat.asked == []


def test_only_the_words_of_the_question_and_what_http_needs_are_sent(monkeypatch):
    """`openai` would add the system, its version, and what the environment has for another service."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-of-an-admin")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-another")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: word\nAuthorization: Bearer sk-of-a-header")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with chat_server(said(UNKNOWN), said(GOOD)) as chat:
        [*write(chat)]
    assert [path for _, path, _, _ in chat.asked] == ["/v1/models", *["/v1/chat/completions"] * 2]
    usual = {"host", "connection", "accept", "accept-encoding", "content-type", "content-length"}
    for _, _, headers, body in chat.asked:
        assert {name.lower() for name in headers} <= usual
        assert not any(word in f"{headers} {body}" for word in ("of-another", "of-an-admin", "sk-", ": word"))
    for question in chat.questions:
        assert {*question} == {"model", "messages", "stream", "response_format"}
    system, user = chat.questions[0]["messages"]
    assert system["content"] == RULES
    assert f"The idea: {IDEA}\n\nWrite exactly 2 shots, 10 seconds in all" in user["content"]


def test_the_key_is_sent_to_its_endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    with chat_server(said(GOOD)) as chat:
        [*write(chat, key=KEY)]
    assert {headers["Authorization"] for _, _, headers, _ in chat.asked} == {f"Bearer {KEY}"}


def test_a_proxy_is_not_asked_about_this_machine(monkeypatch):
    with chat_server(said(GOOD)) as chat, chat_server(said(GOOD)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        [*write(chat)]
    assert proxy.asked == []


def test_cookies_are_not_kept():
    with chat_server(said(UNKNOWN, headers=(("Content-Type", STREAM), ("Set-Cookie", "a=b"))), said(GOOD)) as chat:
        [*write(chat)]
    assert not any("Cookie" in headers for _, _, headers, _ in chat.asked)


# --- which model -------------------------------------------------------------------------------------


def test_a_model_that_is_named_is_not_looked_for():
    with chat_server(said(GOOD)) as chat:
        events = [*write(chat, "some/model:7b")]
    assert [method for method, _, _, _ in chat.asked] == ["POST"]
    assert chat.questions[0]["model"] == events[1].llm == "some/model:7b"


@pytest.mark.parametrize(
    ("models", "has"),
    [
        ([], "names no model"),
        (["b", "a", "d", "c"], "has 4 models, such as a, b, c and 1 more"),
        ([None, 5, {"a": 1}, "", "x" * 501], "names no model"),
    ],
)
def test_none_or_several_models_are_one_line(models, has):
    with chat_server(said(GOOD)) as chat:
        chat.models = models
        with pytest.raises(WritingError) as caught:
            [*write(chat)]
    assert str(caught.value) == f"{chat.url}: {has}; choose one with --llm"
    assert chat.questions == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"5",
        b'{"data": 5}',
        b'{"data": {"a": 1}}',
        b'{"data": [1, "a"]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_list_of_models_that_is_none_is_one_line(body):
    with chat_server(said(GOOD)) as chat:
        chat.listing = Said((body,), headers=(("Content-Type", "application/json"),)) if body else Said()
        with pytest.raises(WritingError) as caught:
            [*write(chat)]
    assert str(caught.value).startswith(chat.url)
    assert chat.questions == []


def test_an_endpoint_without_forms_is_asked_without_one():
    with chat_server(refused(400, "response_format is not supported"), said(GOOD)) as chat:
        events = [*write(chat)]
    assert events[-1].found == ()
    assert ["response_format" in question for question in chat.questions] == [True, False]


# --- an end ------------------------------------------------------------------------------------------


def test_somebody_cancels_while_nothing_comes():
    stall, cancel = threading.Event(), Cancel()
    with chat_server(Said((delta(content="{"),), stall=stall)) as chat:
        events = write(chat, cancel=cancel)
        assert any(isinstance(each, AnswerGrew) for each in events)
        threading.Timer(0.1, cancel.cancel).start()
        with pytest.raises(Cancelled):
            next(events)
        assert chat.gone.wait(HANGS), "the model goes on writing for nobody"
    wait_until(no_reader)


def test_closing_it_cuts_the_connection():
    with chat_server(said("{", endless=True)) as chat:
        events = write(chat)
        assert any(isinstance(each, AnswerGrew) for each in events)
        events.close()
        assert chat.gone.wait(HANGS)
    wait_until(no_reader)


def no_reader():
    return not any(thread.name == "endpoint" for thread in threading.enumerate())


def test_a_wish_from_before_sends_nothing():
    cancel = Cancel()
    cancel.cancel()
    with chat_server(said(GOOD)) as chat, pytest.raises(Cancelled):
        [*write(chat, cancel=cancel)]
    assert chat.asked == []


def test_the_deadline_ends_what_does_not_come():
    """All at once: each waits for a second."""
    stalls = [(), (delta(content="{"),), (b": nothing\n\n",), (b"data: x",)]

    def stalled(parts):
        with chat_server(Said(parts, stall=threading.Event())) as chat, pytest.raises(WritingError) as caught:
            [*write(chat, timeout=1)]
        assert chat.gone.wait(HANGS)
        return str(caught.value).removeprefix(chat.url)

    with ThreadPoolExecutor(len(stalls)) as pool:
        said = [*pool.map(stalled, stalls)]
    what = ": nothing whole came within 1 s; give it longer with --timeout, or a smaller model with --llm"
    assert said == [what] * len(stalls)


def test_what_is_wrong_on_this_machine_is_not_told_to_the_endpoint():
    class Damaged:
        def encode(self, _):
            raise CheckpointError("/home/me/tokenizer.json: is damaged")

    with chat_server(said(GOOD)) as chat, pytest.raises(CheckpointError, match="/home/me"):
        [*write(chat, tokenizer=Damaged())]
    assert len(chat.questions) == 1


@pytest.mark.parametrize("timeout", [0, 0.9, -1, 86_401, float("nan"), float("inf"), "x"])
def test_a_deadline_that_cannot_be_is_one_line(timeout):
    with pytest.raises(SettingsError, match="timeout"):
        write_storyboard(IDEA, 2, 10, Endpoint("http://127.0.0.1:9/v1"), timeout=timeout)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "holo_lite.writing.chat", raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    with chat_server(said(GOOD)) as chat, pytest.raises(WritingError, match="type: python -m pip install"):
        [*write(chat)]
    assert chat.asked == []


def test_the_page_says_the_bounds():
    page = (Path(__file__).parents[2] / "docs" / "storyboards.md").read_text(encoding="utf-8")
    section = " ".join(page.partition("## From an idea")[2].partition("## Check")[0].split())
    assert (
        f"at most {LONGEST_SCENE} characters for the global caption and {LONGEST_CAPTION} for each shot's"
        in section
    )
    assert f"more than {LONGEST_ANSWER:,} characters, or {LARGEST_ANSWER // 2**20} MiB as it comes" in section
    assert f"`--timeout` seconds at most ({USUAL_TIMEOUT:g} if you do not say)" in section
    assert TRIES == 3
    assert "three tries at most" in section


def test_a_short_answer_in_one_event_and_an_empty_last_one_are_read():
    last = event({"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 5}})
    with chat_server(Said((delta(content=GOOD), last, DONE))) as chat:
        assert [*write(chat)][-1].found == ()

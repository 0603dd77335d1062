"""Words from files that anybody may have written: none commands a terminal, and none runs in a shell."""

import dataclasses
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings as cases, strategies as st

from holo_lite.errors import SettingsError
from holo_lite.film.video import VideoWriter
from holo_lite.settings import AddedLora, RunSettings
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.views.remaking import check_words, command
from holo_lite.views.terminal import ORDERS, shown, typed

PLAIN = RunSettings(
    storyboard=Storyboard("A house.", (Shot("wide"), Shot("close"))),
    frames=9,
    cuts=(5,),
    height=32,
    width=64,
    fps=15.0,
    steps=4,
    cfg=1.5,
    seed=0,
    negative="",
    attention="sparse",
    dtype="bf16",
    device="cpu",
    model="0123",
)
ENUMERATED = ("attention", "dtype", "device", "frames", "height", "width", "steps", "seed", "fps", "cfg")
HOSTILE = ("sparse; touch x #", "$(touch x)", "`touch x`", "a\ntouch x #", "\x1b]0;title\x07", "x' ; touch x '")


@given(st.text())
def test_nothing_that_is_shown_commands_a_terminal(text):
    line = shown(text)
    assert not ORDERS.search(line)
    assert not any(ord(character) < 32 and character != "\t" for character in line)
    assert shown(line) == line


def test_scripts_of_people_stay_as_they_are():
    for text in ("镜头 一个男人", "می‌خواهم", "👩‍🚀 🏳️‍🌈", "ชายสวมเสื้อ", "naïve\u00a0café"):
        assert shown(text) == text


@pytest.mark.skipif(os.name == "nt", reason="there is no POSIX shell")
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"])), min_size=1))
@cases(max_examples=30, deadline=None)
def test_every_word_reaches_a_program_as_it_is(words):
    assert shlex.split(typed(words, windows=False)) == [shown(word) for word in words]


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_on_windows_nothing_that_joins_commands_is_outside_quotation_marks(word):
    line = typed([word], windows=True)
    assert line.startswith('"') or not set(line) & set("&|<>^;()%$`'\"")


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ENUMERATED)
def test_a_setting_that_is_no_setting_is_refused(name, hostile):
    check_words(PLAIN)
    with pytest.raises(SettingsError, match=f"its setting {name} is "):
        check_words(dataclasses.replace(PLAIN, **{name: hostile}))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ["kernel", "linear", "fused"])
def test_what_computes_is_something_known(name, hostile):
    with pytest.raises(SettingsError, match=f"its setting {name} is "):
        check_words(dataclasses.replace(PLAIN, computing={name: hostile}))


@pytest.mark.skipif(os.name == "nt", reason="there is no POSIX shell")
@pytest.mark.parametrize("hostile", [*HOSTILE, "my $(id) profile", "-x"])
def test_the_command_of_a_video_runs_nothing_of_the_senders(tmp_path, hostile):
    lora = AddedLora("high_noise", f"{hostile}.safetensors", "0123", 1.0)
    line = command(dataclasses.replace(PLAIN, lora=(lora,), plan={"profile": hostile}))
    assert "\n" not in line
    subprocess.run(["sh", "-c", line.replace("holo-lite", "true", 1)], cwd=tmp_path, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_a_video_breaks_out_of_the_comments(run, tmp_path):
    video = tmp_path / "v.mp4"
    changed = dataclasses.replace(PLAIN, made_with="x\ntouch y\n\x1b[2J")
    with VideoWriter(video, width=16, height=16, fps=15, metadata=changed.to_json()) as writer:
        writer.add(np.zeros((16, 16, 3), np.uint8))
    outcome = run("inspect", video)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
    assert [line for line in outcome.out.splitlines() if line.startswith("touch")] == []
    video.write_bytes(video.read_bytes().replace(b'"sparse"', b'"sp;x;e"'))
    outcome = run("inspect", video)
    assert (outcome.code, outcome.out) == (2, "")
    assert "attention" in outcome.err
    assert "touch" not in outcome.err


def test_escapes_of_a_storyboard_reach_no_terminal(run, tmp_path):
    (tmp_path / "s.toml").write_text(
        'title = "a\\u001b[2Jb"\nglobal = "G \\u001b]0;x\\u0007"\nshot = [{caption = "c\\u202e"}]'
    )
    for words in (["inspect", "s.toml"], ["check", "s.toml"], ["inspect", "no\x1b[31mfile"]):
        outcome = run(*words)
        assert not ORDERS.search((outcome.out + outcome.err).replace("\n", "")), words


@pytest.mark.parametrize("encoding", ["cp1252", "cp936", "ascii"])
def test_an_encoding_that_knows_few_characters_changes_no_exit_code(tmp_path, encoding):
    (tmp_path / "s.toml").write_text('title = "镜头 ☂"\nglobal = "G"\nshot = [{caption = "c → 👩"}]', "utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    for words, code in ((["inspect", "s.toml"], 0), (["check", "s.toml"], 0), (["inspect", "镜头.toml"], 2)):
        command = [sys.executable, os.path.join(root, "cli.py"), *words]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert b"Traceback" not in ended.stderr, ended
        assert ended.returncode == code, ended

"""`holo-lite write` as a person meets it: files, exit codes, progress, and a key that nobody sees."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from chat_server import Said, chat_server, delta, refused, said
from guard import HANGS, wait_until

from holo_lite.commands.studio import studio
from holo_lite.commands.write import write
from holo_lite.story.files import load_storyboard
from holo_lite.writing.writing import USUAL_TIMEOUT

ROOT = Path(__file__).parents[2]
KEY = "sk-very-secret"
IDEA = "a lighthouse keeper loses the light"
SCENE = "A lighthouse at night. [character1] is a man in a yellow coat."
CAPTIONS = ("Wide shot of [character1] on the rocks.", "Close-up of the dark lamp, [character1] behind it.")
GOOD = json.dumps(
    {"title": "Dark", "global": SCENE, "shots": [{"caption": each, "seconds": 5} for each in CAPTIONS]}
)
UNKNOWN = GOOD.replace("lamp, [character1]", "lamp, [character2]")
ORDER = ("write", IDEA, "--shots", "2", "--seconds", "10")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """No defaults of whoever runs the tests."""
    for name in ("ENDPOINT", "KEY", "LLM"):
        monkeypatch.delenv(f"HOLO_LITE_WRITE_{name}", raising=False)
    monkeypatch.setenv("HOLO_LITE_CONFIG", str(tmp_path / "config.toml"))


@pytest.fixture
def config(tmp_path):
    """Write the file of defaults."""
    return (tmp_path / "config.toml").write_text


def test_a_storyboard_is_written_to_its_file(run, tmp_path):
    with chat_server(said(GOOD)) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, "-o", "film.toml")
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    board = load_storyboard(tmp_path / "film.toml")
    assert (board.global_caption, board.shot_captions(), board.title) == (SCENE, [*CAPTIONS], "Dark")
    assert (tmp_path / "film.toml").read_text(encoding="utf-8").startswith(f"# The idea: {IDEA}\n")
    lines = outcome.err.splitlines()
    assert lines[0] == f"sent to        {chat.url}"
    assert "storyboard     film.toml" in lines
    assert any("nothing found" in line for line in lines)
    assert run("check", "film.toml").code == 0


def test_without_a_file_it_goes_to_standard_output_and_nothing_else_does(run, tmp_path):
    with chat_server(said(GOOD)) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url)
    (tmp_path / "film.toml").write_text(outcome.out, encoding="utf-8")
    assert load_storyboard(tmp_path / "film.toml").shot_captions() == [*CAPTIONS]


def test_quiet_prints_the_storyboard_only(run):
    with chat_server(said(GOOD)) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("# The idea")


def test_what_remains_is_told_and_the_storyboard_is_kept(run, tmp_path):
    with chat_server(said(UNKNOWN)) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, "-o", "film.toml")
    assert outcome.code == 1
    assert "remains        unknown tag: [character2] in shot 2" in outcome.err
    assert outcome.err.count("found          unknown tag") == 3
    assert load_storyboard(tmp_path / "film.toml").shot_count == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--shots", "0"), "error: 0 shots: give 1 to 24; all captions share 512 tokens"),
        (("--seconds", "0.1"), "error: 0.1 seconds for 2 shots: give 0.9 to 960"),
        (("--endpoint", "nowhere"), "error: endpoint 'nowhere': it is not an address of http or https"),
        (("--timeout", "0"), "error: timeout 0: give 1 to 86400 seconds"),
        (("--llm", ""), "error: --llm: give the name of a model"),
        (("-o", "film.txt"), "error: --out film.txt: a storyboard is a .toml file; name one"),
        (("--key", KEY), "error: --key: other users of this machine could read it; set HOLO_LITE_WRITE_KEY"),
        (("--tokenizer", "none.json"), "error: none.json: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_sends_nothing(run, words, line):
    with chat_server(said(GOOD)) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, *words)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith(line)
    assert KEY not in outcome.err
    assert chat.asked == []


def test_an_endpoint_that_refuses_is_one_line(run, tmp_path):
    with chat_server(refused(404, "model not found")) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, "-o", "film.toml")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1].startswith(f"error: {chat.url}: not found (HTTP 404: model not found)")
    assert not (tmp_path / "film.toml").exists()


def test_no_endpoint_says_how_to_start_one_and_where_to_name_it(run, tmp_path):
    outcome = run(*ORDER)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    for word in (
        "llama-server",
        "--endpoint",
        "HOLO_LITE_WRITE_ENDPOINT",
        "endpoint in",
        str(tmp_path / "config.toml"),
    ):
        assert word in line


def test_a_file_that_is_there_is_kept_unless_asked(run, tmp_path):
    (tmp_path / "film.toml").write_text("mine")
    with chat_server(said(GOOD)) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, "-o", "film.toml")
        assert outcome.code == 2
        assert outcome.err == "error: film.toml: is there already; name another file, or add --overwrite\n"
        assert (tmp_path / "film.toml").read_text() == "mine"
        assert chat.asked == []
        assert run(*ORDER, "--endpoint", chat.url, "-o", "film.toml", "--overwrite").code == 0
    assert load_storyboard(tmp_path / "film.toml").shot_count == 2


def test_nothing_in_an_answer_commands_a_terminal(run):
    said_badly = GOOD.replace("[character1] behind", "[\u001b[2Jx] behind").replace("\x1b", "\\u001b")
    with chat_server(said(said_badly), refused(500, "a\x1b]0;title\x07")) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url)
    assert "U+001B" in outcome.err
    assert "\x1b" not in outcome.err + outcome.out
    assert "\x07" not in outcome.err


# --- the key -----------------------------------------------------------------------------------------


def test_endpoint_model_and_key_come_from_the_environment(run, monkeypatch):
    with chat_server(said(GOOD)) as chat:
        monkeypatch.setenv("HOLO_LITE_WRITE_ENDPOINT", chat.url)
        monkeypatch.setenv("HOLO_LITE_WRITE_KEY", KEY)
        monkeypatch.setenv("HOLO_LITE_WRITE_LLM", "seven-b")
        assert run(*ORDER).code == 0
    assert chat.questions[0]["model"] == "seven-b"
    assert chat.asked[0][2]["Authorization"] == f"Bearer {KEY}"


def test_they_come_from_the_file_and_the_key_goes_nowhere_else(run, config):
    with chat_server(said(GOOD)) as chat, chat_server(said(GOOD)) as other:
        config(f'[write]\nendpoint = "{chat.url}"\nkey = "{KEY}"\nllm = "m"\n')
        assert run(*ORDER).code == 0
        assert run(*ORDER, "--endpoint", chat.url.removesuffix("/v1")).code == 0
        outcome = run(*ORDER, "--endpoint", other.url)
        assert outcome.code == 0
        assert "the key in the config file is for another address, and is not sent" in outcome.err
    assert [headers.get("Authorization") for _, _, headers, _ in chat.asked] == [f"Bearer {KEY}"] * 2
    assert [headers.get("Authorization") for _, _, headers, _ in other.asked] == [None]


def test_a_key_alone_in_the_file_goes_to_the_address_that_is_typed(run, config):
    with chat_server(said(GOOD)) as chat:
        config(f'[write]\nkey = "{KEY}"\n')
        assert run(*ORDER, "--endpoint", chat.url, "--llm", "m").code == 0
    assert chat.asked[0][2]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", ["HOLO_LITE_WRITE_KEY", "HOLO_LITE_KEY"])
def test_config_shows_that_there_is_a_key_and_not_which(run, config, monkeypatch, name):
    config(f'[write]\nendpoint = "http://127.0.0.1:8080"\nkey = "{KEY}"\n')
    monkeypatch.setenv(name, f"{KEY}-too")
    outcome = run("config")
    assert outcome.code == 0
    assert KEY not in outcome.out + outcome.err
    assert f"environment    {name}=(set, and not shown)" in outcome.out
    assert "write          --endpoint=http://127.0.0.1:8080 --key=(set, and not shown)" in outcome.out


@pytest.mark.parametrize(
    "file",
    [f'[write]\nkey = ["{KEY}"]\n', f"[write]\nkey = {KEY}\n", f'[write]\nkey = "{KEY}\n', f'keys = "{KEY}"\n'],
)
def test_a_mistake_next_to_the_key_does_not_show_it(run, config, file):
    config(file)
    outcome = run(*ORDER)
    assert outcome.code == 2
    assert KEY not in outcome.err + outcome.out


@pytest.mark.parametrize("words", [(), ("--help",), ("--verbose",)])
def test_no_message_shows_the_key(run, monkeypatch, words):
    monkeypatch.setenv("HOLO_LITE_WRITE_KEY", KEY)
    with chat_server(refused(401, f"Incorrect key {KEY}")) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, "--llm", "m", *words)
    assert KEY not in outcome.err + outcome.out
    assert ("--key" in outcome.out) is False


@pytest.mark.parametrize("command", [write, studio], ids=["write", "studio"])
def test_every_command_that_asks_takes_the_same_variables(command, monkeypatch):
    said = {"endpoint": "http://127.0.0.1:8080", "llm": "m", "key": KEY}
    for name, value in said.items():
        monkeypatch.setenv(f"HOLO_LITE_WRITE_{name.upper()}", value)
    words = ["an idea"] if command is write else []
    found = command.make_context(command.name, words, auto_envvar_prefix="HOLO_LITE").params
    assert {name: found[name] for name in said} == said


@pytest.mark.parametrize("table", ["", "[write]\n"])
def test_the_file_may_name_it_for_all_commands_or_for_one(run, config, table):
    with chat_server(said(GOOD)) as chat:
        config(f'{table}endpoint = "{chat.url}"\nkey = "{KEY}"\nllm = "m"\n')
        assert run(*ORDER).code == 0
        assert KEY not in run("config").out
    assert chat.asked[0][2]["Authorization"] == f"Bearer {KEY}"


# --- as it runs --------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_ends_it_and_cuts_the_connection(tmp_path):
    stall = threading.Event()
    with chat_server(Said((delta(content="{"),), stall=stall)) as chat:
        words = [sys.executable, "-m", "holo_lite", *ORDER, "--endpoint", chat.url, "--llm", "m", "-o", "film.toml"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
            wait_until(lambda: chat.asked or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=HANGS)
        assert (process.returncode, out) == (130, "")
        assert err.splitlines()[-1] == "interrupted; no half-written file is left"
        assert chat.gone.wait(HANGS)
    assert [*tmp_path.iterdir()] == []


def test_on_a_terminal_the_answer_is_shown_as_it_comes():
    from rich.console import Console

    from holo_lite.views.display import LiveDisplay
    from holo_lite.views.writing import WritingView
    from holo_lite.writing.events import AnswerGrew, TryJudged, TryStarted

    console = Console(force_terminal=True, width=100, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    with console.file, LiveDisplay(console) as live:
        view = WritingView(live)
        view.show(TryStarted(1, 3, "m\x1b[2J"))
        view.show(AnswerGrew("hm", is_thought=True))
        console.print(live.rows())
        for piece in ('{"global": "A lamp,', " a \x1b[2J ", "keeper."):
            view.show(AnswerGrew(piece))
        console.print(live.rows())
        view.show(TryJudged(1, ("word " * 1000,)))
    text = console.export_text()
    assert "thinking" in text
    assert '{"global": "A lamp a \\x1b[2J keeper.' in text
    assert "try 1 of 3" in text
    assert 0 < text.count("word") < 100


def test_the_help_shows_the_usual_timeout():
    (option,) = (each for each in write.params if each.name == "timeout")
    assert option.default == USUAL_TIMEOUT


def test_in_a_log_a_line_comes_now_and_then_and_not_with_every_piece(run):
    with chat_server(said(GOOD, size=1)) as chat:
        outcome = run(*ORDER, "--endpoint", chat.url, "-o", "film.toml")
    assert outcome.code == 0
    assert sum("try 1 of 3" in line for line in outcome.err.splitlines()) == 1

"""What people type by habit: other programs' names, defaults of their own, standard input, help by a word."""

import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image

from holo_lite.commands.group import holo_lite
from holo_lite.commands.helping import HEADINGS
from holo_lite.commands.values import KERNELS, VARIANTS
from holo_lite.config import ATTENTIONS
from holo_lite.film.video import read_metadata
from holo_lite.kernels.registry import KERNELS as EVERY_KERNEL
from holo_lite.settings import RunSettings

ROOT = Path(__file__).parents[2]
TINY = ("--size", "16x16", "--steps", "1", "--cfg", "1", "--frames", "5")
BOARD = 'global = "A house."\n[[shot]]\ncaption = "wide shot"\n[[shot]]\ncaption = "close shot"\n'
COMMANDS = holo_lite.commands


def settings(path):
    return RunSettings.from_json(read_metadata(path))


def options(command):
    return [each for each in command.params if isinstance(each, click.Option)]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write the file of defaults."""
    path = tmp_path / "defaults" / "config.toml"
    path.parent.mkdir()
    monkeypatch.setenv("HOLO_LITE_CONFIG", str(path))
    return path.write_text


@pytest.fixture
def typed(monkeypatch):
    """Put text on standard input."""
    return lambda raw: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))


# --- names of other programs ---------------------------------------------------------------------


def test_names_of_other_programs_set_the_same_options(run, tmp_path):
    words = ("--size", "32*16", "--num-frames=9", "--num-inference-steps", "2", "--guidance-scale", "1.5")
    outcome = run("generate", "--prompt", "a road", *words, "--negative-prompt", "rain", "-o", "a.mp4")
    assert outcome.code == 0, outcome.err
    found = settings(tmp_path / "a.mp4")
    assert (found.width, found.height, found.frames, found.steps, found.cfg) == (32, 16, 9, 2, 1.5)
    assert (found.storyboard.raw, found.negative) == ("a road", "rain")


def test_help_shows_one_name_of_an_option(run):
    text = run("generate", "--help").out
    for name in (
        "--num-frames",
        "--guidance-scale",
        "--num-inference-steps",
        "--negative-prompt",
        "--yes",
        "--output",
    ):
        assert name not in text
    assert "-o, --out" in text


@pytest.mark.parametrize("text", ["832", "832x", "x480", "832x480x3", "832 by 480", "-16x16", ""])
def test_a_size_that_is_none_says_how_to_write_one(run, text):
    outcome = run("generate", "a road", "--size", text)
    assert outcome.code == 2
    assert "write width x height in pixels, such as 832x480" in outcome.err


def test_a_size_and_another_side_are_one_too_many(run):
    outcome = run("generate", "a road", "--size", "32x16", "--width", "64")
    assert (outcome.code, outcome.err.splitlines()) == (
        2,
        ["error: --width 64 and --size 32x16 differ; give one of them"],
    )


def test_words_of_options_are_those_there_are():
    assert ("auto", *(kernel.name for kernel in EVERY_KERNEL)) == KERNELS
    assert VARIANTS == ATTENTIONS


def test_words_may_be_in_capitals(run):
    assert run("generate", "a road", *TINY, "--dtype", "BF16", "--device", "CPU", "--dry-run").code == 0


def test_yes_is_overwrite(run, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"somebody's")
    assert run("generate", "a road", *TINY, "-o", "a.mp4").code == 2
    assert (tmp_path / "a.mp4").read_bytes() == b"somebody's"
    assert run("generate", "a road", *TINY, "-o", "a.mp4", "--yes").code == 0
    assert settings(tmp_path / "a.mp4").frames == 5


# --- storyboards that are no files ---------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        BOARD.encode(),
        b"\xef\xbb\xbf# a comment\n" + BOARD.encode(),
        json.dumps({"global": "A house.", "shots": [{"caption": "wide shot"}, {"caption": "close shot"}]}).encode(),
        b"[global caption] A house. [per shot caption] wide shot [shot cut] close shot\n",
    ],
)
def test_a_storyboard_comes_from_standard_input(run, typed, tmp_path, raw):
    typed(raw)
    assert run("generate", "-", *TINY, "--frames", "9").code == 0
    assert settings(tmp_path / "video.mp4").storyboard.shot_captions() == ["wide shot", "close shot"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "standard input: "),
        (b"\xff", "standard input: byte 0 is not UTF-8"),
        (b"a" * 2**21, "standard input: is too long for a storyboard"),
        (b"shots = 3\n[[shot]]\n", "standard input: "),
        (b"{", "standard input: this is not valid JSON"),
    ],
)
def test_standard_input_that_is_no_storyboard_is_told(run, typed, raw, said):
    typed(raw)
    outcome = run("check", "-")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {said}")


@pytest.mark.parametrize(
    ("words", "said"), [((), "Missing argument"), (("a road", "--prompt", "b"), "give one of")]
)
def test_no_storyboard_and_two_are_mistakes(run, words, said):
    for command in ("generate", "check", "plan"):
        outcome = run(command, *words)
        assert outcome.code == 2
        assert said in outcome.err


def test_a_prompt_that_looks_like_a_file_is_a_prompt(run):
    assert "the storm.png" in run("check", "--prompt", "the storm.png").out


# --- how much is said ----------------------------------------------------------------------------


def test_quiet_says_nothing_and_makes_the_video(run, tmp_path):
    outcome = run("generate", "a road", *TINY, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert (tmp_path / "video.mp4").exists()
    assert run("generate", "a road", *TINY, "-q").err == "", "done already is no error"


def test_quiet_keeps_errors(run):
    outcome = run("generate", "a road", "--steps", "0", "-q")
    assert (outcome.code, outcome.err.startswith("error: steps 0")) == (2, True)


def test_a_dry_run_decides_everything_and_writes_nothing(run, tmp_path):
    (tmp_path / "s.toml").write_text(BOARD)
    outcome = run("generate", "s.toml", *TINY, "--frames", "9", "--dry-run")
    assert outcome.code == 0
    assert "2 shots, 16×16, 9 frames, 1 step, seed 0" in outcome.err
    assert "short shot" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["s.toml"]


def test_a_dry_conversion_writes_nothing(run, tmp_path):
    outcome = run("quantize", "holo-tiny", "out", "--scheme", "NF4", "--dry-run")
    assert outcome.code == 0
    assert "high_noise" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_what_check_finds_is_said_before_a_run(run, tmp_path):
    (tmp_path / "s.toml").write_text(BOARD.replace("close shot", "close shot of [character3]"))
    outcome = run("generate", "s.toml", *TINY, "--frames", "17")
    assert outcome.code == 0
    assert "note: unknown tag: [character3] in shot 2 is not introduced" in outcome.err


# --- seeds ---------------------------------------------------------------------------------------


def test_seeds_go_to_the_end_of_64_bits_and_say_which_noise_they_give(run, tmp_path):
    for seed, name in ((2**64 - 1, "a.mp4"), (2**32 - 1, "b.mp4")):
        outcome = run("generate", "a road", *TINY, "--seed", seed, "-o", name)
        assert outcome.code == 0
        assert ("gives the same noise as seed 4294967295" in outcome.err) == (seed >= 2**32)
    assert settings(tmp_path / "a.mp4").seed == 2**64 - 1
    one, other = (Image.open(tmp_path / name).tobytes() for name in ("a.png", "b.png"))
    assert one == other


# --- defaults of one's own -----------------------------------------------------------------------


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(run, config, monkeypatch, tmp_path):
    config('size = "32x16"\nseed = 3\n[generate]\nsteps = 2\nframes = 5\n')
    monkeypatch.setenv("HOLO_LITE_GENERATE_SEED", "4")
    assert run("generate", "a road", "--cfg", "1", "--width", "16", "-o", "a.mp4").code == 0
    found = settings(tmp_path / "a.mp4")
    assert (found.width, found.height, found.seed, found.steps, found.frames) == (16, 16, 4, 2, 5)


def test_a_model_in_the_file_lies_next_to_it(run, config, toy_copy, tmp_path):
    (tmp_path / "defaults" / "models").symlink_to(toy_copy, target_is_directory=True)
    config('model = "models"\n')
    outcome = run("generate", "a road", *TINY, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "holo-tiny" not in outcome.err


def test_a_model_in_the_environment_is_every_commands(run, monkeypatch, toy_copy):
    monkeypatch.setenv("HOLO_LITE_MODEL", str(toy_copy))
    assert "tokens  not counted" not in run("check", "a road").out


def test_config_shows_where_defaults_come_from(run, config, monkeypatch):
    assert "(not there)" in run("config").out
    config('[generate]\nkeep_run = true\nguidance-scale = 2.5\noverwrite = false\nlora = ["high=a:0.5", "low=b"]\n')
    monkeypatch.setenv("HOLO_LITE_GENERATE_SEED", "4")
    out = run("config").out
    assert "generate       --keep-run --cfg=2.5 --lora=high=a:0.5 --lora=low=b\n" in out
    assert "HOLO_LITE_GENERATE_SEED=4" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepz = 3", "no command has an option 'stepz'; did you mean 'steps'?"),
        ("[generate]\nstepz = 3", "generate has no option 'stepz'; did you mean 'steps'?"),
        ("[generat]\nsteps = 3", "no command has an option 'generat'; did you mean 'generate'?"),
        ("[generate]\nsteps = 'many'", "--steps: 'many' is not a valid integer"),
        ("[generate]\nsteps = [1]", "--steps: give a text or a number"),
        ("[generate]\nkeep-run = 'yes'", "--keep-run: give true or false"),
        ("[generate]\nlora = 'a'", "--lora: give a list of texts"),
        ("steps = ", "is not valid TOML"),
        ("steps = " + "9" * 30, "is not valid TOML: a number out of range"),
    ],
)
def test_a_wrong_default_names_the_file_and_what_is_wrong(run, config, tmp_path, text, said):
    config(text)
    for command in (("check", "a road"), ("config",)):
        outcome = run(*command)
        assert outcome.code == 2
        (line,) = outcome.err.splitlines()
        assert line.startswith(f"error: {tmp_path / 'defaults' / 'config.toml'}: {said}")


def test_the_home_of_an_unknown_user_is_a_name_like_any_other(run, config, monkeypatch):
    config('model = "~nobody-at-all/models"\n')
    (line,) = run("generate", "a road").err.splitlines()
    assert "~nobody-at-all/models: no such folder" in line
    monkeypatch.setenv("HOLO_LITE_CONFIG", "~nobody-at-all/config.toml")
    assert run("check", "a road").code == 0


def test_a_wrong_default_leaves_help_readable(run, config):
    config("x = 1")
    assert run("help").code == 0
    assert run("--help").code == 0


# --- help ----------------------------------------------------------------------------------------


def test_help_by_a_word_is_the_help(run):
    assert run("help").out.strip() == run("--help").out.strip()
    assert run("help", "check").out.strip() == run("check", "--help").out.strip()
    assert run("-V").out == run("--version").out


def test_a_command_that_is_not_there_suggests_one(run):
    assert "there is no command 'gen'; did you mean 'generate'?" in run("gen", "a road").err
    assert "there is no command 'quantise'; did you mean 'quantize'?" in run("quantise").err


def test_the_list_of_commands_is_whole_at_80_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run("--help").out
    listed = text.partition("Commands:\n")[2]
    assert "..." not in listed
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == list(COMMANDS)


def test_every_option_of_a_long_command_has_a_heading():
    headed = {name for names in HEADINGS.values() for name in names}
    assert {option.name for name in ("generate", "plan") for option in options(COMMANDS[name])} & headed
    known = {option.name for command in COMMANDS.values() for option in options(command)}
    assert headed <= known, "a heading names an option that no command has"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("holo-lite ge", {"generate"}),
        ("holo-lite generate --dtype b", {"bf16"}),
        ("holo-lite generate --profile 12", {"12gb"}),
        ("holo-lite quantize --scheme nf", {"nf4", "nf4-single"}),
        ("holo-lite generate --guid", {"--guidance-scale"}),
    ],
)
def test_a_shell_completes_commands_options_and_words(words, expected):
    *first, last = words.split()
    environment = {"_HOLO_LITE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(first))}
    ended = subprocess.run(
        [sys.executable, str(ROOT / "cli.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert {line.partition(",")[2] for line in ended.stdout.splitlines()} == expected, (last, ended.stderr)

"""The command line from outside: what it makes, what it says, and with which code it ends."""

import io
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from guard import HANGS, wait_until
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from holo_lite.commands.shared import TINY_NOTICE
from holo_lite.events import Finished, PhaseStarted, Resolved, StepDone
from holo_lite.film.video import probe, read_metadata
from holo_lite.render.pipeline import Pipeline
from holo_lite.sampling.sampler import Progress
from holo_lite.sampling.schedule import Schedule
from holo_lite.settings import Options, RunSettings
from holo_lite.story.files import load_storyboard
from holo_lite.version import __version__
from holo_lite.views.display import display
from holo_lite.views.run import show
from holo_lite.views.terminal import opener, shown

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "parity_data"
EXAMPLES = sorted((ROOT / "storyboards").iterdir())
PROMPT = "[global caption] A house by the sea. [per shot caption] wide shot [shot cut] close shot"
THREE = "[global caption] G [per shot caption] a [shot cut] b [shot cut] c"
TINY = ("--height", "16", "--width", "16", "--steps", "1", "--cfg", "1", "--frames", "9")


def mistake(outcome):
    """The one line that a person's mistake gives."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    return line


def started(*words, **options):
    """The command line in a process of its own."""
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# --- help and version ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--help"], ["generate", "--help"], ["inspect", "--help"], ["evaluate", "--help"], ["demo", "-h"]]
)
def test_help_needs_nothing_heavy(words):
    script = (
        "import sys, cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print([name for name in ('torch', 'numpy', 'transformers', 'diffusers', 'av') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANGS
    )
    assert done.stdout.startswith("Usage: ")
    assert done.stdout.endswith("\n[]\n")
    assert done.stderr == ""


def test_help_names_every_option_of_the_issue(run):
    shown = run("generate", "--help").out
    names = "model|out|frames|cuts|height|width|fps|steps|cfg|seed|negative|attention|device|dtype"
    assert [name for name in names.split("|") if f"--{name} " not in shown] == []
    assert {"demo", "generate", "inspect"} <= set(run("--help").out.split())


@pytest.mark.parametrize(("said", "found"), [(None, "1"), ("0", "0")])
def test_large_pages_are_asked_for_unless_a_person_says_otherwise(said, found):
    """Before PyTorch comes, which looks once."""
    script = "import os, cli\ntry: cli.main()\nexcept SystemExit: print(os.environ[cli.LARGE_PAGES])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("THP_MEM_ALLOC_ENABLE", None)
    environment |= {"THP_MEM_ALLOC_ENABLE": said} if said else {}
    words = [sys.executable, "-c", script, "--version"]
    out = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == found


def test_version_is_the_packages(run):
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, f"holo-lite, version {__version__}\n")


# --- what it makes ---------------------------------------------------------------------------------


def test_every_flag_reaches_the_run(run, toy_copy, tmp_path):
    outcome = run(
        *("generate", PROMPT, "--out", tmp_path / "new" / "film.mp4", "--frames", 17, "--cuts", "5"),
        *("--height", 32, "--width", 48, "--fps", 12.5, "--steps", 3, "--cfg", 2, "--seed", 11),
        *("--negative", "dark street", "--attention", "full", "--device", "cpu", "--dtype", "bf16"),
        *("--model", toy_copy),
    )
    assert (outcome.code, outcome.out) == (0, "")
    info = probe(tmp_path / "new" / "film.mp4")
    assert (info.frames, info.width, info.height, info.fps) == (17, 48, 32, 12.5)
    settings = RunSettings.from_json(read_metadata(tmp_path / "new" / "film.mp4"))
    assert (settings.frames, settings.cuts, settings.steps, settings.cfg, settings.seed) == (17, (5,), 3, 2.0, 11)
    assert (settings.negative, settings.attention, settings.dtype) == ("dark street", "full", "bf16")
    assert (settings.device, settings.storyboard.raw) == ("cpu", PROMPT)
    assert settings.made_with == f"holo-lite {__version__}, torch {torch.__version__}"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "film.latents.safetensors",
        "film.mp4",
        "film.png",
    ]


def test_it_says_what_it_does_in_plain_lines(tmp_path):
    words = ("generate", PROMPT, *TINY, "--steps", 2, "--frames", 10, "--cuts", "6")
    with started(*words, cwd=tmp_path) as process:  # what libraries write past Python's streams is seen, too
        out, err = process.communicate(timeout=HANGS)
    assert (process.returncode, out) == (0, "")
    lines = err.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[0] == TINY_NOTICE
    assert lines[1:4] == [
        "2 shots, 16×16, 9 frames, 2 steps, seed 0",
        "note: rounded length 10 → 9, cut 6 → 5: cuts and length must be 1, 5, 9, 13, …",
        "note: short shot: shot 2 has 4 frames, one latent frame: hardly more than a still picture; "
        "give it 8 frames or more",
    ]
    assert re.fullmatch(r"profile cpu: no CUDA card here, \S+ GiB of RAM, model in bf16: all blocks stay", lines[4])
    assert re.fullmatch(r"plan: at most \S+ MiB of cpu memory, 5 of 5 blocks resident, both .*", lines[5])
    assert lines[6:8] == ["reading the prompt", "denoising"]
    assert re.fullmatch(r"denoising 2/2 low-noise, \S+ (s each|a second), took \d+:\d\d", lines[8])
    assert lines[9:11] == ["loading the decoder", "decoding and writing"]
    assert re.fullmatch(r"decoding and writing 9/9 frames, \S+ (s each|a second), took \d+:\d\d", lines[-6])
    assert lines[-5:-3] == ["video          video.mp4", "contact sheet  video.png"]
    assert re.fullmatch(r"took           \d+:\d\d( \(.*\))?", lines[-3])
    assert lines[-2:] == [f"to watch       {opener('video.mp4')}", "to make again  holo-lite inspect video.mp4"]


def test_a_plain_prompt_longer_than_a_file_name_is_one_shot(run, tmp_path):
    outcome = run("generate", "a quiet road by the sea " * 12, *TINY)
    assert outcome.code == 0
    assert "1 shot, 16×16, 9 frames, 1 step, seed 0" in outcome.err.splitlines()
    assert probe(tmp_path / "video.mp4").frames == 9


def test_a_video_is_named_after_its_storyboard(run, tmp_path):
    assert run("generate", ROOT / "storyboards" / "pottery.txt", *TINY).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pottery.latents.safetensors",
        "pottery.mp4",
        "pottery.png",
    ]
    with Image.open(tmp_path / "pottery.png") as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 300  # two rows of thumbnails with captions


def test_file_names_that_look_like_markup_are_shown_as_they_are(run):
    out = "[bold]a:smile:.mp4"
    assert f"video          {out}" in run("generate", "a road", *TINY, "--out", out).err.splitlines()


def test_clips_longer_than_trained_are_told_once(run):
    outcome = run("generate", "a road", *TINY, "--frames", 245)
    (note,) = [line for line in outcome.err.splitlines() if line.startswith("note:")]
    assert note == "note: 245 frames are longer than the model was trained for (241 frames, 16.1 s at 15 fps)"
    assert "trained" not in run("generate", "a road", *TINY, "--frames", 9).err


@pytest.fixture(scope="module")
def published(published_model):
    return Pipeline.load(published_model)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_ready_to_run(path, published):
    """With the real tokenizer: every shot has its window, and nothing is cut off."""
    job = published.prepare(load_storyboard(path))
    assert job.prompt.shots == len(job.settings.shot_frames) == load_storyboard(path).shot_count
    assert job.settings.frames in {81, 241, 961, 245}
    assert all("cut " not in note for note in job.notes if path.suffix == ".json")


def test_the_demo_makes_a_video_and_its_contact_sheet(run, tmp_path):
    outcome = run("demo", "--out", "shown")
    assert outcome.code == 0
    assert outcome.err.startswith(TINY_NOTICE)
    info = probe(tmp_path / "shown" / "demo.mp4")
    assert (info.frames, info.width, info.height) == (49, 112, 64)
    assert (tmp_path / "shown" / "demo.png").is_file()
    told = outcome.out.splitlines()
    assert told[0] == "asked for:"
    assert told[2] == "shot 1  frames  0 to  8  Wide shot of [character1] and [character2], still."
    assert [line.split()[1] for line in told[2:]] == ["1", "2", "3", "4", "5"]


def test_a_model_of_ones_own_is_not_called_built_in(run, toy_copy):
    assert TINY_NOTICE not in run("generate", "a road", *TINY, "--model", toy_copy).err


# --- inspect ---------------------------------------------------------------------------------------


def test_inspect_knows_what_a_file_is(run, toy_copy, tmp_path):
    assert run("inspect", toy_copy / "dit_low_noise.safetensors").out.startswith(
        "expert: width 96, 3 heads, 3 blocks, feed-forward 192\n"
    )
    assert run("inspect", DATA / "vae.safetensors").out.startswith("Wan 2.1 VAE\n")
    assert run("inspect", DATA / "text_encoder.safetensors").out.startswith("umt5 text encoder\n")
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "other.safetensors")
    assert run("inspect", tmp_path / "other.safetensors").out.splitlines()[:2] == [
        "weights of an unknown network",
        "  holds       1 tensor, 6 numbers, 24 bytes, float32",
    ]


def test_inspect_lists_the_parts_of_a_model(run, published_model):
    lines = run("inspect", published_model).out.splitlines()
    assert lines[0] == f"model folder {published_model}, sparse attention"
    named = {" ".join(line.split()[:-1]): line.split()[-1] for line in lines[1:] if "/" in line}
    assert named["text encoder"] == "Wan2.2-T2V-A14B/models_t5_umt5-xxl-enc-bf16.pth"
    assert named["low-noise expert"] == "HoloCine/HoloCine_dit/sparse/sparse_low_noise.safetensors"
    assert named["tokenizer"] == "Wan2.2-T2V-A14B/google/umt5-xxl/tokenizer.json"
    assert sum("2 heads, 2 blocks" in line for line in lines) == 2


def test_inspect_shows_a_storyboards_shots(run, tmp_path):
    (tmp_path / "s.toml").write_text(
        "global='G'\nframes=17\nfps=10\ncuts=[6]\n[[shot]]\ncaption='a'\n[[shot]]\ncaption='b'"
    )
    lines = run("inspect", "s.toml").out.splitlines()
    assert lines[0] == "storyboard: 17 frames, 1.7 s at 10 fps"
    assert "note: rounded cut 6 → 5: cuts and length must be 1, 5, 9, 13, …" in lines
    assert "  shot  2  frames    5-  16    1.2 s  b" in lines
    assert lines[-3].startswith("[global caption] G This scene contains 2 shots. [per shot caption] a [shot cut] b")


def test_inspect_needs_no_torch_for_what_holds_no_weights_to_judge():
    script = "import sys, cli\ntry: cli.main()\nexcept SystemExit: print('torch' in sys.modules)"
    words = ["inspect", str(EXAMPLES[0])]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANGS
    )
    assert done.stdout.endswith("\nFalse\n")
    records, tiny = ROOT / "tests" / "records" / "v1", ROOT / "holo_lite" / "tiny" / "weights"
    paths = [ROOT / "profiles" / "12gb.toml", records / "run-nf4.json", records / "journal.jsonl"]
    paths += [tiny / "high_noise" / "block-00.safetensors", tiny / "tokenizer.json", tiny / "quality.json"]
    script = (
        "import sys\nfrom pathlib import Path\nfrom holo_lite.inspection.describe import inspect\n"
        "for path in sys.argv[1:]:\n"
        "    assert list(inspect(Path(path)))\n"
        "    assert 'torch' not in sys.modules, path\n"
    )
    subprocess.run([sys.executable, "-c", script, *map(str, paths)], cwd=ROOT, check=True, timeout=HANGS)


@pytest.mark.parametrize(
    ("name", "content", "telling"),
    [
        ("missing.toml", None, "there is no such file"),
        ("missing.mp4", None, "cannot be read"),
        ("missing.safetensors", None, "no such file"),
        ("missing", None, "there is no such file"),
        ("notes.md", b"text", "4 bytes, a text: nothing that can be shown; inspect knows storyboards, videos"),
        ("photo.jpg", b"\xff\xd8\xff\xe0", "a JPEG picture"),
        ("x\x1b[2Jy.dat", b"\x00\x01\xff", "bytes of no kind known here"),
        ("film.mp4", b"text", "is not a video"),
        ("weights.pth", b"text", "not a PyTorch file"),
        ("weights.safetensors", b"text", "is not a safetensors file"),
        ("bad.toml", b"glbal='G'", "did you mean 'global'?"),
    ],
)
def test_inspect_tells_what_it_cannot_read(run, tmp_path, name, content, telling):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    line = mistake(run("inspect", name))
    assert line.startswith(f"error: {shown(name)}: ")
    assert telling in line


# --- bad input -------------------------------------------------------------------------------------


@pytest.fixture
def no_weights(monkeypatch):
    """Loading any network is now a failure of the test."""

    def explode(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("holo_lite.render.denoise_phase.StreamedExperts", explode)
    monkeypatch.setattr("holo_lite.render.text_phase.TextEncoder.open", explode)
    monkeypatch.setattr("holo_lite.render.decode_phase.load_vae", explode)


SHOT = "[[shot]]\ncaption = 'c'\n"
STORYBOARDS = {
    "global = 'G'": "there are no shots; add a [[shot]]",
    "global = 'G'\n[[shot]]\ncaption = ' '": "shot 1 has an empty caption",
    "global = 'G'\nshot = []": "there are no shots",
    "prompt = '[global caption] G [per shot caption] a [shot cut] '": "shot 2 has no caption",
    f"global = 'G'\ncuts = [25, 9]\n{SHOT * 3}": "cut 9 comes after 25; write the cuts in ascending order",
    f"global = 'G'\ncuts = [9, 9]\n{SHOT * 3}": "cut 9 is given twice",
    f"global = 'G'\ncuts = [49]\n{SHOT * 2}": "cut 49 leaves a shot without frames in a video of 49",
    f"global = 'G'\ncuts = [0]\n{SHOT * 2}": "cut 0 leaves a shot without frames",
    f"global = 'G'\ncuts = [-4]\n{SHOT * 2}": "cut -4 leaves a shot without frames",
    f"global = 'G'\ncuts = [7, 9]\n{SHOT * 3}": "cuts 7 and 9 both round to 9, which leaves shot 2 without frames",
    f"global = 'G'\ncuts = [9]\n{SHOT}": "1 shots need 0 cuts but there are 1",
    f"global = 'G'\ncuts = [9]\n{SHOT * 3}": "3 shots need 2 cuts but there are 1",
    f"global = 'G'\nframes = 9\n{SHOT * 4}": "4 shots do not fit into 9 frames",
    f"global = 'G'\nheigth = 64\n{SHOT}": "unknown key 'heigth'; did you mean 'height'?",
    f"global = 'G'\n{SHOT}second = 1": "unknown key 'second' of shot 1; did you mean 'seconds'?",
    f"global = 'G'\nsteps = 0\n{SHOT}": "steps 0: give a number from 1 to 1000",
    f"global = 'G'\nheight = 50\n{SHOT}": "height 50: must be a multiple of 16 up to 4096; the nearest is 48",
}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("content", STORYBOARDS)
def test_a_bad_storyboard_costs_one_line(run, tmp_path, content):
    (tmp_path / "s.toml").write_text(content)
    assert STORYBOARDS[content] in mistake(run("generate", "s.toml"))


COMMANDS = {
    ("generate", THREE, "--cuts", "25,9"): "cut 9 comes after 25; write the cuts in ascending order",
    ("generate", THREE, "--cuts", "9,9"): "cut 9 is given twice",
    ("generate", THREE, "--cuts", "9,49"): "cut 49 leaves a shot without frames in a video of 49",
    ("generate", THREE, "--cuts", "0,9"): "cut 0 leaves a shot without frames",
    ("generate", THREE, "--cuts", "-4,9"): "cut -4 leaves a shot without frames",
    ("generate", THREE, "--cuts", "7,9"): "cuts 7 and 9 both round to 9",
    ("generate", THREE, "--cuts", "9"): "3 shots need 2 cuts but there are 1",
    ("generate", THREE, "--cuts", "9,17,25"): "3 shots need 2 cuts but there are 3",
    ("generate", THREE, "--cuts", "9;17"): "--cuts '9;17': give frame numbers such as 49,97,145",
    ("generate", THREE, "--cuts", "9,,17"): "--cuts '9,,17': give frame numbers",
    ("generate", THREE, "--cuts", ""): "--cuts '': give frame numbers",
    ("generate", THREE, "--frames", "5"): "3 shots do not fit into 5 frames",
    ("generate", "a road", "--frames", "0"): "the length in frames is 0; give a whole number from 1",
    ("generate", "[per shot caption] a [shot cut] b"): "begin it with [global caption]",
    ("generate", ""): "no storyboard is given; give a file, or a prompt in quotes",
    ("generate", "missing.toml"): "missing.toml: there is no such file; check the name",
    ("generate", "."): "name the storyboard file in it",
    ("generate", "a road", "--height", "50"): "height 50: must be a multiple of 16 up to 4096; the nearest is 48",
    ("generate", "a road", "--width", "0"): "width 0: must be a multiple of 16",
    ("generate", "a road", "--height", "9" * 400): "the nearest is 4096",
    (
        "generate",
        "a road",
        "--height",
        "tall",
    ): "'--height': 'tall' is not a valid integer. See 'holo-lite generate",
    ("generate", "a road", "--fps", "0"): "fps 0.0: give a number from 0.1 to 240",
    ("generate", "a road", "--fps", "fast"): "'--fps': 'fast' is not a valid float",
    ("generate", "a road", "--steps", "0"): "steps 0: give a number from 1 to 1000",
    ("generate", "a road", "--steps", "2.5"): "'--steps': '2.5' is not a valid integer",
    ("generate", "a road", "--cfg", "0.5"): "cfg 0.5: give a number from 1 to 100",
    ("generate", "a road", "--cfg", "nan"): "cfg nan: give a number from 1 to 100",
    ("generate", "a road", "--seed", "-1"): "seed -1: no seed is random here; --seeds 4 makes four drafts",
    ("generate", "a road", "--seed", "9" * 30): "give a number from 0 to 18446744073709551615",
    ("generate", "a road", "--seed", "x"): "'--seed': 'x' is not a valid integer",
    ("generate", "a road", "--negative", "\udcff"): r"negative: '\udcff' is not UTF-8; write it as UTF-8",
    ("generate", "a road", "--negative", "sea " * 600): "the negative prompt: the prompt has 601 tokens",
    ("generate", "a road", "--negative", PROMPT): "the negative prompt: it has no shots of its own",
    ("generate", "a road", "--attention", "dens"): "attention 'dens': give one of sparse, full",
    ("generate", "a road", "--device", "tpu"): "device 'tpu': give auto, cpu, cuda or cuda:0",
    ("generate", "a road", "--device", "meta"): "device 'meta': give auto, cpu, cuda or cuda:0",
    ("generate", "a road", "--device", "cpu:1"): "device 'cpu:1': give auto, cpu, cuda or cuda:0",
    ("generate", "a road", "--device", "cuda:99"): "device 'cuda:99': ",
    ("generate", "a road", "--dtype", "fp8"): "dtype 'fp8': give auto, bf16 or fp32",
    ("generate", "a road", "--out", "film.avi"): "a video is written as .mp4; name it film.mp4",
    ("generate", "a road", "--out", "film"): "name it film.mp4",
    ("generate", "a road", "--out", ""): "a video is written as .mp4; name it video.mp4",
    ("generate", "a road", "--out", "a" * 400 + ".mp4"): "File name too long",
    ("generate", "a road", "--out", "file/film.mp4"): "file/film.mp4: cannot be written",
    ("generate", "a road", "--out", "folder.mp4"): "folder.mp4: is a folder; name a file in it",
    (
        "generate",
        "a road",
        "--out",
        "sheet.mp4",
    ): "sheet.png: is a folder, but the contact sheet would be written there",
    ("generate", "a road", "--model", "nowhere"): "nowhere: no such folder",
    ("generate", "a road", "--model", "file"): "file: no such folder",
    ("generate", "a road", "--stpes", "5"): "No such option '--stpes'. (Did you mean one of: ",
    ("generate",): "Missing argument 'STORYBOARD'. See 'holo-lite generate --help'.",
    ("generate", "a", "road"): "Got unexpected extra argument (road)",
    ("genrate", "a road"): "there is no command 'genrate'; did you mean 'generate'?",
    ("demo", "--out", "file"): "cannot be written",
    ("inspect", "a" * 400): "File name too long",
}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60])
def test_a_bad_command_costs_one_line(run, tmp_path, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "sheet.png").mkdir()
    assert COMMANDS[words] in mistake(run(*words))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.mp4", "sheet.png"]


@pytest.mark.usefixtures("no_weights")
def test_a_prompt_over_512_tokens_says_how_many_and_which_shot(run, tmp_path):
    shots = "".join(f"[[shot]]\ncaption = '{'sea ' * 200}'\n" for _ in range(4))
    (tmp_path / "s.toml").write_text(f"global = 'a road'\n{shots}")
    line = mistake(run("generate", "s.toml"))
    told = r"the prompt has 8\d\d tokens, the limit is 512, shot 3 is cut off first; shorten it by 3\d\d tokens"
    assert re.search(told, line)


def test_no_command_shows_the_commands(run):
    outcome = run()
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: holo-lite [OPTIONS] COMMAND")


# --- bad model files -------------------------------------------------------------------------------


def respoil(path, change):
    """Write a safetensors file again with other tensors."""
    weights = {name: weight.clone() for name, weight in load_file(path).items()}
    change(weights)
    save_file(weights, path)


def drop(*names):
    return lambda weights: [weights.pop(name) for name in names]


def reshape(*names):
    return lambda weights: weights.update({name: torch.zeros(2, 2) for name in names})


HIGH = "dit_high_noise.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
BIASES = [f"blocks.1.self_attn.{name}.bias" for name in "qkvo"]
SPOILT = {
    "missing": (HIGH, drop(*BIASES), "it lacks blocks.1.self_attn.k.bias, blocks.1.self_attn.o.bias, "),
    "missing, how many": (HIGH, drop(*BIASES), "blocks.1.self_attn.q.bias and 1 more"),
    "extra": (HIGH, reshape("lora.a", "lora.b", "lora.c", "lora.d"), "unknown lora.a, lora.b, lora.c and 1 more"),
    "shape": (HIGH, reshape(BIASES[0]), "blocks.1.self_attn.q.bias is [2, 2], not [96]"),
    "no expert": (HIGH, drop("patch_embedding.weight"), "is not a Wan 2.2 T2V A14B expert"),
    "vae": (VAE, drop("decoder.conv_in.bias"), "is not the Wan 2.1 VAE: it lacks decoder.conv_in.bias"),
    "encoder": (
        "text_encoder/model.safetensors",
        drop("encoder.final_layer_norm.weight"),
        "is not a umt5 text encoder: it lacks encoder.final_layer_norm.weight",
    ),
    "other depth": (
        "dit_low_noise.safetensors",
        lambda weights: [weights.pop(name) for name in list(weights) if name.startswith("blocks.2.")],
        "has other sizes than dit_high_noise.safetensors; use one model's files",
    ),
}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("fault", SPOILT)
def test_tensors_that_do_not_fit_are_named(run, toy_copy, fault):
    name, change, telling = SPOILT[fault]
    respoil(toy_copy / name, change)
    line = mistake(run("generate", "a road", "--model", toy_copy))
    assert telling in line
    assert line.startswith(f"error: {toy_copy / name}: ")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("name", [HIGH, VAE, "text_encoder/model.safetensors"])
def test_a_torn_download_is_told(run, toy_copy, name):
    with (toy_copy / name).open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 1)
    line = mistake(run("generate", "a road", "--model", toy_copy))
    assert line.startswith(f"error: {toy_copy / name}: is cut short: tensor ")
    assert line.endswith("download it again")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("name", "telling"),
    [
        (HIGH, "has no sparse_high_noise.safetensors; download it from hlwang06/HoloCine"),
        ("dit_low_noise.safetensors", "has no sparse_low_noise.safetensors"),
        ("text_encoder/config.json", "has no text encoder, models_t5_umt5-xxl-enc-bf16.pth or text_encoder/"),
        ("text_encoder/model.safetensors", "holds no model.safetensors"),
        ("vae/config.json", "has no VAE, Wan2.1_VAE.pth or vae/; download it from Wan-AI/Wan2.2-T2V-A14B"),
        (VAE, "diffusion_pytorch_model.safetensors: no such file"),
        ("tokenizer.json", "has no tokenizer.json (google/umt5-xxl/)"),
    ],
)
def test_a_missing_part_of_a_model_is_named(run, toy_copy, name, telling):
    (toy_copy / name).unlink()
    assert telling in mistake(run("generate", "a road", "--model", toy_copy))


@pytest.mark.usefixtures("no_weights")
def test_experts_for_the_other_attention_are_missed_by_name(run, published_model):
    line = mistake(run("generate", "a road", "--model", published_model, "--attention", "full"))
    assert "has no full_high_noise.safetensors" in line


class Malice:
    """A pickle of it makes a file when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def plain_pickle(value, path):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("write", [torch.save, plain_pickle])
@pytest.mark.parametrize("verb", ["generate", "inspect"])
def test_code_in_a_pickle_is_refused_and_never_run(run, toy_copy, tmp_path, write, verb):
    (toy_copy / "vae" / "config.json").unlink()
    path = toy_copy / "Wan2.1_VAE.pth"
    write({"decoder.conv1.weight": torch.zeros(2), "run": Malice(tmp_path / "marker")}, path)
    line = mistake(run("inspect", path) if verb == "inspect" else run(verb, "a road", "--model", toy_copy))
    assert line.startswith(f"error: {path}: ")
    assert "is not a plain dict of tensors" in line or "not a PyTorch file" in line
    assert not (tmp_path / "marker").exists()
    pickle.loads(pickle.dumps(Malice(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()  # it would have


@pytest.mark.usefixtures("no_weights")
def test_experts_and_encoder_of_different_models_do_not_mix(run, toy_copy):
    for noise in ("high", "low"):
        weights = load_file(DATA / f"dit_{noise}_noise.safetensors")
        save_file(weights, toy_copy / f"dit_{noise}_noise.safetensors")
    (toy_copy / "dit_config.json").write_bytes((DATA / "dit_config.json").read_bytes())
    line = mistake(run("generate", "a road", "--model", toy_copy))
    assert "gives rows of 64 numbers, the experts read 48; use the text encoder the experts came with" in line


# --- Ctrl-C ----------------------------------------------------------------------------------------


def files(cache):
    """What the cache holds, without the encoded prompts, which may stay."""
    names = {path.relative_to(cache).as_posix() for path in cache.rglob("*")}
    return {name for name in names if not re.fullmatch(r"prompts(/[0-9a-f]+\.safetensors)?", name)}


@pytest.mark.parametrize(
    ("words", "line", "partial", "number"),
    [
        (["--steps", "1000", "--frames", "97"], "denoising", False, signal.SIGINT),
        (["--steps", "1", "--frames", "2401"], "decoding and writing", True, signal.SIGTERM),
    ],
    ids=["denoising", "decoding"],
)
def test_asked_to_stop_it_ends_cleanly_and_leaves_what_goes_on(
    toy_copy, cache, tmp_path, words, line, partial, number
):
    folder, before = tmp_path / "films", files(cache)
    state = folder / "film.mp4.run" / "state.safetensors"
    run = ("generate", "a road", "--out", folder / "film.mp4", "--height", "32", "--width", "32", "--cfg", "1")
    with started(*run, "--model", toy_copy, *words) as process:
        said = iter(process.stderr.readline, "")
        assert any(text.startswith(line) for text in said), "it never came so far"
        wait_until(lambda: state.exists() and any(folder.glob(".*.part")) == partial)
        time.sleep(0.2)
        assert bool(any(folder.glob(".*.part"))) == partial
        process.send_signal(number)
        rest, out = process.stderr.read(), process.stdout.read()
    assert (process.returncode, out) == (128 + number, "")
    *progress, last = filter(None, rest.splitlines())
    assert last == f"interrupted; finished steps are saved; to continue, type holo-lite resume {state.parent}"
    assert all(text.startswith(f"{line} ") for text in progress)
    assert list(folder.iterdir()) == [state.parent]
    assert sorted(path.name for path in state.parent.iterdir()) == ["run.json", state.name]
    assert files(cache) == before


# --- the display -----------------------------------------------------------------------------------


def events_of(tmp_path):
    job = Pipeline.load().prepare(load_storyboard("a road"), Options(frames=9, height=16, width=16, steps=4))
    empty = torch.zeros(1)
    yield Resolved(job.settings, ("cut 50 → 49",), job.plan, "profile cpu: as asked")
    yield PhaseStarted("text", 0)
    yield PhaseStarted("denoise", 4)
    yield from (StepDone(Progress(step, 4, empty, empty)) for step in Schedule.of(4))
    yield Finished(tmp_path / "a.mp4", tmp_path / "a.png", job.settings)


def test_a_terminal_sees_phase_step_pace_and_time_left(tmp_path):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=160, _environ={"TERM": "xterm"})
    with display(console) as view:
        for event in events_of(tmp_path):
            show(event, view)
    drawn = file.getvalue()
    assert "\x1b[" in drawn
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).replace("\r", "\n").splitlines()
    for line in ("note: cut 50 → 49", "denoising: 4 steps in 0:00", f"video          {tmp_path / 'a.mp4'}"):
        assert line in [text.strip() for text in last]


def test_a_log_gets_a_line_in_ten_seconds():
    now = [100.0]
    file, empty = io.StringIO(), torch.zeros(1)
    with display(Console(file=file, width=80, get_time=lambda: now[0])) as view:
        show(PhaseStarted("denoise", 50), view)
        for step in Schedule.of(50):
            now[0] += 4.0
            show(StepDone(Progress(step, 50, empty, empty)), view)
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["denoising", "denoising 3/50 high-noise, 4.0 s each, 3:08 left"]
    assert lines[-1] == "denoising 50/50 low-noise, 4.0 s each, took 3:20"
    assert len(lines) == 18  # every third step, and the last


def test_a_step_that_waits_for_weights_says_so_and_one_that_hardly_does_not():
    file, empty = io.StringIO(), torch.zeros(1)
    with display(Console(file=file, width=120)) as view:
        for step, waited in zip(Schedule.of(2), (0.4, 1.2), strict=True):
            show(PhaseStarted("denoise", step.index + 1), view)
            show(StepDone(Progress(step, 2, empty, empty), 3 * 10**9, 4 * 10**9, 10.0, waited), view)
    _, first, _, second = file.getvalue().splitlines()
    assert "high-noise, 2.79 GiB of 3.73 GiB VRAM, " in first
    assert "waiting" not in first
    assert "low-noise, 2.79 GiB of 3.73 GiB VRAM, 12% waiting for weights, " in second


def test_a_video_named_by_nobody_is_never_written_over(run, tmp_path):
    for seed, expected in enumerate(("video.mp4", "video-2.mp4", "video-3.mp4")):
        outcome = run("generate", "a quiet road", *TINY, "--frames", 5, "--steps", 1, "--seed", seed)
        assert outcome.code == 0
        assert expected in outcome.err
    (tmp_path / "road.toml").write_text("global = 'G'\n[[shot]]\ncaption = 'c'\n")
    (tmp_path / "road.png").write_bytes(b"a picture of my own")
    assert "road-2.mp4" in run("generate", "road.toml", *TINY, "--frames", 5, "--steps", 1).err
    assert (tmp_path / "road.png").read_bytes() == b"a picture of my own"


def test_an_unfinished_conversion_says_how_to_go_on(run, toy_copy):
    (toy_copy / "journal.jsonl").write_text("{}")
    outcome = run("generate", "a road", "--model", toy_copy)
    assert outcome.code == 2
    assert "its conversion was interrupted; type the same quantize command to continue" in outcome.err


def test_inspect_reads_a_prompt_in_quotes(run):
    outcome = run("inspect", "[global caption] A road. [per shot caption] Wide shot. [shot cut] Close-up.")
    assert outcome.code == 0
    assert "shot  2" in outcome.out

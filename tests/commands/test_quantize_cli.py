"""`holo-lite quantize` as people type it: what it says, what it leaves, and with which code it ends."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conversions import contents, copied, expert_weights, write_source
from guard import HANGS
from safetensors.torch import save_file

from holo_lite.film.video import probe, read_metadata
from holo_lite.settings import RunSettings
from holo_lite.system.units import bytes_text
from holo_lite.weights.manifest import FILE_NAME, read_manifest
from quantize import convert as convert_module

ROOT = Path(__file__).parents[2]
TINY = ("--height", "16", "--width", "16", "--steps", "2", "--frames", "9")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("cli") / "source")


@pytest.fixture
def toy_in_int8(run, toy_copy, tmp_path):
    assert run("quantize", toy_copy, tmp_path / "out", "--scheme", "int8").code == 0
    return tmp_path / "out"


def mistake(outcome):
    """The one line that a person's mistake gives, and nothing else."""
    assert (outcome.code, outcome.out) == (2, ""), outcome
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert outcome.err.splitlines()[-1] == line
    assert line.isprintable()
    return line.removeprefix("error: ")


# --- what it says ----------------------------------------------------------------------------------


def test_for_a_program_it_writes_a_record_a_line(run, toy_copy):
    outcome = run("quantize", toy_copy, "out", "--scheme", "int8", "--progress", "json")
    kinds = [json.loads(line)["kind"] for line in outcome.out.splitlines()]
    assert kinds[-1] == "converted"
    assert {"phase", "advance"} <= {*kinds}


def test_it_says_what_it_will_do_then_does_it_and_reports(run, source, tmp_path):
    outcome = run("quantize", source, "out", "--scheme", "int8")
    assert (outcome.code, outcome.out) == (0, "")
    lines = outcome.err.splitlines()
    manifest = read_manifest(tmp_path / "out")
    reads = sum(path.stat().st_size for path in source.iterdir() if path.name != "tokenizer.json")
    assert lines[0] == f"reads   {bytes_text(reads):>10} from 4 files"
    for line, (role, part) in zip(lines[1:5], manifest.components.items(), strict=True):
        files = "1 file" if role == "vae" else f"{len(part.shards)} files"
        stored = "as it is" if role == "vae" else "int8, as it is"
        assert line == f"writes  {bytes_text(part.nbytes):>10} {role}: {files}, {stored}"
    written = sum(
        len(content) for name, content in contents(tmp_path / "out").items() if not name.endswith("y.json")
    )
    needed = written - len(contents(tmp_path / "out")[FILE_NAME])
    assert lines[5] == f"needs   {bytes_text(needed):>10} of disk in out"
    assert lines[6] == "converting"
    speed = r"[\d.,]+ (bytes|[kMG]B)/s, took 0:\d\d"
    size = re.escape(bytes_text(sum(part.nbytes for part in manifest.components.values())))
    assert re.fullmatch(rf"converting {size} of {size} vae/diffusion_pytorch_model.safetensors, {speed}", lines[7])
    assert lines[8] == "hashing"
    assert re.fullmatch(rf"hashing \S+ MB of \S+ MB Wan2.1_VAE.pth, {speed}", lines[9])
    assert lines[10] == "comparing with the source"
    assert lines[11].endswith("largest   error of a block's output")
    assert re.fullmatch(r"high_noise +20 +0\.00\d\d +0\.00\d\d   0: 0\.0\d+, 1: 0\.0\d+", lines[12])
    assert all(re.fullmatch(r"  0\.00\d\d  \w+/\S+\.weight", line) for line in lines[15:25])
    assert lines[25] == "model          out"
    assert lines[26] == f"size           {bytes_text(needed)}"
    assert re.fullmatch(r"took           0:\d\d", lines[27])
    assert lines[28:] == ["next           holo-lite generate STORYBOARD --model out"]


def test_going_on_shows_how_far_it_was_and_how_long_it_has_left(run, source, tmp_path, monkeypatch):
    interrupt(monkeypatch, 4)
    assert run("quantize", source, "out").code == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("holo_lite.views.display.LINE_EVERY", 0.0)
    lines = run("quantize", source, "out").err.splitlines()
    at = lines.index("checking finished files")
    assert [line.split()[0] for line in lines[at + 1 : at + 5]] == ["checking"] * 4
    assert lines[at + 5] == "note: continuing: 4 of 10 files are finished"
    assert lines[at + 6] == "converting"
    rows = [line for line in lines[at + 7 :] if line.startswith("converting ")]
    assert len(rows) == 6
    assert all(re.search(r" [\d.,]+ (bytes|[kMG]B)/s, (\d+:\d\d left|took \d+:\d\d)$", line) for line in rows)


def test_verify_says_what_it_found(run, source, tmp_path):
    run("quantize", source, "out", "--scheme", "qint8")
    for words in (("out", "--verify"), (source, "out", "--verify")):
        outcome = run("quantize", *words)
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err.splitlines()[0] == "hashing"
        assert outcome.err.splitlines()[-1] == "note: verified: all 13 files match their checksums"
    path = tmp_path / "out" / "low_noise" / "block-01.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    said = "out/low_noise/block-01.safetensors: is missing or changed since it was written; convert the model again"
    assert mistake(run("quantize", "out", "--verify")) == said


def test_inspect_shows_the_manifest_to_a_person(run, source, tmp_path):
    save_file({"lora_unet_head_head.diff": torch.zeros(64, 256)}, tmp_path / "fast.safetensors")
    run("quantize", source, "out", "--scheme", "int8", "--lora", "low=fast.safetensors:0.5")
    lines = run("inspect", "out").out.splitlines()
    assert re.fullmatch(r"converted model out: int8, sparse attention, \d+\.\d\d MB", lines[0])
    assert re.fullmatch(r"  high_noise +\S+ MB in 3 files: 20 tensors int8, \d+ tensors plain", lines[1])
    assert re.fullmatch(r"  vae +\S+ \wB in 1 file: 194 tensors plain", lines[4])
    assert "  merged into low_noise: fast.safetensors:0.5" in lines
    assert any(line.startswith("  made from sparse_high_noise.safetensors, 4.") for line in lines)
    assert any("torch 2." in line and "bitsandbytes" in line for line in lines)
    assert lines[-2].startswith("  licence: ")
    assert lines[-1].endswith("holo-lite generate STORYBOARD --model out")


# --- what it makes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["auto", "bf16"])
def test_a_video_from_the_folder(run, toy_in_int8, tmp_path, dtype):
    words = ("generate", "[global caption] A house. [per shot caption] a [shot cut] b", *TINY, "--dtype", dtype)
    outcome = run(*words, "--model", toy_in_int8, "--out", "a.mp4")
    assert (outcome.code, outcome.out) == (0, "")
    assert probe(tmp_path / "a.mp4").frames == 9
    settings = RunSettings.from_json(read_metadata(tmp_path / "a.mp4"))
    assert settings.dtype == {"auto": "fp32", "bf16": "bf16"}[dtype]  # auto: that of the files it was made from
    assert settings.fps == 15.0  # a default of the toy's, kept in the manifest
    assert not settings.model.startswith("toy")


def test_the_folder_needs_nothing_of_its_source(run, toy_in_int8, toy_copy, tmp_path):
    shutil.rmtree(toy_copy)
    moved = toy_in_int8.rename(tmp_path / "elsewhere")
    assert run("generate", "A house", *TINY, "--model", moved).code == 0


def test_a_recipe_and_the_option_before_it(run, source, tmp_path):
    (tmp_path / "recipe.toml").write_text('scheme = "nf4"\n[components]\ntext_encoder = "bf16"\n')
    assert run("quantize", source, "out", "--recipe", "recipe.toml", "--scheme", "int8").code == 0
    manifest = read_manifest(tmp_path / "out")
    schemes = {role: {t.scheme for t in part.tensors.values()} for role, part in manifest.components.items()}
    assert schemes["high_noise"] == {"int8", "plain"}
    assert schemes["text_encoder"] == {"plain"}


def test_nf4_is_what_is_meant_where_nothing_is_said(run, source, tmp_path):
    assert run("quantize", source, "out").code == 0
    assert read_manifest(tmp_path / "out").scheme == "nf4"


# --- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scheme", "nf5"), "unknown scheme 'nf5'; did you mean 'nf4'?"),
        (("--recipe", "none.toml"), "none.toml: cannot be read (No such file or directory)"),
        (("--lora", "fast.safetensors"), "--lora 'fast.safetensors': write high=FILE or low=FILE"),
        (("--lora", "mid=fast.safetensors"), "--lora 'mid=fast.safetensors': write high=FILE or low=FILE"),
        (("--lora", "high="), "--lora 'high=': write high=FILE"),
        (("--lora", "high=x.safetensors:much"), "the strength 'much' is not a number"),
        (("--lora", "high=x.safetensors"), "x.safetensors: no such file"),
        (("--attention", "full"), "has no full_high_noise.safetensors"),
        (("--attention", "half"), "attention 'half': give one of sparse, full"),
        (("--device", "tpu"), "device 'tpu': give auto, cpu, cuda or cuda:0"),
        (("--strength", "1"), "No such option"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(run, source, tmp_path, words, said):
    assert said in mistake(run("quantize", source, "out", *words))
    assert not (tmp_path / "out").exists()


def test_the_folder_to_write_into_is_asked_for(run, source):
    assert "missing OUT: give the output folder" in mistake(run("quantize", source))
    assert "no such folder" in mistake(run("quantize", "nowhere", "out"))
    assert "is not the manifest of a converted model" in mistake(run("quantize", source, "--verify"))


def test_nan_a_lost_expert_and_a_finished_model(run, source, tmp_path):
    own = copied(source, tmp_path / "own")
    weights = expert_weights()
    weights["blocks.1.ffn.2.weight"][7, 7] = float("nan")
    save_file(weights, own / "sparse_high_noise.safetensors")
    said = mistake(run("quantize", own, "out"))
    assert said.startswith(f"{own}/sparse_high_noise.safetensors: tensor blocks.1.ffn.2.weight holds NaN or Inf")
    assert not (tmp_path / "out" / FILE_NAME).exists()
    (own / "sparse_low_noise.safetensors").unlink()
    assert "has no sparse_low_noise.safetensors" in mistake(run("quantize", own, "other"))
    assert run("quantize", source, "done").code == 0
    before = contents(tmp_path / "done")
    assert mistake(run("quantize", source, "done")).startswith("done: holds a finished model; name another folder")
    assert contents(tmp_path / "done") == before


def test_a_disk_too_small_is_told_after_what_is_needed_was_shown(run, source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    outcome = run("quantize", source, "out")
    assert re.match(r"out: needs \S+ MB of disk, 1.00 MB are free; free some space", mistake(outcome))
    assert [line.split()[0] for line in outcome.err.splitlines()] == ["reads", *["writes"] * 4, "needs", "error:"]
    assert not (tmp_path / "out").exists()


# --- interrupted -----------------------------------------------------------------------------------


def interrupt(monkeypatch, shards):
    """Ctrl-C within the shard behind so many."""
    add, left = convert_module.write_tensor, [shards]

    def write_tensor(writer, *args):
        if len(writer.layout.places) == len(writer._left):
            left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return add(writer, *args)

    monkeypatch.setattr(convert_module, "write_tensor", write_tensor)


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(run, source, tmp_path, monkeypatch):
    assert run("quantize", source, "whole").code == 0
    interrupt(monkeypatch, 5)
    outcome = run("quantize", source, "out")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (130, "interrupted; no half-written file is left")
    assert not [name for name in contents(tmp_path / "out") if name.endswith(".partial")]
    assert "error: out: holds an unfinished conversion of something else; remove it or name another folder" in (
        run("quantize", source, "out", "--scheme", "int8").err
    )
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "note: continuing: 5 of 10 files are finished" in run("quantize", source, "out").err
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_real_ctrl_c_in_a_process_of_its_own(source, tmp_path):
    command = [sys.executable, str(ROOT / "cli.py"), "quantize", str(source), "out", "--device", "cpu"]
    journal = tmp_path / "out" / "journal.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        while not (journal.exists() and journal.read_bytes().count(b"\n") > 2) and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; no half-written file is left"
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.partial"))

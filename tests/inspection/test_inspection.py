"""What `inspect` says of everything the program makes and reads."""

import json
import os
import shutil
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from whole_models import write_published_model

from holo_lite.config import Defaults
from holo_lite.errors import HoloError, OutputError
from holo_lite.film.marks import marked
from holo_lite.inspection.describe import DESCRIBED, inspect
from holo_lite.inspection.files import looks_like
from holo_lite.inspection.kinds import Kind
from holo_lite.inspection.recognition import what_is
from holo_lite.runs.own import seeds_mark
from holo_lite.runs.sealed import write_sealed
from holo_lite.runs.state_facts import FACTS, LATENTS
from holo_lite.settings import Options, resolve
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.tiny.model import tiny_model
from holo_lite.views.terminal import ORDERS
from holo_lite.weights.manifest import read_manifest
from quantize.recipe import COMPONENTS

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "records" / "v1"
MACHINE = {"attention": "sparse", "dtype": "bf16", "device": "cpu", "model": "0123"}
BOARD = Storyboard("A house.", (Shot("wide"), Shot("close")))
SETTINGS = resolve(BOARD, Options(frames=9), Defaults(), **MACHINE)[0]


def facts(path):
    """The facts of a description by their names; "" has the first line."""
    first, *others = inspect(path)
    found = {"": first}
    for line in others:
        name, _, text = line.strip().partition("  ")
        found[name] = text.strip()
    return found


def kohya(blocks, width, rank=4, alpha=2.0):
    """A LoRA for one layer of each block, in the names of kohya's tools."""
    found = {}
    for block in range(blocks):
        name = f"lora_unet_blocks_{block}_self_attn_q"
        found[f"{name}.lora_down.weight"] = torch.zeros(rank, width, dtype=torch.bfloat16)
        found[f"{name}.lora_up.weight"] = torch.zeros(width, rank, dtype=torch.bfloat16)
        found[f"{name}.alpha"] = torch.tensor(alpha)
    return found


def peft(blocks, width, rank=8):
    """The same as peft names it, without alphas."""
    found = {}
    for block in range(blocks):
        name = f"base_model.model.blocks.{block}.self_attn.q"
        found[f"{name}.lora_A.weight"] = torch.zeros(rank, width)
        found[f"{name}.lora_B.weight"] = torch.zeros(width, rank)
    return found


def run_folder(path, done=3):
    """A run's folder as an interrupted run leaves it."""
    path.mkdir()
    shutil.copy(RECORDS / "run-nf4.json", path / "run.json")
    table = json.loads((RECORDS / "state-nf4.json").read_text()) | {"done": done}
    write_sealed(path / "state.safetensors", {LATENTS: torch.zeros(16, 5, 8, 12)}, {FACTS: json.dumps(table)})
    return path


def test_every_kind_is_described():
    assert set(DESCRIBED) == set(get_args(Kind))


MADE = {
    "run.json": ("run", lambda path: shutil.copy(RECORDS / "run-nf4.json", path)),
    "r.json": ("run", lambda path: shutil.copy(RECORDS / "run-nf4.json", path)),
    "journal.jsonl": ("interrupted conversion", lambda path: shutil.copy(RECORDS / "journal.jsonl", path)),
    "t.json": ("tokenizer", lambda path: shutil.copy(tiny_model() / "tokenizer.json", path)),
    "q.json": ("conversion report", lambda path: shutil.copy(tiny_model() / "quality.json", path)),
    "c.json": ("library config", lambda path: shutil.copy(tiny_model() / "vae" / "config.json", path)),
    "s.json": ("video settings", lambda path: path.write_text(SETTINGS.to_json())),
    "x.json": ("cache table", lambda path: shutil.copy(RECORDS / "cache-rungs.json", path)),
    "defaults.json": ("model defaults", lambda path: path.write_text('{"frames": 9}')),
    "board.json": ("storyboard", lambda path: path.write_text('{"global": "G", "shots": [{"caption": "a"}]}')),
    "tokenizer.json": ("tokenizer", lambda path: path.write_text("{torn")),
    "mine.toml": ("profile", lambda path: shutil.copy(ROOT / "profiles" / "8gb.toml", path)),
    "recipe.toml": ("recipe", lambda path: path.write_text('scheme = "int8"\n')),
    "board.toml": ("storyboard", lambda path: path.write_text("global = 'G'\n[[shot]]\ncaption = 'a'\ncfg = 2\n")),
    "l.safetensors": ("LoRA", lambda path: save_file(peft(1, 8), path)),
    "z.safetensors": ("latents", lambda path: save_file({"samples": torch.zeros(1, 16, 2, 4, 4)}, path)),
    "z.pth": ("latents", lambda path: torch.save({"latents": torch.zeros(16, 2, 4, 4)}, path)),
    "e.safetensors": ("encoded prompt", lambda p: save_file({"rows": torch.zeros(3, 8)}, p, {"sha256": "0"})),
    "vae.safetensors": ("checkpoint", lambda path: shutil.copy(ROOT / "tests/parity_data/vae.safetensors", path)),
    "torn.safetensors": ("checkpoint", lambda path: path.write_bytes(b"torn")),
    "sheet.png": ("picture", lambda path: Image.new("RGB", (8, 8)).save(path)),
    "notes.md": ("unknown", lambda path: path.write_text("words")),
    "gone": ("missing", lambda _: None),
}


@pytest.mark.parametrize("name", MADE)
def test_a_file_is_known_by_what_it_holds(tmp_path, name):
    kind, make = MADE[name]
    make(tmp_path / name)
    assert what_is(tmp_path / name) == kind


# --- LoRAs -----------------------------------------------------------------------------------------


def test_a_lora_says_rank_alpha_naming_and_expert(tmp_path):
    save_file(kohya(40, 5120), path := tmp_path / "rain_high_noise.safetensors")
    told = facts(path)
    assert told[""] == "LoRA: changes 40 tensors of an expert"
    assert told["rank"] == "4"
    assert told["alpha"] == "2; at strength 1 it adds 0.5 × up × down"
    assert told["naming"].startswith("kohya's tools, as in lora_unet_blocks_0_self_attn_q.")
    assert told["changes"] == "self_attn.q in 40 blocks"
    assert told["expert"] == "high noise, by its name"
    assert told["fits"].startswith("HoloCine's experts")
    assert list(inspect(path))[-1].endswith(f"--lora high={path}:1")


def test_a_lora_of_another_width_says_so_and_its_header_says_the_expert(tmp_path):
    save_file(peft(2, 64), path := tmp_path / "style.safetensors", {"modelspec.title": "My Low Noise style"})
    told = facts(path)
    assert told["naming"].startswith("peft, as in base_model.model.blocks.0.self_attn.q.lora_A.weight")
    assert told["alpha"].startswith("none, or the rank itself")
    assert told["expert"] == "low noise, by modelspec.title in its header"
    assert told["fits"].startswith("not HoloCine's experts: ")
    assert "[5120, 5120]" in told["fits"]


def test_ranks_that_differ_are_counted(tmp_path):
    mixed = kohya(3, 64) | {key.replace("blocks_0", "blocks_9"): t for key, t in kohya(1, 64, rank=16).items()}
    save_file(mixed, path := tmp_path / "mixed.safetensors")
    assert facts(path)["rank"] == "4 (3 times), 16 (1 times)"


def test_an_expert_that_nothing_names_is_not_guessed(tmp_path):
    save_file(kohya(1, 64), path := tmp_path / "rain.safetensors")
    assert list(inspect(path))[-1].endswith(f"--lora EXPERT={path}:1")


def test_a_lora_in_a_form_not_known_here_is_an_error(tmp_path):
    save_file({"blocks.0.ffn.0.hada_w1_a": torch.zeros(2, 2)}, path := tmp_path / "loha.safetensors")
    assert what_is(path) == "LoRA"
    with pytest.raises(HoloError, match="not a LoRA format that holo-lite knows"):
        list(inspect(path))


def test_pefts_folder_is_its_lora(tmp_path):
    save_file(peft(1, 64), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "lora_alpha": 4}')
    assert facts(tmp_path)["alpha"] == "4; at strength 1 it adds 0.5 × up × down"
    assert facts(tmp_path / "adapter_config.json")["alpha"] == "4"


# --- runs ------------------------------------------------------------------------------------------


def test_a_run_says_how_far_it_is_and_how_to_continue(tmp_path):
    told = facts(run_folder(tmp_path / "a.mp4.run"))
    assert told["progress"] == "interrupted after step 3 of 6"
    assert told["latents"] == "16×5×8×12: 17 frames, 1.1 s at 15 fps, 96×64 pixels"
    assert list(inspect(tmp_path / "a.mp4.run"))[-1].endswith(f"holo-lite resume {tmp_path / 'a.mp4.run'}")
    assert list(inspect(tmp_path / "a.mp4.run" / "run.json")) == list(inspect(tmp_path / "a.mp4.run"))


def test_a_run_whose_steps_are_all_done_only_lacks_the_decoding(tmp_path):
    assert facts(run_folder(tmp_path / "a.run", done=6))["progress"] == "all 6 steps are done; decoding remains"


def test_a_state_by_itself_says_its_step(tmp_path):
    state = run_folder(tmp_path / "a.run") / "state.safetensors"
    assert facts(state)[""] == "state of an interrupted run after 3 steps"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(HoloError, match="is damaged"):
        list(inspect(state))


def test_a_record_apart_from_its_folder_is_not_to_be_continued(tmp_path):
    shutil.copy(RECORDS / "run-nf4.json", tmp_path / "old.json")
    lines = list(inspect(tmp_path / "old.json"))
    assert "apart from its run's folder" in lines[1]
    assert not any("resume" in line for line in lines)


# --- models ----------------------------------------------------------------------------------------


def test_a_folder_above_several_models_names_them(tmp_path, umt5_tokenizer_path):
    shutil.copytree(tiny_model(), tmp_path / "small")
    write_published_model(tmp_path / "released", umt5_tokenizer_path)
    (tmp_path / "cut").mkdir()
    shutil.copy(RECORDS / "journal.jsonl", tmp_path / "cut" / "journal.jsonl")
    assert list(inspect(tmp_path)) == [
        f"folder {tmp_path}, which holds 3 models",
        f"  {tmp_path / 'cut'}: interrupted conversion",
        f"  {tmp_path / 'released'}: model of released files, sparse attention",
        f"  {tmp_path / 'small'}: converted model, bf16, sparse attention, 14.05 MB",
        f"  → look at one of them: holo-lite inspect {tmp_path / 'cut'}",
    ]


def test_a_model_in_whose_folder_another_lies_is_itself(tmp_path, umt5_tokenizer_path):
    write_published_model(tmp_path, umt5_tokenizer_path)
    shutil.copytree(tiny_model(), tmp_path / "small")
    lines = list(inspect(tmp_path))
    assert lines[0] == f"model folder {tmp_path}, sparse attention"
    (also,) = [line for line in lines if "also in it" in line]
    assert also.endswith("small: converted model, bf16, sparse attention, 14.05 MB")


def test_a_damaged_model_among_several_hides_no_other(tmp_path):
    shutil.copytree(tiny_model(), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.json").write_text("{")
    assert [line.partition(":")[0] for line in inspect(tmp_path)][1:3] == [
        f"  {tmp_path / 'a'}",
        f"  {tmp_path / 'b'}",
    ]


def converted(folder, **changed):
    """A copy of the built-in model with other words in its manifest."""
    shutil.copytree(tiny_model(), folder)
    table = json.loads((folder / "model.json").read_text()) | changed
    (folder / "model.json").write_text(json.dumps(table))
    return folder


def test_what_was_made_of_a_converted_model_says_so_on_one_line(tmp_path):
    files = [f"block-{index:02}.safetensors" for index in range(16)] + ["rest.safetensors", "style.safetensors"]
    sources = [{"file": file, "nbytes": 1000, "sha256": "ab" * 32} for file in files]
    lines = list(inspect(converted(tmp_path / "m", sources=sources)))
    assert [line for line in lines if "made from" in line] == [
        "  made from style.safetensors, 1.00 kB, sha256 abababababababab…",
        "  made from a converted model: 17 files such as block-00.safetensors, 17.00 kB",
    ]


@pytest.mark.parametrize("name", ["high_noise/block-01.safetensors", "vae/diffusion_pytorch_model.safetensors"])
def test_a_converted_model_without_a_file_is_not_whole(tmp_path, name):
    model = converted(tmp_path / "m")
    (model / name).unlink()
    with pytest.raises(HoloError, match="is missing; convert the model again"):
        list(inspect(model))


def test_a_converted_model_with_another_tokenizer_is_refused(tmp_path):
    model = converted(tmp_path / "m")
    table = json.loads((model / "tokenizer.json").read_text())
    table["model"]["vocab"] |= {f"word{index}": 1000 + index for index in range(100)}
    (model / "tokenizer.json").write_text(json.dumps(table))
    with pytest.raises(HoloError, match="is not the text encoder's tokenizer"):
        list(inspect(model))


def test_a_block_file_knows_its_model(tmp_path):
    model = converted(tmp_path / "m")
    told = facts(model / "low_noise" / "block-02.safetensors")
    assert told[""] == "file of a converted model: block 2 of the low-noise expert"
    assert told["length"].startswith("999424 bytes, as it was written; sha256 ")
    assert facts(model / "vae" / "diffusion_pytorch_model.safetensors")[""] == "file of a converted model: the VAE"
    moved = shutil.copy(model / "text_encoder" / "rest.safetensors", tmp_path / "rest.safetensors")
    lines = list(inspect(Path(moved)))
    assert lines[0] == "file of a converted model: all but the blocks"
    assert "Its model is not here" in lines[-1]


@pytest.mark.parametrize("role", [*COMPONENTS, "vae"])
def test_a_part_of_a_converted_model_is_one(role):
    lines = list(inspect(tiny_model() / role))
    assert lines[0].startswith("part of a converted model, bf16")
    assert lines[1].split()[0] == role
    assert role in read_manifest(tiny_model()).components


def test_looking_at_an_interrupted_conversion_changes_nothing(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes((RECORDS / "journal.jsonl").read_bytes() + b'{"torn')
    before = journal.read_bytes()
    told = facts(tmp_path)
    assert told[""] == f"interrupted conversion in {tmp_path}: 2 files finished, 1.01 MB"
    assert told["finished"] == "high_noise 2 files"
    assert journal.read_bytes() == before


# --- the rest --------------------------------------------------------------------------------------


def test_a_profile_says_its_budget():
    told = facts(ROOT / "profiles" / "12gb.toml")
    assert told[""] == "profile: what a run may use on a card of 12.00 GiB"
    assert told["budget"].startswith("11.00 GiB, without ")
    assert told["schemes"].startswith("int8, nf4")


def test_a_tokenizer_says_whether_it_is_umt5s(umt5_tokenizer_path, tmp_path):
    shutil.copy(umt5_tokenizer_path, tmp_path / "tokenizer.json")
    assert "umt5's" in facts(tiny_model() / "tokenizer.json")["whose"]
    assert facts(tiny_model() / "tokenizer.json")["whose"].startswith("not umt5's")
    assert facts(tmp_path / "tokenizer.json")[""].startswith("tokenizer: a vocabulary of ")


@pytest.mark.parametrize(
    ("name", "mark", "said"),
    [
        ("a.png", SETTINGS.to_json(), "# picture a.png: the contact sheet of a video"),
        ("a-preview.png", SETTINGS.to_json(), "# picture a-preview.png: a preview of the video"),
        ("a.png", seeds_mark((3, 5), SETTINGS), "# picture a.png: a sheet of drafts with the seeds 3, 5"),
    ],
)
def test_a_picture_of_ours_says_how_to_make_its_video_again(tmp_path, name, mark, said):
    Image.new("RGB", (8, 8)).save(tmp_path / name, pnginfo=marked(mark))
    lines = list(inspect(tmp_path / name))
    assert lines[0].startswith(said)
    assert any(line.startswith("#   holo-lite generate storyboard.toml ") for line in lines)


def test_a_picture_without_a_mark_is_only_measured(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(OutputError, match=r"a PNG picture, 8×6, without settings of a holo-lite run in it"):
        list(inspect(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\0\0\0\x18ftypmp42", "an MP4 or QuickTime video"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a"', "weights as safetensors; name it .safetensors"),
        ("Straße ☂".encode() * 9, "a text"),
        ("aaa☂".encode()[:-1], "a text"),
        (b"\x1b[2J", "bytes of no kind known here"),
        (b"\xff\xfe\xfd\xfc\xfb", "bytes of no kind known here"),
    ],
)
def test_a_file_is_named_by_its_first_bytes(first, said):
    assert looks_like(first[:64]) == said


@pytest.mark.skipif(os.name == "nt", reason="such a name is no name there")
def test_what_a_stranger_wrote_commands_no_terminal(run, tmp_path):
    evil = "\x1b]0;title\x07\x1b[2J\u202e"
    (tmp_path / "rates.json").write_text(json.dumps({f"{evil}, PyTorch 2": [1.0, 2.0]}))
    (tmp_path / "journal.jsonl").write_text(
        json.dumps({"begun": {"plan": "x", "device": evil, "tools": {evil: evil}}}) + "\n"
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": evil, "r": 4, "lora_alpha": evil}))
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": evil}))
    (tmp_path / "r.toml").write_text('scheme = "int8"\n[[rule]]\nname = "\\u001b[2J"\nscheme = "nf4"\n')
    torch.save(
        {f"blocks.0.{evil}.lora_A.weight": torch.zeros(2, 2), f"blocks.0.{evil}.lora_B.weight": torch.zeros(2, 2)},
        tmp_path / "l.pth",
    )
    for name in ("rates.json", "journal.jsonl", "adapter_config.json", "config.json", "r.toml", "l.pth"):
        outcome = run("inspect", name)
        assert outcome.code in {0, 2}, outcome
        assert not ORDERS.search((outcome.out + outcome.err).replace("\n", "")), name
        assert "2J" in outcome.out + outcome.err, name

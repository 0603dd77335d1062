"""Every reader of files that anybody may have written, with sound files to damage."""

import io
import json
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from fuzzing import Reader
from gguf import GGMLQuantizationType, GGUFWriter
from PIL import Image
from safetensors.torch import save

from holo_lite.config import Defaults, dit_config
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.pictures import read_picture
from holo_lite.errors import OutputError
from holo_lite.film.marks import marked
from holo_lite.film.vae_files import check_vae
from holo_lite.film.video import VideoWriter, is_blank, probe, read_metadata
from holo_lite.film.video_frames import video_frames
from holo_lite.inspection.describe import inspect
from holo_lite.jobs.preview import ColourMap
from holo_lite.kernels.table import KernelTimesTable
from holo_lite.lora.file import open_lora
from holo_lite.plan.profile import find_profile
from holo_lite.plan.rate import Numbers, _recall
from holo_lite.reading.files import read_bytes, read_text
from holo_lite.reading.trees import parse_json
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.kept_latents import read_latents, write_latents
from holo_lite.runs.own import seeds_mark
from holo_lite.runs.sealed import write_sealed
from holo_lite.runs.state_facts import FACTS, LATENTS
from holo_lite.settings import Options, RunSettings, resolve
from holo_lite.story.files import dump_toml, load_storyboard, parse_toml
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.system.caches import RATES, sizes, table
from holo_lite.text.cache import PromptCache
from holo_lite.text.windows import PromptTokenizer, read_prompt
from holo_lite.views.remaking import check_words, command
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import read_defaults
from holo_lite.weights.manifest import read_manifest
from holo_lite.writing.judging import judge
from holo_lite.writing.wanted import Wanted
from quantize.recipe import load_recipe

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "parity_data"
# Readers of JSON records, whose codec is mended elsewhere: True once every one of them ends in one line.
RECORDS_TOO = True
SHARD = "shard-1.safetensors"
MACHINE = {"attention": "sparse", "dtype": "bf16", "device": "cpu", "model": "0123"}
BOARD = Storyboard("A house by the sea.", (Shot("wide shot of the house"), Shot("close shot of the door")))
SETTINGS = resolve(BOARD, Options(frames=9), Defaults(), **MACHINE)[0]
SMALL = resolve(BOARD, Options(frames=9, height=16, width=16), Defaults(), **MACHINE)[0]
EXAMPLES = [path.read_bytes() for path in sorted((ROOT / "storyboards").glob("*.toml"))][:2]
JSON_BOARD = {"global": "G", "cuts": [5], "frames": 9, "fps": 12.5, "shots": [{"caption": "a"}, {"caption": "b"}]}
TIMED = (
    b"title = 'x'\nglobal = 'G'\nheight = 32\nwidth = 64\nsteps = 3\nseed = 4\ncfg = 1.5\nfps = 12\nnegative = ''\n"
)
TIMED += b"[[shot]]\ncaption = 'a'\nframes = 5\n[[shot]]\ncaption = 'b'\nseconds = 1.5\n"
RECIPE = (
    b'scheme = "int8"\n[components]\ntext_encoder = "bf16"\n[[rule]]\nname = "blocks.*.ffn.*"\nscheme = "nf4"\n'
)

LORA = {
    "blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 4),
    "blocks.0.self_attn.q.lora_B.weight": torch.ones(4, 2),
    "blocks.0.self_attn.q.alpha": torch.tensor(2.0),
}
LORA_SETTINGS = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 4, "transformer.r": 2})}
QUALITY = json.dumps(
    {
        "summary": {"high_noise": {"tensors": 20, "mean": 0.09, "largest": 0.1}},
        "blocks": {"high_noise": {"0": 0.03}},
        "worst": [["high_noise/blocks.0.ffn.0.weight", 0.1]],
        "above_bound": [],
        "tensors": {},
    }
)


def readers(folder):
    """All readers, by name."""
    found = (*_texts(), *_weights(folder), *_configs(folder), *_videos(folder), *_described(folder))
    return {reader.name: reader for reader in (*found, *(_records(folder) if RECORDS_TOO else ()))}


def _texts():
    yield Reader("storyboard.toml", "s.toml", (*EXAMPLES, TIMED), _decided, "toml")
    yield Reader("storyboard.json", "s.json", (json.dumps(JSON_BOARD).encode(),), _decided, "json")
    prompt = b"[global caption] A house. [per shot caption] wide [shot cut] close &amp; near"
    yield Reader("storyboard.txt", "s.txt", (prompt, b"a road by the sea"), _decided, "text")
    yield Reader("prompt", "p.bin", (prompt,), _as_prompt, "text")
    yield Reader("profile", "p.toml", ((ROOT / "profiles" / "8gb.toml").read_bytes(),), _profile, "toml")
    yield Reader("recipe", "r.toml", (RECIPE,), lambda path: load_recipe(path, None), "toml")
    answer = {"title": "T", "global": "[character1] is a fox.", "shots": JSON_BOARD["shots"]}
    yield Reader("answer", "a.json", (json.dumps(answer).encode(),), _judged, "json")


def _weights(folder):
    tensors = {"a.weight": torch.ones(4, 3), "a.bias": torch.ones(3, dtype=torch.bfloat16), "b": torch.ones(())}
    whole = save(tensors, metadata={"format": "pt"})
    yield Reader("safetensors", "w.safetensors", (whole,), _all_weights)
    size = int.from_bytes(whole[:8], "little")
    yield Reader("safetensors header", "h.safetensors", (whole[8 : 8 + size],), _headed(whole[8 + size :]), "json")
    (folder / SHARD).write_bytes(whole)
    index = json.dumps(
        {"metadata": {"total_size": 60}, "weight_map": dict.fromkeys(tensors, "shard-1.safetensors")}
    )
    yield Reader("index.json", "x.safetensors.index.json", (index.encode(),), _all_weights, "json")
    yield Reader("gguf", "w.gguf", (_gguf(folder),), _all_weights)
    yield Reader("pth", "w.pth", (_pth(tensors), _pth({"a": torch.ones(2), "b": torch.ones(2, 2).T})), _all_weights)
    yield Reader("lora", "l.safetensors", (save(LORA, metadata=LORA_SETTINGS), save(LORA)), _lora)
    yield Reader("lora.pth", "l.pth", (_pth(LORA),), _lora)


def _configs(folder):
    shapes = {name: entry.shape for name, entry in open_weights(DATA / "dit_low_noise.safetensors").entries.items()}
    config_file = "dit_config.json"
    config = (DATA / config_file).read_bytes()
    yield Reader(
        "dit_config", "dit_config.json", (config,), lambda path: dit_config(shapes, path.parent / "w"), "json"
    )
    defaults = json.dumps({"frames": 9, "fps": 12.5, "steps": 2, "cfg": 1.5, "negative": "x"}).encode()
    yield Reader("defaults.json", "defaults.json", (defaults,), read_defaults, "json")
    vae = folder / "vae"
    vae.mkdir()
    (vae / "diffusion_pytorch_model.safetensors").write_bytes((DATA / "vae.safetensors").read_bytes())
    sound = json.dumps({"base_dim": 4, "z_dim": 16, "latents_mean": [0.5] * 16, "latents_std": [1.5] * 16}).encode()
    yield Reader("vae config", "vae/config.json", (sound,), lambda path: check_vae(path.parent), "json")
    yield Reader("tokenizer", "tokenizer.json", (_tokenizer(),), _tokenized, "json")
    colours = ColourMap(((0.5,) * 16,) * 3, (0.0,) * 3)
    table = json.dumps({"x, PyTorch 2": [1.0, 2.0]}).encode()
    yield Reader("cache folder", "rates.json", (table,), lambda path: sizes(path.parent), "json")
    yield Reader("colours", "c.json", (json.dumps(colours.as_record()).encode(),), _colours, "json")


def _videos(folder):
    for number, metadata in enumerate((SETTINGS.to_json(), '{"title": "caf\xe9"}')):
        with VideoWriter(folder / f"v{number}.mp4", width=16, height=16, fps=15, metadata=metadata) as writer:
            for _ in range(5):
                writer.add(np.zeros((16, 16, 3), np.uint8))
    sound = tuple((folder / f"v{number}.mp4").read_bytes() for number in (0, 1))
    yield Reader("mp4", "v.mp4", sound, _video)
    yield Reader("old film", "v.mp4", sound, lambda path: OldFilm.read(path).source(range(2), (16, 16)))
    write_latents(folder / "k.safetensors", torch.ones(16, 3, 2, 2), SMALL)
    kept = (folder / "k.safetensors").read_bytes()
    yield Reader("kept latents", "k.safetensors", (kept,), lambda path: read_latents(path, SMALL))
    yield Reader("picture", "p.png", tuple(_pictures()), read_picture)


def _described(folder):
    """What `inspect` describes: each reader is the command on a file of that kind."""
    named = lambda name, file, *sound, kind="json": Reader(f"inspect {name}", file, sound, _inspected, kind)  # noqa: E731
    tiny = shutil.copytree(ROOT / "holo_lite" / "tiny" / "weights", folder / "model")
    for place in (folder / "i.run", folder / "work", folder / "i"):
        place.mkdir()
    yield named("run", "i.run/run.json", _run_record())
    yield named("state", "i.run/state.safetensors", _state(folder), kind="bytes")
    yield named("step cache", "i.run/cache-2.safetensors", _sealed(folder, {"a": torch.ones(2)}), kind="bytes")
    yield named(
        "journal", "work/journal.jsonl", (DATA.parent / "records/v1/journal.jsonl").read_bytes(), kind="text"
    )
    yield named("report", "quality.json", QUALITY.encode())
    block = (tiny / "high_noise" / "block-00.safetensors").read_bytes()
    yield named("block", "model/high_noise/block-00.safetensors", block, kind="bytes")
    yield named("model", "model/model.json", (tiny / "model.json").read_bytes())
    yield named("tokenizer", "i/tokenizer.json", _tokenizer())
    yield named("profile", "i.toml", (ROOT / "profiles" / "8gb.toml").read_bytes(), RECIPE, TIMED, kind="toml")
    yield named("sizes", "i/dit_config.json", (DATA / "dit_config.json").read_bytes())
    yield named(
        "defaults", "i/defaults.json", b'{"frames": 9, "fps": 12.5, "steps": 2, "cfg": 1.5, "negative": "x"}'
    )
    yield named("config", "i/config.json", (tiny / "vae" / "config.json").read_bytes(), b'{"model_type": "umt5"}')
    yield named("LoRA settings", "i/adapter_config.json", b'{"peft_type": "LORA", "r": 4, "lora_alpha": 2}')
    tables = [
        (DATA.parent / "records/v1" / f"cache-{name}.json").read_bytes() for name in ("rates", "rungs", "kernels")
    ]
    yield named("cache", "i/rates.json", *tables, b'{"weight": [[1]], "bias": [1, 2, 3]}')
    latents = save({"latents": torch.ones(16, 2, 4, 4)})
    rows = save({"rows": torch.ones(3, 8)}, metadata={"sha256": "0" * 64})
    yield named("latents", "i.safetensors", latents, rows, save(LORA, metadata=LORA_SETTINGS), kind="bytes")
    yield named("pickled", "i.pth", _pth({"latents": torch.ones(16, 2, 4, 4)}), _pth(LORA), kind="bytes")
    yield named("sheet", "i.png", *_sheets(folder), kind="bytes")
    yield named("settings", "settings.json", SETTINGS.to_json().encode())
    yield Reader("inspect unknown", "i.dat", (b"GIF89a", b"some words"), _not_known)


def _inspected(path):
    return list(inspect(path))


def _not_known(path):
    """What is of no known kind is an error, and here no fault."""
    with suppress(OutputError):
        assert list(inspect(path)) == []


def _sealed(folder, tensors, metadata=None):
    write_sealed(folder / "sealed.safetensors", tensors, metadata or {})
    return (folder / "sealed.safetensors").read_bytes()


def _state(folder):
    facts = (DATA.parent / "records/v1/state-cache.json").read_text(encoding="utf-8")
    return _sealed(folder, {LATENTS: torch.ones(16, 2, 4, 4)}, {FACTS: facts})


def _sheets(folder):
    for mark in (SETTINGS.to_json(), seeds_mark((1, 2), SETTINGS)):
        Image.new("RGB", (8, 8)).save(folder / "sheet.png", pnginfo=marked(mark))
        yield (folder / "sheet.png").read_bytes()


def _records(folder):
    """Readers of records, behind `RECORDS_TOO`."""
    manifest = (ROOT / "holo_lite" / "tiny" / "weights" / "model.json").read_bytes()
    yield Reader("manifest", "model.json", (manifest,), lambda path: read_manifest(path.parent), "json")
    yield Reader("settings", "settings.json", (SETTINGS.to_json().encode(),), _settings, "json")
    run = folder / "r.run"
    run.mkdir()
    yield Reader(
        "run.json", "r.run/run.json", (_run_record(),), lambda path: RunFolder(path.parent).record(), "json"
    )
    rates = json.dumps({"key": [1.0, 2.0]}).encode()
    yield Reader("rates", "rates.json", (rates,), _rates, "json")
    kernels = json.dumps({"key": {"seconds": {"sdpa": 0.5}, "refused": {}}}).encode()
    yield Reader(
        "kernels",
        "kernels.json",
        (kernels,),
        lambda path: KernelTimesTable(path.parent).find("key", ["sdpa"]),
        "json",
    )
    rows = save({"rows": torch.ones(3, 8)}, metadata={"sha256": "0" * 64})
    yield Reader("prompt cache", "key.safetensors", (rows,), lambda path: PromptCache(path.parent).get("key"))
    yield Reader(
        "video settings", "film.mp4", ((folder / "v0.mp4").read_bytes(),), lambda path: list(inspect(path))
    )


def _run(path):
    return RunFolder(path.parent).record()


def _rates(path):
    return _recall(table(RATES, path.parent, Numbers), "key", 2, lambda: (1.0, 2.0))


def _kernels(path):
    return KernelTimesTable(path.parent).find("key", ["sdpa"])


def _decided(path):
    return resolve(load_storyboard(path), Options(), Defaults(), **MACHINE)


def _judged(path):
    """A language model's answer: what is wrong is found, and what is left can be written and read again."""
    judged = judge(path.read_text(encoding="utf-8", errors="replace"), Wanted("a fox", 2, 10), None)
    assert all(len(line.splitlines()) == 1 for line in judged.found), judged.found
    if judged.written is not None:
        assert parse_toml(dump_toml(judged.written.board), "a.toml") == judged.written.board
    return judged


def _as_prompt(path):
    text = path.read_bytes()[:10_000].decode("utf-8", "surrogateescape") if path.is_file() else str(path)
    return load_storyboard(text).prompt


def _profile(path):
    return find_profile(str(path))


def _all_weights(path):
    file = open_weights(path)
    assert file.fingerprint
    return {name: file.load(name).clone() for name in file.entries}


def _headed(data):
    """Reads a header as the one of a file with that data."""

    def read(path):
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(len(content).to_bytes(8, "little") + content + data)
        return _all_weights(path)

    return read


def _lora(path):
    adapter = open_lora(path)
    for name in adapter.terms:
        adapter.delta(name)


def _tokenized(path):
    return read_prompt("[global caption] a b ☂ [per shot caption] c [shot cut] d", PromptTokenizer(path))


def _colours(path):
    try:
        found = parse_json(read_text(path))
    except (OSError, ValueError):
        return
    if colours := ColourMap.read(found):
        colours.pictures(torch.zeros(16, 1, 2, 2))


def _video(path):
    for read in (is_blank, probe, read_metadata):
        read(path)
    for _ in islice(video_frames(path), 10):
        pass


def _pictures():
    for kind, mode in (("PNG", "RGBA"), ("JPEG", "RGB"), ("GIF", "P"), ("TIFF", "I;16")):
        file = io.BytesIO()
        Image.new(mode, (8, 4)).save(file, kind)
        yield file.getvalue()


def _settings(path):
    try:
        text = read_bytes(path).decode("utf-8", "surrogateescape")
    except OSError:
        return
    settings = RunSettings.from_json(text)
    check_words(settings)
    command(settings)


def _run_record():
    return (DATA.parent / "records" / "v1" / "run-nf4.json").read_bytes()


def _pth(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _gguf(folder):
    writer = GGUFWriter(folder / "sound.gguf", "wan")
    writer.add_array("comfy.gguf.orig_shape.a", [2, 16])
    writer.add_array("tokenizer.words", ["many", "words"] * 20)
    writer.add_tensor("a", np.ones((1, 34), np.uint8), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.add_tensor("b", np.ones((3, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "sound.gguf").read_bytes()


def _tokenizer():
    from toy_files import _tokenizer as toy

    return toy().to_str().encode()

"""Compares this project with outputs of the reference implementation: python tests/parity.py DIR [--ranks N]

DIR is laid out as tests/parity_data/README.md says. Everything in it is loaded by the project's own loaders
and checked; a line per check, exit code 1 if any fails. Integers must agree exactly, one forward to 1e-5,
a sampling run to 1e-4 (relative, in the 2-norm). With --ranks, forwards and runs are computed by so many ranks.
"""

import argparse
import json
import lzma
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from holo_lite.config import PUBLISHED_NEGATIVE
from holo_lite.film.vae import decode_frames, load_vae
from holo_lite.film.vae_tiles import decode_frames_tiled
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.model.load import load_expert
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.story.prompt import caption_spans, clean
from holo_lite.story.shots import ShotLayout
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.story.timeline import resolve_timeline
from holo_lite.text.encoder import TextEncoder
from holo_lite.text.windows import PromptTokenizer, TokenizedPrompt, token_windows

sys.path.append(str(Path(__file__).parent / "support"))  # as a script it has only its own folder
import parity_ranks
from file_experts import FileExperts

FORWARD, RUN, EXACT = 1e-5, 1e-4, 0.0
FP32, CPU = torch.float32, torch.device("cpu")


@dataclass(frozen=True)
class Check:
    """One comparison: `error` is relative for floats, the number of differences for integers."""

    name: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound  # false for NaN, too


def all_checks(folder: Path, ranks: int = 1) -> Iterator[Check]:
    yield from check_prompts(folder)
    yield from check_shots(folder)
    yield from check_schedule(folder)
    if ranks > 1:
        yield from check_forward_by_ranks(folder, ranks)
        yield from check_sampling_by_ranks(folder, ranks)
    else:
        yield from check_forward(folder)
        yield from check_sampling(folder)
    yield from check_text_encoder(folder)
    yield from check_vae(folder)


def check_prompts(folder: Path) -> Iterator[Check]:
    rows = read(folder / "prompts.json")
    if tokenizer := find_tokenizer(folder):
        for index, row in enumerate(rows):
            encoded = tokenizer.encode(clean(row["prompt"]))
            yield exact(f"prompt {index}: token ids", encoded.ids, row["token_ids"])
            yield exact(f"prompt {index}: offsets", encoded.offsets, row["token_offsets"])
    for index, row in enumerate(rows):
        windows = stored_windows(row)
        yield exact(f"prompt {index}: global range", windows and windows.global_range, row["global"])
        yield exact(f"prompt {index}: shot ranges", windows.shot_ranges if windows else [], row["shots"])


def check_shots(folder: Path) -> Iterator[Check]:
    for row in read(folder / "shots.json"):
        name = f"shots {row['frames_requested']}/{row['shots']}"
        board = Storyboard("G", tuple(Shot(f"c{i}") for i in range(row["shots"])), cuts=row["cuts_requested"])
        timeline = resolve_timeline(board, default_frames=row["frames_requested"], fps=15)
        layout = ShotLayout.from_frames(timeline.num_frames, timeline.cuts, 64, 64)
        yield exact(f"{name}: frames", timeline.num_frames, row["num_frames"])
        yield exact(f"{name}: cuts", timeline.cuts, row["cut_frames"])
        yield exact(f"{name}: prompt", board.prompt, row["prompt"])
        yield exact(f"{name}: shot of each latent frame", layout.shot_of_latent_frame, row["shot_of_latent_frame"])


def check_schedule(folder: Path) -> Iterator[Check]:
    for steps, row in read(folder / "schedule.json").items():
        schedule = Schedule.of(int(steps))
        yield exact(f"schedule {steps}: sigmas", [step.sigma for step in schedule], row["sigmas"])
        yield exact(f"schedule {steps}: timesteps", [step.timestep for step in schedule], row["timesteps"])
        switch = schedule.first_low_noise_step
        yield exact(f"schedule {steps}: switch", switch, row["first_low_noise_step"])


def check_forward(folder: Path) -> Iterator[Check]:
    model = load_expert(folder / "dit_high_noise.safetensors", dtype=FP32, device=CPU)
    tensors = load_file(folder / "dit_forward.safetensors")
    for row in read(folder / "dit_forward.json"):
        latents = tensors[f"{row['layout']}.latents"][0]
        windows = window_rows(folder, row["prompt_index"]) if row["windowed"] else None
        with torch.inference_mode():
            text = TextRows(model.embed_text(tensors[f"{row['layout']}.context"][0]), windows)
            clip = clip_of(row, 8 * latents.shape[2], 8 * latents.shape[3])
            (velocity,) = model(latents, torch.tensor(row["timestep"]), [text], clip)
        yield close(f"forward {row['key']}", velocity, tensors[row["key"]][0], FORWARD)


def check_sampling(folder: Path) -> Iterator[Check]:
    experts = FileExperts(folder / "dit_high_noise.safetensors", folder / "dit_low_noise.safetensors", FP32, CPU)
    tensors = load_file(folder / "sampling.safetensors")
    for row in read(folder / "sampling.json"):
        name = row["name"]
        yield exact(f"sampling {name}: negative prompt", PUBLISHED_NEGATIVE, row["negative_prompt"])
        guidance, schedule = guidance_of(folder, row, tensors), Schedule.of(row["steps"])
        clip = clip_of(row, row["height"], row["width"])
        for progress in sample(experts, initial_noise(clip, row["seed"]), guidance, schedule, clip):
            expected = tensors[f"{name}.step{progress.step.index}"][0]
            yield close(f"sampling {name}: step {progress.step.index}", progress.latents, expected, RUN)


def check_forward_by_ranks(folder: Path, ranks: int) -> Iterator[Check]:
    tensors = load_file(folder / "dit_forward.safetensors")
    for row in read(folder / "dit_forward.json"):
        latents = tensors[f"{row['layout']}.latents"][0]
        windows = window_rows(folder, row["prompt_index"]) if row["windowed"] else None
        clip = clip_of(row, 8 * latents.shape[2], 8 * latents.shape[3])
        context = tensors[f"{row['layout']}.context"][0]
        expert = folder / "dit_high_noise.safetensors"
        velocity = parity_ranks.forward(expert, clip, ranks, latents, row["timestep"], context, windows)
        yield close(f"forward {row['key']} by {ranks} ranks", velocity, tensors[row["key"]][0], FORWARD)


def check_sampling_by_ranks(folder: Path, ranks: int) -> Iterator[Check]:
    high, low = (folder / f"dit_{name}_noise.safetensors" for name in ("high", "low"))
    tensors = load_file(folder / "sampling.safetensors")
    for row in read(folder / "sampling.json"):
        guidance, schedule = guidance_of(folder, row, tensors), Schedule.of(row["steps"])
        clip = clip_of(row, row["height"], row["width"])
        for step, latents in enumerate(parity_ranks.steps(high, low, clip, ranks, guidance, schedule, row["seed"])):
            expected = tensors[f"{row['name']}.step{step}"][0]
            yield close(f"sampling {row['name']} by {ranks} ranks: step {step}", latents, expected, RUN)


def guidance_of(folder: Path, row, tensors) -> Guidance:
    name = row["name"]
    positive = Context(tensors[f"{name}.context"][0], window_rows(folder, row["prompt_index"]))
    return Guidance(positive, Context(tensors[f"{name}.negative_context"][0]), row["cfg_scale"])


def check_text_encoder(folder: Path) -> Iterator[Check]:
    encoder = TextEncoder.load(folder / "text_encoder.safetensors", dtype=FP32, device=CPU)
    expected = load_file(folder / "text_encoder_forward.safetensors")
    known = expected["mask"][0].bool()
    rows = encoder.encode(expected["ids"][0][known].tolist())
    yield close("text encoder", rows, expected["embeddings"][0][known], FORWARD)
    yield exact("text encoder: zeros after the end", int(expected["embeddings"][0][~known].count_nonzero()), 0)


def check_vae(folder: Path) -> Iterator[Check]:
    vae = load_vae(folder / "vae.safetensors", dtype=FP32, device=CPU)
    tensors = load_file(folder / "vae_decode.safetensors")
    latents = tensors["latents"][0]
    with torch.inference_mode():
        whole = torch.stack(list(decode_frames(vae, latents)), dim=1)
        tiled = torch.stack(list(decode_frames_tiled(vae, latents, tile=(6, 6), stride=(3, 3))), dim=1)
    yield close("vae: whole frames", whole, tensors["video"][0], FORWARD)
    yield close("vae: tiles 6x6, stride 3x3", tiled, tensors["video_tiled_6x6_stride_3x3"][0], FORWARD)


def stored_windows(row):
    """The windows of a prompt from its stored offsets: no tokenizer is needed."""
    spans = caption_spans(clean(row["prompt"]))
    offsets = tuple((first, end) for first, end in row["token_offsets"])
    return token_windows(TokenizedPrompt(tuple(row["token_ids"]), offsets), spans) if spans else None


def window_rows(folder: Path, prompt_index: int):
    windows = stored_windows(read(folder / "prompts.json")[prompt_index])
    return tuple(torch.tensor(windows.rows(shot)) for shot in range(windows.shots))


def clip_of(row, height: int, width: int) -> Clip:
    layout = ShotLayout.from_frames(row["num_frames"], tuple(row["cut_frames"]), height, width)
    return Clip(layout, "sparse" if row["sparse"] else "full", Chunks(attention=50, feed_forward=37))


def find_tokenizer(folder: Path) -> PromptTokenizer | None:
    """The real tokenizer, in the folder or beside it, packed or not."""
    for home in (folder, folder / "umt5-xxl", folder.parent / "umt5-xxl"):
        if (home / "tokenizer.json").is_file():
            return PromptTokenizer(home / "tokenizer.json")
        if (home / "tokenizer.json.xz").is_file():
            with tempfile.TemporaryDirectory() as unpacked:
                path = Path(unpacked, "tokenizer.json")
                path.write_bytes(lzma.decompress((home / "tokenizer.json.xz").read_bytes()))
                return PromptTokenizer(path)
    return None


def exact(name: str, found, expected) -> Check:
    """Equal once written as JSON, which knows no difference between lists and tuples."""
    return Check(name, float(json.dumps(found) != json.dumps(expected)), EXACT)


def close(name: str, found: torch.Tensor, expected: torch.Tensor, bound: float) -> Check:
    assert found.shape == expected.shape, f"{name}: {found.shape}, expected {expected.shape}"
    difference = torch.linalg.vector_norm((found - expected).double())
    return Check(name, float(difference / torch.linalg.vector_norm(expected.double())), bound)


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: python tests/parity.py DIR [--ranks N]", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="parity.py", usage="python tests/parity.py DIR [--ranks N]")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ranks", type=int, default=1)
    said = parser.parse_args()
    folder = said.folder
    if find_tokenizer(folder) is None:
        print("no tokenizer.json in DIR or beside it: windows are checked from the stored ids and offsets")
    checks = list(all_checks(folder, said.ranks))
    for check in checks:
        verdict = "ok  " if check.passed else "FAIL"
        print(f"{verdict} {check.name:48} error {check.error:.1e}  bound {check.bound:.0e}")
    failed = sum(not check.passed for check in checks)
    print(f"{len(checks)} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

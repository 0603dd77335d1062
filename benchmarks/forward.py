"""One block of the transformer, shot by shot, against the whole sequence at once.

    python -m benchmarks.forward [--dim 512 --heads 4 --ffn-dim 1376] [--frames 49 --shots 3] [...]

Times both on the device at hand, in pairs, and prints a table, then one line of JSON. The whole-sequence path
is the tests' oracle: dense masks over all tokens. Embeddings and head of a one-block model are in both
figures. Peak memory is above the weights and the inputs; on a CPU it is counted tensor by tensor.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable
from typing import Any

import click
import oracle
import torch
from small_model import random_model

from benchmarks.timing import peak_bytes, timed
from holo_lite.config import DiTConfig
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.story.shots import ShotLayout, even_cuts, round_frames
from holo_lite.system.device import pick_device

TEXT_ROWS = 512


@click.command()
@click.option("--dim", default=512, show_default=True)
@click.option("--heads", default=4, show_default=True)
@click.option("--ffn-dim", default=1376, show_default=True)
@click.option("--frames", default=49, show_default=True)
@click.option("--shots", default=3, show_default=True)
@click.option("--height", default=128, show_default=True)
@click.option("--width", default=208, show_default=True)
@click.option("--chunk", default=8192, show_default=True, help="Tokens in work at once.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--device", default="auto", show_default=True)
def main(repeats: int, device: str, dtype: str, **sizes: int) -> None:
    """Time one block both ways."""
    place = pick_device(device)
    paths = make_paths(sizes, place, getattr(torch, dtype))
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for round_ in range(repeats + 1):  # the first round warms up
        for name, run in paths.items():
            elapsed = timed(run, place)
            if round_:
                seconds[name].append(elapsed)
    peaks = {name: peak_above(run, place) for name, run in paths.items()}
    report(sizes, dtype, place, seconds, peaks)


def make_paths(sizes: dict[str, int], device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """Both ways as functions without arguments, on the same weights and inputs."""
    config = DiTConfig(sizes["dim"], sizes["heads"], sizes["ffn_dim"], num_layers=1, text_dim=64, freq_dim=64)
    frames = round_frames(sizes["frames"])
    layout = ShotLayout.from_frames(frames, even_cuts(frames, sizes["shots"]), sizes["height"], sizes["width"])
    clip = Clip(layout, "sparse", Chunks(sizes["chunk"], sizes["chunk"]))
    model = random_model(config, dtype=dtype).to(device)
    weights = dict(model.state_dict())
    latents = torch.randn(16, layout.latent_frames, 2 * layout.rows, 2 * layout.columns, device=device)
    context = torch.randn(TEXT_ROWS, 64, device=device, dtype=dtype)
    timestep = torch.tensor(900.0, device=device)

    def shot_by_shot() -> Any:
        return model(latents, timestep, [TextRows(model.embed_text(context))], clip)

    def whole_sequence() -> Any:
        with device:
            x = latents.to(dtype)
            return oracle.forward(weights, config, x, timestep, context, layout, None, sparse=True)

    return {"whole sequence": whole_sequence, "shot by shot": shot_by_shot}


def peak_above(run: Callable[[], Any], device: torch.device) -> int:
    """Most bytes alive at once above what stood before."""
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    return peak_bytes(run, device) - before


def report(
    sizes: dict[str, int],
    dtype: str,
    device: torch.device,
    seconds: dict[str, list[float]],
    peaks: dict[str, int],
) -> None:
    """A table, then the same as one line of JSON."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {platform.machine()}"
    base, ours = seconds
    pairs = zip(seconds[base], seconds[ours], strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name}, {dtype}, " + ", ".join(f"{key} {value}" for key, value in sizes.items()))
    print(f"{'path':16} {'median s':>10} {'min':>8} {'max':>8} {'peak MB':>9}")
    for path, times in seconds.items():
        row = f"{statistics.median(times):10.4f} {min(times):8.4f} {max(times):8.4f} {peaks[path] / 1e6:9.1f}"
        print(f"{path:16} {row}")
    memory = peaks[base] / peaks[ours]
    print(f"shot by shot is {ratio:.2f} x as fast and peaks at 1/{memory:.2f} of the memory")
    record = {"benchmark": "forward", "device": name, "torch": torch.__version__, "dtype": dtype, **sizes}
    print(json.dumps({**record, "seconds": seconds, "peak_bytes": peaks, "speed": ratio, "memory": memory}))


if __name__ == "__main__":
    main()

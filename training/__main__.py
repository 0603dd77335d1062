"""Train holo-tiny from nothing: VAE, latents, experts, model folder. Every part can be cut off and goes on."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import click
import torch

from holo_lite.text.windows import PromptTokenizer
from training.assemble import assemble, tokenizer
from training.curves import draw_curves
from training.dit import DitRecipe, Lessons, train_experts
from training.latents import encode_clips, measure_scale
from training.loop import Part
from training.text import train_text
from training.vae import VaeRecipe, train_decoder, train_vae

EACH = 1024  # clips of every length


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--minutes", default=9.0, help="End this part after so many minutes; the same command goes on.")
@click.option("--threads", default=2, help="CPU threads.")
def main(work: Path, minutes: float, threads: int) -> None:
    """Train in WORK; the finished model stands in WORK/model."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    done = run(work, Part(work, time.monotonic() + 60 * minutes))
    click.echo(f"{work / 'model'} is done." if done else "Not done yet; the same command goes on.")


def run(work: Path, part: Part) -> bool:
    """Do what is not done yet, while this part has time. → whether all is done."""
    vae_recipe, dit_recipe = VaeRecipe(), DitRecipe()
    vae = train_vae(vae_recipe, part)
    if vae is None or not encode_clips(vae, EACH, part):
        return False
    scale = measure_scale(work)
    tokenizer().save(str(work / "tokenizer.json"))
    words = PromptTokenizer(work / "tokenizer.json")
    reader = train_text(dit_recipe.config.text_dim, words, part)
    if reader is None:
        return False
    networks = train_experts(dit_recipe, reader, Lessons.read(work, scale, words, dit_recipe), part)
    if networks is None:
        return False
    if train_decoder(vae, vae_recipe, part) is None:
        return False
    assemble(work / "model", {**networks, "text": reader.encoder}, vae, scale, dit_recipe)
    draw_curves(sorted(work.glob("*.jsonl")), work / "curves.png")
    return True


if __name__ == "__main__":
    main()

"""Train holo-tiny from scratch: VAE, latents, experts, model folder. Every part can be interrupted."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import click
import torch

from holo_lite.text.windows import PromptTokenizer
from training.assemble import assemble, tokenizer
from training.curves import draw_curves
from training.dit import Lessons, train_experts
from training.latents import encode_clips, measure_scale, share_out
from training.loop import Part
from training.recipes import RECIPES, Recipe
from training.scores import measure
from training.text import train_text
from training.vae import train_decoder, train_vae


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option(
    "--recipe", "name", type=click.Choice(list(RECIPES)), default="full", show_default=True, help="How much of all."
)
@click.option("--minutes", default=9.0, help="End this part after this many minutes; the same command continues.")
@click.option("--threads", default=2, help="CPU threads.")
def main(work: Path, name: str, minutes: float, threads: int) -> None:
    """Train in WORK; the finished model is in WORK/model, its scores in WORK/scores.json."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    done = run(work, RECIPES[name], Part(work, time.monotonic() + 60 * minutes))
    click.echo(f"{work / 'model'} is done." if done else "Not done yet; the same command continues.")


def run(work: Path, recipe: Recipe, part: Part) -> bool:
    """Do what is not done yet, while this part has time. → whether all is done."""
    if not (work / "model").is_dir() and not _train(work, recipe, part):
        return False
    if part.over:
        return False
    draw_curves(sorted(work.glob("*.jsonl")), work / "curves.png")
    measure(work / "model", recipe.storyboards, work / "scores.json")
    return True


def _train(work: Path, recipe: Recipe, part: Part) -> bool:
    vae = train_vae(recipe.vae, part)
    if vae is None or not encode_clips(vae, share_out(recipe.clips, recipe.dit.shares), part):
        return False
    scale = measure_scale(work)
    tokenizer().save(str(work / "tokenizer.json"))
    words = PromptTokenizer(work / "tokenizer.json")
    reader = train_text(recipe.dit.config.text_dim, words, part)
    if reader is None:
        return False
    networks = train_experts(recipe.dit, reader, Lessons.read(work, scale, words, recipe.dit), part)
    if networks is None or train_decoder(vae, recipe.vae, part) is None:
        return False
    draft = work / "model.part"
    shutil.rmtree(draft, ignore_errors=True)
    assemble(draft, {**networks, "text": reader.encoder}, vae, scale, recipe.dit)
    draft.rename(work / "model")
    return True


if __name__ == "__main__":
    main()

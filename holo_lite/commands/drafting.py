"""`generate --draft` and `generate --seeds`: something to look at before the full run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holo_lite.commands.shared import free, stem_of, watch

if TYPE_CHECKING:
    from holo_lite.film.seed_sheet import SeedSheet
    from holo_lite.render.pipeline import Events, Job, Pipeline
    from holo_lite.settings import Options
    from holo_lite.story.storyboard import Storyboard

NOT_IN_THE_FULL_RUN = {"--draft": 0, "--seeds": 1, "--seed": 1}  # options, and how many words follow each


@dataclass(frozen=True)
class Drafting:
    """The full run that drafts are made for, and the options given for it."""

    pipeline: Pipeline
    storyboard: str
    board: Storyboard
    options: Options
    full: Job
    out: Path | None  # of the full run; None: not given

    def one(self) -> None:
        """Make a small draft in few steps."""
        from holo_lite.jobs.drafts import explanation

        job = self._job(small=True)
        out = self._beside("draft") if self.out else free(f"{stem_of(self.storyboard)}-draft", ".mp4")
        click.echo(explanation(job.settings, self.full.settings), err=True)
        watch(self.pipeline, lambda: self.pipeline.run(job, out))
        click.echo(f"full run       {typed_again(sys.argv[1:])}", err=True)

    def of_seeds(self, text: str, *, small: bool) -> None:
        """Make a draft for each seed, and a picture of them all; of those that are done, if interrupted."""
        from holo_lite.film.seed_sheet import SeedSheet, check_place
        from holo_lite.jobs.drafts import explanation, parse_seeds

        seeds = parse_seeds(text, self.full.settings.seed)
        jobs = {seed: self._job(small=small, seed=seed) for seed in seeds}
        picture = self._beside("seeds", ".png") if self.out else free(f"{stem_of(self.storyboard)}-seeds", ".png")
        sheet = SeedSheet(seeds, self.full.settings.shot_frames)
        check_place(picture)
        click.echo(explanation(jobs[seeds[0]].settings, self.full.settings), err=True)
        try:
            watch(self.pipeline, lambda: self._drafts(jobs, sheet))
        finally:
            if sheet.begun:
                sheet.save(picture)
                click.echo(f"seeds          {picture}", err=True)
        for seed in seeds:
            click.echo(f"seed {seed:<10} {typed_again(sys.argv[1:], seed)}", err=True)

    def _job(self, *, small: bool, seed: int | None = None) -> Job:
        from holo_lite.jobs.drafts import draft_options

        options = draft_options(self.options, self.full.settings, small=small)
        return self.pipeline.prepare(self.board, replace(options, seed=seed) if seed is not None else options)

    def _drafts(self, jobs: Mapping[int, Job], sheet: SeedSheet) -> Events:
        """Make one draft after the other, and pass its frames to the sheet."""
        from holo_lite.events import FrameDone

        for seed, job in jobs.items():
            with closing(self.pipeline.run(job, self._beside(f"seed-{seed}"))) as events:
                for event in events:
                    if isinstance(event, FrameDone):
                        sheet.add(seed, event.index, event.pixels)
                    yield event

    def _beside(self, what: str, suffix: str | None = None) -> Path:
        """The name of a file that belongs to the full run's video."""
        video = self.out or Path(f"{stem_of(self.storyboard)}.mp4")
        return video.with_name(f"{video.stem}-{what}{suffix or video.suffix}")


def typed_again(words: Sequence[str], seed: int | None = None) -> str:
    """The command of the full run, from the words typed for its drafts, with a seed if one is given."""
    found = ["holo-lite", *_without_drafts(words, keep_seed=seed is None)]
    found += [] if seed is None else ["--seed", str(seed)]
    return subprocess.list2cmdline(found) if os.name == "nt" else shlex.join(found)


def _without_drafts(words: Sequence[str], *, keep_seed: bool) -> list[str]:
    kept: list[str] = []
    left = 0  # words that belong to an option left out
    for word in words:
        name = word.partition("=")[0]
        if left:
            left -= 1
        elif name not in NOT_IN_THE_FULL_RUN or (keep_seed and name == "--seed"):
            kept.append(word)
        else:
            left = NOT_IN_THE_FULL_RUN[name] if name == word else 0
    return kept

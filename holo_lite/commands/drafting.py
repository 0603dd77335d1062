"""`generate --draft` and `generate --seeds`: something to look at before the full run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from holo_lite.commands.naming import is_done, is_free, numbered
from holo_lite.commands.stopping import token
from holo_lite.commands.telling import note
from holo_lite.views.terminal import typed

if TYPE_CHECKING:
    from holo_lite.directing.direction import AnyFilm
    from holo_lite.events import Events
    from holo_lite.jobs.batch import BatchEvents
    from holo_lite.render.job import Job
    from holo_lite.render.pipeline import Pipeline
    from holo_lite.runs.own import Standing
    from holo_lite.settings import Options, RunSettings

NOT_IN_THE_FULL_RUN = {"--draft": 0, "--seeds": 1, "--seed": 1}  # options, and how many words follow each


@dataclass(frozen=True)
class Drafting:
    """The full run that drafts are made for, and the options given for it."""

    pipeline: Pipeline
    stem: str  # what its files are named by
    film: AnyFilm
    source: Path  # what it is made from, for a person
    options: Options
    full: Job
    out: Path | None  # of the full run; None: not given
    watch: Callable[[Callable[[], BatchEvents]], None]  # begins a run and shows how it goes
    overwrite: bool = False

    def one(self) -> None:
        """Make a small draft in few steps."""
        from holo_lite.jobs.drafts import explanation

        job = self._job(small=True)
        out = self._beside("draft") if self.out else self._own_or_free(job)
        note(explanation(job.settings, self.full.settings))
        if not is_done(out, job.settings, overwrite=self.overwrite, latents=False):
            self.watch(lambda: self._begun(job, out))
        note(f"full run       {typed_again(sys.argv[1:])}")

    def of_seeds(self, text: str, *, small: bool) -> None:
        """Make a draft for each seed, and a picture of them all; of those that are done, if interrupted."""
        from holo_lite.film.seed_sheet import SeedSheet, check_place
        from holo_lite.jobs.drafts import explanation, parse_seeds
        from holo_lite.jobs.seed_drafts import SeedDrafts
        from holo_lite.runs.own import seeds_at

        seeds = parse_seeds(text, self.full.settings.seed)
        jobs = {seed: self._job(small=small, seed=seed) for seed in seeds}
        first = jobs[seeds[0]].settings
        picture = self._sheet(seeds, first)
        sheet = SeedSheet(seeds, self.full.settings.new_shots)
        check_place(picture)
        if self._is_done(jobs, picture, seeds_at(picture, seeds, first)):
            return
        note(explanation(first, self.full.settings))
        try:
            drafts = SeedDrafts(self.pipeline, jobs, self._videos(jobs), self.source, token())
            self.watch(lambda: drafts.made(sheet, picture))
        finally:
            if sheet.begun:
                note(f"seeds          {picture}")
        for seed in seeds:
            note(f"seed {seed:<10} {typed_again(sys.argv[1:], seed)}")

    def _own_or_free(self, job: Job) -> Path:
        """The first name of a draft that nothing has, or the same draft."""
        from holo_lite.runs.own import video_at

        names = numbered(f"{self.stem}-draft", ".mp4")
        return next(name for name in names if is_free(name) or video_at(name, job.settings).state == "own")

    def _sheet(self, seeds: Sequence[int], settings: RunSettings) -> Path:
        """Where the sheet of all seeds goes: beside the video that was named, or to a name free or its own."""
        from holo_lite.runs.own import seeds_at

        if self.out:
            return self._beside("seeds", ".png")
        names = numbered(f"{self.stem}-seeds", ".png")
        return next(name for name in names if seeds_at(name, seeds, settings).state != "other")

    def _is_done(self, jobs: Mapping[int, Job], picture: Path, sheet: Standing) -> bool:
        """Whether all drafts and their sheet are there; it is said. Raises `OutputError` for something else."""
        from holo_lite.runs.own import refuse, refuse_another_video, video_at

        videos = {video: jobs[seed].settings for seed, video in self._videos(jobs).items()}
        states = {sheet.state, *(video_at(video, settings).state for video, settings in videos.items())}
        if states == {"own"}:
            note(f"done already   {picture}")
            return True
        if not self.overwrite:
            refuse(picture, sheet)
            for video, settings in videos.items():
                refuse_another_video(video, settings, latents=False)
        return False

    def _job(self, *, small: bool, seed: int | None = None) -> Job:
        from holo_lite.jobs.drafts import draft_options

        options = draft_options(self.options, self.full.settings, small=small)
        return self.pipeline.prepare(self.film, replace(options, seed=seed) if seed is not None else options)

    def _videos(self, seeds: Iterable[int]) -> dict[int, Path]:
        """Where the draft of each seed goes."""
        return {seed: self._beside(f"seed-{seed}") for seed in seeds}

    def _begun(self, job: Job, video: Path) -> Events:
        """Begin a draft. Its latents are not kept: nothing goes on from a draft."""
        from holo_lite.render.sinks import FilmSink

        return self.pipeline.run(job, FilmSink.at(video, latents=False), cancel=token())

    def _beside(self, what: str, suffix: str | None = None) -> Path:
        """The name of a file that belongs to the full run's video."""
        video = self.out or Path(f"{self.stem}.mp4")
        return video.with_name(f"{video.stem}-{what}{suffix or video.suffix}")


def typed_again(words: Sequence[str], seed: int | None = None) -> str:
    """The command of the full run, from the words typed for its drafts, with a seed if one is given."""
    found = ["holo-lite", *_without_drafts(words, keep_seed=seed is None)]
    found += [] if seed is None else ["--seed", str(seed)]
    return typed(found)


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

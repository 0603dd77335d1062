"""Deciding everything about a run before it begins: what is made, from what, and whether it fits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from holo_lite.config import TEXT_ROWS
from holo_lite.directing.direction import AnyFilm, Directed
from holo_lite.directing.given import Given
from holo_lite.directing.pictured import pictured
from holo_lite.errors import PromptError, SettingsError
from holo_lite.opening.model import OpenedModel
from holo_lite.plan.choose import ProfileChoice
from holo_lite.plan.fit import make_plan, plan_encoding
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.rank_plans import Spread
from holo_lite.plan.rung_memory import RungMemory
from holo_lite.plan.spread import choose_spread
from holo_lite.preflight.rules import finding_notes
from holo_lite.render.job import Job
from holo_lite.sampling.frozen_shots import as_named
from holo_lite.settings import Options, RunSettings, check_options, resolve
from holo_lite.story.files import as_storyboard
from holo_lite.story.prompt import clean
from holo_lite.story.storyboard import Storyboard
from holo_lite.system.cache_folder import cache_folder
from holo_lite.text.windows import Prompt, PromptTokenizer, read_captions, read_prompt
from holo_lite.version import __version__


@dataclass(frozen=True)
class Preparer:
    """An opened model, and the profile its runs are planned for."""

    model: OpenedModel
    tokenizer: PromptTokenizer
    choice: ProfileChoice

    def job(self, film: AnyFilm, options: Options, given: Given | None = None) -> Job:
        """A run that is decided and checked; `given` goes before what the film says is given of its clip."""
        check_options(options)
        self._check_attention(options)
        directed = self._directed(film, options)
        chosen = given or directed.given or self._named(directed)
        settings, notes = self._resolved(directed, chosen)
        more = (*directed.notes, *chosen.notes, *notes, *finding_notes(settings))
        return self.planned(settings, chosen, more)

    def planned(self, settings: RunSettings, given: Given | None, notes: tuple[str, ...] = ()) -> Job:
        """A run whose settings are decided: its prompts read as tokens, and fitted into the profile.

        Raises `PromptError`, or `SettingsError` for a clip that cannot fit.
        """
        prompt, negative = _read(settings, self.tokenizer), _read_negative(settings.negative, self.tokenizer)
        assert prompt.shots == len(settings.shot_frames), "captions and shots were compared before"
        choice, sizes = self.choice, self.model.sizes
        request, spread = self._spread(settings)
        remembered = RungMemory.of(cache_folder(), choice.machine.name, sizes, request)
        plan = spread.plans[0] if spread else make_plan(choice.profile, sizes, request, choice.machine)
        pictures = given is not None and given.pictures > 0
        encoding = plan_encoding(choice.profile, sizes, request, choice.machine) if pictures else None
        notes = (*notes, *self.model.adapters.notes)
        job = Job(settings, notes, prompt, negative, plan, remembered, given, encoding, spread=spread)
        return job.planned(remembered.apply(plan))

    def _spread(self, settings: RunSettings) -> tuple[ClipRequest, Spread | None]:
        """What a clip asks of this rank, and how it is laid over all, where there are others."""
        request, choice = ClipRequest.of(settings), self.choice
        if not choice.others:
            return request, None
        stations, throughout = (choice.station, *choice.others), settings.is_guided_throughout
        spread = choose_spread(stations, self.model.sizes, request, throughout=throughout)
        return dataclasses.replace(request, part=spread.parts[0]), spread

    def _directed(self, film: AnyFilm, options: Options) -> Directed:
        if isinstance(film, Storyboard | str) or not hasattr(film, "directed"):
            return Directed(as_storyboard(film), options)
        return film.directed(options, self._fits)

    def _named(self, directed: Directed) -> Given:
        """The pictures that a storyboard names, for a clip of its size."""
        if not directed.board.memory:
            return Given()
        settings, _ = self._resolved(directed, Given(as_named(directed.board)))
        return pictured(directed.board, (settings.height, settings.width), directed.films)

    def _resolved(self, directed: Directed, given: Given) -> tuple[RunSettings, tuple[str, ...]]:
        made_with = f"holo-lite {__version__}, torch {torch.__version__}"
        traits = {"made_with": made_with, **self.model.traits}
        return resolve(directed.board, directed.options, self.model.folder.defaults, frozen=given.frozen, **traits)

    def _fits(self, board: Storyboard, options: Options) -> bool:
        """Whether the model can read all of a storyboard's prompt, and the card make it."""
        if len(self.tokenizer.encode(clean(board.prompt)).ids) > TEXT_ROWS:
            return False
        settings, _ = self._resolved(Directed(board, options), Given(as_named(board)))
        try:
            make_plan(self.choice.profile, self.model.sizes, ClipRequest.of(settings), self.choice.machine)
        except SettingsError:
            return False
        return True

    def _check_attention(self, options: Options) -> None:
        attention = self.model.folder.attention
        if options.attention not in {None, attention}:
            raise SettingsError(
                f"attention '{options.attention}': the experts loaded are for {attention}; "
                "give attention to Pipeline.load, which finds the others"
            )


def _read(settings: RunSettings, tokenizer: PromptTokenizer) -> Prompt:
    """Read a run's prompt; the base model knows no tags. Raises `PromptError`."""
    board = settings.storyboard
    if settings.attention != "wan":
        return read_prompt(board.prompt, tokenizer)
    captions = [] if board.untagged == board.scene else board.shot_captions()
    return read_captions(board.scene, captions or [""], tokenizer)


def _read_negative(text: str, tokenizer: PromptTokenizer) -> Prompt:
    """Read the negative prompt, which every shot sees whole. Raises `PromptError`."""
    try:
        prompt = read_prompt(text, tokenizer)
    except PromptError as error:
        raise PromptError(f"the negative prompt: {error}") from error
    if prompt.windows is not None:
        raise PromptError("the negative prompt: it has no shots of its own; remove the tags in brackets")
    return prompt

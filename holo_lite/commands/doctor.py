"""`holo-lite doctor`: what of this machine works, and what to type about the rest."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from holo_lite.commands.options import attention_option
from holo_lite.commands.telling import tell_text

if TYPE_CHECKING:
    from holo_lite.config import Attention
    from holo_lite.doctor.facts import MachineFacts


@click.command()
@click.option("--model", type=click.Path(path_type=Path), help="A model's folder to look at, too.")
@attention_option
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, with the facts behind it.")
def doctor(model: Path | None, attention: str | None, *, as_json: bool) -> int:
    """Look at this machine by running everything a video needs on a small input.

    Each line is ok, a note, or a fix with what to type. The exit code is 1 if there is something to fix.
    """
    from holo_lite.doctor.judge import judge
    from holo_lite.settings import check_attention
    from holo_lite.views.doctor import report_json, report_lines, to_fix

    surroundings = _look(model, check_attention(attention) if attention is not None else None)
    findings = judge(surroundings)
    if as_json:
        tell_text(report_json(findings, surroundings))
    else:
        tell_text("\n".join(report_lines(findings)))
    return int(to_fix(findings) > 0)


def _look(model: Path | None, attention: Attention | None) -> MachineFacts:
    """Gather everything, and show how that goes."""
    from holo_lite.doctor.look import NAMES, ModelPlace, Seen, gather
    from holo_lite.system.cache_folder import cache_folder
    from holo_lite.views.run import Pace, display

    place = ModelPlace(Path.cwd(), cache_folder(), model, attention)
    with closing(gather(place, NAMES)) as events, display(Console(stderr=True)) as view:
        view.begin("looking at this machine", Pace(len(NAMES)))
        for done, event in enumerate(events, start=1):
            if not isinstance(event, Seen):
                return event
            view.advance(done, event.name)
    raise AssertionError("the last event holds everything")

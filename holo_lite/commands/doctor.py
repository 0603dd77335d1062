"""`holo-lite doctor`: what works on this machine, and what to type to fix the rest."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.options import attention_option
from holo_lite.commands.talking import messages
from holo_lite.commands.telling import tell_text

if TYPE_CHECKING:
    from holo_lite.config import Attention
    from holo_lite.doctor.facts import MachineFacts


@click.command(cls=Command, short_help="Check what works on this machine.")
@click.option("--model", type=click.Path(path_type=Path), help="Also check this model's folder.")
@attention_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print everything as JSON, with versions and hardware, for a bug report.",
)
def doctor(model: Path | None, attention: str | None, *, as_json: bool) -> int:
    """Check this machine by running everything a video needs on a small input.

    Each line is ok, a note, or a fix with what to type. The exit code is 1 if something needs a fix.
    """
    from holo_lite.doctor.judge import judge
    from holo_lite.settings import check_attention
    from holo_lite.views.doctor import report_json, report_lines, to_fix

    surroundings = _look(model, check_attention(attention) if attention is not None else None)
    findings = judge(surroundings)
    if as_json:
        tell_text(report_json(findings, surroundings, *_who()))
    else:
        tell_text("\n".join(report_lines(findings)))
    return int(to_fix(findings) > 0)


def _who() -> tuple[Path, list[str]]:
    """Whose computer this is, so that a report need not say it."""
    home = Path.home()
    return home, sorted({home.name, *filter(None, (os.environ.get(name) for name in ("USER", "USERNAME")))})


def _look(model: Path | None, attention: Attention | None) -> MachineFacts:
    """Gather everything, and show the progress."""
    from holo_lite.doctor.look import NAMES, ModelPlace, Seen, gather
    from holo_lite.system.cache_folder import cache_folder
    from holo_lite.views.display import display

    place = ModelPlace(Path.cwd(), cache_folder(), model, attention)
    with closing(gather(place, NAMES)) as events, display(messages()) as view:
        view.begin("checking this machine", len(NAMES))
        for done, event in enumerate(events, start=1):
            if not isinstance(event, Seen):
                return event
            view.advance(done, event.name)
    raise AssertionError("the last event holds everything")

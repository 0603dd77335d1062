"""`holo-lite fetch`: download the released files from the hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holo_lite.cancel import Cancelled
from holo_lite.commands.helping import Command, option
from holo_lite.commands.options import progress_option
from holo_lite.commands.recording import shown_by, write_event
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import talking_options
from holo_lite.commands.telling import note, tell
from holo_lite.commands.values import Word
from holo_lite.config import Attention
from holo_lite.errors import RoomError, SettingsError, first_three
from holo_lite.views.terminal import typed

if TYPE_CHECKING:
    from holo_lite.fetch.order import FetchOrder

FETCHED: Mapping[str, Attention] = {"sparse": "sparse", "full": "full", "wan22": "wan"}
INTO = {"holocine": Path("models/holocine"), "wan": Path("models/wan22")}
USUAL = "nf4"  # the scheme that fits the smallest card


@click.command(cls=Command, short_help="Download HoloCine and check its files.")
@click.argument("variant", type=Word(*FETCHED), default="sparse")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    help="Folder for the files.  [default: models/holocine, or models/wan22]",
)
@option(
    "--accept-licence", also=("--yes", "-y"), is_flag=True, help="Accept the licences shown, without a question."
)
@click.option("--dry-run", is_flag=True, help="Show what would be downloaded; download nothing.")
@progress_option
@talking_options
def fetch(variant: str, into: Path | None, *, accept_licence: bool, dry_run: bool, progress: str) -> None:
    """Download a model from Hugging Face and check its files. VARIANT is sparse (the default), full or wan22.

    sparse and full are HoloCine; wan22 is Wan 2.2 T2V A14B, from which it was made. Its licence is Apache-2.0.

    If interrupted, the same command continues where it stopped. HF_TOKEN, HF_ENDPOINT and the Hugging Face cache
    are used.
    """
    from holo_lite.fetch.hub import Hub
    from holo_lite.fetch.order import check_room, order_lines, plan_order
    from holo_lite.fetch.run import fetch as bring
    from holo_lite.views.progress import show

    hub = Hub()
    chosen = _variant(variant)
    order = plan_order(chosen, into or INTO["wan" if chosen == "wan" else "holocine"], hub)
    if progress == "json":
        write_event(order)
    else:
        for line in order_lines(order):
            note(line)
    check_room(order)
    if dry_run:
        return
    if not (accept_licence or order.is_done):
        _ask()
    try:
        with closing(bring(order, hub, cancel=token())) as events, shown_by(show, progress) as shown:
            for event in events:
                shown(event)
    except (KeyboardInterrupt, Cancelled):
        raise click.Abort("the downloaded part is kept; type the same command to continue") from None
    if progress != "json":
        for line in next_lines(order, _preferred()):
            tell(line)


def _variant(name: str) -> Attention:
    """The variant of that name. Raises `SettingsError`."""
    for variant, attention in FETCHED.items():
        if name == variant:
            return attention
    raise SettingsError(f"unknown variant '{name}'; choose {first_three(FETCHED)}")


def _ask() -> None:
    """Ask a person to accept the licences. Raises `SettingsError` without a terminal, or if they refuse."""
    if not sys.stdin.isatty():
        raise SettingsError("the licences above must be accepted: read them, then add --accept-licence")
    if not click.confirm("Accept these licences and fetch?", err=True):
        raise SettingsError("nothing was fetched: the licences were not accepted")


def next_lines(order: FetchOrder, scheme: str) -> Iterator[str]:
    """What to type next: the conversion that this machine's profile prefers, then a first video."""
    out = f"{order.folder}{'-full' if order.variant == 'full' else ''}-{scheme}"
    chosen = [] if order.variant == "sparse" else ["--attention", order.variant]
    yield f"next           {typed(['holo-lite', 'quantize', str(order.folder), out, '--scheme', scheme, *chosen])}"
    yield f"then           {typed(['holo-lite', 'generate', 'STORYBOARD', '--model', out])}"


def _preferred() -> str:
    """The scheme this machine's profile prefers, or the usual one if the card has no memory free."""
    from holo_lite.plan.choose import choose_profile
    from holo_lite.plan.machine import this_machine

    try:
        profile, _ = choose_profile(this_machine())
    except RoomError:
        return USUAL
    return profile.schemes[0]

"""`holo-lite fetch`: download the released files from the hub."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from holo_lite.errors import RoomError, SettingsError

if TYPE_CHECKING:
    from holo_lite.config import Attention

USUAL = "nf4"  # the scheme that fits the smallest card


@click.command()
@click.argument("variant")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=Path("models/holocine"),
    show_default=True,
    help="Folder for the files.",
)
@click.option("--accept-licence", is_flag=True, help="Accept the licences shown, without a question.")
def fetch(variant: str, into: Path, *, accept_licence: bool) -> None:
    """Download the files of HoloCine from Hugging Face and check them. VARIANT is sparse or full.

    If interrupted, the same command continues where it stopped. HF_TOKEN, HF_ENDPOINT and the Hugging Face cache
    are used.
    """
    from holo_lite.fetch.hub import Hub
    from holo_lite.fetch.order import check_room, order_lines, plan_order
    from holo_lite.fetch.run import fetch as bring
    from holo_lite.views.fetch import next_lines, show
    from holo_lite.views.run import display

    hub = Hub()
    order = plan_order(_variant(variant), into, hub)
    for line in order_lines(order):
        click.echo(line, err=True)
    check_room(order)
    if not (accept_licence or order.is_done):
        _ask()
    try:
        with closing(bring(order, hub)) as events, display(Console(stderr=True)) as view:
            for event in events:
                show(event, view)
    except KeyboardInterrupt:
        raise click.Abort("the downloaded part is kept; type the same command to continue") from None
    for line in next_lines(order, _preferred()):
        click.echo(line)


def _variant(name: str) -> Attention:
    """The variant of that name. Raises `SettingsError`."""
    from holo_lite.config import ATTENTIONS

    for variant in ATTENTIONS:
        if name == variant:
            return variant
    raise SettingsError(f"unknown variant '{name}'; choose {' or '.join(ATTENTIONS)}")


def _ask() -> None:
    """Ask a person to accept the licences. Raises `SettingsError` without a terminal, or if they refuse."""
    if not sys.stdin.isatty():
        raise SettingsError("the licences above must be accepted: read them, then add --accept-licence")
    if not click.confirm("Accept these licences and fetch?", err=True):
        raise SettingsError("nothing was fetched: the licences were not accepted")


def _preferred() -> str:
    """The scheme this machine's profile prefers, or the usual one if the card has no memory free."""
    from holo_lite.plan.choose import choose_profile
    from holo_lite.plan.machine import this_machine

    try:
        profile, _ = choose_profile(this_machine())
    except RoomError:
        return USUAL
    return profile.schemes[0]

"""`holo-lite studio`: the storyboard page in the browser."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.commands.endpoints import endpoint_options, given_endpoint
from holo_lite.commands.helping import Command
from holo_lite.commands.options import devices_option
from holo_lite.commands.talking import talking_options
from holo_lite.commands.telling import note, tell
from holo_lite.errors import SettingsError

if TYPE_CHECKING:
    from holo_lite.web.lane import Place
    from holo_lite.web.serve import Address


@click.command(cls=Command, short_help="Open the storyboard page in the browser.")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option("--model", type=click.Path(path_type=Path), help="A model's folder, besides those in FOLDER.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: the first free from 8088]"
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; others can reach it then."
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAMES",
    help="Make films on it; several, such as cuda:0,cuda:1, make one film each at a time.",
)
@devices_option
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@endpoint_options
@talking_options
@click.pass_context
def studio(
    context: click.Context,
    /,
    folder: Path,
    model: Path | None,
    port: int | None,
    host: str,
    device: str,
    devices: tuple[str, ...],
    endpoint: str | None,
    llm: str | None,
    key: str | None,
    *,
    no_browser: bool,
) -> None:
    """Open a page on which films are made without typing a command. Everything is kept in FOLDER.

    Ctrl-C ends it; videos that were not finished go on with the next start.
    """
    from holo_lite.tiny.model import is_name
    from holo_lite.web.serve import LOOPBACK, serve

    if host != LOOPBACK:
        note(f"warning: everyone who can reach {host} and has the address can use this page and this machine")

    def ready(address: Address) -> None:
        tell(f"page           {address.link}")
        note("to end it, press Ctrl-C here; unfinished videos go on with the next start")
        if not no_browser:
            _open(address.link)

    _leave_signals_to_the_server()
    writer = given_endpoint(context, endpoint, llm, key) if endpoint is not None else None
    models = [model] if model is not None and not is_name(model) else []
    serve(folder, models, writer, devices=places(device, devices), host=host, port=port, ready=ready)


def places(device: str, together: tuple[str, ...]) -> list[Place]:
    """Where films are made. Raises `SettingsError` for what names no places."""
    if together and device != "auto":
        raise SettingsError("--device and --devices: both name where films are made; give one of them")
    return [together] if together else [*read_devices(device)]


def read_devices(text: str) -> list[str]:
    """Devices from their names with commas. Raises `SettingsError` for one that is named twice, or none."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise SettingsError(f"--device '{text}': name each device once, such as cuda:0,cuda:1")
    return names


def _open(link: str) -> None:
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()  # some wait for the browser's end


def _leave_signals_to_the_server() -> None:
    """It ends by itself when it is asked to, streams first; afterwards nothing is wrong."""

    def ended(*_: Any) -> None:
        return

    signal.signal(signal.SIGINT, ended)
    signal.signal(signal.SIGTERM, ended)

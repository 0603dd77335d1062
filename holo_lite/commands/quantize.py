"""`holo-lite quantize`: make a smaller model from the released files."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.cancel import Cancelled
from holo_lite.commands.helping import Command
from holo_lite.commands.options import device_option, lora_option, progress_option
from holo_lite.commands.recording import shown_by
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import talking_options
from holo_lite.commands.telling import note
from holo_lite.commands.values import VARIANTS, Word
from holo_lite.schemes.names import NAMES
from holo_lite.system.garbage import bringing_torch

if TYPE_CHECKING:
    from quantize.convert import Conversion
    from quantize.job import ConversionEvent


@click.command(cls=Command, short_help="Convert the released files, once.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--scheme", type=Word(*NAMES), help="Number format of the weights.  [default: nf4]")
@click.option("--recipe", type=click.Path(path_type=Path), help="A TOML file with schemes by component and tensor.")
@lora_option
@click.option("--attention", type=Word(*VARIANTS), help="Variant, if SOURCE has both.")
@device_option
@click.option("--verify", is_flag=True, help="Check the files of a finished model against their checksums instead.")
@click.option("--dry-run", is_flag=True, help="Show what would be read and written; write nothing.")
@progress_option
@talking_options
def quantize(source: Path, out: Path | None, *, verify: bool, dry_run: bool, progress: str, **said: Any) -> None:
    """Convert the released files in the folder SOURCE, once, to a smaller model in the folder OUT.

    If interrupted, the same command continues where it stopped.
    """
    with bringing_torch():
        from holo_lite.views.progress import show
        from quantize.convert import verify as hash_again
        from quantize.job import run_conversion

    if out is None and not verify:
        raise click.UsageError("missing OUT: give the output folder after the source folder.")
    cancel = token()
    if dry_run:
        _decided(source, out or source, **said)
        return
    if verify:
        events: Generator[ConversionEvent, None, None] = hash_again(out or source, cancel)
    else:
        events = run_conversion(_decided(source, out or source, **said), cancel)
    try:
        with closing(events), shown_by(show, progress) as shown:
            for event in events:
                shown(event)
    except (KeyboardInterrupt, Cancelled):
        note("type the same command to continue from here")
        raise


def _decided(source: Path, out: Path, *, attention: str | None, loras: Any, **said: Any) -> Conversion:
    """Decide a conversion, and show what it will read and write."""
    from holo_lite.settings import check_attention
    from quantize.job import preflight, prepare_conversion

    variant = check_attention(attention) if attention is not None else None
    conversion = prepare_conversion(source, out, attention=variant, lora=loras, **said)
    for line in preflight(conversion):
        note(line)
    return conversion

"""`holo-lite quantize`: the released files become a smaller model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from holo_lite.cancel import Cancelled
from holo_lite.commands.options import lora_option
from holo_lite.commands.stopping import token
from holo_lite.commands.telling import tell

if TYPE_CHECKING:
    from quantize.convert import Conversion
    from quantize.job import ConversionEvent


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--scheme", help="bf16, int8, nf4, qint8, qint4 or qfloat8.  [default: nf4]")
@click.option("--recipe", type=click.Path(path_type=Path), help="TOML with schemes by component and tensor.")
@lora_option
@click.option("--attention", help="sparse or full experts, where both are there.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--verify", is_flag=True, help="Hash the files of a finished model again instead.")
def quantize(source: Path, out: Path | None, *, verify: bool, **said: Any) -> None:
    """Convert the released files in SOURCE, once, to a smaller model in the folder OUT.

    Cut off at any moment, the same command goes on where it was.
    """
    from holo_lite.views.progress import show
    from holo_lite.views.run import display
    from quantize.convert import verify as hash_again
    from quantize.job import run_conversion

    if out is None and not verify:
        raise click.UsageError("give the folder to write into, behind the one with the released files.")
    cancel = token()
    if verify:
        events: Generator[ConversionEvent, None, None] = hash_again(out or source, cancel)
    else:
        events = run_conversion(_decided(source, out or source, **said), cancel)
    try:
        with closing(events), display(Console(stderr=True)) as view:
            for event in events:
                show(event, view)
    except (KeyboardInterrupt, Cancelled):
        tell("type the same command to go on from here", err=True)
        raise


def _decided(source: Path, out: Path, *, attention: str | None, loras: Any, **said: Any) -> Conversion:
    """Decide a conversion, and say what it will read and write."""
    from holo_lite.settings import check_attention
    from quantize.job import preflight, prepare_conversion

    variant = check_attention(attention) if attention is not None else None
    conversion = prepare_conversion(source, out, attention=variant, lora=loras, **said)
    for line in preflight(conversion):
        tell(line, err=True)
    return conversion

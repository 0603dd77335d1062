"""`holo-lite cache`: what is kept between runs, and clearing it."""

from __future__ import annotations

import click

from holo_lite.commands.telling import tell


@click.group(invoke_without_command=True, short_help="Show or clear what is kept between runs.")
@click.pass_context
def cache(context: click.Context) -> None:
    """Show the caches' location and size; `cache clear` empties them.

    They only save time: encoded prompts, measured speeds, plans that worked. HOLO_LITE_CACHE names another folder.
    """
    if context.invoked_subcommand is not None:
        return
    from holo_lite.system.cache_folder import cache_folder
    from holo_lite.system.caches import CACHE_PARTS, sizes
    from holo_lite.system.units import bytes_text

    found = sizes()
    tell(f"{bytes_text(sum(found.values()))} in {cache_folder()}")
    for part in CACHE_PARTS:
        tell(f"{bytes_text(found[part.name]):>10}  {part.name}: {part.what}")


@cache.command()
def clear() -> None:
    """Remove the caches; anything else in their folder stays."""
    from holo_lite.system.cache_folder import cache_folder
    from holo_lite.system.caches import clear as clear_all
    from holo_lite.system.units import bytes_text

    tell(f"{bytes_text(clear_all())} removed from {cache_folder()}")

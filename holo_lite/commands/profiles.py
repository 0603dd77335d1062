"""`holo-lite profiles`: show what each profile can run."""

from __future__ import annotations

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.telling import tell


@click.command(cls=Command, short_help="List memory profiles and what each can run.")
def profiles() -> None:
    """List the profiles, and how long a clip of HoloCine-14B each can run."""
    from holo_lite.plan.machine import this_machine
    from holo_lite.preflight.forecast import abilities
    from holo_lite.views.abilities import ability_lines

    for line in ability_lines(abilities(this_machine())):
        tell(line)

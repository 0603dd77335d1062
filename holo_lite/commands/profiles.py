"""`holo-lite profiles`: what each profile can run."""

from __future__ import annotations

import click

from holo_lite.commands.telling import tell


@click.command()
def profiles() -> None:
    """List the profiles, with what each can run of HoloCine-14B."""
    from holo_lite.plan.machine import this_machine
    from holo_lite.preflight.forecast import abilities
    from holo_lite.views.forecast import ability_lines

    for line in ability_lines(abilities(this_machine())):
        tell(line)

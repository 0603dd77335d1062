"""The environment of a process that is started, wherever a person stands. ComfyUI loads this under any name."""

from __future__ import annotations

import os
from collections.abc import Mapping


def importing_nothing_from_here(environment: Mapping[str, str]) -> dict[str, str]:
    """The same for a process, and those that it starts, that import nothing from the folder it is started in.

    Files of any name lie there. -P alone does not do that: an empty word of PYTHONPATH stands for that folder, too.
    """
    places = environment.get("PYTHONPATH", "").split(os.pathsep)
    return {**environment, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, places))}

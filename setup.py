"""What pyproject.toml cannot say: in a wheel, everything is inside the package `holo_lite`.

In the source tree `cli.py`, `quantize/` and `profiles/` are at the top. Installed like that, they would be
top-level names that any other package, or the folder in which the command is started, may have as well. So the
wheel has them as `holo_lite.cli`, `holo_lite.quantize` and `holo_lite.profiles`, under these names only; what
imports them is changed in the same way. An editable install has the names of the source tree, and no others.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

INSIDE = "holo_lite"
MOVED = ("cli", "quantize", "profiles")
NAMES = "|".join(MOVED)
IMPORT = re.compile(rf"^(\s*(?:from|import) )({NAMES})\b", re.MULTILINE)
NAMED = re.compile(rf'"({NAMES})\.(?=\w+")|(?<=files\()"({NAMES})(?=")')  # modules that are looked up by name


def moved(source: str) -> str:
    """A module's source with the names that the moved modules have in a wheel."""
    source = IMPORT.sub(rf"\1{INSIDE}.\2", source)
    return NAMED.sub(lambda found: f'"{INSIDE}.{found[1]}.' if found[1] else f'"{INSIDE}.{found[2]}', source)


class BuildInside(build_py):
    """Builds the modules, then moves those at the top into the package."""

    def run(self) -> None:
        """Build; an editable install stays as the source is."""
        super().run()
        if not self.editable_mode:
            gather(Path(self.build_lib))


class OneTopLevel(egg_info):
    """Says in the metadata that the package is the only top-level name."""

    def run(self) -> None:
        """Write the metadata, then the one name."""
        super().run()
        Path(self.egg_info, "top_level.txt").write_text(f"{INSIDE}\n", encoding="utf-8")


def gather(built: Path) -> None:
    """Move what was built at the top of a folder into the package, and change what imports it."""
    for name in MOVED:
        for found in (built / name, built / f"{name}.py"):
            if found.exists():
                target = built / INSIDE / found.name
                shutil.rmtree(target, ignore_errors=True)
                shutil.move(found, target)
    for path in (built / INSIDE).rglob("*.py"):
        path.write_text(moved(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildInside, "egg_info": OneTopLevel})

"""Build the wheel and the sdist, and try both in a fresh environment outside the repository.

    python scripts/release.py [FOLDER]        dist/ without FOLDER

The environment takes its dependencies from the interpreter that runs this, so nothing is downloaded. The commands
are started in a folder that has its own cli.py, quantize/ and profiles/, each of which raises when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
TRAP = "raise SystemExit('imported from the folder the command was started in')\n"
ONE_NAME = """
import importlib.util, sys
sys.path[:] = [place for place in sys.path if place]
assert all(importlib.util.find_spec(name) is None for name in ("cli", "quantize", "profiles")), "a top-level name"
import holo_lite, holo_lite.cli, holo_lite.quantize.job
assert holo_lite.run_conversion is holo_lite.quantize.job.run_conversion
print("one name each, in", holo_lite.__path__[0])
"""


def main(out: Path) -> None:
    """Build into a folder and try what was built; ends with an error at the first thing that is wrong."""
    out.mkdir(parents=True, exist_ok=True)
    wheel = build(ROOT, out)
    sdist = source(out)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder)
        run(["tar", "-xzf", str(sdist), "-C", folder], unpacked)
        from_source = build(next(path for path in unpacked.iterdir() if path.is_dir()), unpacked / "again")
        for built in (wheel, from_source):
            attempt(built)
    print(f"tried: {wheel}, and {sdist}")  # noqa: T201 - a script


def build(tree: Path, out: Path) -> Path:
    """Build a wheel of a source tree, with the build tools that are here."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--wheel-dir", str(out), str(tree)], tree)
    return max(out.glob("holo_lite-*.whl"), key=os.path.getmtime)


def source(out: Path) -> Path:
    """Build the sdist."""
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(out)!r}))"
    run([sys.executable, "-c", code], ROOT)
    return max(out.glob("holo_lite-*.tar.gz"), key=os.path.getmtime)


def attempt(wheel: Path) -> None:
    """Install a wheel into a fresh environment and use it from a folder full of traps."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place / "env", with_pip=False)
        scripts = place / "env" / ("Scripts" if os.name == "nt" else "bin")
        python = scripts / "python"
        packages = Path(
            run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], place).strip()
        )
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
        run([*pip, str(wheel)], place)
        # The dependencies of this interpreter, but not its own holo-lite: an editable one has a finder of its own.
        (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        (packages / "zz_no_editable.pth").write_text(
            "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        )
        here = traps(place / "here")
        command = str(scripts / "holo-lite")
        run([str(python), "-c", ONE_NAME], here)
        run([command, "--version"], here)
        run([command, "profiles"], here)
        run([command, "demo", "--out", str(place / "demo")], here)
        assert (place / "demo" / "demo.mp4").stat().st_size > 10_000


def traps(folder: Path) -> Path:
    """A folder whose own modules bear the names of ours."""
    folder.mkdir()
    (folder / "cli.py").write_text(TRAP)
    for name in ("quantize", "profiles", "holo_lite"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(TRAP)
    return folder


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder, without this environment's own paths. Raises for one that fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "dist")

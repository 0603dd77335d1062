"""A user's script that is checked as strictly as mypy can finds the types of every public name."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from guard import HANGS

import holo_lite

ROOT = Path(__file__).parents[2]
SCRIPT = """
from pathlib import Path

import torch

from holo_lite import (
    Cancel, Conversion, ConversionFinished, Finished, ForecastPlace, MemorySink, ModelOptions, Options, Pipeline,
    Shot, StepDone, Storyboard, check_storyboard, finish, forecast, latents_of, prepare_conversion, run_conversion,
)

options = ModelOptions(
    dtype=torch.bfloat16, device=torch.device("cpu"), lora={"high": "a.safetensors", "low": [("b", 0.5)]}
)
pipeline: Pipeline = Pipeline.load(Path("model"), options).with_lora({"high_noise": (Path("a.safetensors"), 1.0)})
for event in pipeline.generate("a fox in the snow", "fox.mp4", Options(seed=7)):
    match event:
        case StepDone():
            done: int = event.done
        case Finished():
            video: Path | None = event.video
finished: Finished = finish(pipeline.generate(Path("film.toml"), MemorySink()))
board = Storyboard("A house.", (Shot("wide"),))
frames: int = check_storyboard(board).frames
card = forecast("a fox", where=ForecastPlace(gpu="RTX 4090"))
steps: int = card.settings.steps
latents: torch.Tensor = latents_of(pipeline.denoise(pipeline.prepare("a fox"))).latents
conversion: Conversion = prepare_conversion("model", "small", "nf4", lora={"low": "b"}, device=torch.device("cpu"))
for stage in run_conversion(conversion, Cancel()):
    if isinstance(stage, ConversionFinished):
        out: Path = stage.conversion.out
"""
CACHE = (
    ROOT / ".mypy_cache"
)  # of `make check`, which has read PyTorch already; mypy holds it against files and flags
WRONG = {
    "ModelOptions(dtype=16)": "arg-type",
    "run_conversion('model')": "arg-type",
    "finish(pipeline.generate(5, 'x.mp4'))": "arg-type",
    "prepare_conversion('a', 'b').nothing": "attr-defined",
}


def passed_over():
    """Libraries that our own check passes over, and what it says of them: then what it has read fits."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    (found,) = (each for each in settings["overrides"] if each.get("follow_imports") == "skip")
    modules = found.pop("module")
    return modules, "".join(f"{key} = {value}\n" for key, value in found.items())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What mypy says, line by line, of the script, of every public name, and of mistakes."""
    folder = tmp_path_factory.mktemp("user")
    modules, said = passed_over()
    names = "".join(f"from holo_lite import {name} as {name}\n" for name in holo_lite.__all__)
    (folder / "mypy.ini").write_text(f"[mypy]\n[mypy-{','.join(modules)}]\n{said}")
    if CACHE.is_dir():
        shutil.copytree(CACHE, folder / "cache", ignore=shutil.ignore_patterns("tests"))
    (folder / "script.py").write_text(SCRIPT)
    (folder / "names.py").write_text(f"{names}reveal_type(prepare_conversion)\n")
    (folder / "wrong.py").write_text(SCRIPT + "".join(f"{line}\n" for line in WRONG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # among installed packages, as an editable install is
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache")]
        done = subprocess.run(
            [*command, "script.py", "names.py", "wrong.py"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
    return done.stdout.splitlines()


def test_a_script_without_mistakes_has_none(found):
    assert [line for line in found if line.startswith("script.py")] == []


def test_every_public_name_has_a_type(found):
    """A package without its mark of types is an error at its first name."""
    said = [line for line in found if line.startswith("names.py")]
    assert len(said) == 1, said
    assert "-> quantize.convert.Conversion" in said[0]
    assert [line for line in found if "py.typed" in line] == []


def test_a_mistake_is_found(found):
    said = [line.rpartition("[")[2].rstrip("]") for line in found if line.startswith("wrong.py")]
    assert said == [*WRONG.values()]

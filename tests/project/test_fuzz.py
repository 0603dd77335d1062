"""No file, however damaged or hostile, is a traceback, a crash or a wait without end.

`make fuzz` tries more of them; a failure names its input by a number, which is the same everywhere.
"""

import os

import pytest
from fuzz_readers import readers
from fuzzing import damaged, fault, stand_ins

PER_READER = int(os.environ.get("FUZZ_INPUTS", "130"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and timers are POSIX's")
NAMES = (
    *("storyboard.toml", "storyboard.json", "storyboard.txt", "prompt", "profile", "recipe", "safetensors"),
    *("safetensors header", "index.json", "gguf", "pth", "lora", "lora.pth", "dit_config", "defaults.json"),
    *("vae config", "tokenizer", "cache folder", "colours", "mp4"),
    *("inspect run", "inspect state", "inspect step cache", "inspect journal", "inspect report", "inspect block"),
    *("inspect model", "inspect tokenizer", "inspect profile", "inspect sizes", "inspect defaults"),
    *("inspect config", "inspect LoRA settings", "inspect cache", "inspect latents", "inspect pickled"),
    *("inspect sheet", "inspect settings", "inspect unknown"),
    *("manifest", "settings", "run.json", "rates", "kernels", "prompt cache", "video settings"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def known(folder):
    return readers(folder)


def test_every_reader_is_tried(known):
    assert set(NAMES) <= set(known)
    assert PER_READER * len(NAMES) >= 2000


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_one_line(known, folder, name):
    reader, faults = known[name], {}
    path = folder / reader.file
    for number in range(FIRST, FIRST + PER_READER):
        path.unlink(missing_ok=True)
        path.write_bytes(damaged(reader, number))
        if (found := fault(reader, path)) is not None:
            faults[number] = found
    assert faults == {}
    for sound in reader.sound:
        path.write_bytes(sound)
        reader.read(path)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_is_one_line_and_not_waited_for(known, folder, name):
    reader = known[name]
    for kind in stand_ins(folder / reader.file):
        assert fault(reader, folder / reader.file) is None, kind

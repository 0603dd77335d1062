"""A conversion takes the memory of its largest weight, however many there are, and gives back what it has read."""

import dataclasses
import json
import math
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import torch

from holo_lite.config import DiTConfig
from holo_lite.model.dit import WanDiT
from holo_lite.text.encoder_shapes import encoder_shapes as encoder_shapes_of
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.fill import module_shapes

ROOT = Path(__file__).parents[2]
MIB = 2**20
NARROW = DiTConfig(dim=1024, num_heads=8, ffn_dim=4096, num_layers=1, text_dim=64)
DRIVER = """
    import json, sys, threading
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path

    import torch
    from resident import resident

    from holo_lite.settings import Defaults
    from holo_lite.weights.folder import ModelFolder
    from quantize import job
    from quantize.inputs import plan_conversion
    from quantize.recipe import Recipe

    peak, stop = [0, 0], threading.Event()

    def watch():
        while not stop.wait(0.005):
            peak[:] = map(max, peak, resident())

    threading.Thread(target=watch, daemon=True).start()
    rows = []
    for role, scheme, path in zip(*[iter(sys.argv[2:])] * 3):
        path = Path(path)
        tokenizer = path.parent / "tokenizer.json"
        tokenizer.write_text("{}")
        folder = ModelFolder(path.parent, "sparse", path, path, path, path, tokenizer, Defaults())
        out = path.parent.parent / f"out-{path.stem}-{scheme}"
        conversion = plan_conversion(folder, out, Recipe(scheme), device=torch.device("cpu"), roles=(role,))
        peak[:] = resident()
        for event in job.run_conversion(conversion):
            pass
        rows.append(list(peak))
    print(json.dumps(rows))
"""


def write_holes(path, shapes, dtype="BF16"):
    """A checkpoint whose numbers are zeros that take no place on the disk."""
    size, header, place = {"BF16": 2, "F16": 2, "F8_E4M3": 1, "F32": 4}[dtype], {}, 0
    for name, shape in shapes.items():
        end = place + size * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    raw = json.dumps(header).encode()
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + place)
    return path


def expert_shapes(blocks):
    """An expert a fifth as wide as the real one."""
    with torch.device("meta"):
        return module_shapes(WanDiT(dataclasses.replace(NARROW, num_layers=blocks)))


def encoder_shapes(vocabulary):
    """An encoder of the real width, with one block that has a few heads only."""
    sizes = EncoderSizes(vocabulary, d_model=4096, d_ff=1024, d_kv=64, heads=8, layers=1, buckets=32)
    return {"shared.weight": (vocabulary, sizes.d_model), **dict(encoder_shapes_of(sizes))}


def measure(*jobs):
    """The most anonymous and file memory of each conversion in turn, in one process of its own."""
    words = [str(word) for job in jobs for word in job]
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(ROOT / "tests" / "support"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_does_not_grow_with_the_number_of_blocks(tmp_path):
    """Neither what is made nor what is mapped; the larger source has 320 MiB more.

    Five blocks are as many as are ever at work at once, so the smaller one comes to the same peak.
    """
    few = write_holes(tmp_path / "source" / "few.safetensors", expert_shapes(5))
    many = write_holes(tmp_path / "source" / "many.safetensors", expert_shapes(15))
    assert many.stat().st_size - few.stat().st_size > 320 * MIB
    (anonymous, mapped), (anonymous_of_many, mapped_of_many) = measure(
        ("high_noise", "int8", few), ("high_noise", "int8", many)
    )
    assert anonymous_of_many < anonymous + 32 * MIB
    assert mapped_of_many < mapped + 32 * MIB


def test_it_does_not_grow_with_a_vocabulary_that_must_be_computed(tmp_path):
    """A text encoder of the real width in 8-bit floats: 57 344 rows more would be 448 MiB in bf16."""
    few = write_holes(tmp_path / "source" / "few.safetensors", encoder_shapes(8192), "F8_E4M3")
    many = write_holes(tmp_path / "source" / "many.safetensors", encoder_shapes(65536), "F8_E4M3")
    (anonymous, mapped), (anonymous_of_many, mapped_of_many) = measure(
        ("text_encoder", "int8", few), ("text_encoder", "int8", many)
    )
    assert anonymous_of_many < anonymous + 192 * MIB
    assert mapped_of_many < mapped + 64 * MIB
    assert anonymous_of_many < 640 * MIB

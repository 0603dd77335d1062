"""In a process of its own: sources that are cut short in mid-conversion. What is mapped would end it."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from unittest import mock

import torch
from conversions import contents, copied, expert_weights, write_gguf, write_source
from safetensors.torch import save_file

import cli
from holo_lite.weights import calls
from holo_lite.weights.manifest import FILE_NAME, JOURNAL
from quantize.convert import LOCK

EXPERT = "sparse_high_noise.safetensors"
READS = 40  # of the file before it is cut: some of its shards stand by then


def sharded(folder):
    """The expert in two shards; the second is cut."""
    weights = expert_weights()
    (folder / EXPERT).unlink()
    names = sorted(weights)
    shards = {"sparse_high_noise-1.safetensors": names[::2], "sparse_high_noise-2.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: weights[name] for name in held}, folder / file)
    homes = {name: file for file, held in shards.items() for name in held}
    (folder / f"{EXPERT}.index.json").write_text(json.dumps({"weight_map": homes}))
    return folder / "sparse_high_noise-2.safetensors", READS // 2


def gguf(folder):
    (folder / EXPERT).unlink()
    write_gguf(folder / "sparse_high_noise-Q4_K_M.gguf", expert_weights())
    return folder / "sparse_high_noise-Q4_K_M.gguf", READS


def turned(folder):
    """A text encoder whose every matrix lies by columns."""
    path = folder / "models_t5_umt5-xxl-enc-bf16.pth"
    weights = torch.load(path, weights_only=True)
    torch.save({name: tensor.T.contiguous().T for name, tensor in weights.items()}, path)
    return path, READS // 2


CASES = {
    "safetensors": lambda folder: (folder / EXPERT, READS),
    "shards": sharded,
    "gguf": gguf,
    "pth": lambda folder: (folder / "Wan2.1_VAE.pth", READS),
    "turned pth": turned,
}


def quantize(source, out):
    """Type the command; its exit code and what it printed."""
    sys.argv = ["holo-lite", "quantize", str(source), str(out)]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.main()
        except SystemExit as end:
            return end.code, said.getvalue()
    raise AssertionError("it ends with a code")


@contextlib.contextmanager
def cut(path, reads):
    """Within, some read of a file finds that half of what it reads is gone, and all behind it."""
    read, left = calls._read_once, [*range(reads)]

    def late(handle, target, offset):
        if left and os.path.sameopenfile(handle, whole.fileno()):
            left.pop()
            if not left:
                os.truncate(path, offset + len(target) // 2)
        return read(handle, target, offset)

    with path.open("rb") as whole, mock.patch.object(calls, "_read_once", late):
        yield
    assert not left, f"{path}: was read {reads - len(left)} times by a call"


def standing(out):
    return {name for name in contents(out) if name.endswith(".safetensors")}


def journalled(out):
    lines = (json.loads(line) for line in (out / JOURNAL).read_bytes().splitlines())
    return {line["shard"]["file"] for line in lines if "shard" in line}


def tried(source, case, folder):
    """One line, exit code 2, and what stood goes on when the file is put back."""
    path, reads = CASES[case](copied(source, folder / "source"))
    whole = path.read_bytes()
    assert quantize(folder / "source", folder / "whole")[0] == 0
    with cut(path, reads):
        code, said = quantize(folder / "source", folder / "out")
    assert code == 2, said
    assert said.splitlines()[-1] == f"error: {path}: ended early; it changed while it was in use"
    assert "Traceback" not in said
    assert not (folder / "out" / FILE_NAME).exists()
    stood = standing(folder / "out")
    assert stood, "it had begun"
    assert stood == journalled(folder / "out"), "what is whole is known"
    path.write_bytes(whole)
    code, said = quantize(folder / "source", folder / "out")
    assert code == 0, said
    assert f"note: continuing: {len(stood)} of " in said
    found, expected = contents(folder / "out"), contents(folder / "whole")
    assert {**found, LOCK: b""} == {**expected, LOCK: b""}


if __name__ == "__main__":
    place = Path(os.environ["FOLDER"])
    made = write_source(place / "made")
    for case in CASES:
        tried(made, case, place / case)

"""What a conversion makes besides the model as a whole: its files, its report, its journal, and its recipe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from holo_lite.errors import CheckpointError, OutputError, RecordError
from holo_lite.inspection.lines import do, fact, some
from holo_lite.inspection.tensor_kinds import is_part
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import check, parse
from holo_lite.system.units import bytes_text
from holo_lite.weights.manifest import FILE_NAME, JOURNAL, Manifest, Shard, read_manifest
from holo_lite.weights.plain_header import FILLER, read_plain_header

WHOSE = {
    "high_noise": " of the high-noise expert",
    "low_noise": " of the low-noise expert",
    "text_encoder": " of the text encoder",
}
BLOCK = re.compile(r"(?:encoder\.block|blocks)\.(\d+)\.")
PART = re.compile(r"(.+\.weight)\.\w+")  # a piece of a weight that is stored under a scheme


def block_file(path: Path) -> Iterator[str]:
    """One file of a converted model. Raises `CheckpointError`."""
    entries = {n: e for n, e in read_plain_header(path).entries.items() if not n.startswith(FILLER)}
    blocks = sorted({int(match[1]) for name in entries if (match := BLOCK.match(name))})
    role = path.absolute().parent.name
    yield f"file of a converted model: {_which(blocks, role)}"
    packed = {match[1] for name in entries if (match := PART.fullmatch(name))}
    plain = [name for name in entries if not PART.fullmatch(name)]
    yield fact("holds", f"{some(len(packed), 'packed weight')}, {some(len(plain), 'plain tensor')}")
    size = sum(entry.nbytes for entry in entries.values())
    yield fact("size", f"{bytes_text(size)} of {', '.join(sorted({entry.dtype for entry in entries.values()}))}")
    yield from _in_manifest(path)


def _which(blocks: list[int], role: str) -> str:
    """What of which network a file holds, by its tensors and its folder."""
    if role == "vae":
        return "the VAE"
    several = f"{len(blocks)} blocks" if blocks else "all but the blocks"
    return (f"block {blocks[0]}" if len(blocks) == 1 else several) + WHOSE.get(role, "")


def _in_manifest(path: Path) -> Iterator[str]:
    """What its model's manifest says of it, if there is one that can be read."""
    folder = path.absolute().parent.parent
    if not is_part(path.absolute().parent):
        yield "  Its model is not here: the file is of no use without the folder it was written into."
        return
    if not (folder / FILE_NAME).is_file():
        yield do("the conversion of its model was interrupted; see how far it is", "inspect", path.parent.parent)
        return
    manifest = read_manifest(folder, to_run=False)
    shard = _shard(manifest, f"{path.absolute().parent.name}/{path.name}")
    if shard is None:
        raise CheckpointError(f"{path}: the model's manifest does not list it; convert the model again")
    state = "as it was written" if shard.nbytes == path.stat().st_size else f"not the {shard.nbytes} bytes written"
    yield fact("model", f"{manifest.scheme}, {manifest.attention} attention")
    yield fact("length", f"{path.stat().st_size} bytes, {state}; sha256 {shard.sha256[:16]}…")
    yield do("see the whole model", "inspect", path.parent.parent)
    yield do("compare all of its files with their checksums", "quantize", path.parent.parent, "--verify")


def _shard(manifest: Manifest, name: str) -> Shard | None:
    shards = (shard for part in manifest.components.values() for shard in part.shards)
    return next((shard for shard in shards if shard.file == name), None)


def conversion_report(path: Path) -> Iterator[str]:
    """A ``quality.json``. Raises `OutputError`."""
    found = _table(path)
    summary = found.get("summary")
    rows = [(n, r) for n, r in (summary.items() if isinstance(summary, dict) else ()) if isinstance(r, dict)]
    yield "report of a conversion: how far its weights are from those they were made of"
    if not rows:
        yield fact("errors", "none: nothing was packed")
    for name, row in rows:
        counts = [row.get(key) for key in ("tensors", "mean", "largest")]
        if all(isinstance(count, int | float) for count in counts):
            tensors, mean, largest = (float(count) for count in counts if isinstance(count, int | float))
            yield fact(name, f"{tensors:.0f} tensors, mean error {mean:.4f}, largest {largest:.4f}")
    above = found.get("above_bound")
    if isinstance(above, list):
        yield fact("unusual", f"{some(len(above), 'tensor')} with a larger error than usual for its scheme")
    yield do("see the whole model", "inspect", path.parent)


def interrupted_conversion(path: Path) -> Iterator[str]:
    """The folder of a conversion that was cut off, or its journal. Raises `OutputError`."""
    from quantize.journal import Journal

    journal = Journal.look(path / JOURNAL if path.is_dir() else path)
    done = sum(shard["nbytes"] for shard in journal.shards.values())
    finished = f"{some(len(journal.shards), 'file')} finished, {bytes_text(done)}"
    yield f"interrupted conversion in {journal.path.parent}: {finished}"
    roles = Counter(file.partition("/")[0] for file in journal.shards)
    if roles:
        yield fact("finished", ", ".join(f"{role} {some(count, 'file')}" for role, count in roles.items()))
    yield fact("sources", f"{some(len(journal.sources), 'file')} hashed")
    tools = journal.begun.get("tools")
    named = [f"{name} {version}" for name, version in tools.items()] if isinstance(tools, dict) else []
    yield fact("begun on", ", ".join([str(journal.begun.get("device", "an unnamed device"))[:80], *named])[:300])
    yield do("type the same command again to continue", "quantize", "FOLDER", journal.path.parent)


def recipe(path: Path) -> Iterator[str]:
    """Which scheme a conversion gives to which tensor. Raises `SettingsError`."""
    from quantize.recipe import load_recipe

    found = load_recipe(path, None)
    yield f"recipe of a conversion: {found.scheme}, but for what is named below"
    yield from (fact(component, scheme) for component, scheme in found.components.items())
    for rule in found.rules:
        yield fact("rule", f"{rule.scheme} for {rule.name} of {rule.component}")
    yield do("convert with it", "quantize", "FOLDER", "OUT", "--recipe", path)


def _table(path: Path) -> dict[str, object]:
    try:
        found = parse(read_bytes(path))
        check(found, finite=False)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    except RecordError as error:
        raise OutputError(f"{path}: is damaged ({error})") from error
    if not isinstance(found, dict):
        raise OutputError(f"{path}: is not a JSON table")
    return found

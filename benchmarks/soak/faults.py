"""What goes wrong: a process killed, a full disk, memory that runs out, bytes that are not what was written.

Each takes a run to its end through its fault and gives what it did, for people; nothing if it came to nothing, such
as a limit that no file reached. Raises `LostError` where the run does not do what it must.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from benchmarks.soak.disk import TAKE_ROOM, full_disk, no_file_beyond
from benchmarks.soak.killed import PAUSE, WHENS, Kill, Life, live
from benchmarks.soak.memory import Allocations
from benchmarks.soak.run import CACHE, LostError, Run
from holo_lite.errors import CheckpointError, OutputError, RoomError, RunError
from holo_lite.sampling.schedule import Schedule
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.weights.manifest import FILE_NAME

Fault = Callable[[Run], str | None]
PHASES = ("text", "denoise", "denoise", "denoise", "decode", "decode")
FAILURES = (1, 1, 2, 5, 9)  # in one run; nine are all rungs of a small film
LEAST = 256  # bytes that any file may have
LASTING = (1, 3, 10**9)  # calls that find the disk full
KILLS = (1, 1, 1, 2)  # in one run
SURE = 0.9  # part of the calls that change the disk which are also made when prompts are known
KNOWN = 0.75  # part of the killed runs whose prompts are known
PAGE = 4096


def killed(run: Run) -> str | None:
    """The command itself, killed once or twice, goes on in other processes until it ends by itself."""
    cache = run.known if run.rng.random() < KNOWN else run.folder / CACHE
    kills = [draw_kill(run) for _ in range(run.rng.choice(KILLS))]
    told: list[str] = []
    for kill in (*kills, Kill()):
        life = live(words(run), {CACHE_VARIABLE: str(cache)}, kill)
        note_life(run, life)
        told += [str(kill)] if life.was_killed else []
        if not life.was_killed or (run.is_complete and not run.state.is_begun):
            break
    return "; ".join(told) or None


def words(run: Run) -> list[str]:
    """The command that makes the run's video, or goes on with it, as a person would type it."""
    if run.state.is_begun:
        return ["resume", str(run.out)]
    model, device = str(run.pipeline.model.folder.path), str(run.pipeline.model.device)
    return ["generate", *run.film.words(), "--model", model, "--device", device, "--out", str(run.out)]


def draw_kill(run: Run) -> Kill:
    """At a call that changes the disk, or a moment after an event."""
    if run.rng.random() < 0.5:
        calls = int(SURE * len(run.reference.changes))
        return Kill(call=run.rng.randrange(calls), when=run.rng.choice(WHENS))
    return Kill(event=run.rng.randrange(run.reference.events), pause=run.rng.uniform(0, PAUSE))


def note_life(run: Run, life: Life) -> None:
    """Take up what a process told. Raises `LostError` if it ended by anything but itself or the kill."""
    if life.code and not life.was_killed:
        raise LostError(f"the command ended with code {life.code}: {life.last_line}")
    run.ended_by_kill = life.was_killed
    run.ledger.take_up()
    for name, number, latents in life.events:
        if name == "GoingOn":
            run.ledger.go_on(number)
        elif name == "StepDone":
            run.last_step = number, latents
            run.ledger.step(number)
            run.ledger.keep(number)


def nothing(run: Run) -> str | None:
    """Nothing goes wrong."""
    run.go()
    return None


def disk_full(run: Run) -> str | None:
    """The disk is full for a while, by a shim or by a limit of the system's; then there is room again."""
    return run.rng.choice((_refused_calls, _refused_bytes))(run)


def _refused_calls(run: Run) -> str | None:
    calls = [number for number, name in enumerate(run.reference.changes) if name in TAKE_ROOM]
    first, lasting = run.rng.choice(calls), run.rng.choice(LASTING)
    with full_disk(first, lasting) as disk:
        error = run.attempt()
    _make_room(run, error)
    return f"disk full from call {first} on, {disk.blown} calls refused" if disk.blown else None


def _refused_bytes(run: Run) -> str | None:
    largest = max(len(run.reference.video), len(run.reference.sheet))
    most = int(2 ** run.rng.uniform(math.log2(LEAST), math.log2(largest)))  # small files are as many as large ones
    with no_file_beyond(most):
        error = run.attempt()
    _make_room(run, error)
    return f"no file beyond {most} bytes" if error or run.unsaved else None


def _make_room(run: Run, error: Exception | None) -> None:
    if error is not None:
        _expect(error, OutputError, "a full disk")
        run.go()


def out_of_memory(run: Run) -> str | None:
    """Memory runs out at tensors of one phase, once or several times; then there is enough again."""
    phase = run.rng.choice(PHASES)
    count = run.reference.allocations[phase]
    gaps = [run.rng.randint(1, count) for _ in range(run.rng.choice(FAILURES))]
    with Allocations(phase, gaps) as memory:
        error = run.attempt(memory.hear)
    if error is not None:
        _expect(error, RoomError, "a lack of memory")
        run.go()
    elif memory.failed > run.stepped_down + run.unsaved:
        raise LostError(f"memory ran out {memory.failed} times, and the run told {run.stepped_down}")
    return f"no memory in {phase}, {memory.failed} times" if memory.failed else None


def corrupt_block(run: Run) -> str | None:
    """Bytes of the run's own files or of the model's weights change; then they are what they were."""
    return run.rng.choice((corrupt_state, corrupt_weights))(run)


def corrupt_state(run: Run) -> str:
    """A file of a run that was cut off is harmed."""
    run.go(until=run.rng.randint(1, run.film.steps))
    path = run.rng.choice(sorted(path for path in run.state.path.iterdir() if path.stat().st_size))
    with harmed(path, run.rng) as what:
        run.refused(RunError, run.state.path)
    run.go()
    return what


def corrupt_weights(run: Run) -> str:
    """A shard of the model is harmed, of those that the rest of the run needs."""
    done = run.rng.randrange(run.film.steps)
    if done:
        run.go(until=done)
    path = run.rng.choice(needed_shards(run, done))
    with harmed(path, run.rng) as what:
        run.refused(CheckpointError, path)
    run.go()
    return what


def needed_shards(run: Run, done: int) -> list[Path]:
    """The files of weights that are read after so many steps: prompts are known once a step is done."""
    parts = {step.expert for step in Schedule.of(run.film.steps).steps[done:]} | {"vae"}
    parts |= {"text_encoder"} if not done else set()
    folder = run.pipeline.model.folder.path
    components = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))["components"]
    return [folder / shard["file"] for part in sorted(parts) for shard in components[part]["shards"]]


@contextmanager
def harmed(path: Path, rng: Random) -> Iterator[str]:
    """Harm a file in place, as a disk would, and mend it in the end. Gives what was done."""
    content = path.read_bytes()
    what, changed = rng.choice((_flipped, _flipped, _cut_short, _lost_page))(content, rng)
    try:
        path.write_bytes(changed)
        yield f"{path.name}: {what}"
    finally:
        path.write_bytes(content)


def _flipped(content: bytes, rng: Random) -> tuple[str, bytes]:
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return f"bit {bit} of byte {place} flipped", bytes(changed)


def _cut_short(content: bytes, rng: Random) -> tuple[str, bytes]:
    length = rng.randrange(len(content))
    return f"cut short to {length} bytes", content[:length]


def _lost_page(content: bytes, rng: Random) -> tuple[str, bytes]:
    """A page of zeros, as after a power cut; flipped where it was zeros before."""
    start = rng.randrange(-(-len(content) // PAGE)) * PAGE
    end = min(start + PAGE, len(content))
    if not any(content[start:end]):
        return _flipped(content, rng)
    return f"page {start // PAGE} lost", content[:start] + bytes(end - start) + content[end:]


def _expect(error: Exception, kind: type[Exception], what: str) -> None:
    if not isinstance(error, kind):
        raise LostError(f"{what} was told as {type(error).__name__}: {error}") from error

"""Cancelled from another thread a run ends before its next block, and loses no finished step."""

import dataclasses
import threading
import weakref
from itertools import count

import pytest
import torch
from hypothesis import given, settings, strategies as st
from test_cuda_lane import on_a_card
from test_resume import BOARD, SMALL, begin, films, steps
from toy_files import toy_model

from holo_lite import Pipeline
from holo_lite.cancel import Cancel, Cancelled
from holo_lite.events import Finished, FrameDone, StepDone
from holo_lite.model.dit import Block
from holo_lite.render.retry import OomRetry
from holo_lite.runs.folder import RunFolder
from holo_lite.sampling.schedule import Schedule
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.experts import StreamedExperts
from holo_lite.streaming.image import BlockImage, Piece, View
from holo_lite.streaming.lanes import CpuLane
from holo_lite.streaming.streamer import Streamer
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.text.encoder import TextEncoder
from holo_lite.weights.audit import Audit

LAYERS = 3  # of the toy
STEPS = SMALL.steps


def from_another_thread(cancel):
    """Cancel as a server's thread would, and go on once it has."""
    thread = threading.Thread(target=cancel.cancel)
    thread.start()
    thread.join()


def drive_to_its_cancel(events, at_event):
    with pytest.raises(Cancelled):
        list(map(at_event, events))


# --- the token -------------------------------------------------------------------------------------


def test_a_token_is_cancelled_once_and_for_good():
    cancel, calls = Cancel(), []
    cancel.subscribe(lambda: calls.append("called"))
    cancel.check()
    cancel.cancel()
    cancel.cancel()
    assert cancel.is_cancelled
    assert calls == ["called"]
    for _ in range(2):
        with pytest.raises(Cancelled, match=r"^cancelled$"):
            cancel.check()


def test_who_subscribes_too_late_is_called_at_once_and_who_leaves_is_not():
    cancel, calls = Cancel(), []
    with cancel.calling(lambda: calls.append("left")):
        pass
    forgotten = lambda: calls.append("forgotten")  # noqa: E731 - the same one twice
    cancel.subscribe(forgotten)
    cancel.unsubscribe(forgotten)
    cancel.unsubscribe(forgotten)
    cancel.cancel()
    with cancel.calling(lambda: calls.append("late")):
        pass
    assert calls == ["late"]


def test_a_sleep_ends_when_somebody_cancels():
    cancel = Cancel()
    cancel.wait(0.001)
    threading.Timer(0.02, cancel.cancel).start()
    with pytest.raises(Cancelled):
        cancel.wait(300)


def test_a_signals_handler_may_cancel_within_whatever_the_main_thread_does():
    """It runs in the main thread, which may hold the token's lock just then."""
    cancel = Cancel()

    def handler():
        with cancel._changed:
            cancel.cancel()

    thread = threading.Thread(target=handler, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for a lock of its own"


@given(before=st.integers(0, 5), total=st.integers(0, 5))
def test_events_come_until_somebody_cancels_and_are_then_closed(before, total):
    cancel, closed = Cancel(), []

    def numbers():
        try:
            yield from range(total)
        finally:
            closed.append(True)

    found, cancelled = [], False
    if before == 0:
        cancel.cancel()
    try:
        for number in cancel.between(numbers()):
            found.append(number)
            if number + 1 == before:
                cancel.cancel()
    except Cancelled:
        cancelled = True
    assert found == [*range(min(before, total))]
    assert cancelled == (before <= total)
    assert closed or before == 0, "a generator that never began has nothing to close"


# --- a run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The films of an undisturbed run with some plan, which they hold. Afterwards the prompts are known."""
    found = {}

    def whole(**plan):
        if str(plan) not in found:
            out = tmp_path_factory.mktemp("whole") / "a.mp4"
            list(toy.run(job_of(toy, **plan), out))
            found[str(plan)] = films(out)
        return found[str(plan)]

    whole()
    return whole


def job_of(toy, **changes):
    job = toy.prepare(BOARD, SMALL)
    return dataclasses.replace(job, plan=dataclasses.replace(job.plan, **changes))


class Cancelling:
    """Cancels from another thread within the n-th forward of a block, and counts those that begin after."""

    def __init__(self, cancel, at):
        self.cancel, self.at, self.begun, self.after = cancel, at, 0, 0

    def install(self, monkeypatch):
        forward = Block.forward

        def watched(block, *given):
            self.after += self.cancel.is_cancelled
            if self.begun == self.at:
                from_another_thread(self.cancel)
            self.begun += 1
            return forward(block, *given)

        monkeypatch.setattr(Block, "forward", watched)
        return self


WHERE = {
    "streamed": {"resident": 0, "resident_other": 0},
    "one resident": {"resident": 1, "resident_other": 1, "pinned_cache_blocks": 1},
    "resident": {"resident": LAYERS, "resident_other": LAYERS},
}


@pytest.mark.parametrize("on_card", [False, True], ids=["cpu", "card"])
@pytest.mark.parametrize("joint", [True, False], ids=["joint", "one branch after the other"])
def test_cancelled_within_any_block_the_next_one_does_not_begin(toy, whole, tmp_path, monkeypatch, joint, on_card):
    """Of both experts, in every step: the state is the last finished step's, and goes on to the same bits."""
    plan, a_step = {"joint": joint, **WHERE["one resident"]}, LAYERS * (1 if joint else 2)
    assert {step.expert for step in Schedule.of(STEPS)} == {"high_noise", "low_noise"}
    for block in range(STEPS * a_step):
        out, cancel = tmp_path / f"{block}.mp4", Cancel()
        with monkeypatch.context() as patch:
            card = on_a_card(patch, "late") if on_card else None
            watched, threads = Cancelling(cancel, block).install(patch), threading.active_count()
            seen = []
            with pytest.raises(Cancelled):
                seen.extend(toy.run(job_of(toy, **plan), out, RunFolder.beside(out).path, cancel=cancel))
            assert (watched.begun, watched.after) == (block + 1, 0)
            assert threading.active_count() == threads
            if card:
                assert (card.faults, card.runtime.pinned) == ([], {})
        folder, done = RunFolder.beside(out), (block + 1) // a_step  # of its last block a step ends
        assert (folder.state()[0].done if done else folder.path.exists()) == done
        assert not out.exists()
        if block % a_step == a_step - 1 or block == 1:  # a run that goes on costs as much as all the rest
            again = list(toy.run(job_of(toy, **plan), out, folder.path))
            assert steps(again) == [*range(done + 1, STEPS + 1)]
            assert films(out) == whole(**plan)


@settings(max_examples=12, deadline=None)
@given(block=st.integers(0, STEPS * LAYERS - 1), seconds=st.floats(0, 0.01))
def test_cancelled_at_any_moment_at_most_one_more_block_begins(toy, whole, tmp_path_factory, block, seconds):
    """By a thread that nobody waits for: a block may have begun as it cancels."""
    out, cancel = tmp_path_factory.mktemp("any") / "a.mp4", Cancel()
    begun, forward = count(), Block.forward
    after = []

    def watched(*given):
        after.append(cancel.is_cancelled)
        if next(begun) == block:
            threading.Timer(seconds, cancel.cancel).start()
        return forward(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Block, "forward", watched)
        try:
            for _ in toy.run(job_of(toy), out, RunFolder.beside(out).path, cancel=cancel):
                pass
        except Cancelled:
            assert sum(after) <= 1
            assert not out.exists()
    if not out.exists():
        list(begin(toy, out))
    assert films(out) == whole()


def test_cancelled_before_it_begins_it_reads_no_weight(toy, tmp_path, monkeypatch):
    cancel, reads = Cancel(), []
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))  # no prompt is known
    monkeypatch.setattr(DiskReader, "read", lambda *_: reads.append("block"))
    monkeypatch.setattr(TextEncoder, "open", lambda *_, **__: reads.append("encoder"))
    monkeypatch.setattr("holo_lite.render.decode_phase.load_vae", lambda *_, **__: reads.append("vae"))
    for begins in ("begin", "streamed"):
        monkeypatch.setattr(Audit, begins, lambda *_, **__: reads.append("hash"))
    from_another_thread(cancel)
    with pytest.raises(Cancelled):
        next(begin(toy, tmp_path / "a.mp4", cancel=cancel))
    assert reads == []
    assert sorted(path.name for path in tmp_path.iterdir()) == []


@pytest.mark.parametrize("block", range(2))
def test_cancelled_within_a_block_of_the_text_encoder_no_other_begins(toy, whole, tmp_path, monkeypatch, block):
    """Before a step there is nothing to keep, so nothing is left. It is the second prompt of two."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    cancel, opened, begun, stream = Cancel(), [], [], TextEncoder.stream

    def watched(*_):
        begun.append(cancel.is_cancelled)
        if len(begun) == 2 + block + 1:
            from_another_thread(cancel)

    def streamed(*given, **options):
        encoder = stream(*given, **options)
        opened.append([each.register_forward_hook(watched) for each in encoder.blocks])
        return encoder

    monkeypatch.setattr(TextEncoder, "stream", streamed)
    threads = threading.active_count()
    with pytest.raises(Cancelled):
        list(begin(toy, tmp_path / "a.mp4", cancel=cancel))
    assert (len(begun), sum(begun)) == (3 + block, 0)
    assert threading.active_count() == threads
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    list(begin(toy, tmp_path / "a.mp4"))
    assert films(tmp_path / "a.mp4") == whole()


def test_an_encoder_that_is_loaded_whole_ends_before_its_next_block_too(cache, monkeypatch):
    cancel, begun = Cancel(), []
    monkeypatch.setattr("holo_lite.text.encoder.PlacedFile", type(None))  # as if nothing could be read in place
    path = toy_model(cache) / "text_encoder"
    encoder = TextEncoder.open(path, dtype=torch.float32, device=torch.device("cpu"), cancel=cancel)
    assert encoder.encode([1]).shape == (1, 64)
    for block in encoder.blocks:
        block.register_forward_hook(lambda *_: begun.append(from_another_thread(cancel)))
    with pytest.raises(Cancelled):
        encoder.encode([1])
    assert len(begun) == 1


@pytest.mark.parametrize("frame", range(SMALL.frames))
def test_cancelled_while_it_decodes_it_keeps_every_step(toy, whole, tmp_path, monkeypatch, frame):
    out, cancel, last = tmp_path / "a.mp4", Cancel(), []

    def cancelled_at(event):
        last[:] = [event]
        if isinstance(event, FrameDone) and event.index == frame:
            from_another_thread(cancel)

    drive_to_its_cancel(begin(toy, out, cancel=cancel), cancelled_at)
    assert last[0].index == frame
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4.run"]
    monkeypatch.setattr("holo_lite.render.denoise_phase.StreamedExperts", None)  # no expert is touched from here on
    assert steps(again := list(toy.resume(out))) == []
    assert isinstance(again[-1], Finished)
    assert films(out) == whole()


def test_what_is_finished_stays_finished_however_late_somebody_cancels(toy, tmp_path):
    cancel, kinds = Cancel(), []
    for event in begin(toy, tmp_path / "a.mp4", cancel=cancel):
        kinds.append(type(event))
        if isinstance(event, Finished):
            cancel.cancel()
    assert kinds[-1] is Finished
    assert (tmp_path / "a.mp4").is_file()


def test_a_cancel_while_a_step_is_saved_loses_it_not(toy, whole, tmp_path, monkeypatch):
    """The weights of the step are hashed before: that is waited for."""
    out, cancel, save = tmp_path / "a.mp4", Cancel(), RunFolder.save

    def saving(folder, state, before):
        if state.done == 2:
            from_another_thread(cancel)
        return save(folder, state, before)

    monkeypatch.setattr(RunFolder, "save", saving)
    seen = []
    with pytest.raises(Cancelled):
        seen.extend(begin(toy, out, cancel=cancel))
    assert RunFolder.beside(out).state()[0].done == 2
    assert steps(list(begin(toy, out))) == [3, 4]
    assert films(out) == whole()


def test_a_token_serves_one_wish_and_resume_takes_a_new_one(toy, tmp_path):
    out, cancel = tmp_path / "a.mp4", Cancel()
    events = begin(toy, out, cancel=cancel)
    drive_to_its_cancel(events, lambda event: cancel.cancel() if isinstance(event, StepDone) else None)
    with pytest.raises(Cancelled):
        next(toy.resume(out, cancel=cancel))
    assert RunFolder.beside(out).state()[0].done == 1
    assert steps(list(toy.resume(out, cancel=Cancel()))) == [2, 3, 4]


def test_a_lack_of_memory_is_not_answered_once_somebody_has_cancelled(toy, tmp_path, monkeypatch):
    """A smaller plan would begin: the step it does again ends before its first block."""
    cancel, forward, runs = Cancel(), Block.forward, []

    def full(block, *given):
        runs.append(cancel.is_cancelled)
        if len(runs) == 2:
            from_another_thread(cancel)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(block, *given)

    monkeypatch.setattr(Block, "forward", full)
    monkeypatch.setattr(OomRetry, "keep", lambda *_: None, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(Cancelled):
        list(begin(toy, tmp_path / "a.mp4", cancel=cancel))
    assert runs == [False, False]


# --- nothing is left -------------------------------------------------------------------------------


def test_an_exception_that_somebody_keeps_keeps_no_memory(toy, tmp_path, monkeypatch):
    """A worker remembers why a run ended, and the next one needs the device."""
    made, buffer, streams = [], CpuLane.device_buffer, []
    forward = Block.forward

    def device_buffer(lane, nbytes):
        found = buffer(lane, nbytes)
        made.append(weakref.ref(found.data))
        return found

    def watched(block, given, *others):
        streams.extend(weakref.ref(x) for x in given)
        return forward(block, given, *others)

    monkeypatch.setattr(CpuLane, "device_buffer", device_buffer)
    cancel = Cancel()
    Cancelling(cancel, 4).install(monkeypatch)
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", watched)
    with pytest.raises(Cancelled) as kept:
        list(begin(toy, tmp_path / "a.mp4", cancel=cancel))
    assert made
    assert streams
    assert [each() for each in (*made, *streams) if each() is not None] == []
    assert kept.value.__traceback__ is not None, "where the run was driven from can still be read"


def test_blocks_that_stay_are_not_all_read_before_a_cancel_is_heard(toy, tmp_path, monkeypatch):
    """Of a large card they are the whole expert, which takes a disk a minute."""
    cancel, reads, read = Cancel(), [], DiskReader.read

    def slow(disk, image, buffer):
        reads.append(cancel.is_cancelled)
        from_another_thread(cancel)
        return read(disk, image, buffer)

    list(toy.run(job_of(toy), tmp_path / "known.mp4"))
    monkeypatch.setattr(DiskReader, "read", slow)
    job = job_of(toy, **WHERE["resident"])
    with pytest.raises(Cancelled):
        list(toy.run(job, tmp_path / "a.mp4", cancel=cancel))
    assert reads == [False]


def test_a_wait_for_a_slow_disk_ends_when_somebody_cancels(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(bytes(100))
    image = BlockImage((Piece(tmp_path / "x", 0, 100, 0),), (View("x", (100,), torch.uint8, 0),), 100)
    stuck, reading, read = threading.Event(), threading.Event(), DiskReader.read

    def stalled(*given):
        reading.set()
        stuck.wait(60)
        return read(*given)

    monkeypatch.setattr(DiskReader, "read", stalled)
    lane, cancel = CpuLane(), Cancel()
    ring, slots = [lane.host_buffer(100, pinned=False)], [lane.device_buffer(100)]
    streamer = Streamer(iter([0]), {0: image}, lane, slots=slots, ring=ring, cancel=cancel)

    def cancel_soon():
        reading.wait(60)
        cancel.cancel()

    threading.Thread(target=cancel_soon).start()
    with pytest.raises(Cancelled):
        streamer.take(0)
    assert not stuck.is_set(), "the disk has not answered"
    stuck.set()
    streamer.close()
    assert not any(thread.is_alive() for thread in streamer._threads)


def test_the_hashing_of_the_text_encoder_does_not_hold_up_a_cancel(toy, tmp_path, monkeypatch):
    """It takes a slow disk minutes, and nobody needs to know any more."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    given_up, cancel = threading.Event(), Cancel()

    def settle(*_):
        threading.Thread(target=cancel.cancel).start()
        assert given_up.wait(60)

    monkeypatch.setattr(Audit, "settle", settle)
    monkeypatch.setattr(Audit, "give_up", lambda _: given_up.set())
    seen = []
    with pytest.raises(Cancelled):
        seen.extend(begin(toy, tmp_path / "a.mp4", cancel=cancel))
    assert not list((tmp_path / "cache").rglob("*.safetensors")), "nothing is kept that was not settled"


# --- a card that is not waited for -----------------------------------------------------------------


@pytest.mark.parametrize("order", ["late", "copies first", "compute first", "any"])
@pytest.mark.parametrize("where", WHERE)
def test_the_host_is_at_most_one_block_ahead_of_the_card(toy, whole, tmp_path, monkeypatch, where, order):
    """Else whoever cancels waits for a whole step that is queued already."""
    card = on_a_card(monkeypatch, order)
    launched, done, most = [], [], []
    work = card.computing.work

    def counted(run, milliseconds):
        launched.append(1)
        work(lambda: (run(), done.append(1)), milliseconds)
        most.append(len(launched) - len(done))

    monkeypatch.setattr(card.computing, "work", counted)
    list(toy.run(job_of(toy, **WHERE[where]), tmp_path / "a.mp4"))
    assert max(most) <= 2, "the one that is computed, and one behind it"
    assert order != "late" or max(most) == 2, "the card has something to go on with"
    assert films(tmp_path / "a.mp4") == whole(**WHERE[where])


def test_experts_without_a_token_are_as_they_were(toy):
    with StreamedExperts(toy.model.experts, {"high_noise": 1}) as experts:
        assert not experts.cancel.is_cancelled

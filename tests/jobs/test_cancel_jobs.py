"""Fetching, converting, judging and batches end soon after somebody cancels, and go on from what was written."""

import signal
import threading
import time

import pytest
from conversions import contents, convert, plan, write_source
from hub_server import Fault, hub_server
from test_convert_interrupted import journalled
from test_fetch import BYTES, HIGH, nobody, order_of, repositories  # noqa: F401 - nobody is a fixture

from holo_lite import ModelOptions, Options, Pipeline, StepDone, Studio, find_items, render_batch
from holo_lite.cancel import Cancel, Cancelled
from holo_lite.commands.stopping import Stop, token
from holo_lite.evaluation.run import EvaluationStarted, StoryboardJudged, evaluate
from holo_lite.fetch.hub import PIECE, Hub
from holo_lite.fetch.run import fetch
from holo_lite.jobs.items import ItemEnded, ItemStarted
from holo_lite.model.dit import Block
from holo_lite.progress import PhaseAdvanced, PhaseStarted
from quantize import convert as convert_module, job
from quantize.convert import verify

SMALL = ("text_encoder",)


def from_another_thread(cancel):
    thread = threading.Thread(target=cancel.cancel)
    thread.start()
    thread.join()


def cancelled(events, at_event=lambda _: None):
    """Drive something to the cancel it must end with; returns its events."""
    seen = []

    def look(event):
        seen.append(event)
        at_event(event)

    with pytest.raises(Cancelled):
        list(map(look, events))
    return seen


# --- fetch -----------------------------------------------------------------------------------------


def test_a_fetch_ends_before_its_next_piece_and_goes_on_behind_the_last(tmp_path):
    cancel, came = Cancel(), []
    with hub_server(repositories()) as server:

        def second(event):
            if isinstance(event, PhaseAdvanced):
                came.append(event.done)
                if len(came) == 2:
                    from_another_thread(cancel)

        cancelled(fetch(order_of(server, tmp_path), Hub(server.endpoint), cancel=cancel), second)
        assert came == [PIECE, 2 * PIECE], "pieces after the cancel: none"
        again = order_of(server, tmp_path)
        assert again.items[0].came == 2 * PIECE
        with pytest.raises(Exception, match="safetensors"):  # these files are no model's
            list(fetch(again, Hub(server.endpoint), cancel=Cancel()))
        assert server.ranges(HIGH) == [0, 2 * PIECE]
        assert (tmp_path / HIGH).read_bytes() == BYTES


def test_a_fetch_that_waits_to_try_again_is_cancelled_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("holo_lite.fetch.transfer.WAITS", (3000.0,))
    cancel = Cancel()
    with hub_server(repositories()) as server:
        order = order_of(server, tmp_path)
        server.file_faults = [Fault(503)]
        threading.Timer(0.2, cancel.cancel).start()
        cancelled(fetch(order, Hub(server.endpoint), cancel=cancel))
    assert not (tmp_path / HIGH).exists()


def test_a_fetch_cancelled_before_it_begins_asks_for_nothing(tmp_path):
    cancel = Cancel()
    cancel.cancel()
    with hub_server(repositories()) as server:
        order = order_of(server, tmp_path / "new")
        assert cancelled(fetch(order, Hub(server.endpoint), cancel=cancel)) == []
        assert server.ranges(HIGH) == []
    assert not (tmp_path / "new").exists()


def test_the_folder_of_a_cancelled_fetch_is_free(tmp_path):
    cancel = Cancel()
    with hub_server(repositories()) as server:
        order = order_of(server, tmp_path)
        cancelled(fetch(order, Hub(server.endpoint), cancel=cancel), lambda _: cancel.cancel())
        with pytest.raises(Exception, match="safetensors"):
            list(fetch(order_of(server, tmp_path), Hub(server.endpoint)))


# --- conversions -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("cancelled") / "source")


@pytest.fixture(scope="module")
def whole(source):
    convert(source, source.parent / "whole", roles=SMALL)
    return contents(source.parent / "whole")


def tensors_of(source, out):
    return sum(len(shard.tensors) for shard in plan(source, out, roles=SMALL).shards.values())


def test_a_conversion_ends_before_its_next_tensor_and_goes_on_from_its_shards(source, whole, tmp_path, monkeypatch):
    write, shards = convert_module.write_tensor, plan(source, tmp_path, roles=SMALL).shards.values()
    ends = {sum(len(shard.tensors) for shard in [*shards][: n + 1]): n + 1 for n in range(len(shards))}
    for tensor in range(1, tensors_of(source, tmp_path) + 1, 4):
        out, cancel, wrote = tmp_path / f"{tensor}", Cancel(), []

        def watched(*given, cancel=cancel, wrote=wrote, tensor=tensor):
            wrote.append(cancel.is_cancelled)
            if len(wrote) == tensor:
                from_another_thread(cancel)
            return write(*given)

        with monkeypatch.context() as patch:
            patch.setattr(convert_module, "write_tensor", watched)
            cancelled(job.run_conversion(plan(source, out, roles=SMALL), cancel))
        assert (len(wrote), sum(wrote)) == (tensor, 0), "tensors after the cancel: none"
        assert len(journalled(out)) == max((n for end, n in ends.items() if end <= tensor), default=0)
        assert not [name for name in contents(out) if "partial" in name]
        convert(source, out, roles=SMALL)
        assert contents(out) == whole


def test_hashing_a_source_is_cancelled_between_its_pieces(source, whole, tmp_path, monkeypatch):
    """It is 28 GB."""
    monkeypatch.setattr("quantize.journal.HASH_PIECE", 1000)
    cancel = Cancel()

    def at(event):
        if isinstance(event, PhaseStarted) and event.phase == "hash":
            from_another_thread(cancel)

    seen = cancelled(job.run_conversion(plan(source, tmp_path / "out", roles=SMALL), cancel), at)
    assert seen[-1].phase == "hash"
    convert(source, tmp_path / "out", roles=SMALL)
    assert contents(tmp_path / "out") == whole


def test_a_conversion_cancelled_before_it_begins_reads_no_tensor(source, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "write_tensor", None)
    cancel = Cancel()
    cancel.cancel()
    cancelled(job.run_conversion(plan(source, tmp_path / "out", roles=SMALL), cancel))
    assert journalled(tmp_path / "out") == set()


def test_a_verification_is_cancelled(source, tmp_path):
    cancel = Cancel()
    convert(source, tmp_path / "out", roles=SMALL)
    seen = cancelled(verify(tmp_path / "out", cancel), lambda _: cancel.cancel())
    assert len(seen) == 1


# --- many ------------------------------------------------------------------------------------------


SAID = Options(height=16, width=16, steps=2, cfg=1.0, frames=9)


@pytest.fixture(scope="module")
def tiny():
    return Pipeline.load(options=ModelOptions(device="cpu"))


@pytest.fixture
def boards(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"[global caption] A {name} road. [per shot caption] a [shot cut] b")
    return [tmp_path / f"{name}.txt" for name in "abc"]


def test_a_batch_ends_within_a_block_and_goes_on_in_the_midst_of_its_video(tiny, boards, tmp_path, monkeypatch):
    items, cancel, forward = find_items(boards, tmp_path / "out"), Cancel(), Block.forward
    begun, blocks = [], len(tiny.model.folder.experts) and tiny.model.sizes.config.num_layers

    def watched(*given):
        begun.append(cancel.is_cancelled)
        if len(begun) == 3 * blocks + 2:  # in the second step of the second video
            from_another_thread(cancel)
        return forward(*given)

    with monkeypatch.context() as patch:
        patch.setattr(Block, "forward", watched)
        seen = cancelled(render_batch(tiny, items, SAID, cancel=cancel))
    assert (len(begun), sum(begun)) == (3 * blocks + 2, 0)
    assert [event.item for event in seen if isinstance(event, ItemStarted)] == [*items[:2]]
    assert [event.state for event in seen if isinstance(event, ItemEnded)] == ["done"]
    again = list(render_batch(tiny, items, SAID, cancel=Cancel()))
    assert [event.state for event in again if isinstance(event, ItemEnded)] == ["there", "done", "done"]
    assert sum(isinstance(event, StepDone) for event in again) == 1 + 2


def test_a_batch_cancelled_before_it_begins_looks_at_nothing(tiny, boards, tmp_path, monkeypatch):
    cancel = Cancel()
    cancel.cancel()
    monkeypatch.setattr(Pipeline, "prepare", None)
    assert cancelled(render_batch(tiny, find_items(boards, tmp_path), SAID, cancel=cancel)) == []


def test_an_evaluation_ends_before_its_next_storyboard(tiny):
    cancel = Cancel()
    small = Options(height=32, width=64, steps=1)

    def judged(event):
        if isinstance(event, StoryboardJudged):
            from_another_thread(cancel)

    seen = cancelled(evaluate(Studio(tiny), None, 5, small, cancel=cancel), judged)
    assert [type(event) for event in seen] == [EvaluationStarted, StoryboardJudged]


# --- the command line ------------------------------------------------------------------------------


def test_a_signal_cancels_the_commands_token():
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGTERM, None)
    assert stop.cancel.is_cancelled


def test_outside_of_a_command_a_token_is_nobodys():
    assert not token().is_cancelled
    assert token() is not token()


def test_an_interrupt_that_python_forgets_ends_a_run_all_the_same(run, toy_copy, tmp_path, monkeypatch):
    """As within a destructor: printed on standard error, and lost."""
    forward, begun = Block.forward, []

    def interrupted(*given):
        begun.append(1)
        if len(begun) == 8:  # in the third step
            forgotten()
        return forward(*given)

    def forgotten():
        try:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)
        except KeyboardInterrupt:
            pass

    monkeypatch.setattr(Block, "forward", interrupted)
    words = ("[global caption] A house. [per shot caption] a [shot cut] b", "--frames", 5, "--height", 16)
    outcome = run("generate", *words, "--width", 16, "--steps", 4, "--model", toy_copy, "--out", "a.mp4")
    assert outcome.code == 130
    told = "interrupted; finished steps are saved; to continue, type holo-lite resume a.mp4.run"
    assert outcome.err.splitlines()[-1] == told
    assert len(begun) == 8
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "continuing after step 2 of 4" in run("resume", "a.mp4.run").err

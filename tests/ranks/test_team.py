"""How ranks agree, and how they learn that one of them has left, and why."""

import threading
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from guard import HANGS
from live_bytes import LiveBytes
from ranks_here import at_once, place, teams
from torch import distributed

from holo_lite.errors import RanksError
from holo_lite.model.clip import Clip
from holo_lite.model.parts import Part
from holo_lite.ranks.group import Group, Parted
from holo_lite.ranks.meeting import Meeting
from holo_lite.ranks.parcel import Parcel, passed
from holo_lite.ranks.team import Left, Why
from holo_lite.ranks.watch import Patience, Watch
from holo_lite.ranks.wires import Seat, host_store, join_store
from holo_lite.story.shots import ShotLayout

CLIP = Clip(ShotLayout((0, 1), 2, 1, 2))
PARTS = [Part((0, 1), 0, 2, 0, 2), Part((0, 1), 2, 4, 1, 2)]


def met(store, rank, name="a"):
    meeting = Meeting(place(store, rank), name, PARTS)
    meeting.join(CLIP)
    return meeting


def test_everyone_has_the_first_ranks_word():
    store = distributed.HashStore()

    def work(rank):
        meeting = met(store, rank)
        return [meeting.agreed(rank == said) for said in (0, 1)]

    assert at_once([partial(work, rank) for rank in range(2)]) == [[True, False]] * 2


def test_a_parcel_arrives_as_it_was_sent():
    store = distributed.HashStore()
    tensors = {
        "half": torch.arange(6, dtype=torch.bfloat16).view(2, 3),
        "rows": torch.tensor([3, 1, 2]),
        "turned": torch.arange(6.0).view(2, 3).T,
        "one": torch.tensor(7.5),
    }
    facts = {"frames": [1, 2], "text": "Zwölf Boxkämpfer", "nothing": None}

    def work(rank):
        return passed(met(store, rank), Parcel(facts, tensors) if rank == 0 else None)

    _, found = at_once([partial(work, rank) for rank in range(2)])
    assert found.facts == facts
    assert list(found.tensors) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_whoever_waits_learns_at_once_that_another_has_left():
    """The connections of the one that leaves go, and what was being waited for never comes."""
    store = distributed.HashStore()

    def stays():
        with pytest.raises(Parted):
            met(store, 0).everyone.spread([(1, torch.zeros(4))])

    def leaves():
        met(store, 1).part()

    at_once([stays, leaves])


def test_what_has_arrived_is_not_kept():
    """The buffer of keys and values is a layer's largest: it goes with the layer."""
    store = distributed.HashStore()

    def left_over(rank):
        group = met(store, rank).everyone
        with LiveBytes() as live:
            tensor = torch.zeros(1000)
            group.begin_spread([(0, tensor)])()
            group.add(tensor)
            del tensor
            return live.now

    assert at_once([partial(left_over, rank) for rank in range(2)]) == [0, 0]


def test_a_rank_leaves_at_once_with_something_on_its_way():
    """What it waits for comes from a rank that sends nothing until it hears that this one has left."""
    store, left = distributed.HashStore(), threading.Event()

    def leaves():
        meeting = met(store, 0)
        meeting.everyone.begin_spread([(1, torch.zeros(4))])
        meeting.part()
        left.set()

    def stays():
        meeting = met(store, 1)
        assert left.wait(HANGS)
        meeting.part()

    at_once([leaves, stays])


def test_a_new_attempt_takes_nothing_from_the_last_one():
    store = distributed.HashStore()

    def first():
        meeting = met(store, 0, "1")
        with pytest.raises(Parted):
            meeting.everyone.spread([(1, torch.zeros(4))])
        meeting.part()
        again = met(store, 0, "2")
        tensor = torch.zeros(4)
        again.everyone.spread([(1, tensor)])
        return tensor

    def second():
        met(store, 1, "1").part()
        met(store, 1, "2").everyone.spread([(1, torch.ones(4))])

    found, _ = at_once([first, second])
    assert torch.equal(found, torch.ones(4))


def test_whoever_leaves_does_not_wait_for_one_that_hangs():
    """Also while it was waiting for something from it."""
    store, left = distributed.HashStore(), threading.Event()

    def lost():
        raise Parted("lost")

    def leaves():
        group = Group(replace(place(store, 0), watch=lost), "a", [0, 1])
        with pytest.raises(Parted, match="lost"):
            group.add(torch.zeros(4))
        group.part()
        left.set()

    def hangs():
        group = Group(place(store, 1), "a", [0, 1])
        assert left.wait(HANGS)
        group.part()

    at_once([leaves, hangs])


def test_a_group_of_one_sends_nothing():
    group = Group(place(distributed.HashStore(), 0), "a", [0])
    tensor = torch.ones(3)
    group.spread([(0, tensor)])
    group.add(tensor)
    assert torch.equal(tensor, torch.ones(3))
    assert group.sent == 0


def test_words_are_gathered_from_all():
    ranks = teams(3)
    works = [partial(team.gather, "1", "1.1", {"number": team.rank}) for team in ranks]
    assert at_once(works) == [[{"number": 0}, {"number": 1}, {"number": 2}]] * 3


def test_whoever_gathers_learns_that_the_task_is_over():
    first, second = teams(2)
    second.end("1", Why("failed", "model.json: is not there"))
    with pytest.raises(Left, match=r"^rank 1 \(cpu\): model.json: is not there$"):
        first.gather("1", "1.1", {})


@pytest.mark.parametrize("kind", ["device", "pinned", "cancelled", "failed"])
def test_a_broken_connection_means_what_the_one_who_left_says(kind):
    first, second = teams(2)
    threading.Timer(0.2, second.leave, ("1.1", Why(kind, "because"))).start()
    left = first.meaning("1", "1.1", Parted("connection closed"))
    assert left.why == Why(kind, "because")
    assert str(left) == "rank 1 (cpu): because"


def test_a_broken_connection_that_nobody_explains_is_said():
    first, _ = teams(2)
    with pytest.raises(RanksError, match=r"lost \(connection closed\)"):
        first.meaning("1", "1.1", Parted("connection closed"))


def test_tasks_are_taken_in_the_order_they_are_given():
    first, second = teams(2)
    first.give({"do": "a"})
    first.give({"do": "b"})
    assert [second.take(), second.take()] == [("1", {"do": "a"}), ("2", {"do": "b"})]


# --- silence ---------------------------------------------------------------------------------------


def lost(watch):
    """What a watch says in the end."""
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        try:
            watch.check()
        except Parted as error:
            return str(error)
        time.sleep(0.01)
    raise AssertionError("nobody is lost")


def test_a_silent_rank_is_lost_and_whoever_says_something_is_not():
    store, names = distributed.HashStore(), ["rank 0 (cpu)", "rank 1 (cpu)"]
    watches = [Watch(store, rank, names, Patience(sign=0.02, silent=3.0)) for rank in range(2)]
    for watch in watches:
        watch.start()
    time.sleep(3.5)
    watches[0].check()
    watches[1].check()
    watches[1].stop()
    assert lost(watches[0]) == "rank 1 (cpu) has not answered for 3 s"
    watches[0].stop()


def test_a_store_that_is_gone_is_the_first_ranks_end():
    store, port = host_store()
    watch = Watch(join_store(Seat(1, 2, "127.0.0.1", port)), 1, ["rank 0 (cpu)", "rank 1 (cpu)"], Patience(0.02))
    watch.start()
    del store
    assert lost(watch) == "rank 0 (cpu) cannot be reached any more"


def test_what_is_under_way_is_ended_when_somebody_is_lost():
    called = threading.Event()
    names = ["rank 0 (cpu)", "rank 1 (cpu)"]
    watch = Watch(distributed.HashStore(), 0, names, Patience(0.01, 0.05), called.set)
    watch.start()
    assert called.wait(HANGS)


# --- seats -----------------------------------------------------------------------------------------

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.7",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}


def test_torchruns_words_are_a_seat():
    assert Seat.of_torchrun(TORCHRUN) == Seat(3, 4, "10.0.0.7", 29500, 1, 2)
    own = {**TORCHRUN, "RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "False"}
    assert Seat.of_torchrun(own).hosts


@pytest.mark.parametrize("environment", [{}, {"RANK": "1", "WORLD_SIZE": "2"}, {**TORCHRUN, "WORLD_SIZE": "1"}])
def test_whoever_is_alone_or_not_torchruns_has_no_seat(environment):
    assert Seat.of_torchrun(environment) is None


def test_own_ranks_meet_where_nobody_else_comes():
    """The store listens on the loopback address alone."""
    import psutil

    store, port = host_store()
    bound = {each.laddr.ip for each in psutil.Process().net_connections() if each.laddr.port == port}
    assert bound == {"127.0.0.1"}
    del store

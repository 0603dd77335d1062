"""Ranks as threads of one process: the real transport and team, without the seconds that processes take."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from guard import HANGS
from torch import distributed

from holo_lite.ranks.group import Place
from holo_lite.ranks.meeting import Meeting
from holo_lite.ranks.team import Team
from holo_lite.ranks.watch import Patience, Watch

PATIENCE = HANGS  # seconds until a thread that hangs fails its test
CPU = torch.device("cpu")


def place(store, rank):
    return Place(store, rank, CPU, "gloo", lambda: None, loopback=True)


def meetings(parts, clip, name="a"):
    """A function for each rank, that makes its meeting."""
    store = distributed.HashStore()

    def met(rank):
        meeting = Meeting(place(store, rank), name, parts)
        meeting.join(clip)
        return meeting

    return [partial(met, rank) for rank in range(len(parts))]


def teams(size, store=None, patience=None):
    """A team's ranks, whose watches have not begun."""
    store = store or distributed.HashStore()
    names = [f"rank {rank} (cpu)" for rank in range(size)]
    watches = [Watch(store, rank, names, patience or Patience()) for rank in range(size)]
    return [Team(store, rank, names, CPU, "gloo", watches[rank], loopback=True) for rank in range(size)]


def at_once(works):
    """What each gives, all at work at once; the first error of any."""
    with ThreadPoolExecutor(len(works)) as pool:
        begun = [pool.submit(work) for work in works]
        return [each.result(PATIENCE) for each in begun]

"""The store by which ranks find each other: small texts under names. Hosted by the first rank, or by torchrun.

Ranks that one process starts meet on the loopback address and nowhere else. With torchrun the address is the one it
was told, and whoever reaches it takes part: that is for networks one trusts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from holo_lite.ranks.engine import LOOPBACK, Store, hosted_store, joined_store


@dataclass(frozen=True)
class Seat:
    """A rank's number, how many there are, and where the store is. local: its number on this machine, of `here`."""

    rank: int
    size: int
    address: str
    port: int
    local: int = 0
    here: int = 1
    hosts: bool = False

    @classmethod
    def of_torchrun(cls, environment: Mapping[str, str] = os.environ) -> Seat | None:
        """The seat that torchrun has given this process; None where it was not started so, or alone."""
        if "TORCHELASTIC_RUN_ID" not in environment or int(environment.get("WORLD_SIZE", "1")) < 2:
            return None
        rank, local = int(environment["RANK"]), int(environment["LOCAL_RANK"])
        return cls(
            rank,
            int(environment["WORLD_SIZE"]),
            environment["MASTER_ADDR"],
            int(environment["MASTER_PORT"]),
            local,
            int(environment["LOCAL_WORLD_SIZE"]),
            hosts=rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        )


def host_store() -> tuple[Store, int]:
    """A store on the loopback address of this machine, and its port."""
    listening = socket.socket()
    listening.bind((LOOPBACK, 0))
    listening.listen()
    port = int(listening.getsockname()[1])
    return hosted_store(port, listening.detach()), port


def join_store(seat: Seat) -> Store:
    """The store that a seat names. Raises `RuntimeError` where it cannot be reached."""
    return joined_store(seat.address, seat.port, hosts=seat.hosts)

"""Ray: the one module that knows it. It is imported for `batch --ray` alone.

Ray starts a process on each card, tells what it yields, and says when it or its machine is dead. What goes through
it is text. Our classes go by their names, so every machine needs the same holo-lite, and no code of ours is sent.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray._private.services import get_ray_address_from_environment
from ray.exceptions import RayActorError, RayError
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from holo_lite.errors import FarmError, in_a_line, with_kind
from holo_lite.farm.claims import Claims
from holo_lite.farm.cluster import Place, Told
from holo_lite.farm.events import Record
from holo_lite.farm.nodes import demand, places
from holo_lite.system.garbage import bringing_torch

if TYPE_CHECKING:
    from holo_lite.farm.card import Card

NAMESPACE, CLAIMS = "holo-lite", "claims"
HEAD = {"node:__internal_head__": 0.001}  # a claim's table dies with the head alone, and then all is over
STORE = 80 * 2**20  # bytes of shared memory, near the least that Ray takes: records are short
WATCH = 10.0  # seconds between two looks of the claims whether anybody is left
REACHED = 10.0  # seconds in which the head of a cluster answers
DEAD = "is dead because"


class RayCard:
    """`holo_lite.farm.card` in a process of Ray's. PyTorch comes in here, on the machine that has the card.

    While somebody waits for a card, Ray has every process collect its garbage again and again. What is imported is
    left out of that: it is most of all objects, and stays.
    """

    def __init__(self) -> None:
        self._card: Card | None = None

    def answer(self, asked: str) -> Iterator[str]:
        """Yield records as text: at first, before PyTorch takes its seconds, that the card is ours."""
        if self._card is None:
            yield json.dumps({"kind": "started"})
            self._card = _card()
        yield from self._card.answer(asked)

    def cancel(self) -> None:
        """End what is made, from a thread of its own."""
        if self._card is not None:
            self._card.cancel()


def _card() -> Card:
    with bringing_torch():
        from holo_lite.farm.card import Card
    return Card()


class RayClaims(Claims):
    """The claims of all who use a cluster. They outlive whoever came first, and end when nobody is left."""

    def __init__(self) -> None:
        super().__init__(_living)
        threading.Thread(target=self._watch, args=(ray.get_runtime_context().current_actor,), daemon=True).start()

    def _watch(self, itself: Any) -> None:
        while True:
            time.sleep(WATCH)
            if not _living():
                ray.kill(itself)


def _living() -> set[str]:
    """The names of living cards. The cluster is asked each time: a handle, once found, is not looked for again."""
    named = list_named_actors(all_namespaces=True)
    return {each["name"] for each in named if each["namespace"] == NAMESPACE} - {CLAIMS}


class RayCluster:
    """A cluster, for as long as this process is connected. on_processors: no cards are used."""

    def __init__(self, *, on_processors: bool = False) -> None:
        self._on_processors = on_processors
        self._own = uuid.uuid4().hex[:12]
        self._started = 0
        self._cards: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._claims = _claims()

    def places(self) -> Sequence[Place]:
        """A place for each card; where no machine has one, one for each machine's processors."""
        return places([node for node in ray.nodes() if node["Alive"]], on_processors=self._on_processors)

    def start(self, place: Place) -> str:
        """Start a process on a card, as soon as nobody else has it."""
        self._started += 1
        name = f"{self._own}-{self._started}"
        node = next(node for node in ray.nodes() if node["NodeID"] == place.node)
        here = NodeAffinitySchedulingStrategy(place.node, soft=False)
        kind = ray.remote(concurrency_groups={"control": 1})(RayCard)
        self._cards[name] = kind.options(name=name, scheduling_strategy=here, **demand(place, node)).remote()
        return name

    def ask(self, card: str, request: Record) -> None:
        """Have a card answer, record by record."""
        answer = self._cards[card].answer.options(num_returns="streaming")
        self._asked[card] = answer.remote(json.dumps(request))

    def told(self, seconds: float) -> Sequence[Told]:
        """One record of each card that has any."""
        waiting = list(self._asked.values())
        if not waiting:
            time.sleep(seconds)
            return ()
        ray.wait(waiting, timeout=seconds)
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        names = {id(answer): card for card, answer in self._asked.items()}
        found = [self._next(names[id(answer)], answer) for answer in ready]
        return [told for told in found if told is not None]

    def cancel(self, card: str) -> None:
        """Have a card end what it makes."""
        self._cards[card].cancel.options(concurrency_group="control").remote()

    def stop(self, card: str) -> None:
        """End its process."""
        self._asked.pop(card, None)
        if (handle := self._cards.pop(card, None)) is not None:
            ray.kill(handle)

    def claim(self, clip: str, card: str) -> bool:
        """Ask the table of claims."""
        return bool(self._ask_claims("claim", clip, card))

    def release(self, clip: str, card: str) -> None:
        """Tell the table of claims."""
        self._ask_claims("release", clip, card)

    def _next(self, card: str, answer: Any) -> Told | None:
        try:
            return Told(card, json.loads(ray.get(next(answer))))
        except StopIteration:
            self._asked.pop(card, None)
            return None
        except RayError as error:
            self._asked.pop(card, None)
            return Told(card, None, _why(error))

    def _ask_claims(self, method: str, *given: str) -> Any:
        """Ask it; where it ended because nobody was left, there is a new one."""
        try:
            return ray.get(getattr(self._claims, method).remote(*given))
        except RayActorError:
            self._claims = _claims()
            return ray.get(getattr(self._claims, method).remote(*given))


@contextmanager
def connected(address: str, *, on_processors: bool = False) -> Iterator[RayCluster]:
    """A cluster by its address; `auto`: the one that runs here, `local`: one of this machine alone, for as long.

    Ray prints to standard output what befalls its processes; all that matters is told by events, so that goes
    nowhere. Raises `FarmError`.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        _connect(address)
        try:
            yield RayCluster(on_processors=on_processors)
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    """Raise `FarmError` where it cannot be done. Ray's statistics about who uses it are off."""
    if "://" in address:
        raise FarmError(
            f"--ray {address}: give HOST:PORT of the cluster's head, and type it on a machine of the cluster"
        )
    _check_reachable(address)
    more: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE} if address == "local" else {}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with _own_signals():
        try:
            ray.init(address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False, **more)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise FarmError(f"--ray {address}: {_no_cluster(address)} ({in_a_line(error)})") from error


def _check_reachable(address: str) -> None:
    """Raise `FarmError` where nobody listens: Ray itself would try for minutes."""
    found = _found() if address == "auto" else address
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except OSError as error:
        where = f"{found}: " if found != address else ""
        raise FarmError(f"--ray {address}: {_no_cluster(address)} ({where}{in_a_line(error)})") from error


def _found() -> str:
    """The address that Ray takes for `auto`; nothing where it knows none, which it says itself at once."""
    try:
        return str(get_ray_address_from_environment("auto", None))
    except ConnectionError:
        return ""


def _no_cluster(address: str) -> str:
    if address == "auto":
        return "no cluster runs here; begin one with `ray start --head`, or give --ray local"
    return "the cluster cannot be reached; begin it with `ray start`" if address != "local" else "cannot be started"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our handlers: Ray sets one of its own for SIGTERM, which ends the process without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _claims() -> Any:
    """The table of claims; whoever comes first makes it. It is on the head, where nothing outlives the cluster."""
    kind = ray.remote(num_cpus=0)(RayClaims)
    options = {"name": CLAIMS, "namespace": NAMESPACE, "get_if_exists": True, "lifetime": "detached"}
    return kind.options(resources=HEAD, **options).remote()


def _why(error: RayError) -> str:
    """Why a process is dead, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if DEAD in line), None)
    if said is not None:
        return said.split(DEAD, 1)[1].split(". ")[0].strip(" .")
    cause = getattr(error, "cause", None)
    return with_kind(cause if isinstance(cause, Exception) else error)

"""A card without a card: streams that put work off, and do it in any order that real ones may.

What is given to a stream waits in its queue. It runs when someone waits for it, and before that as far as `order`
says, which is one of

    late            nothing runs before it must
    copies first    copies run as soon as no event holds them back, computation when it must
    compute first   the other way round
    any             some of both, drawn anew after every call

Each of these is something a card may do. A program that leaves a wait out gets other bytes in one of them. Besides,
`faults` holds what a card would punish later or not at all: memory that goes back to the allocator, or is unpinned,
while a copy is still to come; memory that is asked for on a stream that does not compute, whose reuse the allocator
would order by that stream; and calls that mean whichever card is current, where there are several.

Times are simulated: work takes as long as it is said to, a wait until what it waits for, and the host none. They do
not depend on the order in which things run here.
"""

import random
import threading
import weakref
from collections import Counter, defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

ORDERS = ("late", "copies first", "compute first", "any")
COPY, BLOCK = 4.0, 1.0  # milliseconds that a copy and a block's forward take
REAL = torch.cuda
REFUSED = 2  # cudaErrorMemoryAllocation
OWN = torch.device("cpu")  # what the program calls the card


@dataclass
class Ticket:
    """One recording of an event: whether it has happened, and when."""

    stream: "Stream"
    time: float | None = None


class Event:
    """torch.cuda.Event."""

    def __init__(self, cuda, *, enable_timing=False, blocking=False):
        self.cuda, self.timed, self.sleeps, self.ticket = cuda, enable_timing, blocking, None

    def record(self, stream):
        with self.cuda.lock:
            self.ticket = ticket = Ticket(stream)
            stream.add(lambda: setattr(ticket, "time", stream.time))

    def synchronize(self):
        assert self.sleeps, "a host that waits for minutes would keep a core busy"
        with self.cuda.lock:
            if self.ticket is not None:
                self.cuda.force(self.ticket)

    def elapsed_time(self, end):
        if not (self.timed and end.timed):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self.ticket.time is None or end.ticket.time is None:
            raise RuntimeError("CUDA error: device not ready")
        return end.ticket.time - self.ticket.time


class Stream:
    """torch.cuda.Stream."""

    def __init__(self, cuda):
        self.cuda, self.queue, self.time = cuda, deque(), 0.0

    def add(self, work, *, wait=None):
        with self.cuda.lock:
            self.queue.append((wait, work))
            self.cuda.run_some()

    def work(self, work, milliseconds):
        """Queue something that takes so long."""

        def run():
            self.time += milliseconds
            with torch.inference_mode(), _disable_current_modes():  # whoever's turn it happens to be
                work()

        self.add(run)

    def wait_event(self, event):
        with self.cuda.lock:
            ticket = event.ticket
            if ticket is not None:
                self.add(lambda: setattr(self, "time", max(self.time, ticket.time)), wait=ticket)

    def synchronize(self):
        with self.cuda.lock:
            while self.queue:
                self.step(force=True)

    def step(self, *, force=False):
        """Run what is next, if nothing holds it back, or after that. Says whether it ran."""
        wait, work = self.queue[0]
        if wait is not None and wait.time is None:
            if not force:
                return False
            self.cuda.force(wait)
        self.queue.popleft()
        work()
        return True


class Cudart:
    """torch.cuda.cudart(): pins up to `limit` bytes and then refuses."""

    def __init__(self, cuda, limit):
        self.cuda, self.limit, self.pinned = cuda, limit, {}

    def holds(self, pointer):
        """The pinned memory that a byte lies in, by its first byte; None for one that is not pinned."""
        return next((first for first, size in self.pinned.items() if first <= pointer < first + size), None)

    def cudaHostRegister(self, pointer, nbytes, flags):
        assert pointer % 4096 == 0
        assert flags == 0
        self.cuda.meant(self.cuda.here.device, "memory is pinned for")
        if sum(self.pinned.values()) + nbytes > self.limit:
            return self.cuda.fail()
        self.pinned[pointer] = nbytes
        return 0

    def cudaHostUnregister(self, pointer):
        self.cuda.meant(self.cuda.here.device, "memory is unpinned for")
        if pointer not in self.pinned:
            return self.cuda.fail()
        if self.cuda.reading[pointer]:
            self.cuda.faults.append("unpinned while a copy out of it was to come")
        del self.pinned[pointer]
        return 0


class Here(threading.local):
    """What is current in a thread."""

    device = None
    stream = None  # the one that computes


class FakeCuda:
    """torch.cuda, as far as streaming needs it, for tensors that are really on the CPU."""

    def __init__(self, order="late", seed=0, limit=2**40):
        self.order, self.random, self.lock = order, random.Random(seed), threading.RLock()
        self.computing, self.copying = Stream(self), []
        self.runtime, self.last_error = Cudart(self, limit), 0
        self.reading, self.writing, self.faults = Counter(), Counter(), []
        self._free = defaultdict(list)
        self.memory = set()  # where the card's own memory is
        self.here = Here()

    def __getattr__(self, name):
        """What else torch's own modules look up when they come to be imported."""
        return getattr(REAL, name)

    # --- what the program calls ---

    def Stream(self, device=None):
        self.meant(device, "a stream is made on")
        self.copying.append(Stream(self))
        return self.copying[-1]

    def Event(self, **options):
        return Event(self, **options)

    def current_stream(self, device=None):
        self.meant(device, "the stream is asked of")
        return self.here.stream or self.computing

    @contextmanager
    def stream(self, stream):
        before, self.here.stream = self.here.stream, stream
        try:
            with Queued(self, stream):
                yield
        finally:
            self.here.stream = before

    @contextmanager
    def device(self, device):
        before, self.here.device = self.here.device, device
        try:
            yield
        finally:
            self.here.device = before

    def cudart(self):
        return self.runtime

    # --- what a card does ---

    def meant(self, device, what):
        """There are other cards, and one of them is current."""
        if device != OWN:
            self.faults.append(f"{what} whichever card is current")

    def force(self, ticket):
        while ticket.time is None:
            ticket.stream.step(force=True)

    def run_some(self):
        """Let streams run as the order says."""
        first = {"copies first": self.copying, "compute first": [self.computing]}.get(self.order, ())
        for stream in first:
            while stream.queue and stream.step():
                pass
        if self.order == "any":
            for _ in range(self.random.randrange(4)):
                stream = self.random.choice([self.computing, *self.copying])
                if stream.queue:
                    stream.step()

    def fail(self):
        self.last_error = REFUSED
        return REFUSED

    def launch(self):
        """What every kernel asks before it is queued, and is blamed for."""
        if self.last_error:
            self.last_error = 0
            raise RuntimeError("CUDA error: out of memory")

    def empty(self, nbytes):
        """Memory as the caching allocator gives it: at once that of a tensor that is gone, whoever reads it yet.

        Only the stream that it is asked for on keeps the order of one's last use and the next one's first.
        """
        if self.here.stream not in {None, self.computing}:
            self.faults.append("memory is asked for on a stream that does not compute")
        memory = self._free[nbytes].pop() if self._free[nbytes] else torch.empty(nbytes, dtype=torch.uint8)
        self.memory.add(memory.data_ptr())
        tensor = memory[:]
        weakref.finalize(tensor, self._take_back, memory)
        return tensor

    def _take_back(self, memory):
        if self.writing[memory.data_ptr()]:
            self.faults.append("freed while a copy into it was to come")
        self._free[memory.nbytes].append(memory)

    def install(self, monkeypatch):
        """Stand in for torch.cuda, for its memory, and for the kernel by which an error is taken up."""
        empty, zeros = torch.empty, torch.zeros

        def device_empty(*shape, device=None, **options):
            if device is None:
                return empty(*shape, **options)
            self.meant(device, "memory is asked for on")
            return self.empty(*shape)

        def kernel(*shape, device, **options):
            self.meant(device, "a kernel runs on")
            self.launch()
            return zeros(*shape, **options)

        monkeypatch.setattr(torch, "cuda", self)
        monkeypatch.setattr("holo_lite.streaming.cuda_lane.torch", Torch(empty=device_empty, zeros=kernel))


class Torch:
    """The module torch with some names of its own."""

    def __init__(self, **own):
        self.__dict__.update(own)

    def __getattr__(self, name):
        return getattr(torch, name)


class Queued(TorchDispatchMode):
    """Within, copies are queued. From host memory that is not pinned the driver takes the bytes at once."""

    def __init__(self, cuda, stream):
        super().__init__()
        self.cuda, self.stream = cuda, stream

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is not torch.ops.aten.copy_.default:
            return func(*args, **(kwargs or {}))
        target, source, non_blocking = args
        assert non_blocking
        with self.cuda.lock:
            pinned = self.cuda.runtime.holds(source.data_ptr())
            stays = pinned is not None or source.data_ptr() in self.cuda.memory
            self._queue(target, source if stays else source.clone(), pinned)
        return target

    def _queue(self, target, source, kept):
        """What computes is in order with the memory's next use, what copies beside it is not."""
        beside = self.stream is not self.cuda.computing
        self.cuda.reading[kept] += 1
        self.cuda.writing[target.data_ptr()] += beside

        def copy():
            self.cuda.reading[kept] -= 1
            self.cuda.writing[target.data_ptr()] -= beside
            target.copy_(source)

        self.stream.work(copy, COPY)

"""The ranks of a clip during one attempt at its steps: where they meet, and what goes from one to another.

In every self-attention the keys and values of all shots' first latent frames go to all ranks of a guidance branch,
and those of a shot that is divided to all who compute some of it. A rank's rows lie in one piece in the buffer, for
a share is one span of tokens: they are sent from where they are, and received where they belong. After every step
the branches' velocities go to all, and the first rank's word whether a step is skipped.

With b branches, e bytes a number and width d, a block sends, all ranks together and each row counted once,

    2 · b · d · e · (shared rows, + own rows of every divided shot)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from holo_lite.model.clip import Clip, common
from holo_lite.model.compute import Arrival
from holo_lite.model.key_values import KeyValues
from holo_lite.model.parts import Part
from holo_lite.ranks.group import Group, Place

LEAD = 0


@dataclass
class Meeting:
    """One attempt, under a name of its own. parts: what each rank computes."""

    place: Place
    name: str
    parts: Sequence[Part]
    _groups: dict[tuple[int, ...], Group] = field(default_factory=dict, init=False)

    def join(self, clip: Clip) -> None:
        """Meet in all the groups there will be. Raises `Parted` where a rank does not come.

        All ranks make the groups in one order, so that none waits for one that waits for it.
        """
        wanted = [tuple(range(len(self.parts))), *(tuple(self._peers(rank)) for rank in range(len(self.parts)))]
        for rank in range(len(self.parts)):
            spans = [clip.layout.token_span(shot) for shot in range(clip.layout.shots)]
            wanted.extend(tuple(self._owners(rank, span)) for span in spans if clip.attention == "sparse")
        for members in dict.fromkeys(wanted):
            if self.place.rank in members and members not in self._groups:
                place = f"{self.name}/{'-'.join(map(str, members))}"
                self._groups[members] = Group(self.place, place, members)

    @property
    def sent(self) -> int:
        """Bytes this rank has given to others so far, each counted once."""
        return sum(group.sent for group in self._groups.values())

    @property
    def everyone(self) -> Group:
        """All ranks."""
        return self._groups[tuple(range(len(self.parts)))]

    def part(self) -> None:
        """Let the connections go: whoever waits at one of them learns that this rank has left."""
        for group in self._groups.values():
            group.part()
        self._groups.clear()

    # --- in a block: `holo_lite.model.compute.Exchange`

    def shared(self, buffer: KeyValues, clip: Clip) -> Arrival:
        """The buffer's shared rows: those at the clip's `shared_here` are written."""
        peers = self._peers(self.place.rank)
        return self._groups[tuple(peers)].begin_spread(self._pieces(buffer, clip.shared_spans, 0, peers))

    def divided(self, buffer: KeyValues, clip: Clip, shot: int, first: int) -> Arrival:
        """The keys and values of a shot's own span, from row `first` on: those computed here are written."""
        owners = self._owners(self.place.rank, clip.layout.token_span(shot))
        return self._groups[tuple(owners)].begin_spread(self._pieces(buffer, [clip.own_span(shot)], first, owners))

    # --- in a step: `holo_lite.sampling.meeting.Meeting`

    def branches(self, count: int) -> Sequence[int]:
        """Which of so many guidance branches are computed here."""
        return self.parts[self.place.rank].first(count)

    def agreed(self, word: bool) -> bool:
        """What the first rank says."""
        said = torch.tensor([int(word)], device=self.word_device)
        self.everyone.spread([(LEAD, said)])
        return bool(said.item())

    def velocities(self, found: Sequence[Tensor], count: int, like: Tensor) -> list[Tensor]:
        """Every branch's velocity of the whole clip, from those found here, which are zero where others compute."""
        here = dict(zip(self.branches(count), found, strict=True))
        every = [here[branch] if branch in here else torch.zeros_like(like) for branch in range(count)]
        for velocity in every:
            self.everyone.add(velocity)
        return every

    @property
    def word_device(self) -> torch.device:
        """Where small tensors are, that go from rank to rank."""
        return self.place.device if self.place.transport == "nccl" else torch.device("cpu")

    def _peers(self, rank: int) -> list[int]:
        """The ranks that compute the same branches as one."""
        return [each for each, part in enumerate(self.parts) if part.branches == self.parts[rank].branches]

    def _owners(self, rank: int, span: range) -> list[int]:
        """Those of its peers that compute some of a span of tokens."""
        return [each for each in self._peers(rank) if common(span, self.parts[each].tokens)]

    def _pieces(
        self, buffer: KeyValues, spans: Sequence[range], row: int, ranks: Sequence[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """What each rank writes of the spans, whose rows begin at `row`: keys, and values."""
        for rank in ranks:
            written = list(_written(spans, row, self.parts[rank].tokens))
            if written:
                rows = slice(written[0].start, written[-1].stop)
                assert sum(map(len, written)) == rows.stop - rows.start, "a share is one span"
                yield rank, buffer.keys[rows]
                yield rank, buffer.values[rows]


def _written(spans: Sequence[range], row: int, tokens: range) -> Iterator[range]:
    """Rows of the spans' tokens that are among `tokens`."""
    for span in spans:
        if piece := common(span, tokens):
            yield range(row + piece.start - span.start, row + piece.stop - span.start)
        row += len(span)

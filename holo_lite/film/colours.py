"""Latents as colours, without the decoder: what a preview of a run is drawn with.

A pixel of the latents covers 8x8 pixels of four frames. A linear map of its sixteen numbers comes close to the
mean colour of these. It costs nothing compared with a step and needs no network in memory. The map belongs to a VAE
and is fitted on it once (`holo_lite.film.colour_fit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from msgspec import Meta

from holo_lite.errors import RecordError
from holo_lite.reading.trees import check
from holo_lite.system.records import convert, plain

Number = Annotated[float, Meta(gt=-1e6, lt=1e6)]
Row = Annotated[tuple[Number, ...], Meta(min_length=16, max_length=16)]  # one of each latent channel
Colour = Annotated[tuple[Number, ...], Meta(min_length=3, max_length=3)]
DIGITS = 5  # kept of each number: more would be noise, and differ from machine to machine


@dataclass(frozen=True)
class ColourMap:
    """A linear map from normalised latents to red, green and blue from -1 to 1.

    weight: three rows of sixteen numbers; bias: three numbers.
    """

    weight: Annotated[tuple[Row, ...], Meta(min_length=3, max_length=3)]
    bias: Colour

    @classmethod
    def of(cls, solution: torch.Tensor) -> ColourMap:
        """Take the map from a (17, 3) matrix, the bias in its last row."""
        *columns, bias = [[round(float(number), DIGITS) for number in row] for row in solution]
        return cls(tuple(zip(*columns, strict=True)), tuple(bias))

    @classmethod
    def read(cls, record: object) -> ColourMap | None:
        """Take the map from what `as_record` gave, read back as JSON; None if it is something else."""
        try:
            check(record)
            return convert(record, cls)
        except RecordError:
            return None

    def as_record(self) -> dict[str, Any]:
        """The map as a JSON table."""
        table: dict[str, Any] = plain(self)
        return table

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Turn normalised latents (16, F, h, w), on any device, into pixels: (F, h, w, 3) uint8 on the CPU.

        They are brought to the CPU first: a card that is full has no room for as much as this.
        """
        rows = latents.detach().cpu().float().permute(1, 2, 3, 0)
        colours = rows @ torch.tensor(self.weight).T + torch.tensor(self.bias)
        return colours.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)

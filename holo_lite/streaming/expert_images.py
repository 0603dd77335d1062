"""An expert as streaming sees it: its file, and the images of what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holo_lite.config import Expert
from holo_lite.streaming.image import BlockImage, network_images
from holo_lite.weights.weight_file import WeightFile

BLOCKS = "blocks"
BlockId = tuple[Expert, int]  # a block, by its expert and its index


@dataclass(frozen=True)
class ExpertImages:
    """An expert's file, and its images: those of its blocks, and that of the rest."""

    file: WeightFile
    images: tuple[BlockImage, ...]
    rest: BlockImage

    @classmethod
    def of(cls, file: WeightFile, renames: Mapping[str, str], blocks: int) -> ExpertImages:
        """An expert's images, by the model's names for what is in the file. Raises `CheckpointError`."""
        images = network_images(file, renames, BLOCKS, blocks)
        return cls(file, images.blocks, images.rest)

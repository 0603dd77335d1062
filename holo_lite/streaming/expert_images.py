"""An expert as streaming sees it: its file, and the images of what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holo_lite.config import Expert
from holo_lite.model.load import own_names, skeleton
from holo_lite.streaming.image import BlockImage, network_images
from holo_lite.weights.files import open_weights
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
    def open(cls, path: Path) -> ExpertImages:
        """Open an expert. Raises `CheckpointError`."""
        file = open_weights(path)
        renames, count = own_names(file), skeleton(file).config.num_layers
        images = network_images(file, renames, BLOCKS, count)
        return cls(file, images.blocks, images.rest)

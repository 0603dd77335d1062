"""Frames to an mp4 that either is whole or is not there.

The film is written under a temporary name in its own folder and renamed when it is complete, so that nobody
ever finds half a video under the name they asked for. How it was made travels inside, as JSON in the mp4's
``comment`` tag.

RGB becomes BT.709 with the tags that say so. Left alone, swscale converts by BT.601 and says nothing, and
players take that for BT.709 and shift the colours.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, ColorPrimaries, ColorTrc

from holo_lite.errors import OutputError

"""What a person may ask for: a storyboard, shots of a video again, or a video continued, as one thing to make."""

from __future__ import annotations

from holo_lite.directing.extension import Extension
from holo_lite.directing.retake import Retake
from holo_lite.story.files import AnyStoryboard

AnyFilm = AnyStoryboard | Retake | Extension

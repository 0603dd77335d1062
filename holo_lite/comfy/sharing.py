"""The one session that all nodes share. ComfyUI calls class methods, so nothing else can hold it."""

from __future__ import annotations

from .session import Session

SESSION = Session()

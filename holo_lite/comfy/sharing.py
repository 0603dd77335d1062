"""The one session that all nodes share. ComfyUI calls class methods, so nothing else can hold it."""

from __future__ import annotations

from .interpreters import Interpreters
from .page_settings import python_on_page
from .session import Session

SESSION = Session(Interpreters(python_on_page))
